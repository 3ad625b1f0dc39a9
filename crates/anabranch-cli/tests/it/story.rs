//! `init`, `crr`, `status`, `log`, `changes`, `check`: the life of one database.

use serde_json::Value;

use crate::ana::{Ana, contents};

#[test]
fn init_makes_adopts_and_leaves_alone() {
    let ana = Ana::new();
    assert!(ana.ok(&["init", "new.db"]).contains("new.db is a new store"));
    let before = contents(&ana.path(""));
    assert!(ana.ok(&["init", "new.db"]).contains("is a store already"));
    assert!(contents(&ana.path("")) == before, "init changed a store");
    let plain = anabranch::rusqlite::Connection::open(ana.path("plain.db")).unwrap();
    plain
        .execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY NOT NULL, x); INSERT INTO t VALUES(1, 'old');
             CREATE TABLE u(id INTEGER PRIMARY KEY NOT NULL, y);
             CREATE VIEW v AS SELECT * FROM t;",
        )
        .unwrap();
    drop(plain);
    assert!(ana.ok(&["init", "plain.db"]).contains("its tables are as they were"));
    assert_eq!(ana.one("plain.db", "SELECT x FROM t"), "old");
    let made = ana.ok(&["crr", "plain.db", "--all"]);
    assert!(made.contains("t") && made.contains("2 tables"), "{made}");
    assert!(ana.ok(&["crr", "plain.db", "--all"]).contains("already"));
    assert_eq!(ana.one("plain.db", "SELECT count(*) FROM crsql_changes"), "1");
    assert_eq!(ana.ok(&["check", "plain.db"]), "plain.db: clean\n");
}

#[test]
fn status_log_and_changes_tell_what_happened() {
    let ana = Ana::with_notes();
    assert!(ana.ok(&["log", "a.db"]).contains("no changes yet"));
    for (author, sql) in [
        ("Ada", "INSERT INTO note VALUES('n1', 'x'), ('n2', 'y')"),
        ("Ben", "UPDATE note SET body = 'z' WHERE id = 'n1'"),
        ("Cy", "DELETE FROM note WHERE id = 'n2'"),
    ] {
        ana.ok(&["sql", "a.db", "--author", author, sql]);
    }
    let status: Value = serde_json::from_str(&ana.ok(&["status", "a.db", "--json"])).unwrap();
    assert_eq!(status["tables"][0]["rows"], 1);
    assert_eq!(status["db_version"], 3);
    assert_eq!(status["words"], ana.words("a.db"));
    let authors = |args: &[&str]| -> Vec<String> {
        let log = ana.ok(&[&["--json", "log", "a.db"], args].concat());
        let record = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        log.lines().map(|line| record(line)["author"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(authors(&[]), ["Ada", "Ben", "Cy"]);
    assert_eq!(authors(&["note"]), ["Ada", "Ben", "Cy"]);
    // Ada's insert made the row, Ben's update its only column that is not the key.
    assert!(authors(&["note", "n1"]).contains(&"Ben".to_string()));
    assert_eq!(authors(&["note", "n2"]), ["Cy"]);
    assert_eq!(ana.ok(&["changes", "a.db", "--json", "--since", "1"]).lines().count(), 2);
    assert_eq!(ana.ok(&["changes", "a.db", "--json", "--since", "3"]), "");
    let table = ana.ok(&["changes", "a.db", "--table", "note"]);
    assert!(table.contains("'n1'") && table.contains("-1"), "{table}");
}

/// Words for keys take the column's type: 5 is the integer 5.
#[test]
fn a_row_is_named_by_words() {
    let ana = Ana::with_notes();
    let make = "CREATE TABLE pair(a INTEGER NOT NULL, b TEXT NOT NULL, c, PRIMARY KEY(a, b))";
    ana.ok(&["sql", "a.db", make]);
    ana.ok(&["crr", "a.db", "pair"]);
    ana.ok(&["sql", "a.db", "--author", "Ada", "INSERT INTO pair VALUES(5, 'it''s', 1)"]);
    assert!(ana.ok(&["log", "a.db", "pair", "5", "it's"]).contains("Ada"));
    assert_eq!(ana.run(&["log", "a.db", "pair", "6", "it's"]).status, 4);
    ana.ok(&["sql", "a.db", "--author", "Ben", "DELETE FROM pair"]);
    assert!(ana.ok(&["log", "a.db", "pair", "5", "it's"]).contains("Ben"));
}
