//! `INSERT INTO crsql_changes`: what is refused, what older forms mean, and that nothing of a
//! refused change stays.

use rusqlite::types::Value;

use crate::support::{Store, blob, null, text};

const PK1: &[u8] = &[1, 9, 1];
const SITE: &[u8] = &[0xa0; 16];

/// A change of nine values, of which some are replaced.
fn change(replaced: &[(usize, Value)]) -> Vec<Value> {
    let mut values = vec![
        text("t"),
        blob(PK1),
        text("b"),
        Value::Integer(5),
        Value::Integer(1),
        Value::Integer(1),
        blob(SITE),
        Value::Integer(1),
        Value::Integer(0),
    ];
    for (index, value) in replaced {
        values[*index] = value.clone();
    }
    values
}

const INSERT: &str = "INSERT INTO crsql_changes VALUES(?,?,?,?,?,?,?,?,?)";

fn store() -> Store {
    Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)", &["t"])
}

#[test]
fn what_a_change_cannot_be_is_refused_by_name() {
    let long = "n".repeat(2049);
    let cases: [(usize, Value, &str); 31] = [
        (0, null(), "table of a change must be a text, it is NULL"),
        (0, Value::Integer(1), "table of a change must be a text, it is an integer"),
        (0, text("nope"), "crsql - could not find the schema information for table nope"),
        (0, text(&long), "crsql - table name exceeded max length"),
        (0, text("ana_entry"), "table ana_entry is the store's own"),
        (0, text("T"), "could not find the schema information for table T"),
        (1, null(), "pk of a change to table t must be a packed blob, it is NULL"),
        (1, Value::Real(1.0), "must be a packed blob, it is a real"),
        (1, blob(&[]), "malformed packed key"),
        (1, blob(&[1, 9]), "malformed packed key"),
        (1, blob(&[1, 9, 1, 0]), "bytes after the last value"),
        (1, blob(&[1, 0x49, 0, 0, 0, 0, 0, 0, 0, 0, 1]), "more than 8 bytes"),
        (1, blob(&[2, 9, 1, 9, 1]), "the key has 2 values"),
        (1, blob(&[1, 5]), "is NULL"),
        (1, blob(&[1, 0x0b, 1, b'x']), "is a text"),
        (1, text("abc"), "not one SQL literal"),
        (2, null(), "cid of a change must be a text, it is NULL"),
        (2, text(&long), "crsql - column name exceeded max length"),
        (2, text("nope"), "table t has no column nope"),
        (4, null(), "col_version of a change must be an integer, it is NULL"),
        (4, Value::Integer(-1), "col_version of a change must be from 0 to"),
        (4, Value::Integer(i64::MAX), "col_version of a change must be from 0 to"),
        (5, Value::Integer(i64::MAX), "db_version of a change must be from 0 to"),
        (5, text("1"), "db_version of a change must be an integer, it is a text"),
        (6, blob(&[0; 17]), "crsql - site id exceeded max length"),
        (6, text("a"), "site_id of a change must be a blob, it is a text"),
        (7, Value::Integer(i64::MAX), "cl of a change must be from 0 to"),
        (7, Value::Real(1.5), "cl of a change must be an integer, it is a real"),
        (8, Value::Integer(-1), "seq of a change must be from 0 to"),
        (8, Value::Integer(i64::MAX), "seq of a change must be from 0 to"),
        (8, blob(&[1]), "seq of a change must be an integer, it is a blob"),
    ];
    for in_transaction in [false, true] {
        let store = store();
        if in_transaction {
            store.run("BEGIN");
        }
        for (index, value, expected) in &cases {
            let error = store.refuse(INSERT, change(&[(*index, value.clone())]));
            assert!(error.contains(expected), "{index} {value:?}: {error}");
        }
        if in_transaction {
            store.run("COMMIT");
        }
        store.expect("SELECT count(*) FROM t", "0");
        store.expect("SELECT count(*) FROM crsql_changes", "0");
        store.expect("SELECT crsql_db_version(), crsql_rows_impacted()", "0|0");
        store.expect("SELECT count(*) FROM crsql_site_id", "1");
    }
}

#[test]
fn a_change_that_the_table_refuses_leaves_nothing() {
    for in_transaction in [false, true] {
        let store = Store::with(
            "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b CHECK(b > 0), c);
             CREATE TABLE log(x);
             CREATE TRIGGER no BEFORE UPDATE ON t WHEN new.c = 'no'
             BEGIN INSERT INTO log VALUES(1); SELECT RAISE(ABORT, 'not this'); END",
            &["t"],
        );
        store.run("INSERT INTO t VALUES(1, 1, 1)");
        if in_transaction {
            store.run("BEGIN");
            store.run("INSERT INTO t VALUES(2, 2, 2)");
        }
        let before = store.dump();
        let cases = [
            (change(&[(3, Value::Integer(-1)), (4, Value::Integer(9))]), "CHECK constraint failed"),
            (change(&[(2, text("c")), (3, text("no")), (4, Value::Integer(9))]), "not this"),
            (change(&[(1, blob(&[1, 9, 7])), (3, Value::Integer(-1))]), "CHECK constraint failed"),
            (change(&[(3, Value::Integer(-1)), (7, Value::Integer(3))]), "CHECK constraint failed"),
        ];
        for (values, expected) in cases {
            let error = store.refuse(INSERT, values);
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("table t, row "), "{error}");
            assert_eq!(store.dump(), before);
            store.expect("SELECT count(*) FROM log", "0");
        }
        if in_transaction {
            store.run("COMMIT");
        }
        assert_eq!(store.dump(), before);
    }
}

