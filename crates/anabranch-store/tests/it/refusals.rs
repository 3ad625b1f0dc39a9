//! Tables that cannot be conflict-free, and bad arguments: each answer names what is wrong,
//! and changes nothing.

use rusqlite::types::Value;

use crate::support::Store;

const NO_KEY: &str = "Table t has no primary key or primary key is nullable. CRRs must have a \
                      non nullable primary key";
const UNIQUE: &str = "Table t has unique indices besidesthe primary key. This is not allowed \
                      for CRRs";
const OK: &str = "OK";

/// `crsql_as_crr('t')` after a schema was made.
fn check(schema: &str, expected: &str) {
    let store = Store::new();
    store.run(schema);
    store.run("BEGIN; CREATE TABLE kept(x)");
    let found = match store.try_rows("SELECT crsql_as_crr('t')", vec![]) {
        Ok(rows) => rows.join(""),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected, "{schema}");
    // The transaction stands.
    store.run("INSERT INTO kept VALUES(1); COMMIT");
    store.expect("SELECT x FROM kept", "1");
    let has_triggers = if expected == OK { "1" } else { "0" };
    store.expect("SELECT count(*) > 0 FROM sqlite_master WHERE type = 'trigger'", has_triggers);
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn refused_as_the_reference_refuses() {
    let composite = "Table t has composite primary key part of which is nullable. CRRs must have \
                     a non nullable primary key";
    let not_null = "Table t has a NOT NULL column without a DEFAULT VALUE. This is not allowed as \
                    it prevents forwards and backwards compatibility between schema versions. Make \
                    the column nullable or assign a default value to it.";
    let autoincrement = "t has auto-increment primary keys. This is likely a mistake as two \
                         concurrent nodes will assign unrelated rows the same primary key. Either \
                         use a primary key that represents the identity of your row or use a \
                         database friendly UUID such as UUIDv7";
    let foreign = "Table t has checked foreign key constraints. CRRs may have foreign keys but \
                   must not have checked foreign key constraints as they can be violated by row \
                   level security or replication.";
    for (schema, expected) in [
        ("SELECT 1", NO_KEY),
        ("CREATE TABLE t(a)", NO_KEY),
        ("CREATE VIEW t AS SELECT 1 AS a", NO_KEY),
        ("CREATE TABLE t(a, b, PRIMARY KEY(a, b))", NO_KEY),
        ("CREATE TABLE t(a NOT NULL, b, PRIMARY KEY(a, b))", composite),
        ("CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, b)", autoincrement),
        ("CREATE TABLE t(a PRIMARY KEY NOT NULL, my_AutoIncrement)", autoincrement),
        ("CREATE TABLE t(a PRIMARY KEY NOT NULL, b UNIQUE)", UNIQUE),
        ("CREATE TABLE t(a, b UNIQUE)", UNIQUE),
        ("CREATE TABLE t(a PRIMARY KEY NOT NULL, b); CREATE UNIQUE INDEX i ON t(b)", UNIQUE),
        (
            "CREATE TABLE t(a PRIMARY KEY NOT NULL, b); CREATE UNIQUE INDEX i ON t(b) WHERE b > 0",
            UNIQUE,
        ),
        ("CREATE TABLE t(a PRIMARY KEY NOT NULL, b REFERENCES o(x))", foreign),
        ("CREATE TABLE t(a PRIMARY KEY NOT NULL, b NOT NULL)", not_null),
    ] {
        check(schema, expected);
    }
}

#[test]
fn taken() {
    for schema in [
        "CREATE TABLE t(a INTEGER PRIMARY KEY)",
        "CREATE TABLE t(a PRIMARY KEY, b)",
        "CREATE TABLE t(a PRIMARY KEY NOT NULL, b NOT NULL DEFAULT 0)",
        "CREATE TABLE t(a PRIMARY KEY NOT NULL, b); CREATE INDEX i ON t(b)",
        "CREATE TABLE t(a PRIMARY KEY NOT NULL, b CHECK(b > 0))",
        "CREATE TABLE t(a PRIMARY KEY NOT NULL, b, g AS (b + 1))",
        "CREATE TABLE t(a PRIMARY KEY NOT NULL, b) WITHOUT ROWID",
        "CREATE TABLE t(a PRIMARY KEY, b) WITHOUT ROWID",
        "CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL, b INT) STRICT",
        "CREATE TABLE t(a ANY PRIMARY KEY NOT NULL, b INT) STRICT",
        "CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, b)",
        "CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL COLLATE RTRIM, b)",
        "CREATE TABLE t(a INTEGER PRIMARY KEY DESC, b)",
        "CREATE TABLE t(a NOT NULL, b NOT NULL, PRIMARY KEY(b, a))",
    ] {
        check(schema, OK);
    }
}

#[test]
fn refused_by_us() {
    check(
        "CREATE TABLE t(a PRIMARY KEY NOT NULL, [-1])",
        "table t: a column is named -1, which stands for the row itself in crsql_changes; rename it",
    );
    check(
        "CREATE TEMP TABLE t(a PRIMARY KEY NOT NULL)",
        "table t is in the database temp; only tables of main can be conflict-free",
    );
    check(
        "ATTACH ':memory:' AS aux; CREATE TABLE aux.t(a PRIMARY KEY NOT NULL)",
        "table t is in the database aux; only tables of main can be conflict-free",
    );
    check(
        "CREATE TABLE t(a PRIMARY KEY NOT NULL, b); INSERT INTO t VALUES(1, 1);
         CREATE TABLE u(a PRIMARY KEY, b); INSERT INTO u VALUES(NULL, 1)",
        OK,
    );
    for (name, prefix) in [("ana_mine", "ana_"), ("CRSQL_mine", "crsql_"), ("Ana_", "ana_")] {
        let store = Store::with(&format!("CREATE TABLE {name}(a PRIMARY KEY NOT NULL, b)"), &[]);
        let message = store.refuse(&format!("SELECT crsql_as_crr('{name}')"), vec![]);
        let expected = format!(
            "table {name}: names that begin with {prefix} are the engine's own; rename the table"
        );
        assert_eq!(message, expected);
    }
    let store = Store::new();
    store.run("CREATE TABLE u(a PRIMARY KEY, b); INSERT INTO u VALUES(1, 1), (NULL, 1)");
    let message = store.refuse("SELECT crsql_as_crr('u')", vec![]);
    assert_eq!(message, "table u: the key column a must not be NULL");
    store.expect("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'", "0");
    store.run("INSERT INTO u VALUES(NULL, 2)");
    store.expect("SELECT * FROM crsql_changes", "");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn a_key_with_a_collation_of_the_hosts() {
    let store = Store::new();
    store.run(
        "CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, b);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_master SET sql = replace(sql, 'NOCASE', 'mine');
         PRAGMA writable_schema = RESET",
    );
    let message = store.refuse("SELECT crsql_as_crr('t')", vec![]);
    assert_eq!(
        message,
        "table t: the key column a has the collation mine; only BINARY, NOCASE and RTRIM mean \
         the same on every copy"
    );
}

#[test]
fn bad_arguments() {
    let store = Store::with("CREATE TABLE t(a PRIMARY KEY, b)", &["t"]);
    store.run("BEGIN; INSERT INTO t VALUES(1, 1)");
    let wrong_number = "Wrong number of args provided to crsql_as_crr. Provide the schema \n\
                        \x20         name and table name or just the table name.";
    for (sql, expected) in [
        ("crsql_as_crr()", wrong_number),
        ("crsql_as_crr('main', 't', 1)", wrong_number),
        ("crsql_as_crr(NULL)", "crsql_as_crr: the table name must not be NULL"),
        ("crsql_as_crr('')", "crsql_as_crr: the table name must not be empty"),
        ("crsql_as_crr(7)", "crsql_as_crr: the table name must be a text"),
        ("crsql_as_crr('main', NULL)", "crsql_as_crr: the table name must not be NULL"),
        (
            "crsql_as_crr('temp', 't')",
            "table t is in the database temp; only tables of main can be conflict-free",
        ),
        (
            "crsql_as_crr('ana_entry')",
            "table ana_entry: names that begin with ana_ are the engine's own; rename the table",
        ),
        ("crsql_as_table(NULL)", "crsql_as_table: the table name must not be NULL"),
        (
            "crsql_next_db_version(9223372036854775807)",
            "crsql_next_db_version: 9223372036854775807 is above the largest db_version, \
             9007199254740992",
        ),
        ("crsql_next_db_version('x')", "crsql_next_db_version: the version must be an integer"),
        ("crsql_next_db_version(1, 2)", "crsql_next_db_version: expected at most 1 value, got 2"),
        ("crsql_internal_sync_bit('x')", "crsql_internal_sync_bit: the bit must be an integer"),
        (
            "crsql_internal_sync_bit(1, 2)",
            "crsql_internal_sync_bit: expected at most 1 value, got 2",
        ),
        ("crsql_config_get('nope')", "Unknown setting name"),
        ("crsql_config_get(NULL)", "Unknown setting name"),
        ("crsql_config_set('nope', 1)", "Unknown setting name"),
        (
            "crsql_config_set('merge-equal-values', 'x')",
            "crsql_config_set: the value of merge-equal-values must be 0 or 1",
        ),
        ("ana_words('x')", "ana_words: the argument must be a blob"),
        ("ana_author(1)", "ana_author: the argument must be a text or NULL"),
        ("ana_author(CAST(x'ff' AS TEXT))", "ana_author: the text must be UTF-8"),
        ("ana_message(x'00')", "ana_message: the argument must be a text or NULL"),
        ("ana_author(printf('%.*c', 1025, 'x'))", "ana_author: the text exceeds 1024 bytes"),
        ("ana_message(printf('%.*c', 65537, 'x'))", "ana_message: the text exceeds 65536 bytes"),
        ("cell FROM crsql_unpack_columns", "crsql_unpack_columns: WHERE package = ? is missing"),
        (
            "cell FROM crsql_unpack_columns WHERE package = 7",
            "crsql_unpack_columns: the package must be a blob",
        ),
        ("cell FROM crsql_unpack_columns WHERE package = x''", "SQL logic error"),
        ("cell FROM crsql_unpack_columns WHERE package = x'0109'", "SQL logic error"),
        (
            "crsql_internal_ins()",
            "crsql_internal_ins: the token must be an integer; only triggers call this",
        ),
        (
            "crsql_internal_del(7, 1)",
            "this table belongs to an attached database; conflict-free tables are written only \
             where their file is opened as main",
        ),
    ] {
        assert_eq!(store.refuse(&format!("SELECT {sql}"), vec![]), expected, "{sql}");
    }
    let many = format!("SELECT crsql_pack_columns({}1)", "1,".repeat(255));
    store.conn.db().set_limit(6, 1000);
    let message = store.refuse(&many, vec![]);
    let expected = ["Failed to pack columns", "too many arguments on function crsql_pack_columns"];
    assert!(expected.contains(&message.as_str()), "{message}");
    store.run("COMMIT");
    store.expect("SELECT a, b FROM t", "1|1");
    store.expect("SELECT count(*) FROM crsql_changes", "1");
    store.expect("SELECT * FROM ana_check", "");
}

/// Only a trigger knows what a row holds: values that do not fit are not taken.
#[test]
fn forged_calls_of_capture() {
    let store = Store::with("CREATE TABLE t(a PRIMARY KEY, b, c)", &["t"]);
    let token = store.rows("SELECT token FROM ana_registry").join("");
    for call in [
        "crsql_internal_ins(T)",
        "crsql_internal_ins(T, 1, 2)",
        "crsql_internal_ins(T, NULL)",
        "crsql_internal_upd(T, 1)",
        "crsql_internal_upd(T, 1, 1)",
        "crsql_internal_upd(T, 1, 1, 2, 2)",
        "crsql_internal_upd(T, 1, 1, 2, 2, 3, 3, 4)",
        "crsql_internal_del(T)",
        "ana_internal_key(T)",
        "ana_internal_key(T, 5, 1)",
        "ana_internal_compare(T, 0, 1)",
        "ana_internal_compare(T, 8, 1, 2)",
        "ana_internal_compare(T, -1, 1, 2)",
    ] {
        store.refuse(&format!("SELECT {}", call.replace('T', &token)), vec![]);
    }
    store.run("INSERT INTO t VALUES(1, 2, 3); UPDATE t SET c = 4");
    store.expect("SELECT cid, col_version FROM crsql_changes", "b|1\nc|2");
    store.expect("SELECT * FROM ana_check", "");
}

/// A delta that says cells of a row and not the insert that made it: refused by name, and
/// nothing of it is kept.
#[test]
fn cells_without_the_insert_that_made_their_row() {
    let schema = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)";
    let (from, to) = (Store::with(schema, &["t"]), Store::with(schema, &["t"]));
    from.run("INSERT INTO t VALUES(1, 'one'), (2, 'two')");
    let sealed: Vec<u8> = from.conn.query_row("SELECT ana_export()", [], |row| row.get(0)).unwrap();
    let mut delta = anabranch_core::wire::decode(&[&sealed]).unwrap();
    delta.tables[0].rows[1].births.clear();
    for part in anabranch_core::wire::encode(&delta) {
        let error = to.refuse("SELECT ana_apply(?1)", vec![Value::Blob(part)]);
        assert!(error.contains("table t, row x'010902'"), "{error}");
        assert!(error.contains("an insert that is not in the delta"), "{error}");
    }
    to.expect("SELECT count(*) FROM t", "0");
    to.expect("SELECT ana_version_vector()", "{}");
    to.expect("SELECT count(*) FROM ana_check()", "0");
}
