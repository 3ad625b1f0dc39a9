//! `ana compact`: says what goes, asks, and leaves copies that still become equal.

use std::io::BufReader;
use std::process::Stdio;

use serde_json::Value;

use crate::ana::Ana;
use crate::relay::{Relay, wait_for};

#[test]
fn it_says_what_it_drops_and_does_not_do_it_unasked() {
    let ana = Ana::with_notes();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'a'), ('n2', 'b')"]);
    ana.ok(&["sql", "a.db", "DELETE FROM note WHERE id = 'n1'"]);
    let planned = ana.ok(&["compact", "a.db", "--dry-run"]);
    assert!(planned.contains("a.db: would drop 1 deleted row, 2 headers"), "{planned}");
    let status = ana.ok(&["status", "a.db"]);
    assert!(status.contains("past, and on all peers"), "{status}");
    let refused = ana.run(&["compact", "a.db"]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.err.contains("--yes"), "{refused:?}");
    assert_eq!(ana.one("a.db", "SELECT count(*) FROM crsql_changes WHERE cid = '-1'"), "1");
    let done = ana.ok(&["compact", "a.db", "--yes"]);
    assert!(done.contains("a.db: dropped 1 deleted row, 2 headers"), "{done}");
    assert_eq!(ana.one("a.db", "SELECT count(*) FROM crsql_changes WHERE cid = '-1'"), "0");
    assert_eq!(ana.ok(&["check", "a.db"]), "a.db: clean\n");
    let again = ana.ok(&["compact", "a.db", "--yes"]);
    assert!(again.contains("dropped 0 deleted rows"), "{again}");
    let status = ana.ok(&["status", "a.db"]);
    assert!(status.contains("forgotten below         2 changes"), "{status}");
}

