//! Short cuts of the merge, each where it must not be taken: rows of a delta inserted together,
//! the row kept from one tie to the next, cells joined into one record.

use rusqlite::types::Value;

use crate::support::{Store, blob, give, text};

/// Rows of a delta, more than go together into two statements.
const N_ROWS: i64 = 70;

/// A schema that refuses the one row whose `b` is 'no', or must not have it beside another.
const REFUSING: &[(&str, &str)] = &[
    ("a CHECK", "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b CHECK(b <> 'no'), c)"),
    (
        "a unique index",
        "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c); SELECT crsql_as_crr('t'); \
         INSERT INTO t VALUES(1000, 'no', 0); CREATE UNIQUE INDEX u ON t(b)",
    ),
    (
        "RAISE(ABORT)",
        "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c); CREATE TRIGGER x AFTER INSERT ON t \
         WHEN new.b = 'no' BEGIN SELECT RAISE(ABORT, 'not here'); END",
    ),
    (
        "RAISE(FAIL), which keeps the rows before",
        "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c); CREATE TRIGGER x AFTER INSERT ON t \
         WHEN new.b = 'no' BEGIN SELECT RAISE(FAIL, 'not here'); END",
    ),
    (
        "RAISE(IGNORE), which is no error",
        "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c); CREATE TRIGGER x BEFORE INSERT ON t \
         WHEN new.b = 'no' BEGIN SELECT RAISE(IGNORE); END",
    ),
];

/// Of rows inserted together one is refused: only its change is held, whichever it is, and the
/// others are as if they had come one by one.
#[test]
fn a_refused_row_among_many() {
    let free = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)";
    for (why, schema) in REFUSING {
        for refused in [1, 2, 17, 31, 32, 33, 64, 65, 70] {
            let case = format!("{why}, row {refused}");
            let (from, to) = (Store::with(free, &["t"]), Store::new());
            to.run(schema);
            to.run("SELECT crsql_as_crr('t') WHERE NOT EXISTS(SELECT 1 FROM crsql_changes)");
            for n in 1..=N_ROWS {
                let b = if n == refused { "'no'".into() } else { format!("'row {n}'") };
                from.run(&format!("INSERT INTO t VALUES({n}, {b}, {n})"));
            }
            give(&from, &to);
            let there = "SELECT a, b, c FROM t WHERE a < 1000 ORDER BY a";
            let mut expected = from.rows(there);
            expected.remove(refused as usize - 1);
            assert_eq!(to.rows(there), expected, "{case}");
            to.expect("SELECT count(*) FROM ana_quarantine", "1");
            let clocks = "SELECT pk, cid, val, col_version, cl, site_id FROM crsql_changes \
                          WHERE pk < x'0111' ORDER BY pk, cid";
            let of_refused = format!("x'01{}'", packed(refused));
            let mut expected = from.rows(clocks);
            expected.retain(|row| !row.starts_with(&of_refused));
            assert_eq!(to.rows(clocks), expected, "{case}");
            let twice =
                "SELECT count(*) - count(DISTINCT seq) FROM crsql_changes WHERE pk < x'0111'";
            to.expect(twice, "0");
            to.expect("SELECT * FROM ana_check", "");
        }
    }
}

/// A small positive integer as a packed key has it.
fn packed(n: i64) -> String {
    format!("09{n:02x}")
}

/// One row of `crsql_changes` from site 7 for the row 1 of `t`; whether it won.
fn offer(store: &Store, column: &str, value: &str, version: i64) -> bool {
    let before = store.rows(&format!("SELECT {column} FROM t WHERE a = 1"));
    store.execute(
        "INSERT INTO crsql_changes VALUES('t', x'010901', ?, ?, ?, 1, ?, 1, 0)",
        vec![text(column), text(value), Value::Integer(version), blob(&[7; 16])],
    );
    before != store.rows(&format!("SELECT {column} FROM t WHERE a = 1"))
}

/// The row that a tie has read is not what the next tie compares with, once anything wrote.
#[test]
fn the_row_of_the_last_tie_is_read_again_after_a_write() {
    let schema = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c); CREATE TABLE o(p); \
                  CREATE TRIGGER other AFTER INSERT ON o BEGIN UPDATE t SET c = new.p; END";
    // Statements that leave `c` at 'z', and the version it then has.
    let writes = [
        ("UPDATE t SET c = 'z'", 2),
        ("INSERT INTO o VALUES('z')", 2),
        ("UPDATE t SET a = 2; UPDATE t SET a = 1, c = 'z'", 0),
        ("INSERT OR REPLACE INTO t VALUES(1, 'm', 'z')", 2),
        ("INSERT INTO t VALUES(1, 1, 1) ON CONFLICT DO UPDATE SET c = 'z'", 2),
        (
            "SELECT crsql_internal_sync_bit(1); UPDATE t SET c = 'z'; SELECT crsql_internal_sync_bit(0)",
            1,
        ),
        ("INSERT INTO crsql_changes VALUES('t', x'010901', 'c', 'z', 5, 1, x'08', 1, 0)", 5),
        (
            "SAVEPOINT s; UPDATE t SET c = 'z'; SAVEPOINT s2; UPDATE t SET c = 'a'; ROLLBACK TO s2",
            2,
        ),
    ];
    for (sql, version) in writes {
        for is_open in [false, true] {
            let store = Store::with(schema, &["t"]);
            store.run("INSERT INTO t VALUES(1, 'm', 'm')");
            store.run(if is_open { "BEGIN" } else { "" });
            assert!(!offer(&store, "c", "a", 1), "'a' loses against 'm'");
            store.run(sql);
            if version > 0 {
                assert!(!offer(&store, "c", "p", version), "{sql}: 'p' loses against 'z'");
            }
            store.expect("SELECT c FROM t", "z");
        }
    }
    // Back to what was there before the write.
    let store = Store::with(schema, &["t"]);
    store.run("INSERT INTO t VALUES(1, 'm', 'm'); BEGIN; SAVEPOINT s; UPDATE t SET c = 'z'");
    assert!(!offer(&store, "c", "p", 2));
    store.run("ROLLBACK TO s");
    assert!(offer(&store, "c", "p", 1), "'p' wins against 'm'");
}

