//! Copies of one file that all wrote under its name, through the real program: merged, and
//! synced through a relay. The bare extension looks at no files, so it leaves the name alone.

use anabranch::Store;
use anabranch::rusqlite::Connection;
use serde_json::Value;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::ana::Ana;
use crate::relay::{Relay, wait_for};

/// Runs SQL as the bare extension would.
fn bare(ana: &Ana, db: &str, sql: &str) {
    let store = Store::from_connection(Connection::open(ana.path(db)).unwrap()).unwrap();
    store.sql().execute_batch(sql).unwrap();
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// `a.db` with two changes, and copies of it.
fn copies(names: &[&str]) -> Ana {
    let ana = Ana::new();
    bare(
        &ana,
        "a.db",
        "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT);
         SELECT crsql_as_crr('note');
         INSERT INTO note VALUES('n1', 'first');
         INSERT INTO note VALUES('n2', 'second')",
    );
    names.iter().for_each(|name| ana.copy("a.db", name));
    ana
}

#[test]
fn merged_copies_say_that_they_had_forked() {
    let ana = copies(&["b.db"]);
    bare(&ana, "a.db", "UPDATE note SET body = 'from a' WHERE id = 'n1'");
    bare(&ana, "b.db", "INSERT INTO note VALUES('n3', 'from b')");
    let report = json(&ana.ok(&["merge", "a.db", "b.db", "--json"]));
    let forked = report["forked"].as_array().unwrap();
    assert_eq!(forked.len(), 2, "{report}");
    assert!(forked.iter().all(|branch| branch["base"] == 2), "{report}");
    let status = json(&ana.ok(&["status", "a.db", "--json"]));
    assert_eq!(status["forked"], report["forked"]);
    assert!(ana.ok(&["status", "b.db"]).contains("forked from"));
    for db in ["a.db", "b.db"] {
        assert_eq!(ana.ok(&["check", db]), format!("{db}: clean\n"));
    }
    assert_eq!(json(&ana.ok(&["merge", "a.db", "b.db", "--json"]))["forked"], Value::Array(vec![]));
}

/// Who comes first, and who comes when names have changed already; a third that was behind.
#[test]
fn forks_are_healed_through_a_relay() {
    for order in [["a.db", "b.db", "c.db"], ["b.db", "c.db", "a.db"], ["c.db", "a.db", "b.db"]] {
        let ana = copies(&["b.db", "c.db", "d.db"]);
        bare(&ana, "a.db", "UPDATE note SET body = 'from a' WHERE id = 'n1'");
        bare(&ana, "a.db", "INSERT INTO note VALUES('n3', 'from a')");
        bare(&ana, "b.db", "INSERT INTO note VALUES('n4', 'from b')");
        bare(&ana, "c.db", "DELETE FROM note WHERE id = 'n2'");
        let relay = Relay::start(&ana);
        let (url, token) = (relay.store("notes"), &relay.token.clone());
        let sync = |db: &str| {
            let run = ana.run(&["sync", db, &url, "--token", token]);
            assert_eq!(run.status, 0, "{order:?}, {db}: {}{}", run.out, run.err);
            run.out
        };
        let told: String = order.into_iter().chain(["d.db"]).map(sync).collect();
        assert!(told.contains("one site id"), "{told}");
        order.into_iter().for_each(|db| drop(sync(db)));
        for (n, db) in order.into_iter().chain(["d.db"]).enumerate() {
            bare(&ana, db, &format!("INSERT INTO note VALUES('after {n}', '')"));
        }
        for _ in 0..2 {
            order.into_iter().chain(["d.db"]).for_each(|db| drop(sync(db)));
        }
        ana.ok(&["init", "e.db"]);
        ana.ok(&["sql", "e.db", "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)"]);
        ana.ok(&["crr", "e.db", "note"]);
        sync("e.db");
        for db in ["b.db", "c.db", "d.db", "e.db"] {
            assert_eq!(ana.words(db), ana.words("a.db"), "{order:?}, {db}");
            assert_eq!(ana.ok(&["check", db]), format!("{db}: clean\n"));
            let vector = |db: &str| json(&ana.ok(&["status", db, "--json"]))["vector"].clone();
            assert_eq!(vector(db), vector("a.db"), "{order:?}, {db}");
        }
        assert_eq!(ana.one("a.db", "SELECT count(*) FROM note"), "7");
    }
}

/// Who stays in sync is told too, whatever lies between: at a relay and in a folder.
#[test]
fn a_watch_tells_of_forks() {
    let ana = copies(&["b.db", "c.db", "d.db"]);
    bare(&ana, "a.db", "INSERT INTO note VALUES('n3', 'from a')");
    bare(&ana, "b.db", "INSERT INTO note VALUES('n4', 'from b')");
    bare(&ana, "c.db", "INSERT INTO note VALUES('n5', 'from c')");
    bare(&ana, "d.db", "INSERT INTO note VALUES('n6', 'from d')");
    let relay = Relay::start(&ana);
    std::fs::create_dir(ana.path("stick")).unwrap();
    for (url, db) in [(relay.store("notes"), "b.db"), ("dir:stick".to_string(), "c.db")] {
        ana.ok(&["sync", "a.db", &url, "--token", &relay.token]);
        let args = ["sync", db, &url, "--token", &relay.token, "--watch", "--json"];
        let mut watch = ana.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap());
        let told = wait_for(&mut lines, "forked");
        let branches = told["branches"].as_array().unwrap();
        assert!(branches.iter().any(|branch| branch["base"] == 2), "{told}");
        assert!(branches.len() >= 2, "{told}");
        wait_for(&mut lines, "converged");
        watch.kill().unwrap();
        watch.wait().unwrap();
        let status = json(&ana.ok(&["status", db, "--json"]));
        assert_eq!(status["forked"], told["branches"]);
    }
    // In words.
    let url = relay.store("words");
    ana.ok(&["sync", "a.db", &url, "--token", &relay.token]);
    let args = ["sync", "d.db", &url, "--token", &relay.token, "--watch"];
    let mut watch = ana.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let is_forked = |line: std::io::Result<String>| line.unwrap().contains("under one site id");
    assert!(lines.any(is_forked), "the watch ended");
    watch.kill().unwrap();
    watch.wait().unwrap();
}
