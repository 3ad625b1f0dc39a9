//! `ana compact`: says what goes, asks, and leaves copies that still become equal.

use crate::ana::Ana;
use crate::relay::Relay;

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
