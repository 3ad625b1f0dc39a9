//! `ana serve` and `ana token`: a relay of the real binary, from nothing to its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ana::Ana;

/// A relay that is running, and what it said when it began.
struct Serving {
    child: Child,
    said: Value,
}

impl Serving {
    fn start(ana: &Ana, args: &[&str]) -> Serving {
        let mut words = vec!["--json", "serve", "--listen", "127.0.0.1:0", "--data", "data"];
        words.extend(args);
        let mut child =
            ana.command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it said {line:?}"));
        Serving { child, said }
    }

    fn text(&self, name: &str) -> &str {
        self.said[name].as_str().unwrap()
    }

    /// Status and body of one request.
    fn http(&self, method: &str, path: &str, token: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.text("listen")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n",
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

    /// Ends it as a service manager would; its exit status.
    #[cfg(unix)]
    fn terminate(mut self) -> Option<i32> {
        let start = Instant::now();
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(start.elapsed() < Duration::from_secs(10), "a stop ends within 10 s");
        status.code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_relay_from_nothing_to_its_end() {
    let ana = Ana::with_notes();
    let serving = Serving::start(&ana, &[]);
    let admin = serving.text("token").to_string();
    assert!(serving.text("url").starts_with("ws://127.0.0.1:"));
    assert_eq!(serving.http("GET", "/readyz", "", b"").0, 200);
    assert_eq!(serving.http("GET", "/api/stores", &admin, b"").0, 200, "the printed token works");

    // What a store exports the relay keeps and gives, and a copy takes.
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'from a')"]);
    ana.ok(&["export", "a.db", "--output", "a.delta"]);
    let token = ana.ok(&["token", "--data", "data", "--subject", "ann", "--store", "notes"]);
    let (token, delta) = (token.trim(), std::fs::read(ana.path("a.delta")).unwrap());
    assert_eq!(serving.http("POST", "/api/stores/notes/import", token, &delta).0, 200);
    assert_eq!(serving.http("GET", "/api/stores/other", token, b"").0, 403);
    assert_eq!(serving.terminate(), Some(0));

    let serving = Serving::start(&ana, &[]);
    assert_eq!(serving.said["token"], Value::Null, "shown once");
    let (status, kept) = serving.http("GET", "/api/stores/notes/export", &admin, b"");
    assert_eq!((status, &kept), (200, &delta));
    ana.write("kept.delta", &kept);
    ana.ok(&["init", "b.db"]);
    ana.ok(&["sql", "b.db", "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)"]);
    ana.ok(&["crr", "b.db", "note"]);
    ana.ok(&["import", "b.db", "kept.delta"]);
    assert_eq!(ana.words("a.db"), ana.words("b.db"));

    // The directory is in use, and the address too.
    let second = ana.run(&["serve", "--listen", "127.0.0.1:0", "--data", "data"]);
    assert_eq!(second.status, 5, "{}", second.err);
    assert!(second.err.contains("another relay"), "{}", second.err);
    let taken = ana.run(&["serve", "--listen", serving.text("listen"), "--data", "other"]);
    assert_eq!(taken.status, 3, "{}", taken.err);
    assert!(!ana.path("other").exists(), "a failed start makes nothing");
    assert_eq!(serving.terminate(), Some(0));
}

/// Three copies that meet at a relay only, one of them new after many small changes.
#[test]
fn databases_meet_at_a_relay() {
    let ana = Ana::with_notes();
    for db in ["b.db", "c.db"] {
        ana.ok(&["init", db]);
        ana.ok(&["sql", db, "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)"]);
        ana.ok(&["crr", db, "note"]);
    }
    let serving = Serving::start(&ana, &[]);
    let url = format!("{}notes", serving.text("url"));
    let sync = |db: &str| {
        let mut command = ana.command(&["sync", db, &url]);
        let run = crate::ana::run(command.env("ANABRANCH_TOKEN", serving.text("token")), b"");
        assert_eq!(run.status, 0, "{db}: {} {}", run.out, run.err);
    };
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'from a'), ('n2', 'from a')"]);
    sync("a.db");
    sync("b.db");
    ana.ok(&["sql", "a.db", "UPDATE note SET body = 'again a' WHERE id = 'n1'"]);
    ana.ok(&["sql", "b.db", "UPDATE note SET body = 'again b' WHERE id = 'n1'"]);
    ana.ok(&["sql", "b.db", "DELETE FROM note WHERE id = 'n2'"]);
    for db in ["a.db", "b.db", "a.db"] {
        sync(db);
    }
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
    // More deltas than are joined at once, some of them over a connection each.
    let many: String = (0..400)
        .map(|n| format!("INSERT INTO note VALUES('m{n}', {n}); UPDATE note SET body = {n};\n"))
        .collect();
    let run = ana.run_with(&["sql", "b.db"], many.as_bytes());
    assert_eq!(run.status, 0, "{}", run.err);
    for db in ["b.db", "c.db", "a.db"] {
        sync(db);
    }
    for db in ["b.db", "c.db"] {
        assert_eq!(ana.words("a.db"), ana.words(db));
        ana.ok(&["check", db]);
    }
}

#[test]
fn settings_come_from_flags_variables_and_a_file() {
    let ana = Ana::new();
    ana.write("relay.toml", b"listen = '127.0.0.1:1001'\nmax-store-bytes = 7\n");
    let check = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = ana.command(&[&["--json", "serve", "--check-config"], args].concat());
        command.envs(variables.iter().copied());
        crate::ana::run(&mut command, b"")
    };
    let file = ["--config", "relay.toml"];
    let variable = [("ANABRANCH_LISTEN", "127.0.0.1:1002")];
    for (args, variables, listen) in [
        (&[][..], &[][..], "127.0.0.1:7440"),
        (&file, &[], "127.0.0.1:1001"),
        (&file, &variable, "127.0.0.1:1002"),
        (&["--config", "relay.toml", "--listen", "[::1]:1003"], &variable, "[::1]:1003"),
    ] {
        let run = check(args, variables);
        assert_eq!(run.status, 0, "{}", run.err);
        let said: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!(said["listen"], listen);
    }
    assert!(!ana.path("anabranch-data").exists(), "checking makes nothing");