#[test]
fn a_statement_that_fails_half_way_leaves_nothing() {
    for begin in ["", "BEGIN", "SAVEPOINT s"] {
        let store = store();
        store.run("CREATE TABLE incoming(n INTEGER PRIMARY KEY, cv)");
        store.run("INSERT INTO incoming VALUES(1, 1), (2, 1), (3, -1)");
        store.run(begin);
        let error = store.refuse(
            "INSERT INTO crsql_changes SELECT 't', crsql_pack_columns(n), 'b', n, cv, 7,
                 x'a0a0', 1, 0 FROM incoming ORDER BY n",
            vec![],
        );
        assert!(error.contains("col_version"), "{error}");
        store.expect("SELECT count(*) FROM t", "0");
        store.expect("SELECT count(*) FROM crsql_changes", "0");
        store.expect("SELECT crsql_rows_impacted()", "0");
        store.run("INSERT INTO t VALUES(9, 9, 9)");
        if !begin.is_empty() {
            store.run("COMMIT");
        }
        store.expect("SELECT db_version, seq FROM crsql_changes", "1|0\n1|1");
    }
}

#[test]
fn forms_of_an_older_readme_are_understood() {
    let cases: [(&[(usize, Value)], &str); 8] = [
        (&[(1, Value::Integer(7))], "7|5|NULL"),
        (&[(1, text("7"))], "7|5|NULL"),
        (&[(1, text("-7"))], "-7|5|NULL"),
        (&[(1, Value::Integer(7)), (3, text("'it''s'"))], "7|it's|NULL"),
        (&[(1, text("7")), (3, text("plain"))], "7|plain|NULL"),
        (&[(3, text("'quoted'"))], "1|'quoted'|NULL"),
        (&[(7, null()), (8, null())], "1|5|NULL"),
        (&[(4, Value::Real(1.0)), (8, Value::Real(3.0))], "1|5|NULL"),
    ];
    for (replaced, expected) in cases {
        let store = store();
        store.execute(INSERT, change(replaced));
        store.expect("SELECT a, b, c FROM t", expected);
    }
    let store = Store::with("CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL, b)", &["t"]);
    store.execute(INSERT, change(&[(1, text("'''a'''"))]));
    store.execute(INSERT, change(&[(1, text("'a'"))]));
    store.expect("SELECT a FROM t ORDER BY a", "'a'\na");
    store.run(
        "INSERT INTO crsql_changes([table], pk, cid, val, col_version, db_version, site_id)
         VALUES('t', '''b''', 'b', 1, 1, 1, NULL)",
    );
    store.expect(
        "SELECT cl, seq, site_id IS crsql_site_id() FROM crsql_changes WHERE pk = x'010b0162'",
        "1|0|1",
    );
}

#[test]
fn a_trigger_cannot_merge_while_its_table_is_merged() {
    let store = store();
    store.run(
        "CREATE TRIGGER again AFTER INSERT ON t BEGIN
             INSERT INTO crsql_changes VALUES('t', x'010909', 'b', 1, 1, 1, x'b0', 1, 0);
         END",
    );
    let error = store.refuse(INSERT, change(&[]));
    assert!(error.contains("cannot merge changes while its table is merged"), "{error}");
    store.expect("SELECT count(*) FROM t", "0");
    store.run("DROP TRIGGER again");
    store.execute(INSERT, change(&[]));
    store.expect("SELECT a, b FROM t", "1|5");
}

#[test]
fn update_and_delete_are_misuse() {
    let store = store();
    for sql in ["UPDATE crsql_changes SET val = 1", "DELETE FROM crsql_changes"] {
        store.run("INSERT OR IGNORE INTO t VALUES(1, 1, 1)");
        let error = store.refuse(sql, vec![]);
        assert!(error.contains("Only INSERT and SELECT statements"), "{error}");
    }
}

