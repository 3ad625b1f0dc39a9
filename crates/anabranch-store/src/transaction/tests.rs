//! Transactions larger than the buffer, whose bound is small under test.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anabranch_core::value::Value;
use anabranch_sqlite::Embedded;

use crate::buffer::LocalKind;
use crate::limits::MAX_BUFFERED_OPS;
use crate::metadata::mask::Mask;

fn store() -> Embedded {
    let conn = rusqlite::Connection::open_in_memory().expect("memory");
    let conn = Embedded::new(conn).expect("a connection");
    crate::install(conn.db()).expect("a fresh store");
    run(&conn, "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b); SELECT crsql_as_crr('t')");
    conn
}

fn run(conn: &Embedded, sql: &str) {
    conn.db().execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn insert(conn: &Embedded, first: usize, count: usize) {
    let last = first + count - 1;
    run(
        conn,
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})
             INSERT INTO t SELECT i, i % 7 FROM n"
        ),
    );
}

#[track_caller]
fn expect(conn: &Embedded, sql: &str, expected: &[i64]) {
    let rows = conn.db().query_rows(sql, &[]).expect(sql);
    let expected: Vec<Value> = expected.iter().map(|value| Value::Integer(*value)).collect();
    assert_eq!(rows, [expected], "{sql}");
}

const N: usize = 2 * MAX_BUFFERED_OPS + 300;

#[test]
fn a_large_statement_is_one_change() {
    let conn = store();
    insert(&conn, 10, N);
    let last = N as i64 - 1;
    expect(
        &conn,
        "SELECT count(*), max(seq), max(db_version) FROM crsql_changes",
        &[last + 1, last, 1],
    );
    expect(&conn, "SELECT count(*) FROM ana_log", &[1]);
    expect(&conn, "SELECT count(*) FROM ana_check", &[0]);
    // Nothing is buffered twice or lost at the bounds of a flush.
    run(&conn, "BEGIN; UPDATE t SET b = b + 1; DELETE FROM t WHERE a % 2 = 0; COMMIT");
    expect(&conn, "SELECT count(*) FROM crsql_changes WHERE db_version = 2", &[last + 1]);
    expect(&conn, "SELECT count(*) FROM ana_check", &[0]);
}

/// What was buffered before the savepoint is flushed after it, and comes back.
#[test]
fn a_large_statement_is_undone() {
    let conn = store();
    run(&conn, "BEGIN; INSERT INTO t VALUES(2, 1); SAVEPOINT s; INSERT INTO t VALUES(3, 1)");
    run(&conn, "SAVEPOINT r");
    insert(&conn, 10, N);
    run(&conn, "ROLLBACK TO r; INSERT INTO t VALUES(4, 1)");
    insert(&conn, 10, MAX_BUFFERED_OPS);
    run(&conn, "ROLLBACK TO s");
    insert(&conn, 20, MAX_BUFFERED_OPS + 1);
    run(&conn, "DELETE FROM t WHERE a > 5; COMMIT");
    expect(&conn, "SELECT count(*) FROM crsql_changes WHERE cid <> '-1'", &[1]);
    expect(
        &conn,
        "SELECT count(*) FROM crsql_changes WHERE cl = 2",
        &[MAX_BUFFERED_OPS as i64 + 1],
    );
    expect(&conn, "SELECT count(*) FROM ana_log", &[1]);
    expect(&conn, "SELECT count(*) FROM ana_check", &[0]);
}

/// A flush that unwinds has lost nothing: the transaction refuses to commit until it is undone.
#[test]
fn a_flush_that_unwinds_gives_its_operations_back() {
    let conn = rusqlite::Connection::open_in_memory().expect("memory");
    let conn = Embedded::new(conn).expect("a connection");
    let cx = crate::context::teach(conn.db(), crate::clock::system()).expect("a fresh store");
    run(&conn, "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b); SELECT crsql_as_crr('t')");
    run(&conn, "BEGIN; INSERT INTO t VALUES(1, 1)");
    let table = cx.registry.borrow().by_name("t").expect("made above");
    // Half an update of a key: what writes the log relies on the other half.
    let mut transaction = cx.transaction.borrow_mut();
    let key_start = transaction.local.arena.len();
    transaction.local.push(table.id, LocalKind::Rekey, &Mask::new(), key_start);
    drop(transaction);
    catch_unwind(AssertUnwindSafe(|| super::flush(&cx))).expect_err("half an update");
    assert_eq!(cx.transaction.borrow().local.ops.len(), 2);
    conn.db().execute_batch("COMMIT").expect_err("what was captured is not in the log");
    run(&conn, "INSERT INTO t VALUES(2, 2)");
    expect(&conn, "SELECT count(*) FROM crsql_changes", &[1]);
    expect(&conn, "SELECT count(*) FROM ana_check", &[0]);
}
