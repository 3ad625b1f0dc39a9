//! Transactions larger than the buffer, whose bound is small under test.

use anabranch_core::value::Value;
use anabranch_sqlite::Embedded;

use crate::limits::MAX_BUFFERED_OPS;

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