#[test]
fn a_raise_leaves_cells_that_the_next_write_takes() {
    let store = store();
    store.run("INSERT INTO t VALUES(1, 'b', 'c')");
    store.execute(
        INSERT,
        change(&[(2, text("-1")), (3, null()), (4, Value::Integer(3)), (7, Value::Integer(3))]),
    );
    store.expect("SELECT * FROM t", "1|b|c");
    store.expect(
        "SELECT cid, val, col_version, cl, seq, site_id IS crsql_site_id() FROM crsql_changes ORDER BY cid",
        "-1|NULL|3|3|0|0\nb|b|0|3|0|1\nc|c|0|3|1|1",
    );
    store.run("UPDATE t SET b = 'new'");
    store.expect("SELECT cid, col_version FROM crsql_changes ORDER BY cid", "-1|3\nb|1\nc|0");
}

#[test]
fn keys_that_the_index_takes_for_equal_are_one_row() {
    let store =
        Store::with("CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, b)", &["t"]);
    store.run("INSERT INTO t VALUES('Abc', 1)");
    store.execute(INSERT, change(&[(1, blob(b"\x01\x0b\x03aBC")), (4, Value::Integer(2))]));
    store.expect("SELECT a, b FROM t", "Abc|5");
    store.expect("SELECT pk, val FROM crsql_changes", "x'010b03416263'|5");
    // A new life takes the spelling that came with it.
    store.execute(
        INSERT,
        change(&[(1, blob(b"\x01\x0b\x03aBC")), (3, Value::Integer(6)), (7, Value::Integer(3))]),
    );
    store.expect("SELECT a, b FROM t", "aBC|6");
}

/// A version at the bound is taken from outside; one above it no copy takes, so no local write
/// may make it: the copy could never export again.
#[test]
fn nothing_is_written_past_the_largest_version() {
    let store = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)", &["t"]);
    store.run("INSERT INTO t VALUES(1, 'x')");
    store.run(
        "INSERT INTO crsql_changes VALUES('t', crsql_pack_columns(1), 'b', 'y', 9007199254740992, \
         2, x'07070707070707070707070707070707', 1, 0)",
    );
    store.run(
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
         INSERT INTO t SELECT i, i FROM n",
    );
    // Alone, with the key, among many.
    let writes = [
        "UPDATE t SET b = 'z' WHERE a = 1",
        "UPDATE t SET a = 777 WHERE a = 1",
        "UPDATE t SET b = b || 'z'",
    ];
    for write in writes {
        let refused = store.refuse(write, vec![]);
        let key = if write.contains("777") { 777 } else { 1 };
        let named = format!(
            "table t, row {key}, column b: it has reached the largest version, 9007199254740992, \
             which no honest history does; delete the row and insert it again to go on"
        );
        assert_eq!(refused, named, "{write}");
        store.expect("SELECT b FROM t WHERE a = 1", "y");
    }
    store.run("UPDATE t SET b = 'z' WHERE a > 1");
    store.run("DELETE FROM t WHERE a = 1; INSERT INTO t VALUES(1, 'z'); UPDATE t SET b = 'zz'");
    store.expect("SELECT length(ana_export()) > 0", "1");
    store.expect("SELECT * FROM ana_check", "");
}

/// Rows are read ahead of ties that come in their order, and their blocks are kept: whatever is
/// written between two changes must be seen by the next.
#[test]
fn what_is_written_among_changes_that_are_known_is_seen_by_the_next() {
    for key in ["INTEGER PRIMARY KEY NOT NULL", "TEXT PRIMARY KEY NOT NULL", "PRIMARY KEY NOT NULL"]
    {
        let schema = format!("CREATE TABLE t(a {key}, b, c)");
        let (from, to) = (Store::with(&schema, &["t"]), Store::with(&schema, &["t"]));
        let mix = "(n * 7919) % 1000";
        from.run(&format!(
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 600)
             INSERT INTO t SELECT {mix}, n, 'c' || n FROM r"
        ));
        let changes = changes_of(&from);
        let merge_all = || {
            to.run("BEGIN");
            for change in &changes {
                to.execute(INSERT, change.clone());
            }
            to.run("COMMIT");
        };
        merge_all();
        let before = to.dump();
        merge_all();
        assert_eq!(to.dump(), before, "{key}: all was known");
        // Unseen by capture: every value of the rows to come is smaller than what comes.
        to.run("BEGIN");
        for (n, change) in changes.iter().enumerate() {
            if n == 777 {
                to.run("SELECT crsql_internal_sync_bit(1)");
                to.run("UPDATE t SET b = NULL");
                to.run("SELECT crsql_internal_sync_bit(0)");
            }
            to.execute(INSERT, change.clone());
        }
        to.run("COMMIT");
        let seen = "SELECT count(b), min(b) FROM t WHERE b IS NOT NULL";
        let n_rest = changes[777..].iter().filter(|change| change[2] == text("b")).count();
        assert_eq!(to.rows(seen)[0].split('|').next().unwrap(), n_rest.to_string(), "{key}");
    }
}

fn changes_of(store: &Store) -> Vec<Vec<Value>> {
    let mut select = store.conn.prepare("SELECT * FROM crsql_changes").unwrap();
    let rows = select.query_map([], |row| (0..9).map(|i| row.get(i)).collect()).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}
