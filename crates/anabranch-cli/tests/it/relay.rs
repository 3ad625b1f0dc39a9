//! `sync` with a real relay on loopback: `ana serve` on a free port, clients killed and
//! refused, a watch, a blob that is asked for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::ana::Ana;

/// A relay that runs, and what it printed of itself.
pub(crate) struct Relay {
    process: Child,
    url: String,
    pub(crate) token: String,
}

impl Relay {
    pub(crate) fn start(ana: &Ana) -> Relay {
        let mut command = ana.command(&["serve", "--listen", "127.0.0.1:0", "--data", "relay"]);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (mut url, mut token) = (None, None);
        // The first start prints the token last of the two, a later start none.
        for line in lines.map(|line| line.unwrap()) {
            for word in line.split_whitespace() {
                let word = word.trim_end_matches(',');
                if word.starts_with("ws://") && !word.contains("/sync") {
                    url = Some(word.to_string());
                }
                if word.starts_with("eyJ") {
                    token = Some(word.to_string());
                }
            }
            if url.is_some() && token.is_some() {
                break;
            }
        }
        Relay { process, url: url.unwrap(), token: token.unwrap() }
    }

    /// Status and body of one request with the admin's token.
    pub(crate) fn http(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("ws://")).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&bytes[9..12]).parse().unwrap();
        (status, bytes.split_off(at + 4))
    }

    pub(crate) fn store(&self, name: &str) -> String {
        format!("{}/sync/{name}", self.url)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Waits for a line of a watch that tells an event.
pub(crate) fn wait_for(lines: &mut BufReader<ChildStdout>, event: &str) -> Value {
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the watch ended before {event}");
        let told = json(&line);
        if told["event"] == event {
            return told;
        }
    }
}

#[test]
fn copies_meet_at_a_relay() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    let relay = Relay::start(&ana);
    let (url, token) = (relay.store("notes"), &relay.token.clone());
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'from a')"]);
    ana.ok(&["sql", "b.db", "INSERT INTO note VALUES('n2', 'from b')"]);
    let out = ana.ok(&["sync", "a.db", &url, "--token", token]);
    assert!(out.contains("gave 1 change (") && out.contains("holds the same"), "{out}");
    let report = json(&ana.ok(&["sync", "b.db", &url, "--token", token, "--json"]));
    assert_eq!((&report["took"]["changes"], &report["gave"]["changes"]), (&1.into(), &1.into()));
    ana.ok(&["sync", "a.db", &url, "--token", token]);
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
    let status = json(&ana.ok(&["status", "a.db", "--json"]));
    assert_eq!(status["unsynced"], 0);
    assert_eq!(status["peers"][0]["role"], "relay");
    assert_eq!(status["peers"][0]["held"], status["vector"]);
    // A newcomer with the same table.
    ana.ok(&["init", "c.db"]);
    ana.ok(&["sql", "c.db", "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)"]);
    ana.ok(&["crr", "c.db", "note"]);
    ana.ok(&["sync", "c.db", &url, "--token", token]);
    assert_eq!(ana.words("c.db"), ana.words("a.db"));
    // Without a token, with a wrong one, with one that is for another store.
    let other = ana.ok(&["token", "--data", "relay", "--subject", "x", "--store", "other"]);
    let other = other.split_whitespace().find(|word| word.starts_with("eyJ")).unwrap().to_string();
    for token in ["", "nonsense", &other] {
        let run = ana.run(&["sync", "a.db", &url, "--token", token]);
        assert_eq!(run.status, 4, "{}", run.err);
        assert!(run.err.contains("token"), "{}", run.err);
    }
    // One that only reads: what is not given is never called converged.
    let order = ["token", "--data", "relay", "--subject", "r", "--store", "notes"];
    let reading = ana.ok(&[&order[..], &["--scope", "read"]].concat());
    let reading = reading.split_whitespace().find(|word| word.starts_with("eyJ")).unwrap();
    assert_eq!(ana.run(&["sync", "a.db", &url, "--token", reading]).status, 0);
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n3', 'mine')"]);
    let run = ana.run(&["sync", "a.db", &url, "--token", reading]);
    assert_eq!(run.status, 4, "{}{}", run.out, run.err);
    assert!(run.err.contains("no writing"), "{}", run.err);
    let status = json(&ana.ok(&["status", "a.db", "--json"]));
    let error = status["peers"][0]["error"].as_str().unwrap();
    assert!(error.contains("no writing"), "the last sync is told: {error}");
    // No TLS where it is wanted: nothing that waiting mends.
    let encrypted = ana.run(&["sync", "a.db", &url.replace("ws://", "wss://"), "--token", token]);
    assert_eq!(encrypted.status, 4, "{}", encrypted.err);
    assert!(encrypted.err.contains("speaks no TLS"), "{}", encrypted.err);
    drop(relay);
    let gone = ana.run(&["sync", "a.db", &url, "--token", token]);
    assert_eq!(gone.status, 3);
    assert!(!gone.err.contains("os error"), "{}", gone.err);
}

