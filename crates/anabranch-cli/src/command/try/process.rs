//! The processes of the live part: this same program, as a relay and as what syncs.
//!
//! Invariant: none outlives us. Dropping one kills it; and if we die first, in whatever way,
//! the end of its standard input tells it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use crate::failure::{Exit, Failure, Result, io_at};

/// A process, and the JSON lines that it prints.
pub(super) struct Process {
    what: String,
    child: Child,
    lines: Receiver<Value>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `ana --json` with these words; `token` is shown to the relay.
    pub(super) fn start(what: &str, words: &[OsString], token: &str) -> Result<Process> {
        let failed = |error| io_at(what, error);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("--json").args(words).arg("--until-stdin-ends");
        // A relay of the user's own is set up by variables; ours is not.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ANABRANCH_") {
                command.env_remove(name);
            }
        }
        command.env("ANABRANCH_TOKEN", token);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let out = child.stdout.take().expect("standard output was piped");
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(std::io::Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else { continue };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Process { what: what.to_string(), child, lines, reader: Some(reader) })
    }

    /// The first line for which `is_it` holds.
    pub(super) fn wait_for(&mut self, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if is_it(&line) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) => {
                    let what = format!("{}: no word in {} s", self.what, PATIENCE.as_secs());
                    return Err(Failure::new(Exit::Again, what).hint("the machine may be busy"));
                }
            }
        }
    }

    /// Fails if it ended by itself.
    pub(super) fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.ended()),
        }
    }

    /// Ends it as `kill -9` does.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill().map_err(|error| io_at(&self.what, error))
    }

    /// Why it is no more, in its own words.
    fn ended(&mut self) -> Failure {
        // One that closed its output and lives on must not be waited for.
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(mut said) = self.child.stderr.take() {
            let _ = said.read_to_string(&mut text);
        }
        let said: Value = text
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_default();
        let why = said["error"].as_str().unwrap_or("it ended without a word");
        Failure::new(Exit::Refused, format!("{}: {why}", self.what))
            .known_hint_or("a try without the relay: `ana merge` on two copies of your own")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// How often the files are asked whether a change has come.
const POLL: Duration = Duration::from_millis(1);

/// Asks until `is_so` says yes; for at most [`PATIENCE`], and while all processes run.
pub(super) fn wait_until(
    what: &str,
    processes: &mut [&mut Process],
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        if is_so()? {
            return Ok(());
        }
        if Instant::now() >= until {
            let what = format!("{what}: not in {} s", PATIENCE.as_secs());
            return Err(Failure::new(Exit::Again, what).hint("the machine may be busy"));
        }
        for process in processes.iter_mut() {
            process.must_run()?;
        }
        std::thread::sleep(POLL);
    }
}
