//! `sync`, `receipts` and the sync part of `status`: through a folder, and how each ends.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::ana::Ana;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A folder between two copies that never meet.
#[test]
fn two_copies_meet_in_a_folder() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    std::fs::create_dir(ana.path("stick")).unwrap();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'from a')"]);
    ana.ok(&["sql", "b.db", "INSERT INTO note VALUES('n2', 'from b')"]);
    let status = json(&ana.ok(&["status", "a.db", "--json"]));
    assert_eq!((&status["unsynced"], &status["peers"]), (&1.into(), &Value::Array(vec![])));
    assert!(ana.ok(&["status", "a.db"]).contains("on no other disk yet  1 change"));
    let receipts = ana.ok(&["receipts", "a.db"]);
    assert!(receipts.contains("this one only"), "{receipts}");

    let out = ana.ok(&["sync", "a.db", "dir:stick"]);
    assert!(out.contains("gave 1 change") && out.contains("holds the same"), "{out}");
    let report = json(&ana.ok(&["sync", "b.db", "dir:stick", "--json"]));
    assert_eq!((&report["end"], &report["took"]["changes"]), (&"converged".into(), &1.into()));
    assert_eq!(report["gave"]["changes"], 1);
    ana.ok(&["sync", "a.db", "dir:stick"]);
    assert_eq!(ana.words("a.db"), ana.words("b.db"));

    let status = json(&ana.ok(&["status", "a.db", "--json"]));
    assert_eq!((&status["unsynced"], &status["peers"][0]["lacks"]), (&0.into(), &0.into()));
    assert_eq!(status["peers"][0]["role"], "directory");
    let receipt = json(ana.ok(&["receipts", "a.db", "--json"]).lines().last().unwrap());
    assert_eq!(receipt["on_disk_of"][0]["url"], status["peers"][0]["url"]);
    assert_eq!(receipt["seen_by"].as_array().unwrap().len(), 0, "b wrote before it came");
    // Who writes after it came has seen it.
    ana.ok(&["sql", "b.db", "UPDATE note SET body = 'seen'"]);
    ana.ok(&["sync", "b.db", "dir:stick"]);
    ana.ok(&["sync", "a.db", "dir:stick"]);
    let receipt = json(ana.ok(&["receipts", "a.db", "--json"]).lines().last().unwrap());
    assert_eq!(receipt["seen_by"].as_array().unwrap().len(), 1, "{receipt}");
}

/// Every way to end has its status and says what to do.
#[test]
fn how_a_sync_ends() {
    let ana = Ana::with_notes();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'x')"]);
    ana.copy("a.db", "b.db");
    for folder in ["stick", "torn", "strange"] {
        std::fs::create_dir_all(ana.path(folder)).unwrap();
    }
    ana.ok(&["sync", "a.db", "dir:torn"]);
    let file = std::fs::read_dir(ana.path("torn/changes")).unwrap().next().unwrap().unwrap();
    let bytes = std::fs::read(file.path()).unwrap();
    std::fs::write(file.path(), &bytes[..bytes.len() - 1]).unwrap();
    ana.ok(&["init", "new.db"]);
    // Another store's tables.
    ana.ok(&["init", "c.db"]);
    ana.ok(&["sql", "c.db", "CREATE TABLE other(id INTEGER PRIMARY KEY NOT NULL)"]);
    ana.ok(&["crr", "c.db", "other"]);
    ana.ok(&["sql", "c.db", "INSERT INTO other VALUES(1)"]);
    ana.ok(&["sync", "c.db", "dir:strange"]);
    for (args, status, end, error) in [
        (["sync", "a.db", "dir:stick"], 0, "converged", ""),
        (["sync", "missing.db", "dir:stick"], 3, "", "ana init missing.db"),
        (["sync", "a.db", "dir:nowhere"], 3, "offline", "mounted"),
        (["sync", "a.db", "ws://127.0.0.1:1/sync/notes"], 3, "offline", "nothing is lost"),
        (["sync", "a.db", "dir:strange"], 4, "refused", "other"),
        (["sync", "new.db", "dir:torn"], 5, "partially", "ana sync new.db dir:torn"),
        (["sync", "a.db", "stick"], 2, "", "dir:"),
        (["sync", "a.db", "ws://127.0.0.1:1/"], 2, "", "/sync/"),
    ] {
        let run = ana.run(&args);
        assert_eq!(run.status, status, "{args:?}: {}{}", run.out, run.err);
        assert!(run.err.contains(error), "{args:?}: {}", run.err);
        assert_eq!(run.err.is_empty(), status == 0, "{args:?}: {}", run.err);
        let run = ana.run(&[&["--json"], &args[..]].concat());
        if !end.is_empty() {
            assert_eq!(json(&run.out)["end"], end, "{args:?}");
        }
    }
    let status = ana.ok(&["status", "a.db"]);
    assert!(status.contains("mounted") && status.contains("unknown table"), "{status}");
}

