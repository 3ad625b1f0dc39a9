//! Keys that a table's key index takes for one: whatever REPLACE puts in the place of what,
//! the row is born anew if and only if its key is spelled otherwise, and copies agree.

use crate::support::{Store, give};

/// What the second of two keys is to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    /// Stored with the same type and bytes.
    Same,
    /// Another spelling of the same key.
    Respelled,
    /// Another key.
    Other,
}
use Second::{Other, Respelled, Same};

/// Declaration of the key column, two literals, what the second is.
const CASES: &[(&str, &str, &str, Second)] = &[
    ("", "5", "5", Same),
    ("", "5", "5.0", Respelled),
    ("", "5.0", "5", Respelled),
    ("", "5.0", "5.0", Same),
    ("", "5", "'5'", Other),
    ("", "'5'", "x'35'", Other),
    ("", "'a'", "'a'", Same),
    ("", "5.5", "5.5", Same),
    ("", "0", "0.0", Respelled),
    ("", "0.0", "-0.0", Same),
    ("", "-0.0", "0", Respelled),
    ("", "9007199254740992.0", "9007199254740992", Respelled),
    ("", "9007199254740992", "9007199254740992.0", Respelled),
    ("", "9007199254740993", "9007199254740992.0", Other),
    ("", "-9223372036854775808", "-9223372036854775808.0", Respelled),
    ("", "9223372036854775807", "9223372036854775808.0", Other),
    ("", "9e99", "9e99", Same),
    ("BLOB", "5.0", "5", Respelled),
    ("ANY", "5.0", "5", Same),
    ("INTEGER", "5.0", "5", Same),
    ("INT", "5.0", "'5'", Same),
    ("INT", "'a'", "'A'", Other),
    ("NUMERIC", "5", "5.0", Same),
    ("NUMERIC", "'5.0'", "5", Same),
    ("NUMERIC", "0.0", "-0.0", Same),
    ("NUMERIC", "9007199254740993", "9007199254740992.0", Other),
    ("REAL", "5", "5.0", Same),
    ("REAL", "0.0", "-0.0", Same),
    ("REAL", "9007199254740993", "9007199254740992.0", Same),
    ("TEXT", "5", "'5'", Same),
    ("TEXT", "5", "5.0", Other),
    ("TEXT", "'a'", "'A'", Other),
    ("TEXT COLLATE NOCASE", "'a'", "'A'", Respelled),
    ("TEXT COLLATE NOCASE", "'a'", "'a'", Same),
    ("TEXT COLLATE NOCASE", "'a'", "'a '", Other),
    ("TEXT COLLATE NOCASE", "'ä'", "'Ä'", Other),
    ("TEXT COLLATE NOCASE", "5", "'5'", Same),
    ("TEXT COLLATE RTRIM", "'5 '", "'5'", Respelled),
    ("TEXT COLLATE RTRIM", "'5'", "'5  '", Respelled),
    ("TEXT COLLATE RTRIM", "' 5'", "'5'", Other),
    ("TEXT COLLATE RTRIM", "''", "'  '", Respelled),
    ("COLLATE NOCASE", "5", "5.0", Respelled),
    ("COLLATE NOCASE", "'a'", "'A'", Respelled),
    ("COLLATE NOCASE", "'a'", "x'61'", Other),
    ("COLLATE RTRIM", "'5 '", "'5'", Respelled),
    ("NUMERIC COLLATE NOCASE", "'5'", "5.0", Same),
    ("NUMERIC COLLATE NOCASE", "'a'", "'A'", Respelled),
    ("REAL COLLATE RTRIM", "'a'", "'a '", Respelled),
    ("INT COLLATE NOCASE", "-0.0", "0", Same),
];

/// How a live row comes under the second key, `{k}`; the table has the columns `a`, `b`, and
/// two more in the key's places if it is wide.
const WAYS: &[&str] = &[
    "INSERT OR REPLACE INTO t(a, b) VALUES({k}, 2)",
    "REPLACE INTO t(b, a) SELECT 2, {k}",
    "UPDATE OR REPLACE t SET a = {k}, b = 2 WHERE b = 0",
];

