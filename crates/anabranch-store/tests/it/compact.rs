//! Forgetting: what a compaction drops, what it refuses, and what a copy that missed it gets.

use crate::support::{Store, text};

const SCHEMA: &str = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)";
const CHECK: &str = "SELECT severity, place, what FROM ana_check";

pub(crate) fn give(from: &Store, to: &Store) {
    let vector = to.rows("SELECT ana_version_vector()").concat();
    let delta = from.rows(&format!("SELECT hex(ana_export('{vector}'))")).concat();
    to.run(&format!("SELECT ana_apply(x'{delta}')"));
}

fn vector(store: &Store) -> String {
    store.rows("SELECT ana_version_vector()").concat()
}

/// Bytes freed.
fn compact(store: &Store, floor: &str) -> i64 {
    let freed = store.rows(&format!("SELECT ana_compact('{floor}')")).concat();
    store.expect(CHECK, "");
    freed.parse().unwrap()
}

fn same(a: &Store, b: &Store) {
    assert_eq!(a.rows("SELECT hex(ana_digest())"), b.rows("SELECT hex(ana_digest())"));
    a.expect(CHECK, "");
    b.expect(CHECK, "");
}

fn pair() -> (Store, Store) {
    let (a, b) = (Store::with(SCHEMA, &["t"]), Store::with(SCHEMA, &["t"]));
    a.run("INSERT INTO t VALUES(1, 'one', 1), (2, 'two', 2), (3, 'three', 3)");
    give(&a, &b);
    (a, b)
}

/// Someone alone forgets everything that is past, and goes on.
#[test]
fn a_copy_that_is_alone_forgets_all() {
    let a = Store::with(SCHEMA, &["t"]);
    a.run("INSERT INTO t VALUES(1, 1, 1), (2, 2, 2)");
    a.run("UPDATE t SET b = 5 WHERE a = 2");
    a.run("DELETE FROM t WHERE a = 1");
    assert!(a.dump().iter().any(|change| change.contains("-1")));
    let digest = a.rows("SELECT hex(ana_digest())");
    let planned = a.rows("SELECT ana_internal_compact(NULL, 1)").concat();
    assert!(planned.contains("\"tombstones\":1"), "{planned}");
    let freed: i64 = a.rows("SELECT ana_compact()").concat().parse().unwrap();
    assert!(freed > 0);
    a.expect(CHECK, "");
    assert_eq!(a.rows("SELECT hex(ana_digest())"), digest);
    assert!(!a.dump().iter().any(|change| change.contains("-1")));
    a.expect("SELECT count(*) FROM ana_entry WHERE head IS NOT NULL", "0");
    a.expect("SELECT tbl, cl FROM ana_restart", "t|3");
    // Whoever still has the tombstone is below the new life.
    a.run("INSERT INTO t VALUES(1, 'again', 1), (9, 'new', 1)");
    a.expect(
        "SELECT DISTINCT hex(pk), cl FROM crsql_changes ORDER BY 1",
        "010901|3\n010902|1\n010909|3",
    );
    a.expect(CHECK, "");
    let b = Store::with(SCHEMA, &["t"]);
    give(&a, &b);
    same(&a, &b);
    b.expect("SELECT tbl, cl FROM ana_restart", "t|3");
    assert_eq!(vector(&a), vector(&b));
    b.run("INSERT INTO t VALUES(20, 'b', 0)");
    give(&b, &a);
    same(&a, &b);
}

#[test]
fn what_is_deleted_below_the_floor_is_gone_for_who_missed_it() {
    let (a, b) = pair();
    let before = vector(&b);
    a.run("DELETE FROM t WHERE a = 1; UPDATE t SET b = 'a' WHERE a = 2");
    b.run("UPDATE t SET c = 'kept' WHERE a = 1; INSERT INTO t VALUES(7, 'seven', 7)");
    b.run("DELETE FROM t WHERE a = 3");
    assert!(compact(&a, &vector(&a)) > 0);
    assert_ne!(before, vector(&b));
    give(&a, &b);
    // Row 1 is gone, the edit of it is listed; row 7 may have been deleted before, and lives on.
    b.expect("SELECT a, b FROM t ORDER BY a", "2|a\n7|seven");
    b.expect(
        "SELECT hex(pk), \"column\", value, why FROM ana_conflicts",
        "010901|c|kept|row deleted",
    );
    b.expect("SELECT DISTINCT cl FROM crsql_changes WHERE pk = x'010907'", "3");
    give(&b, &a);
    same(&a, &b);
    a.expect("SELECT a, b FROM t ORDER BY a", "2|a\n7|seven");
    // Nothing is left to say.
    give(&a, &b);
    give(&b, &a);
    same(&a, &b);
    assert_eq!(vector(&a), vector(&b));
}