/// Cells of a row that come one behind the other are kept as one record, whose numbers follow each
/// other. Where those of two rows lie among each other they are shown in order all the same.
#[test]
fn numbers_of_two_rows_that_interleave_are_shown_in_order() {
    let schema = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c, d)";
    // Key, column, value, version, seq.
    let changes = [
        (2, "b", 0),
        (2, "c", 1),
        (2, "d", 2),
        (3, "b", 1),
        (3, "c", 2),
        (3, "d", 3),
        (4, "b", 0),
        (1, "c", 2),
        (1, "d", 3),
    ];
    let store = Store::with(schema, &["t"]);
    store.run("INSERT INTO t VALUES(1, 'local', 'local', 'local')");
    store.run("BEGIN");
    for (key, column, seq) in changes {
        store.execute(
            "INSERT INTO crsql_changes VALUES('t', crsql_pack_columns(?), ?, 'new', 2, 9, ?, 1, ?)",
            vec![Value::Integer(key), text(column), blob(&[7; 16]), Value::Integer(seq)],
        );
    }
    store.run("COMMIT");
    let shown = store.rows("SELECT db_version, seq, hex(pk), cid FROM crsql_changes");
    let mut sorted = shown.clone();
    sorted.sort();
    assert_eq!(shown, sorted);
    // Since a version the log is read, not the rows.
    for after in [0, 8] {
        let sql = "SELECT db_version, seq, hex(pk), cid FROM crsql_changes WHERE db_version > ";
        let mut since = shown.clone();
        since.retain(|row| after == 0 || row.starts_with("9|"));
        assert_eq!(store.rows(&format!("{sql}{after}")), since);
    }
    let n_new = shown.iter().filter(|row| row.starts_with("9|")).count();
    assert_eq!(n_new, changes.len(), "{shown:?}");
    store.expect(
        "SELECT hex(pk), \"column\", value FROM ana_conflicts ORDER BY 2",
        "010901|c|local\n010901|d|local",
    );
    store.expect("SELECT * FROM ana_check", "");
    let other = Store::with(schema, &["t"]);
    give(&store, &other);
    across_log_rows(schema);
    assert_eq!(store.rows("SELECT * FROM t"), other.rows("SELECT * FROM t"));
    other.expect("SELECT * FROM ana_check", "");
}

/// The same where the log is cut: its rows have at most 4,096 records each.
fn across_log_rows(schema: &str) {
    let store = Store::with(schema, &["t"]);
    store.run(
        "BEGIN; WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
         INSERT INTO crsql_changes SELECT 't', crsql_pack_columns(i), cid, i, 1, 1, x'07', 1, \
         2 * i + at FROM n, (SELECT 'b' AS cid, 0 AS at UNION ALL SELECT 'c', 1 UNION ALL \
         SELECT 'd', 2); COMMIT",
    );
    for sql in
        ["SELECT seq FROM crsql_changes", "SELECT seq FROM crsql_changes WHERE db_version > 0"]
    {
        let found = store.rows(sql);
        let seqs: Vec<i64> = found.iter().map(|seq| seq.parse().unwrap()).collect();
        assert_eq!(seqs.len(), 15_003);
        assert!(seqs.is_sorted(), "{sql}");
    }
}

/// Two copies gave one row its life, and each has the greater value of one cell: whoever takes
/// both births at once shows the lesser site as the origin of the row's state.
#[test]
fn of_two_births_at_once_the_lesser_site_is_shown() {
    let schema = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)";
    let site = |store: &Store| store.rows("SELECT hex(crsql_site_id())").remove(0);
    let (one, other) = (Store::with(schema, &["t"]), Store::with(schema, &["t"]));
    let (low, high) = if site(&one) < site(&other) { (one, other) } else { (other, one) };
    low.run("INSERT INTO t VALUES(1, 0, 0); DELETE FROM t");
    give(&low, &high);
    high.run("INSERT INTO t VALUES(1, 'greater', 'a')");
    low.run("INSERT INTO t VALUES(1, 'a', 'greater')");
    give(&high, &low);
    let third = Store::with(schema, &["t"]);
    give(&low, &third);
    third.expect("SELECT b, c FROM t", "greater|greater");
    let shown = "SELECT hex(site_id) FROM crsql_changes WHERE cid = '-1'";
    assert_eq!(third.rows(shown), vec![site(&low)]);
}
