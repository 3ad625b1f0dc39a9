//! Tables that somebody altered, dropped or renamed behind our back: never a cell that was
//! written and not captured, and `crsql_as_crr` mends.

use crate::support::Store;

const CELLS: &str = "SELECT [table], cid, val, col_version, db_version, cl FROM crsql_changes";
const STALE: &str = "table t was altered: run SELECT crsql_as_crr('t')";

fn store() -> Store {
    let store = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)", &["t"]);
    store.run("INSERT INTO t VALUES(1, 'x', 'y')");
    store
}

#[test]
fn a_column_is_added_and_written_in_one_transaction() {
    let store = store();
    store.run("BEGIN; UPDATE t SET b = 'z'; ALTER TABLE t ADD COLUMN d");
    for write in ["UPDATE t SET d = 1", "INSERT INTO t(a) VALUES(2)", "DELETE FROM t"] {
        assert_eq!(store.refuse(write, vec![]), STALE);
    }
    // The error undid its statement only.
    store.expect("SELECT * FROM t", "1|z|y|NULL");
    store.expect("SELECT crsql_as_crr('t')", "OK");
    store.run("UPDATE t SET d = 1; COMMIT");
    store.expect(CELLS, "t|c|y|1|1|1\nt|b|z|2|2|1\nt|d|1|1|2|1");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn what_was_altered_is_rolled_back() {
    let store = store();
    for undo in ["ROLLBACK", "ROLLBACK TO s; COMMIT"] {
        store.run("BEGIN; SAVEPOINT s; ALTER TABLE t ADD COLUMN d; SELECT crsql_as_crr('t')");
        store.run("UPDATE t SET d = 1");
        store.run(undo);
        store.run("UPDATE t SET b = b || 'z'");
        // The same number of the schema, another schema.
        store.run("BEGIN; ALTER TABLE t ADD COLUMN e");
        assert_eq!(store.refuse("UPDATE t SET e = 1", vec![]), STALE);
        store.run("ROLLBACK; UPDATE t SET c = c || 'z'");
    }
    store.expect(CELLS, "t|b|xzz|3|4|1\nt|c|yzz|3|5|1");
    store.expect("SELECT * FROM ana_check", "");
}

/// Read inside a transaction that nobody tells us the end of.
#[test]
fn a_schema_read_before_it_is_undone_is_not_believed() {
    let store = store();
    store.run("BEGIN; ALTER TABLE t ADD COLUMN d");
    store.expect("SELECT count(*) FROM crsql_changes", "2");
    store.run("ROLLBACK; BEGIN; CREATE TABLE other(x)");
    store.run("UPDATE t SET b = 1; COMMIT");
    store.expect("SELECT cid, val FROM crsql_changes", "c|y\nb|1");
    store.run("BEGIN; CREATE TABLE more(x)");
    store.expect("SELECT count(*) FROM crsql_changes", "2");
    store.run("ROLLBACK; BEGIN; ALTER TABLE t ADD COLUMN d");
    assert_eq!(store.refuse("UPDATE t SET d = 1", vec![]), STALE);
    store.run("ROLLBACK");
}

#[test]
fn a_column_with_a_default_is_backfilled_where_it_differs() {
    let store = store();
    store.run("INSERT INTO t VALUES(2, 1, 1); ALTER TABLE t ADD COLUMN d TEXT DEFAULT 'n'");
    store.run("DROP TRIGGER t__crsql_utrig; UPDATE t SET d = 'm' WHERE a = 2");
    store.expect("SELECT crsql_as_crr('t')", "OK");
    store.expect(
        "SELECT pk, cid, val, col_version, db_version FROM crsql_changes WHERE cid = 'd'",
        "x'010902'|d|m|1|3",
    );
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn a_column_is_renamed() {
    let store = store();
    store.run("ALTER TABLE t RENAME COLUMN b TO bb");
    assert_eq!(store.refuse("UPDATE t SET bb = 1", vec![]), STALE);
    store.expect(CELLS, "t|c|y|1|1|1");
    store.expect("SELECT crsql_as_crr('t')", "OK");
    store.expect(CELLS, "t|c|y|1|1|1\nt|bb|x|1|2|1");
    store.run("UPDATE t SET bb = 1");
    store.expect(CELLS, "t|c|y|1|1|1\nt|bb|1|2|3|1");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn a_table_is_renamed() {
    let store = store();
    store.run("ALTER TABLE t RENAME TO u");
    let message = store.refuse("UPDATE u SET b = 1", vec![]);
    assert_eq!(message, "table u was altered: run SELECT crsql_as_crr('u')");
    store.expect("SELECT crsql_as_crr('u')", "OK");
    store.run("UPDATE u SET b = 1");
    store.expect(CELLS, "u|c|y|2|2|1\nu|b|1|3|3|1");
    // The old name is free for another table, which had a row.
    store.run("CREATE TABLE t(a PRIMARY KEY, z); SELECT crsql_as_crr('t')");
    store.run("INSERT INTO t VALUES(1, 1)");
    store.expect(CELLS, "u|c|y|2|2|1\nu|b|1|3|3|1\nt|-1|NULL|3|5|3\nt|z|1|1|5|3");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn a_table_is_dropped_and_made_again() {
    let store = store();
    store.run("CREATE TABLE u(a PRIMARY KEY, b); SELECT crsql_as_crr('u')");
    store.run("DROP TABLE t");
    store.expect(CELLS, "");
    store.expect("SELECT crsql_db_version()", "1");
    store.run("INSERT INTO u VALUES(1, 1)");
    store.expect(CELLS, "u|b|1|1|2|1");
    // Other copies hold what was known of it.
    store.expect("SELECT name FROM ana_registry", "t\nu");
    store
        .run("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c); INSERT INTO t VALUES(1, 2, 3)");
    store.expect(CELLS, "u|b|1|1|2|1");
    store.run("SELECT crsql_as_crr('t')");
    store.expect(CELLS, "u|b|1|1|2|1\nt|b|2|2|3|1\nt|c|3|2|3|1");
    store.expect("SELECT id FROM ana_registry", "2\n3");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn a_table_is_dropped_in_the_transaction_that_wrote_it() {
    let store = store();
    store.run("CREATE TABLE u(a PRIMARY KEY, b); SELECT crsql_as_crr('u')");
    store.run("BEGIN; INSERT INTO t VALUES(5, 5, 5); INSERT INTO u VALUES(1, 1); DROP TABLE t");
    store.run("INSERT INTO u VALUES(2, 1); COMMIT; INSERT INTO u VALUES(3, 1)");
    store.expect("SELECT [table], count(*) FROM crsql_changes GROUP BY 1", "u|3");
    store.expect("SELECT * FROM ana_check", "");
    store.run("BEGIN; DROP TABLE u; ROLLBACK; INSERT INTO u VALUES(4, 1)");
    store.expect("SELECT [table], count(*) FROM crsql_changes GROUP BY 1", "u|4");
    store.expect("SELECT * FROM ana_check", "");
}

/// The way SQLite's documentation tells to change a table.
#[test]
fn twelve_steps() {
    let store = store();
    store.run(
        "BEGIN; CREATE TABLE n(a INTEGER PRIMARY KEY NOT NULL, b, c, d); \
         INSERT INTO n SELECT *, 1 FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t",
    );
    store.run("UPDATE t SET d = 2");
    store.expect("SELECT crsql_as_crr('t')", "OK");
    store.run("COMMIT; UPDATE t SET d = 3");
    store.expect(CELLS, "t|b|x|2|2|1\nt|c|y|2|2|1\nt|d|3|2|3|1");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn back_to_a_plain_table() {
    let store = store();
    store.run("UPDATE t SET b = 1; UPDATE t SET b = 2");
    store.expect("SELECT crsql_as_table('T')", "NULL");
    store.expect("SELECT crsql_as_table('t'), crsql_as_table('nope')", "NULL|NULL");
    store.expect(CELLS, "");
    store.expect("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'", "0");
    // The version never falls: peers' cursors stand above it.
    store.expect("SELECT crsql_db_version()", "3");
    store.run("UPDATE t SET b = 3; BEGIN; SELECT crsql_as_crr('t'); ROLLBACK");
    store.expect(CELLS, "");
    store.run("SELECT crsql_as_crr('t')");
    store.expect(CELLS, "t|b|3|1|4|1\nt|c|y|1|4|1");
    store.expect("SELECT * FROM ana_check", "");
}

/// Newer triggers fire first: one that keeps the row and skips ours loses a write.
#[test]
fn a_trigger_that_may_skip_ours_is_outrun_again() {
    let store = store();
    store.run(
        "CREATE TRIGGER skip AFTER INSERT ON t BEGIN
             SELECT RAISE(IGNORE) WHERE new.b = 'skip'; END",
    );
    store.run("SELECT crsql_as_crr('t'); INSERT INTO t VALUES(2, 'skip', 1)");
    store.expect("SELECT count(*) FROM crsql_changes WHERE pk = x'010902'", "2");
}

/// Newer triggers fire first, and what they write is told first.
#[test]
fn triggers_that_undo_a_write_before_ours_tell_of_it() {
    let cases = [
        (
            "AFTER INSERT ON t BEGIN DELETE FROM t WHERE a = new.a; END",
            "INSERT INTO t(a) VALUES(2)",
        ),
        ("AFTER DELETE ON t BEGIN INSERT INTO t(a) VALUES(old.a); END", "DELETE FROM t"),
        ("AFTER UPDATE ON t BEGIN DELETE FROM t WHERE a = new.a; END", "UPDATE t SET b = 1"),
        (
            "AFTER UPDATE ON t WHEN new.a < 9 BEGIN UPDATE t SET a = 9 WHERE a = new.a; END",
            "UPDATE t SET a = 2",
        ),
        (
            "AFTER INSERT ON t WHEN new.a < 9 BEGIN UPDATE t SET a = 9 WHERE a = new.a; END",
            "INSERT INTO t VALUES(2, 3, 4)",
        ),
    ];
    for (trigger, write) in cases {
        for kind in ["", "TEMP "] {
            let store = store();
            store.run(&format!("CREATE {kind}TRIGGER x {trigger}; BEGIN; {write}; COMMIT"));
            store.expect("SELECT * FROM ana_check", "");
            let copy = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)", &["t"]);
            let delta = store.rows("SELECT hex(ana_export())").concat();
            copy.run(&format!("SELECT ana_apply(x'{delta}')"));
            assert_eq!(copy.rows("SELECT * FROM t"), store.rows("SELECT * FROM t"), "{trigger}");
        }
    }
}

#[test]
fn a_trigger_that_skips_ours_is_outrun_at_the_next_commit_or_reading() {
    let store = store();
    store.run("CREATE TRIGGER skip AFTER INSERT ON t BEGIN SELECT RAISE(IGNORE); END");
    store.run("INSERT INTO t VALUES(2, 3, 4)");
    store.expect("SELECT cid, val FROM crsql_changes WHERE pk = x'010902'", "b|3\nc|4");
    store.run(
        "DROP TRIGGER skip; CREATE TRIGGER skip AFTER DELETE ON t BEGIN SELECT RAISE(IGNORE); END",
    );
    store.run("BEGIN; DELETE FROM t WHERE a = 2; INSERT INTO t VALUES(5, 6, 7); COMMIT");
    store.expect("SELECT cid, cl FROM crsql_changes WHERE pk = x'010902'", "-1|2");
    store.expect("SELECT * FROM ana_check", "");
}

/// OR FAIL keeps the row of a statement that somebody's trigger failed, and skips ours.
#[test]
fn a_row_that_or_fail_kept_past_ours_is_found_at_the_next_reading() {
    let store = store();
    store.run("CREATE TABLE log(x UNIQUE); INSERT INTO log VALUES(1)");
    store.run("CREATE TRIGGER fail AFTER INSERT ON t BEGIN INSERT INTO log VALUES(1); END");
    store.refuse("INSERT OR FAIL INTO t VALUES(2, 3, 4)", vec![]);
    store.expect("SELECT a FROM t WHERE a = 2", "2");
    store.expect("SELECT cid, val FROM crsql_changes WHERE pk = x'010902'", "b|3\nc|4");
    store.expect("SELECT * FROM ana_check", "");
    // From here on ours is the first, and has the row before the other fails.
    store.refuse("INSERT OR FAIL INTO t VALUES(5, 6, 7)", vec![]);
    store.expect("SELECT cid, val FROM crsql_changes WHERE pk = x'010905'", "b|6\nc|7");
    store.expect("SELECT * FROM ana_check", "");
}

/// By a program without us.
#[test]
fn rows_written_past_a_trigger_that_was_dropped_are_found() {
    let store = store();
    store.run("INSERT INTO t VALUES(3, 3, 3); DROP TRIGGER t__crsql_itrig");
    store.run("INSERT INTO t VALUES(2, 3, 4); SELECT crsql_as_crr('t')");
    store.expect(
        "SELECT cid, val, col_version FROM crsql_changes WHERE pk = x'010902'",
        "b|3|1\nc|4|1",
    );
    store.run("DROP TRIGGER t__crsql_dtrig; DELETE FROM t WHERE a = 2");
    store.run("CREATE TRIGGER t__crsql_dtrig AFTER DELETE ON t BEGIN SELECT 1; END");
    store.run("SELECT crsql_as_crr('t')");
    store.expect("SELECT cid, cl FROM crsql_changes WHERE pk = x'010902'", "-1|2");
    store.run(
        "DROP TRIGGER t__crsql_utrig; UPDATE t SET b = 9 WHERE a = 1; SELECT crsql_as_crr('t')",
    );
    store.expect(
        "SELECT cid, val, col_version FROM crsql_changes WHERE pk = x'010901'",
        "b|9|2\nc|y|2",
    );
    store.expect("SELECT * FROM ana_check", "");
}

/// A merge writes past our triggers, so a row that somebody's trigger refuses without a word
/// must not get a clock: it is held; and one that a trigger deletes at once is found, and mended.
#[test]
fn triggers_that_undo_a_merge() {
    let from = store();
    from.run("INSERT INTO t VALUES(2, 3, 4)");
    let insert = from.rows("SELECT hex(ana_export())").concat();
    from.run("UPDATE t SET b = 7 WHERE a = 2");
    let update = from.rows("SELECT hex(ana_export())").concat();
    from.run("DELETE FROM t WHERE a = 2");
    let delete = from.rows("SELECT hex(ana_export())").concat();
    for (event, delta) in [("INSERT", &insert), ("UPDATE", &update), ("DELETE", &delete)] {
        let store = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)", &["t"]);
        if event != "INSERT" {
            store.run(&format!("SELECT ana_apply(x'{insert}')"));
        }
        store.run(&format!("CREATE TRIGGER x BEFORE {event} ON t BEGIN SELECT RAISE(IGNORE); END"));
        let before = (store.dump(), store.rows("SELECT * FROM t"));
        store.run(&format!("SELECT ana_apply(x'{delta}')"));
        let reason = store
            .rows("SELECT DISTINCT reason FROM ana_quarantine WHERE reason LIKE '%row 2)'")
            .concat();
        assert_eq!(reason, "a trigger ignored the write (table t, row 2)");
        assert_eq!((store.dump(), store.rows("SELECT * FROM t")), before, "{event}");
        store.run("DROP TRIGGER x; SELECT ana_retry()");
        store.expect("SELECT * FROM ana_quarantine", "");
        store.expect("SELECT * FROM ana_check", "");
    }
    let store = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)", &["t"]);
    store.run("CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t WHERE a = 1; END");
    store.run(&format!("SELECT ana_apply(x'{insert}')"));
    assert_eq!(store.rows("SELECT * FROM ana_check").len(), 1);
    store.run("SELECT crsql_as_crr('t')");
    store.expect("SELECT * FROM ana_check", "");
    let back = store.rows("SELECT hex(ana_export())").concat();
    from.run(&format!("SELECT ana_apply(x'{back}')"));
    store.run(&format!("SELECT ana_apply(x'{delete}')"));
    assert_eq!(from.rows("SELECT hex(ana_digest())"), store.rows("SELECT hex(ana_digest())"));
}

/// The clock of a row remembers a column that is gone: a delete from elsewhere has no value of
/// it to keep.
#[test]
fn a_row_with_a_column_that_is_gone_is_deleted_from_elsewhere() {
    let store = store();
    store.run("ALTER TABLE t RENAME COLUMN b TO bb");
    store.expect("SELECT crsql_as_crr('t')", "OK");
    store.run(
        "INSERT INTO crsql_changes VALUES('t', crsql_pack_columns(1), '-1', NULL, 2, 9, \
         x'07070707070707070707070707070707', 2, 0)",
    );
    store.expect("SELECT * FROM t", "");
    store.expect("SELECT cid, cl FROM crsql_changes", "-1|2");
    store.expect("SELECT * FROM ana_check", "");
}
