//! Files in which bytes of our own tables were changed: reading says so, and nothing dies.

use std::path::Path;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rusqlite::Connection;

use super::{is_panic, mutate, random_bytes};
use crate::model::Value;
use crate::replica::query;

/// Our tables, and their columns that hold bytes or numbers of ours.
const CELLS: [(&str, &str); 16] = [
    ("ana_clock", "body"),
    ("ana_clock", "body"),
    ("ana_clock", "body"),
    ("ana_entry", "body"),
    ("ana_entry", "body"),
    ("ana_entry", "body"),
    ("ana_entry", "head"),
    ("ana_entry", "head"),
    ("ana_entry", "tbl"),
    ("ana_entry", "dbv"),
    ("ana_vector", "version"),
    ("ana_vector", "chain"),
    ("ana_vector", "context"),
    ("ana_site", "site"),
    ("ana_names", "name"),
    ("ana_meta", "value"),
];

/// What is asked of the damaged store; any of it may fail, none may panic.
const QUESTIONS: [&str; 12] = [
    "SELECT * FROM ana_check",
    "SELECT * FROM crsql_changes",
    "SELECT * FROM crsql_changes WHERE db_version > 1 ORDER BY db_version DESC",
    "SELECT * FROM crsql_changes WHERE [table] = 't' AND pk = x'010901'",
    "SELECT ana_version_vector(), ana_digest()",
    "SELECT length(ana_export())",
    "SELECT * FROM ana_log",
    "INSERT OR REPLACE INTO t VALUES(1, 'new', 1)",
    "UPDATE t SET b = 'upd' WHERE a < 50",
    "DELETE FROM t WHERE a = 3",
    "INSERT INTO crsql_changes VALUES('t', x'010902', 'b', 5, 9, 9, x'01', 1, 0)",
    "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 300)
       INSERT OR REPLACE INTO t(a, b) SELECT i, 'bulk' FROM n",
];

pub(super) fn fuzz(rng: &mut StdRng) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("damaged.db");
    let (store, other) = (open(&path)?, open(&folder.path().join("other.db"))?);
    for store in [&store, &other] {
        fill(store, rng).map_err(|error| format!("filling: {error}"))?;
    }
    let delta = query(other.sql(), "SELECT ana_export()", &[])?;
    query(store.sql(), "SELECT ana_apply(?1)", &delta[0])?;
    drop(store);
    // Whatever a connection remembers must be read anew: the damage is a stranger's.
    let what = {
        let db = rusqlite::Connection::open(&path).map_err(|error| error.to_string())?;
        query(&db, "PRAGMA synchronous = OFF", &[])?;
        damage(&db, rng)?
    };
    let store = match open(&path) {
        Ok(store) => store,
        Err(error) if is_panic(&error) => return Err(format!("{what}: {error}")),
        Err(_) => return Ok(()),
    };
    for _ in 0..8 {
        let question = QUESTIONS.choose(rng).expect("a constant list");
        if let Err(error) = query(store.sql(), question, &[])
            && is_panic(&error)
        {
            return Err(format!("{what}: {question}: {error}"));
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<anabranch::Store, String> {
    let store = crate::replica::open(path)?;
    query(store.sql(), "PRAGMA synchronous = OFF", &[])?;
    Ok(store)
}

fn fill(store: &anabranch::Store, rng: &mut StdRng) -> rusqlite::Result<()> {
    let n = rng.random_range(1..400);
    store.sql().execute_batch(&format!(
        "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c);
         CREATE TABLE n(k TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, v);
         SELECT crsql_as_crr('t'); SELECT crsql_as_crr('n');
         WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {n})
           INSERT INTO t SELECT i, 'b' || i, i FROM n;
         INSERT INTO n VALUES('A', 1), ('b', 2);
         UPDATE t SET b = 7 WHERE a % 3 = 0; DELETE FROM t WHERE a % 5 = 0;
         INSERT INTO t VALUES(5, 'again', 5); UPDATE n SET k = 'c' WHERE k = 'a';
         INSERT INTO t VALUES(1000, 'tail', 1); UPDATE t SET c = 2 WHERE a = 1000;"
    ))
}

/// Changes one value of one of our tables; says which.
fn damage(db: &Connection, rng: &mut StdRng) -> Result<String, String> {
    let (table, column) = *CELLS.choose(rng).expect("a constant list");
    let rows = query(db, &format!("SELECT {column} FROM {table}"), &[])?;
    let Some(row) = rows.choose(rng) else { return Ok(format!("{table} is empty")) };
    let damaged = match &row[0] {
        Value::Blob(bytes) if rng.random_ratio(9, 10) => {
            let mut bytes = bytes.clone();
            mutate(rng, &mut bytes);
            Value::Blob(bytes)
        }
        Value::Text(bytes) => {
            let mut bytes = bytes.clone();
            mutate(rng, &mut bytes);
            Value::Text(bytes)
        }
        Value::Integer(integer) => match rng.random_range(0..4) {
            0 => Value::Integer(integer + rng.random_range(-2..3)),
            1 => Value::Integer(rng.random()),
            2 => Value::Null,
            _ => Value::Blob(random_bytes(rng, 9)),
        },
        _ => Value::Blob(random_bytes(rng, 40)),
    };
    let sql = format!("UPDATE {table} SET {column} = ?1 WHERE {column} IS ?2");
    match query(db, &sql, &[damaged.clone(), row[0].clone()]) {
        Ok(_) => Ok(format!("{table}.{column} {:?} became {damaged:?}", row[0])),
        // A constraint of the table refuses it: nothing is damaged.
        Err(_) => Ok(format!("{table}.{column} as it was")),
    }
}
