//! The local write rules: versions, `seq` and `db_version` of every kind of statement.

use crate::support::Store;

/// Changes as `key|column|value|version|db_version|causal length|seq`, in their own order.
const SHOWN: &str = "SELECT (SELECT group_concat(cell, ',') FROM crsql_unpack_columns
        WHERE package = pk), cid, val, col_version, db_version, cl, seq FROM crsql_changes";

/// Runs each step and compares `crsql_db_version()` and the changes that it made.
fn check(schema: &str, table: &str, steps: &[(&str, &str)]) {
    let store = Store::with(schema, &[table]);
    let mut before = store.rows(SHOWN);
    for (sql, expected) in steps {
        store.run(sql);
        let after = store.rows(SHOWN);
        let fresh = after.iter().filter(|line| !before.contains(line));
        let found: Vec<&str> = fresh.map(String::as_str).collect();
        let version = store.rows("SELECT crsql_db_version()").join("");
        assert_eq!(format!("v{version} {}", found.join(" ")).trim_end(), *expected, "{sql}");
        before = after;
    }
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn statements_on_an_integer_key() {
    check(
        "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)",
        "t",
        &[
            ("INSERT INTO t VALUES(1, 'x', 'y')", "v1 1|b|x|1|1|1|0 1|c|y|1|1|1|1"),
            ("UPDATE t SET b = 'z'", "v2 1|b|z|2|2|1|0"),
            // Nothing changed: no db_version is taken.
            ("UPDATE t SET b = 'z'", "v2"),
            ("UPDATE t SET c = 2", "v3 1|c|2|2|3|1|0"),
            ("UPDATE t SET c = 2.0", "v4 1|c|2.0|3|4|1|0"),
            ("UPDATE t SET c = 0.0", "v5 1|c|0.0|4|5|1|0"),
            // The same number: no clock moves, whatever the sign that is stored.
            ("UPDATE t SET c = -0.0", "v5 1|c|-0.0|4|5|1|0"),
            (
                "BEGIN; INSERT INTO t VALUES(2, 1, 1); INSERT INTO t VALUES(3, 1, 1); COMMIT",
                "v6 2|b|1|1|6|1|0 2|c|1|1|6|1|1 3|b|1|1|6|1|2 3|c|1|1|6|1|3",
            ),
            // A seq is consumed for the sentinel that the row does not have.
            ("INSERT OR REPLACE INTO t VALUES(2, 7, 1)", "v7 2|b|7|2|7|1|1 2|c|1|2|7|1|2"),
            (
                "INSERT INTO t VALUES(2, 8, 1) ON CONFLICT DO UPDATE SET b = excluded.b",
                "v8 2|b|8|3|8|1|0",
            ),
            ("INSERT OR IGNORE INTO t VALUES(2, 9, 9)", "v8"),
            ("DELETE FROM t WHERE a = 2", "v9 2|-1|NULL|2|9|2|0"),
            ("DELETE FROM t WHERE a = 99", "v9"),
            (
                "INSERT INTO t VALUES(2, 5, 5)",
                "v10 2|-1|NULL|3|10|3|0 2|b|5|1|10|3|1 2|c|5|1|10|3|2",
            ),
            (
                "BEGIN; INSERT INTO t VALUES(4, 5, 5); DELETE FROM t WHERE a = 4; COMMIT",
                "v11 4|-1|NULL|2|11|2|2",
            ),
            // Moved columns first, with fresh stamps, then the two sentinels.
            (
                "UPDATE t SET a = 10 WHERE a = 3",
                "v12 10|b|1|2|12|1|0 10|c|1|2|12|1|1 3|-1|NULL|2|12|2|2 10|-1|NULL|1|12|1|3",
            ),
            ("BEGIN; UPDATE t SET b = 'q'; ROLLBACK", "v12"),
        ],
    );
}

#[test]
fn a_table_that_is_only_its_key() {
    check(
        "CREATE TABLE p(a NOT NULL, b NOT NULL, PRIMARY KEY(b, a))",
        "p",
        &[
            ("INSERT INTO p VALUES(1, 'k')", "v1 k,1|-1|NULL|1|1|1|0"),
            ("DELETE FROM p", "v2 k,1|-1|NULL|2|2|2|0"),
            ("INSERT INTO p VALUES(1, 'k')", "v3 k,1|-1|NULL|3|3|3|0"),
            ("INSERT OR REPLACE INTO p VALUES(1, 'k')", "v4 k,1|-1|NULL|5|4|5|0"),
            ("UPDATE p SET b = 'm'", "v5 k,1|-1|NULL|6|5|6|0 m,1|-1|NULL|1|5|1|1"),
        ],
    );
}

#[test]
fn replace_fires_delete_triggers_when_they_are_recursive() {
    check(
        "PRAGMA recursive_triggers = ON; CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)",
        "t",
        &[
            ("INSERT INTO t VALUES(1, 1, 1)", "v1 1|b|1|1|1|1|0 1|c|1|1|1|1|1"),
            (
                "INSERT OR REPLACE INTO t VALUES(1, 2, 1)",
                "v2 1|-1|NULL|3|2|3|1 1|b|2|1|2|3|2 1|c|1|1|2|3|3",
            ),
        ],
    );
}

#[test]
fn rows_that_are_there_are_written_in_key_order() {
    let store = Store::new();
    store.run("CREATE TABLE e(a PRIMARY KEY NOT NULL, b, c DEFAULT 3)");
    store.run("INSERT INTO e(a, b) VALUES(2, 'q'); INSERT INTO e(a) VALUES(1)");
    store.expect("SELECT crsql_as_crr('e')", "OK");
    store.expect(SHOWN, "1|b|NULL|1|1|1|0\n1|c|3|1|1|1|1\n2|b|q|1|1|1|2\n2|c|3|1|1|1|3");
    store.expect("SELECT crsql_as_crr('e'), crsql_as_crr('main', 'E')", "OK|OK");
    store.expect("SELECT crsql_db_version()", "1");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn another_spelling_of_a_key_is_a_new_life() {
    check(
        "CREATE TABLE n(a TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, b)",
        "n",
        &[
            ("INSERT INTO n VALUES('a', 1)", "v1 a|b|1|1|1|1|0"),
            ("UPDATE n SET a = 'A'", "v2 A|-1|NULL|3|2|3|1 A|b|1|1|2|3|2"),
            ("UPDATE n SET a = 'A'", "v2"),
            // REPLACE tells no trigger what it replaced.
            ("INSERT OR REPLACE INTO n VALUES('a', 1)", "v3 a|-1|NULL|5|3|5|1 a|b|1|1|3|5|2"),
            ("INSERT OR REPLACE INTO n VALUES('a', 1)", "v4 a|-1|NULL|7|4|7|0 a|b|1|2|4|7|1"),
            ("INSERT OR IGNORE INTO n VALUES('A', 1)", "v4"),
            ("DELETE FROM n", "v5 a|-1|NULL|8|5|8|0"),
            ("INSERT INTO n VALUES('A', 1)", "v6 A|-1|NULL|9|6|9|0 A|b|1|1|6|9|1"),
        ],
    );
    check(
        "CREATE TABLE u(a PRIMARY KEY NOT NULL, b)",
        "u",
        &[
            ("INSERT INTO u VALUES(5, 1)", "v1 5|b|1|1|1|1|0"),
            ("UPDATE u SET a = 5.0", "v2 5.0|-1|NULL|3|2|3|1 5.0|b|1|1|2|3|2"),
            // A dead row has no spelling.
            ("UPDATE u SET a = '5'", "v3 5|b|1|2|3|1|0 5|-1|NULL|4|3|4|1 5|-1|NULL|1|3|1|2"),
            ("INSERT OR REPLACE INTO u VALUES(7, 1)", "v4 7|b|1|1|4|1|0"),
            ("INSERT OR REPLACE INTO u VALUES(7.0, 1)", "v5 7.0|-1|NULL|3|5|3|1 7.0|b|1|1|5|3|2"),
        ],
    );
}

#[test]
fn versions_inside_a_transaction() {
    let store = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)", &["t"]);
    let asked = "SELECT crsql_db_version(), crsql_next_db_version(), crsql_get_seq()";
    store.run("BEGIN; INSERT INTO t VALUES(1, 1, 1)");
    store.expect(asked, "0|1|2");
    store.expect("SELECT crsql_increment_and_get_seq(), crsql_get_seq()", "2|3");
    store.run("ROLLBACK");
    store.expect(asked, "0|1|0");
    store.expect("SELECT crsql_next_db_version(100), crsql_db_version()", "100|0");
    store.run("INSERT INTO t VALUES(1, 1, 1)");
    store.expect("SELECT crsql_db_version(), crsql_next_db_version()", "100|101");
}