/// Two watches: what one program writes the other sees; one is killed and loses nothing.
#[test]
fn watches_are_live_and_survive() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    let relay = Relay::start(&ana);
    let url = relay.store("notes");
    let watch = |db: &str| {
        let args = ["sync", db, &url, "--token", &relay.token, "--watch", "--json"];
        let mut process = ana.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        (process, lines)
    };
    let (mut a, mut from_a) = watch("a.db");
    let (mut b, mut from_b) = watch("b.db");
    wait_for(&mut from_a, "converged");
    wait_for(&mut from_b, "converged");
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'live')"]);
    assert_eq!(wait_for(&mut from_a, "gave")["changes"], 1);
    assert_eq!(wait_for(&mut from_b, "took")["changes"], 1);
    assert_eq!(ana.one("b.db", "SELECT body FROM note"), "live");
    b.kill().unwrap();
    b.wait().unwrap();
    ana.ok(&["sql", "b.db", "INSERT INTO note VALUES('n2', 'while nobody looked')"]);
    let (mut b, mut from_b) = watch("b.db");
    wait_for(&mut from_b, "gave");
    wait_for(&mut from_a, "took");
    for process in [&mut a, &mut b] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
    for db in ["a.db", "b.db"] {
        assert_eq!(ana.ok(&["check", db]), format!("{db}: clean\n"));
    }
}

/// A peer that was mistyped is forgotten by the name it was given.
#[test]
fn a_peer_can_be_forgotten() {
    let ana = Ana::with_notes();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n', 'x')"]);
    // Nobody listens there.
    let (wrong, dir) = ("ws://127.0.0.1:1/sync/notes", "dir:stick");
    assert_eq!(ana.run(&["sync", "a.db", wrong]).status, 3);
    std::fs::create_dir(ana.path("stick")).unwrap();
    ana.ok(&["sync", "a.db", dir]);
    let peers = |status: &str| json(status)["peers"].as_array().unwrap().len();
    assert_eq!(peers(&ana.ok(&["status", "a.db", "--json"])), 2);
    assert_eq!(peers(&ana.ok(&["status", "a.db", "--json", "--forget", wrong])), 1);
    let unknown = ana.run(&["status", "a.db", "--forget", wrong]);
    assert_eq!(unknown.status, 1, "{}", unknown.err);
    // Relative, as it was typed; what is nowhere else is said to be.
    let status = json(&ana.ok(&["status", "a.db", "--json", "--forget", dir]));
    assert_eq!((status["peers"].as_array().unwrap().len(), &status["unsynced"]), (0, &1.into()));
}

/// The change that named a blob was forgotten before a relay heard of it: the row that holds the
/// blob's name brings it all the same, and what only looks like one holds nothing up.
#[test]
fn blobs_of_what_is_left_go_too() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    ana.write("photo", &bytes);
    let hash = ana.ok(&["blob", "put", "a.db", "photo"]);
    let hash = hash.trim();
    let row = format!("INSERT INTO note VALUES('p', '{hash}'), ('x', '{}')", "1f".repeat(32));
    ana.ok(&["sql", "a.db", &row]);
    ana.ok(&["compact", "a.db", "--yes"]);
    let relay = Relay::start(&ana);
    let (url, token) = (relay.store("notes"), &relay.token.clone());
    for db in ["a.db", "b.db"] {
        ana.ok(&["sync", db, &url, "--token", token]);
    }
    let get = ["blob", "get", "b.db", hash, "--from", &url, "--token", token, "--output", "got"];
    ana.ok(&get);
    assert!(std::fs::read(ana.path("got")).unwrap() == bytes);
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
}

/// A blob goes to the relay with the change that put it, and comes from there when it is asked
/// for.
#[test]
fn blobs_go_with_their_change() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    let relay = Relay::start(&ana);
    let (url, token) = (relay.store("notes"), relay.token.clone());
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 8) as u8).collect();
    ana.write("photo", &bytes);
    let hash = ana.ok(&["blob", "put", "a.db", "photo"]);
    let hash = hash.trim();
    ana.ok(&["sql", "a.db", &format!("INSERT INTO note VALUES('n', '{hash}')")]);
    let missing = ana.run(&["blob", "get", "b.db", hash, "--from", &url, "--token", &token]);
    assert_eq!(missing.status, 1, "{}", missing.err);
    let run = ana.run(&["sync", "a.db", &url, "--token", &token]);
    assert_eq!((run.status, run.out.contains("holds the same")), (0, true), "{}", run.out);
    assert!(ana.path("relay/blobs").join(&hash[..2]).join(&hash[2..4]).join(hash).is_file());
    let status = json(&ana.ok(&["status", "a.db", "--json"]));
    assert_eq!(status["unsynced"], 0);
    let get = ["blob", "get", "b.db", hash, "--from", &url, "--token", &token, "--output", "got"];
    ana.ok(&get);
    assert_eq!(std::fs::read(ana.path("got")).unwrap(), bytes);
    assert_eq!(ana.one("b.db", "SELECT body FROM note"), hash);
    drop(relay);
    // It is here now: nobody is asked.
    std::fs::remove_file(ana.path("got")).unwrap();
    ana.ok(&get);
    assert_eq!(ana.run(&["blob", "get", "b.db", &"1".repeat(64), "--from", &url]).status, 3);
}

/// A relay that is killed and comes back on the same data: nothing acknowledged is lost.
#[test]
fn a_relay_that_died_is_made_whole() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    for n in 0..3 {
        // Another port each time: the store is the same.
        std::fs::remove_dir_all(ana.path("relay")).ok();
        let relay = Relay::start(&ana);
        let (url, token) = (relay.store("notes"), relay.token.as_str());
        ana.ok(&["sql", "a.db", &format!("INSERT INTO note VALUES('a{n}', 'x')")]);
        ana.ok(&["sync", "a.db", &url, "--token", token]);
        ana.ok(&["sync", "b.db", &url, "--token", token]);
        // The relay forgets everything; the next one is given all of it again.
    }
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
    assert_eq!(ana.one("b.db", "SELECT count(*) FROM note"), "3");
}