/// A blob travels when it is asked for, and only then.
#[test]
fn blobs_travel_when_asked_for() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    std::fs::create_dir(ana.path("stick")).unwrap();
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(n) >> 8) as u8).collect();
    ana.write("photo", &bytes);
    let hash = ana.ok(&["blob", "put", "a.db", "photo"]);
    let hash = hash.trim();
    assert_eq!(ana.one("a.db", &format!("SELECT length(ana_blob(x'{hash}'))")), "200000");
    ana.ok(&["sync", "a.db", "dir:stick"]);
    assert!(!ana.path("stick/blobs").exists());
    // Without --blob the change is taken, and its blob is not there.
    ana.ok(&["sql", "a.db", &format!("INSERT INTO note VALUES('photo', '{hash}')")]);
    ana.ok(&["sync", "a.db", "dir:stick"]);
    ana.ok(&["sync", "b.db", "dir:stick"]);
    assert_eq!(ana.one("b.db", "SELECT body FROM note"), hash);
    assert_eq!(ana.one("b.db", &format!("SELECT ana_blob(x'{hash}') IS NULL")), "1");
    assert!(ana.ok(&["sync", "--help"]).contains("only with --blob"));
    let run = ana.run(&["sync", "b.db", "dir:stick", "--blob", hash]);
    assert_eq!(run.status, 5, "{}{}", run.out, run.err);
    ana.ok(&["sync", "a.db", "dir:stick", "--blob", hash]);
    let file = ana.path("stick/blobs").join(&hash[..2]).join(hash);
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    // Damaged on its way: left out, and nothing of it stays.
    std::fs::write(&file, &bytes[1..]).unwrap();
    assert_eq!(ana.run(&["sync", "b.db", "dir:stick", "--blob", hash]).status, 5);
    assert_eq!(ana.one("b.db", "SELECT count(*) FROM ana_blob_chunk"), "0");
    ana.ok(&["sync", "a.db", "dir:stick", "--blob", hash]);
    ana.ok(&["sync", "b.db", "dir:stick", "--blob", hash]);
    ana.ok(&["blob", "get", "b.db", hash, "--output", "again"]);
    assert_eq!(std::fs::read(ana.path("again")).unwrap(), bytes);
    for (args, status) in [
        (&["blob", "get", "b.db", "beef"][..], 2),
        (&["blob", "get", "b.db", &"0".repeat(64)], 1),
        (&["blob", "get", "b.db", hash, "--output", "again"], 3),
        (&["blob", "put", "b.db", "no-file"], 3),
        (&["sync", "b.db", "dir:stick", "--blob", "beef"], 2),
    ] {
        assert_eq!(ana.run(args).status, status, "{args:?}");
    }
}

/// A watch says what happens as it happens; who kills it loses nothing.
#[test]
fn a_watch_is_killed_at_any_moment() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    std::fs::create_dir(ana.path("stick")).unwrap();
    for n in 0..3 {
        ana.ok(&["sql", "b.db", &format!("INSERT INTO note VALUES('b{n}', 'x')")]);
        ana.ok(&["sync", "b.db", "dir:stick"]);
        let mut watch = ana.command(&["sync", "a.db", "dir:stick", "--watch", "--json"]);
        let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let mut wait_for = |event: &str| {
            let is_it = |line: &String| json(line)["event"] == event;
            lines.by_ref().map(|line| line.unwrap()).find(is_it).unwrap()
        };
        assert_eq!(json(&wait_for("took"))["changes"], 1);
        // Another process writes while the watch runs.
        ana.ok(&["sql", "a.db", &format!("INSERT INTO note VALUES('a{n}', 'x')")]);
        wait_for("gave");
        watch.kill().unwrap();
        watch.wait().unwrap();
        assert_eq!(ana.ok(&["check", "a.db"]), "a.db: clean\n");
    }
    ana.ok(&["sync", "b.db", "dir:stick"]);
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
    assert_eq!(ana.one("b.db", "SELECT count(*) FROM note"), "6");
}
