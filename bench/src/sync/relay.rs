//! `ana serve` in a process of its own, with a data directory of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use super::usage::Process;

/// A relay that runs until it is dropped.
pub struct Relay {
    ana: PathBuf,
    data: TempDir,
    child: Child,
    address: String,
    token: String,
}

impl Relay {
    /// Starts a relay from nothing.
    ///
    /// # Errors
    /// The program is not there, or says nothing of where it listens.
    pub fn start(ana: &Path) -> Result<Relay> {
        let data = tempfile::tempdir()?;
        let (child, said) = spawn(ana, &data)?;
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        let (address, token) = (text("listen"), text("token"));
        Ok(Relay { ana: ana.to_owned(), data, child, address, token })
    }

    /// Stops it as SIGKILL does, and starts it again with what it has on disk.
    ///
    /// # Errors
    /// As [`Relay::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let (child, said) = spawn(&self.ana, &self.data)?;
        (self.child, self.address) = (child, said["listen"].as_str().unwrap_or_default().into());
        Ok(())
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where a store is.
    pub fn url(&self, store: &str) -> String {
        format!("ws://{}/sync/{store}", self.address)
    }

    /// The token of its first start, which opens everything.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(ana: &Path, data: &TempDir) -> Result<(Child, Value)> {
    let mut command = Command::new(ana);
    command.args(["--json", "serve", "--listen", "127.0.0.1:0", "--log-level", "error"]);
    command.args(["--max-store-connections", "20000", "--until-stdin-ends", "--data"]);
    command.arg(data.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let shown = ana.display();
    let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
    let out = child.stdout.take().context("standard output is piped")?;
    let mut lines = BufReader::new(out).lines();
    let said = lines.find_map(|line| {
        let said: Value = serde_json::from_str(&line.ok()?).ok()?;
        said["url"].is_string().then_some(said)
    });
    match said {
        Some(said) => Ok((child, said)),
        None => {
            let status = child.wait()?;
            anyhow::bail!("{shown} serve did not start: {status}")
        }
    }
}
