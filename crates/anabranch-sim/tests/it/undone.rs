//! A delta, a statement that is undone, and the delta again, in one transaction: what was
//! undone had made the metadata forget what the first delta brought.

use anabranch::Store;
use anabranch_sim::model::Value;
use anabranch_sim::replica::{query, scalar};

fn store(rows: &str) -> Store {
    let db = anabranch::rusqlite::Connection::open_in_memory().expect("memory");
    let store = Store::from_connection(db).expect("a fresh store");
    let setup = "CREATE TABLE t(k INTEGER PRIMARY KEY NOT NULL, v); SELECT crsql_as_crr('t');";
    store.sql().execute_batch(&format!("{setup}{rows}")).expect("set up");
    store
}

#[test]
fn a_delta_is_known_after_a_statement_is_undone() {
    let (here, there) = (store(""), store("INSERT INTO t VALUES(7, 7), (8, 8)"));
    let db = here.sql();
    let delta = scalar(there.sql(), "SELECT ana_export()", &[]).expect("a delta");
    let apply = || scalar(db, "SELECT ana_apply(?1)", std::slice::from_ref(&delta));
    query(db, "BEGIN", &[]).expect("a transaction");
    assert_eq!(apply(), Ok(Value::Integer(1)));
    let undone = query(db, "INSERT INTO t SELECT k - 1, v FROM t ORDER BY k", &[]);
    assert!(undone.is_err_and(|error| error.contains("UNIQUE")));
    assert_eq!(apply(), Ok(Value::Integer(0)));
    query(db, "COMMIT", &[]).expect("committed");
    assert_eq!(query(db, "SELECT * FROM ana_check", &[]), Ok(vec![]));
    let digest = |store: &Store| scalar(store.sql(), "SELECT ana_digest()", &[]);
    assert_eq!(digest(&here), digest(&there));
}
