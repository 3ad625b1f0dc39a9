//! Tables of every shape: names that need quotes, thousands of columns, keys of many
//! columns, and thousands of tables.

use crate::support::{Store, text};

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[test]
fn any_name() {
    for name in [
        "with space",
        "a-b",
        "select",
        "quo\"te",
        "apo'strophe",
        "ünï€",
        "[brackets]",
        "a;b",
        "a\nb",
        "table",
        "%like_",
        "new",
        "old",
        "t__crsql_clock_not",
        "1",
        "ROWID",
    ] {
        let (table, column) = (quote(name), quote(&format!("{name}{name}")));
        let store = Store::new();
        let schema =
            format!("CREATE TABLE {table}({} PRIMARY KEY NOT NULL, {column})", quote(name));
        store.run(&schema);
        store.execute("SELECT crsql_as_crr(?)", vec![text(name)]);
        store.run(&format!("INSERT INTO {table} VALUES(1, 2)"));
        store.run(&format!("UPDATE {table} SET {column} = 3"));
        let found = store.rows("SELECT [table], cid, val, col_version FROM crsql_changes");
        assert_eq!(found, [format!("{name}|{name}{name}|3|2")]);
        store.run(&format!("DELETE FROM {table}"));
        store.expect("SELECT cid, cl FROM crsql_changes", "-1|2");
        store.execute("SELECT crsql_as_table(?)", vec![text(name)]);
        store.expect("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'", "0");
    }
}

#[test]
fn two_thousand_columns() {
    let columns: Vec<String> = (0..1999).map(|n| format!("c{n}")).collect();
    let store = Store::new();
    store.run(&format!("CREATE TABLE t(id INTEGER PRIMARY KEY NOT NULL, {})", columns.join(", ")));
    store.execute("SELECT crsql_as_crr('t')", vec![]);
    store.run("INSERT INTO t(id) VALUES(1)");
    store.expect("SELECT count(*), max(col_version) FROM crsql_changes", "1999|1");
    store.run("UPDATE t SET c0 = 1, c61 = 2, c62 = 3, c1998 = 4");
    store.expect(
        "SELECT cid, val, seq FROM crsql_changes WHERE db_version = 2",
        "c0|1|0\nc61|2|1\nc62|3|2\nc1998|4|3",
    );
    store.run("UPDATE t SET c5 = c5; UPDATE t SET id = 2, c7 = 1");
    store.expect("SELECT count(*) FROM crsql_changes WHERE db_version = 3", "2001");
    store.run("DELETE FROM t");
    store.expect("SELECT cid, cl FROM crsql_changes WHERE db_version = 4", "-1|2");
    store.expect("SELECT * FROM ana_check", "");
}

/// Both keys do not fit one call, or not even one of them does.
#[test]
fn keys_of_many_columns() {
    for n_key in [62, 63, 64, 126, 127, 200, 255] {
        let names: Vec<String> = (0..n_key).map(|n| format!("k{n}")).collect();
        let declared: Vec<String> = names.iter().map(|name| format!("{name} NOT NULL")).collect();
        let store = Store::new();
        store.run(&format!(
            "CREATE TABLE t({}, a, b, PRIMARY KEY({}))",
            declared.join(", "),
            names.join(", ")
        ));
        store.execute("SELECT crsql_as_crr('t')", vec![]);
        let ones = vec!["1"; n_key].join(", ");
        store.run(&format!("INSERT INTO t VALUES({ones}, 'x', 'y')"));
        store.run("UPDATE t SET b = 'z'");
        store.run("UPDATE t SET b = b");
        store.expect("SELECT cid, col_version, db_version FROM crsql_changes", "a|1|1\nb|2|2");
        store.run(&format!("UPDATE t SET k{} = 2, a = 'q'", n_key - 1));
        store.expect(
            "SELECT cid, val, col_version, cl FROM crsql_changes",
            "b|z|3|1\n-1|NULL|2|2\n-1|NULL|1|1\na|q|3|1",
        );
        store.run("DELETE FROM t");
        store.expect("SELECT count(*), min(cl) FROM crsql_changes", "2|2");
        store.expect("SELECT * FROM ana_check", "");
    }
}

/// A host may allow fewer arguments than SQLite.
#[test]
fn few_arguments() {
    let store = Store::new();
    store.conn.db().set_limit(6, 9);
    let columns: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    store.run(&format!(
        "CREATE TABLE t(p NOT NULL, q NOT NULL, {}, PRIMARY KEY(p, q))",
        columns.join(", ")
    ));
    store.execute("SELECT crsql_as_crr('t')", vec![]);
    store.run("INSERT INTO t(p, q) VALUES(1, 1); UPDATE t SET c3 = 1, c19 = 2");
    store.expect("SELECT cid FROM crsql_changes WHERE db_version = 2", "c3\nc19");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn columns_that_are_generated_do_not_travel() {
    let store = Store::with(
        "CREATE TABLE t(id PRIMARY KEY NOT NULL, a, twice AS (a * 2), kept AS (a + 1) STORED, b)",
        &["t"],
    );
    store.run("INSERT INTO t(id, a, b) VALUES(1, 2, 3); UPDATE t SET a = 5");
    store.expect("SELECT cid, val FROM crsql_changes", "b|3\na|5");
}

#[test]
fn hundreds_of_tables() {
    let store = Store::new();
    store.run("BEGIN");
    for n in 0..400 {
        store.run(&format!("CREATE TABLE t{n}(a INTEGER PRIMARY KEY NOT NULL, b)"));
        store.execute("SELECT crsql_as_crr(?)", vec![text(&format!("t{n}"))]);
    }
    store.run("COMMIT; BEGIN");
    for n in 0..400 {
        store.run(&format!("INSERT INTO t{n} VALUES({n}, 1)"));
    }
    store.run("COMMIT");
    store.expect("SELECT count(*), count(DISTINCT [table]) FROM crsql_changes", "400|400");
}

/// SQLite compares texts of an UTF-16 file as they are stored; the digest does not.
#[test]
fn digests_do_not_depend_on_the_encoding() {
    let digests = ["UTF-8", "UTF-16le", "UTF-16be"].map(|encoding| {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        conn.execute_batch(&format!("PRAGMA encoding = '{encoding}'")).unwrap();
        let conn = anabranch_sqlite::Embedded::new(conn).unwrap();
        anabranch_store::install(conn.db()).unwrap();
        let store = Store { conn };
        store.run("CREATE TABLE t(k PRIMARY KEY NOT NULL, v); SELECT crsql_as_crr('t')");
        store.run(
            "INSERT INTO t VALUES('a', 1), (char(256), 2), ('b', 3), (char(65535), 4), \
             (char(65536), 5), (7, 6), (x'00', 7), ('', 8), (1.5, 9), ('a' || char(0), 10)",
        );
        store.rows("SELECT hex(ana_digest())")
    });
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}
