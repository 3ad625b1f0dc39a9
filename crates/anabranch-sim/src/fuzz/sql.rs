//! SQL functions, virtual tables and `crsql_changes`, with arguments of any type and size.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{ANY, Subject, is_panic, mutate, random_bytes, random_name};
use crate::model::{Value, pack};
use crate::replica::query;
use crate::shapes::Pool;

/// Calls that need no honest argument: `?` is filled with anything.
const CALLS: [&str; 40] = [
    "SELECT crsql_as_crr(?)",
    "SELECT crsql_as_crr(?, ?)",
    "SELECT crsql_as_table(?)",
    "SELECT crsql_config_set(?, ?)",
    "SELECT crsql_config_get(?)",
    "SELECT crsql_next_db_version(?)",
    "SELECT crsql_pack_columns(?, ?, ?)",
    "SELECT quote(cell) FROM crsql_unpack_columns WHERE package = ?",
    "SELECT quote(cell) FROM crsql_unpack_columns(?)",
    "SELECT crsql_internal_sync_bit(0), ?",
    "SELECT crsql_internal_ins(?, ?)",
    "SELECT crsql_internal_upd(?, ?, ?, ?, ?)",
    "SELECT crsql_internal_del(?, ?)",
    "SELECT crsql_get_seq(), crsql_increment_and_get_seq()",
    "SELECT ana_export(?)",
    "SELECT part, of, length(bytes) FROM ana_parts(?)",
    "SELECT ana_apply(?)",
    "SELECT ana_words(?)",
    "SELECT ana_author(?)",
    "SELECT ana_message(?)",
    "SELECT * FROM ana_log WHERE position > ?",
    "SELECT * FROM ana_log WHERE position = ? OR version < ?",
    "SELECT * FROM ana_check WHERE severity = ?",
    "SELECT * FROM crsql_changes WHERE db_version > ?",
    "SELECT * FROM crsql_changes WHERE db_version >= ? AND seq < ?",
    "SELECT * FROM crsql_changes WHERE [table] = ? AND pk = ?",
    "SELECT * FROM crsql_changes WHERE site_id IS NOT ? AND cl <= ?",
    "SELECT * FROM crsql_changes WHERE cid LIKE ? AND col_version != ?",
    "SELECT * FROM crsql_changes WHERE rowid = ? OR val IS ?",
    "SELECT * FROM crsql_changes WHERE site_id = ? ORDER BY seq DESC LIMIT ? OFFSET 1",
    "UPDATE crsql_changes SET val = ?",
    "DELETE FROM crsql_changes WHERE pk = ?",
    "INSERT INTO ana_log(position) VALUES(?)",
    "INSERT INTO ana_check VALUES(?, ?, ?)",
    "INSERT INTO t VALUES(?, ?, ?)",
    "INSERT OR REPLACE INTO n VALUES(?, ?)",
    "UPDATE t SET a = ?, b = ?",
    "UPDATE n SET k = ?",
    "DELETE FROM t WHERE b IS NOT ?",
    "SELECT ana_digest(), ana_version_vector(), crsql_db_version(), crsql_site_id(), ?",
];

pub(super) fn fuzz_functions(rng: &mut StdRng, subject: &Subject) -> Result<(), String> {
    let db = subject.store.sql();
    let before = subject.state()?;
    query(db, "SAVEPOINT fuzz", &[])?;
    for _ in 0..rng.random_range(1..6) {
        let sql = *CALLS.choose(rng).expect("a constant list");
        let n = sql.matches('?').count();
        let params: Vec<Value> = (0..n).map(|_| random_argument(rng, subject)).collect();
        let call = format!("{sql} {params:?}");
        one_call(subject, sql, &params).map_err(|what| format!("{what}: {call}"))?;
        if db.is_autocommit() {
            return Err(format!("the transaction is gone: {call}"));
        }
    }
    query(db, "ROLLBACK TO fuzz", &[])?;
    query(db, "RELEASE fuzz", &[])?;
    match subject.state()? == before {
        true => Ok(()),
        false => Err("ROLLBACK TO changed the state".into()),
    }
}

/// A failing call changes nothing.
fn one_call(subject: &Subject, sql: &str, params: &[Value]) -> Result<(), String> {
    let before = subject.state()?;
    match query(subject.store.sql(), sql, params) {
        Ok(_) => Ok(()),
        Err(error) if is_panic(&error) => Err(error),
        Err(error) if subject.state()? != before => Err(format!("state changed by: {error}")),
        Err(_) => Ok(()),
    }
}

pub(super) fn fuzz_changes(rng: &mut StdRng, subject: &Subject) -> Result<(), String> {
    let db = subject.store.sql();
    let before = subject.state()?;
    query(db, "BEGIN", &[])?;
    let sql = "INSERT INTO crsql_changes VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)";
    for _ in 0..rng.random_range(1..8) {
        let params = random_change(rng, subject);
        one_call(subject, sql, &params).map_err(|what| format!("{what}: {params:?}"))?;
        if db.is_autocommit() {
            return Err(format!("the transaction is gone: {params:?}"));
        }
    }
    let end = if rng.random_ratio(1, 50) { "COMMIT" } else { "ROLLBACK" };
    query(db, end, &[])?;
    let findings = match end {
        "COMMIT" => query(db, "SELECT * FROM ana_check", &[])?,
        _ if subject.state()? != before => return Err("ROLLBACK changed the state".into()),
        _ => Vec::new(),
    };
    match findings.is_empty() {
        true => Ok(()),
        false => Err(format!("ana_check: {findings:?}")),
    }
}

/// Nine values, of which most are honest.
fn random_change(rng: &mut StdRng, subject: &Subject) -> Vec<Value> {
    let is_text = rng.random();
    let key =
        if is_text { Pool::TextKey.value(rng, ANY) } else { Pool::IntegerKey.value(rng, ANY) };
    let mut packed = pack(&[key]);
    if rng.random_ratio(1, 6) {
        mutate(rng, &mut packed);
    }
    let table = if is_text { "n" } else { "t" };
    let cid = if is_text { ["v", "-1"] } else { ["b", "-1"] }[rng.random_range(0..2)];
    let small = |rng: &mut StdRng| Value::Integer(rng.random_range(0..6));
    let mut row = vec![
        crate::replica::text(table),
        Value::Blob(packed),
        crate::replica::text(cid),
        Pool::Any.value(rng, ANY),
        small(rng),
        small(rng),
        Value::Blob([vec![1; 16], vec![2], vec![]][rng.random_range(0..3)].clone()),
        small(rng),
        small(rng),
    ];
    if rng.random() {
        let at = rng.random_range(0..row.len());
        row[at] = random_argument(rng, subject);
    }
    row
}

fn random_argument(rng: &mut StdRng, subject: &Subject) -> Value {
    match rng.random_range(0..10) {
        0..3 => Pool::Any.value(rng, ANY),
        3 => Pool::Integer.value(rng, ANY),
        4 => random_name(rng),
        5 => Value::Blob(random_bytes(rng, 64)),
        6 => Value::Text(random_bytes(rng, 64)),
        7 => {
            let mut bytes = subject.deltas.choose(rng).expect("two deltas").clone();
            mutate(rng, &mut bytes);
            Value::Blob(bytes)
        }
        8 => {
            let mut packed = pack(&[Pool::AnyKey.value(rng, ANY)]);
            if rng.random() {
                mutate(rng, &mut packed);
            }
            Value::Blob(packed)
        }
        _ => Value::Text(
            br#"{"00112233445566778899aabbccddeeff":[1,"00000000000000000000000000000000"]}"#
                .to_vec(),
        ),
    }
}
