//! Errors of SQLite in the middle of a transaction: what stands afterwards is what SQLite
//! kept, and the connection works on.

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::function::{Call, Flags};

use crate::support::Store;

fn store() -> Store {
    let store = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)", &["t"]);
    store.run("INSERT INTO t VALUES(1, 1)");
    store
}

/// Every live row has its changes, and nothing else does.
fn check(store: &Store) {
    let rows = store.rows("SELECT a FROM t ORDER BY a");
    let found = store.rows(
        "SELECT (SELECT cell FROM crsql_unpack_columns WHERE package = pk) FROM crsql_changes
         WHERE cid = 'b' ORDER BY 1",
    );
    assert_eq!(found, rows);
    store.expect("SELECT * FROM ana_check", "");
}

const MANY: &str =
    "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 2100)
    INSERT INTO t SELECT i, printf('%.200c', 'x') FROM n";

/// The file is full at another place each time: in the statement, in an early flush, while
/// the log is written at COMMIT.
#[test]
fn the_file_is_full() {
    let mut n_refused = 0;
    for extra in (0..160).step_by(12) {
        let store = store();
        let pages: i64 = store.rows("PRAGMA page_count").join("").parse().unwrap();
        store.run(&format!("PRAGMA max_page_count = {}", pages + extra));
        store.run("BEGIN; INSERT INTO t VALUES(2, 1)");
        let steps = [MANY, "SELECT crsql_get_seq()", "INSERT INTO t VALUES(3, 1)", "COMMIT"];
        for step in steps {
            let outcome = store.try_rows(step, vec![]);
            n_refused += u32::from(outcome.is_err());
            if store.conn.is_autocommit() {
                break;
            }
        }
        if !store.conn.is_autocommit() {
            store.run("ROLLBACK");
        }
        store.run("PRAGMA max_page_count = 1000000");
        check(&store);
        store.run("INSERT INTO t VALUES(7, 1)");
        check(&store);
    }
    assert!(n_refused > 3, "{n_refused}");
}

/// An interrupt during a write undoes the whole transaction.
#[test]
fn interrupted() {
    for at in [100, 101, 700, 2099, 2100] {
        let store = store();
        let handle = store.conn.get_interrupt_handle();
        let stop = move |call: &Call<'_>| {
            if matches!(call.arg(0), ValueRef::Integer(i) if i == at) {
                handle.interrupt();
            }
            Ok(Value::Integer(1))
        };
        store.conn.db().create_function("stop", 1, Flags::default(), stop).unwrap();
        store.run("BEGIN; INSERT INTO t VALUES(2, 1); SAVEPOINT s; INSERT INTO t VALUES(3, 1)");
        store.expect("SELECT count(*) FROM crsql_changes", "3");
        store.refuse(&MANY.replace("printf('%.200c', 'x')", "stop(i)"), vec![]);
        assert!(store.conn.is_autocommit());
        check(&store);
        store.run("INSERT INTO t VALUES(7, 1)");
        check(&store);
        store.expect("SELECT max(db_version) FROM crsql_changes", "2");
    }
}

/// A flush in the middle of nested savepoints, some of which are undone after it.
#[test]
fn flushed_between_savepoints() {
    let store = store();
    store.run("BEGIN; INSERT INTO t VALUES(2, 1); SAVEPOINT a; INSERT INTO t VALUES(3, 1)");
    store.run("SAVEPOINT b; INSERT INTO t VALUES(4, 1); SELECT crsql_get_seq()");
    store.run("INSERT INTO t VALUES(5, 1); SAVEPOINT c; DELETE FROM t WHERE a = 2");
    store.run("SELECT crsql_get_seq(); ROLLBACK TO c; RELEASE c; SELECT crsql_get_seq()");
    store.run("ROLLBACK TO b; INSERT INTO t VALUES(6, 1); SELECT crsql_get_seq()");
    store.run("RELEASE b; ROLLBACK TO a; INSERT INTO t VALUES(7, 1); COMMIT");
    store.expect(
        "SELECT pk, db_version, seq FROM crsql_changes",
        "x'010901'|1|0\nx'010902'|2|0\nx'010907'|2|1",
    );
    store.expect("SELECT count(*) FROM ana_log", "2");
    check(&store);
}
