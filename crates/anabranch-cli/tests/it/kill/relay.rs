//! The relay: killed, started again where it was, and asked what it holds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use anabranch::rusqlite::{Connection, OpenFlags};
use anabranch::{Store, VersionVector};
use serde_json::Value;

use crate::ana::Ana;

pub(super) struct Relay {
    process: Child,
    address: String,
    token: String,
}

impl Relay {
    pub(super) fn start(ana: &Ana) -> Relay {
        let (process, said) = spawn(ana, "127.0.0.1:0");
        let text = |name: &str| said[name].as_str().unwrap().to_string();
        Relay { process, address: text("listen"), token: text("token") }
    }

    pub(super) fn url(&self) -> String {
        format!("ws://{}/sync/kill", self.address)
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Tells it to end, and waits until it has.
    pub(super) fn terminate(&mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.process.wait().unwrap();
    }

    /// Starts it again, at the port that its clients know.
    pub(super) fn restart(&mut self, ana: &Ana) {
        self.process = spawn(ana, &self.address).0;
    }

    /// What it acknowledged is there.
    pub(super) fn must_hold(&self, acknowledged: &[VersionVector], seed: u64, cycle: u64) {
        let held = self.vector();
        for told in acknowledged {
            for (site, told) in told.iter() {
                let held = held.get(site);
                let is_there = held.is_some_and(|held| held.version >= told.version);
                assert!(is_there, "seed {seed}, cycle {cycle}: told {told:?}, holds {held:?}");
            }
        }
    }

    /// Its database is sound, its own words are those of the copies, and a newcomer gets all.
    pub(super) fn must_be_whole(&mut self, ana: &Ana, at: &str) {
        let vector = Store::open_read_only(ana.path("a.db")).unwrap().version_vector().unwrap();
        assert_eq!(self.vector(), vector, "{at}: the relay's vector");
        let export = self.ask("/api/stores/kill/export");
        let _ = std::fs::remove_file(ana.path("new.db"));
        ana.copy("empty.db", "new.db");
        ana.write("export.ana", &export);
        let run = ana.run(&["import", "new.db", "export.ana"]);
        assert_eq!(run.status, 0, "{at}: import: {}{}", run.out, run.err);
        assert_eq!(ana.words("new.db"), ana.words("a.db"), "{at}: what the relay exports");
        self.kill();
        let path = ana.path("relay").join("relay.db");
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok", "{at}: relay.db");
        drop(db);
        self.restart(ana);
    }

    fn vector(&self) -> VersionVector {
        let facts: Value = serde_json::from_slice(&self.ask("/api/stores/kill")).unwrap();
        VersionVector::from_json(&facts["vector"].to_string()).unwrap_or_default()
    }

    /// One request; the body of the answer, which ends where the connection does.
    fn ask(&self, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let token = &self.token;
        write!(stream, "GET {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        answer.split_off(head + 4)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a relay, and waits for what it says of itself.
fn spawn(ana: &Ana, listen: &str) -> (Child, Value) {
    let mut command = ana.command(&["--json", "serve", "--listen", listen, "--data", "relay"]);
    command.args(["--log-level", "error", "--until-stdin-ends"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).find_map(|line| {
        let said: Value = serde_json::from_str(&line).ok()?;
        said["url"].is_string().then_some(said)
    });
    (process, said.expect("the relay starts"))
}