/// The same the other way round: who forgot is asked to take in what is older.
#[test]
fn who_forgot_tells_new_rows_from_deleted_ones() {
    let (a, b) = pair();
    a.run("DELETE FROM t WHERE a = 1");
    b.run("UPDATE t SET c = 'lost' WHERE a = 1; INSERT INTO t VALUES(7, 'seven', 7)");
    compact(&a, &vector(&a));
    give(&b, &a);
    a.expect("SELECT a, b FROM t ORDER BY a", "2|two\n3|three\n7|seven");
    a.expect(
        "SELECT hex(pk), \"column\", value, why FROM ana_conflicts",
        "010901|c|lost|row deleted",
    );
    a.expect("SELECT DISTINCT cl FROM crsql_changes WHERE pk = x'010907'", "3");
    give(&a, &b);
    same(&a, &b);
    b.expect("SELECT a, b FROM t ORDER BY a", "2|two\n3|three\n7|seven");
}

#[test]
fn floors_that_are_refused() {
    let (a, b) = pair();
    let refused = |store: &Store, floor: Option<&str>, expected: &str| {
        let message = match floor {
            Some(floor) => store.refuse("SELECT ana_compact(?)", vec![text(floor)]),
            None => store.refuse("SELECT ana_compact()", vec![]),
        };
        assert!(message.contains(expected), "{message}");
    };
    refused(&b, None, "no peer is listed");
    b.run("INSERT INTO t VALUES(8, 8, 8)");
    refused(&a, Some(&vector(&b)), "sync first");
    refused(&a, Some("nonsense"), "not a version vector");
    let other = vector(&a).replace(":[1,\"", ":[1,\"00").replace("\"]", "");
    let other = format!("{}\"]}}", &other[..other.len() - 3]);
    refused(&a, Some(&other), "SiteReused");
    a.run("BEGIN; INSERT INTO t VALUES(9, 9, 9)");
    refused(&a, Some("{}"), "commit first");
    a.run("ROLLBACK");
    a.run("INSERT INTO crsql_changes VALUES('t', x'010905', 'b', 5, 1, 1, x'55', 1, 0)");
    refused(&a, None, "crsql_changes");
    compact(&a, &vector(&a));
}

#[test]
fn the_default_floor_is_what_all_peers_acknowledged() {
    let (a, b) = pair();
    a.run("DELETE FROM t WHERE a = 1");
    give(&a, &b);
    let acknowledged = vector(&a);
    a.run("DELETE FROM t WHERE a = 2");
    let peer = |url: &str, held: &str| {
        let sql = "INSERT OR REPLACE INTO ana_peer(url, role, held) VALUES(?, 'relay', ?)";
        a.execute(sql, vec![text(url), text(held)]);
    };
    peer("ws://one", &vector(&a));
    peer("ws://two", &acknowledged);
    let planned = a.rows("SELECT ana_internal_compact(NULL, 1)").concat();
    assert!(planned.contains("\"tombstones\":1,"), "{planned}");
    a.run("SELECT ana_compact()");
    a.expect("SELECT count(*) FROM crsql_changes WHERE cid = '-1'", "1");
    peer("ws://three", "{}");
    let planned = a.rows("SELECT ana_internal_compact(NULL, 1)").concat();
    assert!(planned.contains("ws://three has acknowledged nothing"), "{planned}");
    assert!(planned.contains("\"tombstones\":0,"), "{planned}");
    // Nothing that is not held here counts.
    b.run("INSERT INTO t VALUES(8, 8, 8)");
    peer("ws://three", &vector(&b));
    let planned = a.rows("SELECT ana_internal_compact(NULL, 1)").concat();
    assert!(planned.contains("ws://three holds changes that are not here"), "{planned}");
}

/// A rollback brings all of it back, in memory too.
#[test]
fn rolled_back() {
    let a = Store::with(SCHEMA, &["t"]);
    a.run("INSERT INTO t VALUES(1, 1, 1), (2, 2, 2); DELETE FROM t WHERE a = 1");
    let before = a.dump();
    a.run("BEGIN; SELECT ana_compact(); ROLLBACK");
    assert_eq!(a.dump(), before);
    a.expect("SELECT count(*) FROM ana_floor", "0");
    a.run("INSERT INTO t VALUES(1, 'again', 1)");
    a.expect("SELECT DISTINCT cl FROM crsql_changes WHERE pk = x'010901'", "3");
    a.expect(CHECK, "");
    a.run("INSERT INTO t VALUES(3, 3, 3)");
    a.expect("SELECT DISTINCT cl FROM crsql_changes WHERE pk = x'010903'", "1");
    a.run("BEGIN; SELECT ana_compact(); COMMIT");
    a.expect(CHECK, "");
}

