//! `ana compact`: says what goes, asks, and leaves copies that still become equal.

use crate::ana::Ana;

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