fn tables(key: &str) -> Vec<String> {
    let mut tables = vec![
        format!("CREATE TABLE t(a {key} PRIMARY KEY NOT NULL, b)"),
        format!(
            "CREATE TABLE t(a {key} NOT NULL, c TEXT NOT NULL DEFAULT 'c', b, PRIMARY KEY(c, a))"
        ),
    ];
    if !key.starts_with("INTEGER") {
        tables.push(format!("CREATE TABLE t(a {key} PRIMARY KEY NOT NULL, b) WITHOUT ROWID"));
    }
    tables
}

#[test]
fn replace_bears_a_row_anew_if_its_spelling_changes() {
    for (key, first, second, expected) in CASES {
        for schema in tables(key) {
            for way in WAYS {
                check(&schema, way, (first, second), *expected);
            }
        }
    }
}

fn check(schema: &str, way: &str, (first, second): (&str, &str), expected: Second) {
    let case = format!("{schema}: {first}, then {way} of {second}");
    let (a, b) = (Store::with(schema, &["t"]), Store::with(schema, &["t"]));
    a.run(&format!("INSERT INTO t(a, b) VALUES({first}, 1)"));
    if way.starts_with("UPDATE") {
        a.run("INSERT INTO t(a, b) VALUES(77, 0)");
    }
    give(&a, &b);
    a.run(&way.replace("{k}", second));
    let live = "SELECT DISTINCT cl FROM crsql_changes WHERE cl % 2 = 1 ORDER BY cl DESC LIMIT 1";
    let found = match (a.rows("SELECT count(*) FROM t").concat().as_str(), a.rows(live).concat()) {
        ("2", _) => Other,
        ("1", live) if live == "1" => Same,
        ("1", live) if live == "3" => Respelled,
        _ => panic!("{case}: {:?}", a.dump()),
    };
    assert_eq!(found, expected, "{case}");
    give(&a, &b);
    // -0.0 is 0.0.
    let shown = "SELECT typeof(a), iif(a = 0.0, a + 0, a), b FROM t ORDER BY 1, 2";
    assert_eq!(a.rows(shown), b.rows(shown), "{case}");
    assert_eq!(a.rows("SELECT ana_digest()"), b.rows("SELECT ana_digest()"), "{case}");
    a.expect("SELECT * FROM ana_check", "");
    b.expect("SELECT * FROM ana_check", "");
}

/// NUMERIC affinity makes integers of all reals without a fraction but one.
#[test]
fn the_one_number_with_two_spellings_under_numeric_is_refused() {
    for key in ["NUMERIC", "INT"] {
        let store =
            Store::with(&format!("CREATE TABLE t(a {key} PRIMARY KEY NOT NULL, b)"), &["t"]);
        store.run("INSERT INTO t VALUES(-9223372036854775808, 1)");
        for sql in [
            "INSERT OR REPLACE INTO t VALUES(-9223372036854775808.0, 1)",
            "UPDATE t SET a = -9223372036854775808.0",
            "INSERT INTO crsql_changes VALUES('t', crsql_pack_columns(-9223372036854775808.0), 'b', 2, 2, 2, x'01', 1, 0)",
        ] {
            let error = store.refuse(sql, vec![]);
            assert!(error.contains("the real -9223372036854775808.0"), "{sql}: {error}");
        }
        store.expect("SELECT typeof(a), b FROM t", "integer|1");
        store.expect("SELECT * FROM ana_check", "");
    }
}