/// A backup pulls its own changes from who has them as salts.
#[test]
fn a_restored_backup_is_made_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup.db");
    let (a, b) = pair();
    a.run("INSERT INTO t VALUES(30, 'old', 0)");
    a.execute("VACUUM INTO ?", vec![text(path.to_str().unwrap())]);
    for n in 0..150 {
        a.run(&format!("INSERT INTO t VALUES({}, 'more', {n})", 100 + n));
    }
    a.run("DELETE FROM t WHERE a IN (1, 30)");
    give(&a, &b);
    compact(&b, &vector(&b));
    let conn = anabranch_sqlite::Embedded::new(rusqlite::Connection::open(&path).unwrap()).unwrap();
    anabranch_store::install(conn.db()).unwrap();
    let backup = Store { conn };
    give(&b, &backup);
    same(&b, &backup);
    same(&a, &backup);
    assert_eq!(vector(&backup), vector(&a));
    backup.run("INSERT INTO t VALUES(500, 'goes on', 0)");
    give(&backup, &b);
    same(&b, &backup);
}

/// What came through a key update, of a table without columns, and of several columns.
#[test]
fn new_lives_of_all_kinds_begin_at_the_restart_length() {
    let schema = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c);
                  CREATE TABLE k(a TEXT COLLATE NOCASE PRIMARY KEY NOT NULL) WITHOUT ROWID";
    let a = Store::with(schema, &["t", "k"]);
    a.run("INSERT INTO t VALUES(1, 1, 1), (2, 2, 2); INSERT INTO k VALUES('a'), ('b')");
    a.run("DELETE FROM t WHERE a = 1; DELETE FROM k WHERE a = 'a'");
    a.run("INSERT INTO k VALUES('a'); DELETE FROM k WHERE a = 'a'");
    a.run("SELECT ana_compact()");
    a.expect("SELECT tbl, cl FROM ana_restart", "k|5\nt|3");
    a.run(
        "UPDATE t SET a = 3 WHERE a = 2; INSERT INTO k VALUES('A'); UPDATE k SET a = 'B'
           WHERE a = 'b'; INSERT OR REPLACE INTO t VALUES(4, 4, 4)",
    );
    a.expect(
        "SELECT \"table\", hex(pk), cl FROM crsql_changes WHERE cid = '-1' ORDER BY 1, 2",
        "k|010B0141|5\nk|010B0142|5\nt|010902|2\nt|010903|3\nt|010904|3",
    );
    a.expect(CHECK, "");
    let n = 300;
    for i in 0..n {
        a.run(&format!("INSERT INTO t VALUES({}, {i}, {i})", 1000 + i));
    }
    a.run("INSERT INTO t SELECT a + 5000, b, c FROM t WHERE a >= 1000");
    a.expect(
        "SELECT min(cl), max(cl) FROM crsql_changes WHERE \"table\" = 't' AND cid = 'b'",
        "3|3",
    );
    a.expect(CHECK, "");
    let b = Store::with(schema, &["t", "k"]);
    give(&a, &b);
    same(&a, &b);
}

/// Another connection that has read notices what is gone.
#[test]
fn other_connections_notice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let open = || {
        let conn = rusqlite::Connection::open(&path).unwrap();
        let conn = anabranch_sqlite::Embedded::new(conn).unwrap();
        anabranch_store::install(conn.db()).unwrap();
        Store { conn }
    };
    let (one, two) = (open(), open());
    one.run(&format!("{SCHEMA}; SELECT crsql_as_crr('t')"));
    one.run("INSERT INTO t VALUES(1, 1, 1), (2, 2, 2); DELETE FROM t WHERE a = 1");
    assert_eq!(two.dump(), one.dump());
    one.run("SELECT ana_compact()");
    assert_eq!(two.dump(), one.dump());
    two.run("INSERT INTO t VALUES(1, 'again', 1)");
    two.expect("SELECT DISTINCT cl FROM crsql_changes WHERE pk = x'010901'", "3");
    assert_eq!(two.dump(), one.dump());
    one.expect(CHECK, "");
    two.expect(CHECK, "");
}
