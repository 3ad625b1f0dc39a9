//! The order of `crsql_changes` where a transaction merged and wrote in turn: `seq` of what
//! was merged is its sender's, so rows of one `db_version` stand in the log out of order.

use anabranch::Store;
use anabranch_sim::model::Value;
use anabranch_sim::replica::query;

fn check(transaction: &str) {
    let db = anabranch::rusqlite::Connection::open_in_memory().expect("memory");
    let store = Store::from_connection(db).expect("a fresh store");
    let setup = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b);
        CREATE TABLE u(a INTEGER PRIMARY KEY NOT NULL, b);
        SELECT crsql_as_crr('t'); SELECT crsql_as_crr('u'); INSERT INTO t VALUES(100, 0);";
    store.sql().execute_batch(setup).expect("set up");
    store.sql().execute_batch(transaction).expect(transaction);
    let sql = "SELECT db_version, seq FROM crsql_changes";
    let shown = query(store.sql(), sql, &[]).expect("changes");
    let asked = query(store.sql(), &format!("{sql} ORDER BY +db_version, +seq"), &[]);
    assert_eq!(Ok(&shown), asked.as_ref(), "{transaction}");
    assert!(shown.len() > 3, "{shown:?}");
    assert!(shown.iter().all(|row| row[0] > Value::Integer(0)));
}

#[test]
fn merged_and_local_writes_of_one_transaction_are_shown_in_order() {
    let merge = |table: &str, key: u8, db_version: u8, seq: u8| {
        format!(
            "INSERT INTO crsql_changes VALUES('{table}', x'0109{key:02x}', 'b', 1, 1,
               {db_version}, x'01', 1, {seq});"
        )
    };
    check(&format!(
        "BEGIN; {}{} INSERT INTO t VALUES(1, 1), (2, 2); COMMIT",
        merge("t", 10, 1, 3),
        merge("u", 10, 1, 7)
    ));
    check(&format!(
        "BEGIN; INSERT INTO t VALUES(1, 1), (2, 2), (3, 3); {}{} INSERT INTO u VALUES(1, 1); {} COMMIT",
        merge("t", 10, 9, 1),
        merge("t", 11, 9, 20),
        merge("t", 12, 12, 0)
    ));
    check(&format!(
        "BEGIN; {}{}{}{} UPDATE t SET b = 5; {} DELETE FROM t WHERE a = 10; COMMIT",
        merge("t", 10, 1, 30),
        merge("u", 11, 5, 9),
        merge("u", 12, 4, 8),
        merge("t", 13, 5, 0),
        merge("t", 14, 3, 2),
    ));
}