/// A table, a statement that leaves a row with a first key, another statement, and the causal
/// length that the row has then.
#[test]
fn only_the_write_that_respells_counts() {
    let nocase = "CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, b)";
    let untyped = "CREATE TABLE t(a PRIMARY KEY NOT NULL, b)";
    let user_trigger = "CREATE TABLE t(a PRIMARY KEY NOT NULL, b); \
        CREATE TRIGGER other BEFORE INSERT ON t WHEN new.a = 5 BEGIN \
          INSERT OR IGNORE INTO t VALUES(6.0, 1); INSERT OR IGNORE INTO t VALUES(6, 1); END";
    let writes_elsewhere = "CREATE TABLE t(a PRIMARY KEY NOT NULL, b); CREATE TABLE log(a); \
        CREATE TRIGGER other BEFORE INSERT ON t BEGIN INSERT INTO log VALUES(new.a); END";
    let writes_to_it = "CREATE TABLE t(a PRIMARY KEY NOT NULL, b); \
        CREATE TEMP TRIGGER other AFTER INSERT ON main.t BEGIN UPDATE t SET b = 9; END";
    let deletes = "CREATE TABLE t(a PRIMARY KEY NOT NULL, b); \
        CREATE TRIGGER other BEFORE INSERT ON t BEGIN DELETE FROM t WHERE a = new.a; END";
    for (schema, first, then, length) in [
        // Ignored rows leave a note that nobody takes up.
        (nocase, "INSERT INTO t VALUES('a', 1)", "INSERT OR IGNORE INTO t VALUES('A', 1)", 1),
        (
            nocase,
            "INSERT INTO t VALUES('a', 1)",
            "BEGIN; INSERT OR IGNORE INTO t VALUES('A', 1); INSERT OR REPLACE INTO t VALUES('a', 2); COMMIT",
            1,
        ),
        (
            nocase,
            "INSERT INTO t VALUES('a', 1)",
            "INSERT INTO t VALUES('A', 1) ON CONFLICT(a) DO UPDATE SET b = 2",
            1,
        ),
        (untyped, "INSERT INTO t VALUES(5, 1)", "REPLACE INTO t VALUES(5.0, 1), (5, 1), (5, 2)", 7),
        (untyped, "INSERT INTO t VALUES(5, 1)", "REPLACE INTO t SELECT a + 0.0, b FROM t", 3),
        (untyped, "INSERT INTO t VALUES(5.0, 1)", "DELETE FROM t; INSERT INTO t VALUES(5, 1)", 3),
        (untyped, "INSERT INTO t VALUES(5.0, 1)", "UPDATE t SET a = 5", 3),
        (
            untyped,
            "PRAGMA recursive_triggers = on; INSERT INTO t VALUES(5.0, 1)",
            "REPLACE INTO t VALUES(5, 1)",
            3,
        ),
        (user_trigger, "INSERT INTO t VALUES(5.0, 1)", "REPLACE INTO t VALUES(5, 1)", 3),
        (writes_elsewhere, "INSERT INTO t VALUES(5.0, 1)", "REPLACE INTO t VALUES(5, 1)", 3),
        (writes_to_it, "INSERT INTO t VALUES(5.0, 1)", "REPLACE INTO t VALUES(5, 1)", 3),
        (
            writes_elsewhere,
            "INSERT INTO t VALUES(5.0, 1)",
            "BEGIN; INSERT OR IGNORE INTO t VALUES(5, 1); ROLLBACK; REPLACE INTO t VALUES(5.0, 2)",
            1,
        ),
        (
            untyped,
            "INSERT INTO t VALUES(5.0, 1)",
            "BEGIN; INSERT OR IGNORE INTO t VALUES(5, 1); SAVEPOINT s; DELETE FROM t; \
             INSERT INTO t VALUES(5, 1); ROLLBACK TO s; REPLACE INTO t VALUES(5.0, 2); COMMIT",
            1,
        ),
        (deletes, "INSERT INTO t VALUES(5.0, 1)", "REPLACE INTO t VALUES(5, 1)", 3),
    ] {
        let store = Store::with(schema, &["t"]);
        store.run(first);
        store.run(then);
        let found = "SELECT max(cl) FROM crsql_changes WHERE cl % 2 = 1";
        assert_eq!(store.rows(found), [length.to_string()], "{schema}: {first}; {then}");
        store.expect("SELECT * FROM ana_check", "");
    }
}

/// A key too wide for one call, in a table called as the row that comes is.
#[test]
fn a_wide_key_is_noted_too() {
    let columns: Vec<String> = (0..130).map(|i| format!("k{i} NOT NULL DEFAULT 1")).collect();
    let key: Vec<String> = (0..130).map(|i| format!("k{i}")).collect();
    let store = Store::new();
    store.run(&format!(
        "CREATE TABLE new({}, b, PRIMARY KEY({})); SELECT crsql_as_crr('new')",
        columns.join(", "),
        key.join(", ")
    ));
    store.run("INSERT INTO new(k129, b) VALUES(5.0, 1), (6, 1)");
    store.run("REPLACE INTO new(k129, b) VALUES(5, 1), (6, 2), (7, 2)");
    store.expect("SELECT cl, count(DISTINCT pk) FROM crsql_changes GROUP BY cl", "1|2\n3|1");
}
