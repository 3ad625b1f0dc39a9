//! `writer <database> <seed>`: writes until it is killed, and says what was committed.
//!
//! Each line on stdout, flushed after its COMMIT, is `<n> <digest>`: row n is in the table
//! `acknowledged`. Every few transactions are large, delete, change keys or merge.

use std::io::Write;

use anabranch_sim::model::Value;
use anabranch_sim::replica::{open, query, scalar};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, seed] = args.as_slice() else {
        eprintln!("usage: writer <database> <seed>");
        std::process::exit(2);
    };
    if let Err(error) = write_for_ever(path, seed.parse().unwrap_or(0)) {
        eprintln!("writer: {error}");
        std::process::exit(1);
    }
}

fn write_for_ever(path: &str, seed: u64) -> Result<(), String> {
    let store = open(path.as_ref())?;
    let db = store.sql();
    let mut rng = StdRng::seed_from_u64(seed);
    let journal = if seed.is_multiple_of(2) { "WAL" } else { "DELETE" };
    query(db, &format!("PRAGMA journal_mode = {journal}"), &[])?;
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS acknowledged(n INTEGER PRIMARY KEY NOT NULL, at);
         CREATE TABLE IF NOT EXISTS t(k TEXT PRIMARY KEY NOT NULL, a, b);
         SELECT crsql_as_crr('acknowledged'); SELECT crsql_as_crr('t');",
    )
    .map_err(|error| error.to_string())?;
    loop {
        let Value::Integer(n) =
            scalar(db, "SELECT coalesce(max(n), 0) + 1 FROM acknowledged", &[])?
        else {
            return Err("no next number".into());
        };
        query(db, "BEGIN IMMEDIATE", &[])?;
        query(db, "INSERT INTO acknowledged VALUES(?1, random())", &[Value::Integer(n)])?;
        work(db, &mut rng)?;
        query(db, "COMMIT", &[])?;
        let digest = scalar(db, "SELECT hex(ana_digest())", &[])?;
        let Value::Text(digest) = digest else { return Err("no digest".into()) };
        let line = format!("{n} {}\n", String::from_utf8_lossy(&digest));
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(|e| e.to_string())?;
    }
}

fn work(db: &rusqlite::Connection, rng: &mut StdRng) -> Result<(), String> {
    let key = Value::Integer(rng.random_range(0..40));
    let sql = match rng.random_range(0..8) {
        0 => {
            "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 10 * ?1)
               INSERT OR REPLACE INTO t SELECT 'k' || i, i, random() FROM n"
        }
        1 => "DELETE FROM t WHERE a % 7 = ?1 % 7",
        2 => "UPDATE OR REPLACE t SET k = k || 'x' WHERE a % 40 = ?1",
        3 => {
            "INSERT INTO crsql_changes VALUES('t', crsql_pack_columns('k' || ?1), 'a', random(),
               3, 1, x'0badc0de', 1, 0)"
        }
        _ => "INSERT OR REPLACE INTO t VALUES('k' || ?1, ?1, random())",
    };
    query(db, sql, &[key]).map(|_| ())
}