    ana.write("unknown.toml", b"max-stores = 1\n");
    ana.write("torn.toml", b"listen = \n");
    for (args, variables, status, said) in [
        (&["--config", "unknown.toml"][..], &[][..], 2, "max-stores"),
        (&["--config", "torn.toml"], &[], 2, "torn.toml"),
        (&["--config", "missing.toml"], &[], 3, "missing.toml"),
        (&["--listen", "7440"], &[], 2, "listen"),
        (&["--origin", "app.example"], &[], 2, "origins"),
        (&["--tls-cert", "c.pem"], &[], 2, "tls-key"),
        (&["--log-format", "xml"], &[], 2, "log-format"),
        (&["--jwks", "missing.json"], &[], 3, "missing.json"),
        (&[], &[("ANABRANCH_JWT_SECRET", "short")], 2, "at least 32 bytes"),
        (&[], &[("ANABRANCH_MAX_CONNECTIONS", "many")], 2, "max-connections"),
    ] {
        let run = check(args, variables);
        assert_eq!(run.status, status, "{args:?}: {}", run.err);
        assert!(run.err.contains(said), "{args:?}: {}", run.err);
        assert!(!run.err.contains("short"), "a secret is not repeated: {}", run.err);
    }
}

#[test]
fn tokens_are_made_where_the_key_is() {
    let ana = Ana::new();
    let order = |args: &[&str]| {
        ana.run(
            &[&["token", "--data", "data", "--subject", "ann", "--store", "notes"], args].concat(),
        )
    };
    let early = order(&[]);
    assert_eq!(early.status, 3, "{}", early.err);
    assert!(!ana.path("data").exists());
    let _serving = Serving::start(&ana, &[]);
    assert_eq!(order(&["--expires", "1h", "--scope", "read"]).status, 0);
    for args in [
        &["--expires", "soon"][..],
        &["--expires", "20000d"],
        &["--scope", "root"],
        &["--store", "a/b"],
        &["--store", "*x"],
    ] {
        let run = order(args);
        assert_eq!(run.status, 2, "{args:?}: {}", run.err);
    }
}
