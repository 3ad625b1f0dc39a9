//! A process that syncs a copy for as long as it lives.

use std::io::Read;
use std::process::{Child, Stdio};

use super::relay::Relay;
use crate::ana::Ana;

pub(super) struct Watch(Child);

impl Watch {
    pub(super) fn start(ana: &Ana, db: &str, relay: &Relay) -> Watch {
        let mut command = ana.command(&["--json", "sync", db, &relay.url(), "--watch"]);
        command.arg("--until-stdin-ends").env("ANABRANCH_TOKEN", relay.token());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        Watch(command.spawn().unwrap())
    }

    /// It stays until it is killed, whatever happens to others.
    pub(super) fn must_run(&mut self, seed: u64, cycle: u64) {
        if let Some(status) = self.0.try_wait().unwrap() {
            let mut said = String::new();
            self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("seed {seed}, cycle {cycle}: a watch ended by itself, {status}: {said}");
        }
    }

    pub(super) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}
