//! `ana_check` sees what is broken by hands, and nothing where all is well.

use anabranch::Store;

use crate::peers::{give, is_clean, run, store};

/// Breaks a store by `sql`; what the check says, as `severity: place: what`.
fn finds(sql: &str) -> Vec<String> {
    let store = store();
    run(
        &store,
        "INSERT INTO note(id, title) VALUES(1, 'a'), (2, 'b'); DELETE FROM note WHERE id = 2",
    );
    run(&store, "INSERT INTO tag VALUES('X', 'red')");
    is_clean(&store);
    run(&store, sql);
    let line = |finding: &anabranch::Finding| {
        format!("{}: {}: {}", finding.severity, finding.place, finding.what)
    };
    store.check().unwrap().iter().map(line).collect()
}

#[test]
fn what_went_past_the_triggers() {
    let cases = [
        (
            "SELECT crsql_internal_sync_bit(1); INSERT INTO note(id) VALUES(7)",
            "error: table note, row x'010907': the row has no clock",
        ),
        (
            "SELECT crsql_internal_sync_bit(1); INSERT INTO note(id) VALUES(2)",
            "error: table note, row x'010902': the row is there, its clock says deleted",
        ),
        (
            "SELECT crsql_internal_sync_bit(1); DELETE FROM note",
            "error: table note, row x'010901': its clock says that the row is alive",
        ),
        ("ALTER TABLE note ADD COLUMN extra", "error: table note: its columns or triggers"),
        ("DROP TRIGGER note__crsql_utrig", "error: table note: its columns or triggers"),
        (
            "CREATE TRIGGER late AFTER INSERT ON note BEGIN SELECT RAISE(IGNORE); END",
            "warning: table note: trigger late fires before ours",
        ),
        (
            "CREATE TEMP TRIGGER temporary AFTER INSERT ON note BEGIN SELECT RAISE(FAIL, 'x'); END",
            "warning: table note: trigger temporary fires before ours",
        ),
    ];
    for (sql, expected) in cases {
        let found = finds(sql);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{sql}: {found:?}");
    }
}

/// One table of ours that nobody can read does not keep the rest from being looked at.
#[test]
fn damage_is_a_finding() {
    let past = "SELECT crsql_internal_sync_bit(1); INSERT INTO note(id) VALUES(7)";
    let cases = [
        ("INSERT INTO ana_clock VALUES(1, x'00', x'00')", "error: ana_clock, table 1, block 00: "),
        (
            "INSERT INTO ana_clock VALUES(4294967296, x'00', x'00')",
            "error: ana_clock: an id beyond 32 bits",
        ),
        (past, "error: table note, row x'010907': the row has no clock"),
    ];
    for (sql, expected) in cases {
        let found = finds(sql);
        assert!(found.iter().any(|line| line.starts_with(expected)), "{sql}: {found:?}");
    }
}

#[test]
fn both_spellings_of_the_call_and_an_open_transaction() {
    let store = store();
    run(&store, "BEGIN; INSERT INTO note(id) VALUES(1)");
    for sql in ["SELECT count(*) FROM ana_check", "SELECT count(*) FROM ana_check()"] {
        let n: i64 = store.sql().query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(n, 0);
    }
    run(&store, "ROLLBACK");
    is_clean(&store);
}

#[test]
fn a_dropped_table_leaves_quietly() {
    let (a, b): (Store, Store) = (store(), store());
    run(&a, "INSERT INTO note(id) VALUES(1); INSERT INTO member VALUES('x')");
    run(&a, "DROP TABLE note");
    is_clean(&a);
    run(&a, "INSERT INTO member VALUES('y')");
    is_clean(&a);
    give(&a, &b);
    is_clean(&b);
    let n: i64 = b.sql().query_row("SELECT count(*) FROM member", [], |row| row.get(0)).unwrap();
    assert_eq!(n, 2);
}
