//! A process that writes to a copy (`ana sql`), and what it was told to be committed.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use super::copies::Copy;
use super::ledger::{Side, script};
use crate::ana::Ana;

pub(super) struct Writer {
    side: Side,
    child: Child,
    feeder: JoinHandle<()>,
    allowance: Sender<()>,
    committed: Arc<Committed>,
    first: u64,
}

/// The last transaction that was told to be committed, and whether there will be more.
#[derive(Default)]
struct Committed {
    last: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Committed {
    fn set(&self, last: u64) {
        self.last.lock().unwrap().0 = last;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.last.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

impl Writer {
    /// Begins with transaction `first`, once it may.
    pub(super) fn start(ana: &Ana, side: Side, seed: u64, first: u64) -> Writer {
        let mut command = ana.command(&["--json", "sql", side.file()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (allowance, allowed) = channel();
        let committed = Arc::new(Committed::default());
        committed.set(first - 1);
        let told = Arc::clone(&committed);
        let feeder = std::thread::spawn(move || {
            feed(input, output, &allowed, &told, (seed, side, first));
            told.end();
        });
        Writer { side, child, feeder, allowance, committed, first }
    }

    pub(super) fn may_commit(&mut self, n: u64) {
        for _ in 0..n {
            // One that has ended is found when it is killed.
            let _ = self.allowance.send(());
        }
    }

    /// Waits until so many of its transactions are committed, or it has ended.
    pub(super) fn wait_for(&self, n: u64) {
        let until = self.first - 1 + n;
        let last = self.committed.last.lock().unwrap();
        drop(
            self.committed
                .changed
                .wait_while(last, |(last, has_ended)| *last < until && !*has_ended),
        );
    }

    /// Kills it, and compares what it was told with what is there.
    pub(super) fn kill(mut self, copy: &mut Copy) {
        let ended = self.child.try_wait().unwrap();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        drop(self.allowance);
        self.feeder.join().unwrap();
        if let Some(status) = ended {
            let mut said = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("the writer of {:?} ended by itself, {status}: {said}", self.side);
        }
        let told = self.committed.last.lock().unwrap().0;
        let there = copy.progress(self.side);
        // One more may have been committed and not told.
        let is_so = there == told || there == told + 1;
        assert!(is_so, "{:?}: {told} were told to be committed, {there} are there", self.side);
        copy.n_acknowledged = told;
    }
}

/// Hands over transactions one by one, each when the one before is committed and one more may.
fn feed(
    mut input: ChildStdin,
    output: ChildStdout,
    allowed: &Receiver<()>,
    told: &Committed,
    (seed, side, first): (u64, Side, u64),
) {
    let mut lines = BufReader::new(output).lines();
    for n in first.. {
        if allowed.recv().is_err() || input.write_all(script(seed, side, n).as_bytes()).is_err() {
            return;
        }
        let committed = format!("[{{\"committed\":{n}}}]");
        // A line that the kill has cut tells nothing.
        if !lines.any(|line| line.is_ok_and(|line| line == committed)) {
            return;
        }
        told.set(n);
    }
}