#[test]
fn copies_that_missed_it_become_equal() {
    let ana = Ana::with_notes();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'a'), ('n2', 'b')"]);
    ana.copy("a.db", "b.db");
    ana.ok(&["sql", "b.db", "INSERT INTO note VALUES('n3', 'of b')"]);
    ana.ok(&["sql", "a.db", "DELETE FROM note WHERE id = 'n1'"]);
    ana.ok(&["merge", "a.db", "b.db"]);
    ana.ok(&["sql", "b.db", "INSERT INTO note VALUES('n4', 'of b, later')"]);
    ana.ok(&["sql", "a.db", "DELETE FROM note WHERE id = 'n2'"]);
    let refused = ana.run(&["compact", "a.db", "--yes"]);
    assert_eq!(refused.status, 4, "{refused:?}");
    assert!(refused.err.contains("no peer is listed"), "{refused:?}");
    let wrong = ana.run(&["compact", "a.db", "--yes", "--floor", "everything"]);
    assert_eq!(wrong.status, 2, "{wrong:?}");
    let floor = ana.one("a.db", "SELECT hex(ana_version_vector())");
    let floor: Vec<u8> = (0..floor.len() / 2)
        .map(|i| u8::from_str_radix(&floor[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let floor = String::from_utf8(floor).unwrap();
    ana.ok(&["compact", "a.db", "--yes", "--floor", &floor]);
    ana.ok(&["merge", "a.db", "b.db"]);
    for db in ["a.db", "b.db"] {
        assert_eq!(
            ana.one(db, "SELECT group_concat(id) FROM (SELECT id FROM note ORDER BY id)"),
            "\"n3,n4\""
        );
        assert_eq!(ana.ok(&["check", db]), format!("{db}: clean\n"));
    }
}

/// `a.db` forgets what `b.db` missed while it was away; both meet where only `a.db` has been.
fn forgot() -> (Ana, &'static str) {
    let ana = Ana::with_notes();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'a'), ('n2', 'b')"]);
    ana.copy("a.db", "b.db");
    ana.ok(&["sql", "b.db", "INSERT INTO note VALUES('n3', 'of b')"]);
    ana.ok(&["sql", "a.db", "DELETE FROM note WHERE id = 'n1'"]);
    // Nobody else wrote what is here, so all of it goes.
    ana.ok(&["compact", "a.db", "--yes"]);
    (ana, "SELECT group_concat(id) FROM (SELECT id FROM note ORDER BY id)")
}

fn are_equal(ana: &Ana, names: &[&str], rows: &str) {
    for db in names {
        assert_eq!(ana.one(db, rows), "\"n2,n3\"", "{db}");
        assert_eq!(ana.words(db), ana.words("a.db"), "{db}");
        assert_eq!(ana.ok(&["check", db]), format!("{db}: clean\n"));
    }
}

/// Over sockets: the relay has what is left only, and a copy below the floor comes, whether it
/// is there before what it missed or not; so does a newcomer.
#[test]
fn a_copy_below_the_floor_meets_a_relay() {
    let (ana, rows) = forgot();
    let relay = Relay::start(&ana);
    let (url, token) = (relay.store("notes"), relay.token.clone());
    let sync = |db: &str| ana.run(&["sync", db, &url, "--token", &token]);
    for db in ["a.db", "b.db", "a.db"] {
        let run = sync(db);
        assert_eq!(run.status, 0, "{db}: {}{}", run.out, run.err);
    }
    ana.ok(&["init", "c.db"]);
    ana.ok(&["sql", "c.db", "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)"]);
    ana.ok(&["crr", "c.db", "note"]);
    assert_eq!(sync("c.db").status, 0);
    are_equal(&ana, &["a.db", "b.db", "c.db"], rows);
}

/// The same through a folder.
#[test]
fn a_copy_below_the_floor_meets_a_folder() {
    let (ana, rows) = forgot();
    std::fs::create_dir(ana.path("stick")).unwrap();
    for db in ["a.db", "b.db", "a.db"] {
        let run = ana.run(&["sync", db, "dir:stick"]);
        assert_eq!(run.status, 0, "{db}: {}{}", run.out, run.err);
    }
    are_equal(&ana, &["a.db", "b.db"], rows);
}

/// What docs/relay.md ("Forgetting") says to an operator: forget on a copy, give the relay what is
/// left. One copy stays connected or comes later, one is below the floor and has written.
#[test]
fn an_operator_makes_a_relay_small() {
    for is_connected in [false, true] {
        let ana = Ana::with_notes();
        let relay = Relay::start(&ana);
        let url = relay.store("notes");
        let args = |db: &'static str| ["sync", db, &url, "--token", &relay.token];
        let sync = |db: &'static str| ana.ok(&args(db));
        for n in 1..=9 {
            ana.ok(&["sql", "a.db", &format!("INSERT INTO note VALUES('n{n}', 'a')")]);
        }
        sync("a.db");
        for db in ["b.db", "c.db"] {
            ana.ok(&["init", db]);
            ana.ok(&["sql", db, "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)"]);
            ana.ok(&["crr", db, "note"]);
            sync(db);
        }
        let mut watch = ana.command(&[&args("c.db")[..], &["--watch", "--json"]].concat());
        let mut watch = is_connected.then(|| watch.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = watch.as_mut().map(|watch| BufReader::new(watch.stdout.take().unwrap()));
        if let Some(lines) = &mut lines {
            wait_for(lines, "converged");
        }
        ana.ok(&["sql", "b.db", "UPDATE note SET body = 'b' WHERE id IN ('n1', 'n8')"]);
        ana.ok(&["sql", "b.db", "INSERT INTO note VALUES('n10', 'b')"]);
        for n in 1..=7 {
            ana.ok(&["sql", "a.db", &format!("DELETE FROM note WHERE id = 'n{n}'")]);
        }
        let facts = |what: &str| -> u64 {
            let (status, facts) = relay.http("GET", "/api/stores/notes", b"");
            assert_eq!(status, 200);
            serde_json::from_slice::<Value>(&facts).unwrap()[what].as_u64().unwrap()
        };

        sync("a.db");
        let n_deltas = facts("deltas");
        let bytes = facts("bytes");
        ana.ok(&["compact", "a.db", "--yes"]);
        ana.ok(&["export", "a.db", "-o", "left.ana"]);
        let left = std::fs::read(ana.path("left.ana")).unwrap();
        assert!(relay.http("DELETE", "/api/stores/notes", b"").0 < 300);
        assert_eq!(relay.http("POST", "/api/stores/notes/import", &left).0, 200);

        match &mut lines {
            Some(lines) => {
                wait_for(lines, "connected");
                wait_for(lines, "converged");
            }
            None => {
                assert_eq!((facts("deltas"), n_deltas > 1), (1, true));
                assert!(facts("bytes") < bytes, "{} of {bytes}", facts("bytes"));
            }
        }
        for db in ["a.db", "b.db", "a.db"] {
            sync(db);
        }
        if let Some(mut watch) = watch.take() {
            watch.kill().unwrap();
            watch.wait().unwrap();
        }
        sync("c.db");
        let rows = "SELECT group_concat(id || body) FROM (SELECT * FROM note ORDER BY id)";
        for db in ["a.db", "b.db", "c.db"] {
            assert_eq!(ana.one(db, rows), "\"n10b,n8b,n9a\"", "{db}, connected: {is_connected}");
            assert_eq!(ana.words(db), ana.words("a.db"), "{db}");
            assert_eq!(ana.ok(&["check", db]), format!("{db}: clean\n"));
        }
    }
}
