//! Blobs: bytes by their BLAKE3 hash, in chunks of 64 KiB, beside the tables.
//!
//! A chunk of that size is what travels, and what BLAKE3's tree proves alone; so a blob that
//! comes chunk by chunk is stored as it comes. A blob is no change: it has no author and no
//! conflict, and only its hash belongs in a cell. But the change that puts it names it, so that
//! a relay that takes the change takes the blob too.
//!
//! Invariant: `whole` is 1 only if all chunks are there; what a reader is given has the hash
//! it asked for.

use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::function::{Call, Flags};
use anabranch_sqlite::{Db, SqlError};

use crate::atomic::{Bracket, atomically};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::limits::{BLOB_CHUNK_BYTES, MAX_BLOB_BYTES};

/// Blobs, and their chunks from 0.
pub(crate) const CREATE: &str = "
CREATE TABLE IF NOT EXISTS ana_blob(hash BLOB PRIMARY KEY, bytes INTEGER, whole INTEGER);
CREATE TABLE IF NOT EXISTS ana_blob_chunk(
    hash BLOB, chunk INTEGER, bytes BLOB, PRIMARY KEY(hash, chunk));
";

/// Registers `ana_blob_put(bytes)` and `ana_blob(hash)`.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let at = cx.clone();
    let writes = Flags { direct_only: true, ..Flags::default() };
    cx.db.create_function("ana_blob_put", 1, writes, move |call| Ok(put(&at, call)?))?;
    let at = cx.clone();
    let reads = Flags { innocuous: true, ..Flags::default() };
    cx.db.create_function("ana_blob", 1, reads, move |call| Ok(get(&at.db, call)?))
}

/// Stores bytes, which the present change names; their hash.
fn put(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let bytes = match call.arg(0) {
        ValueRef::Blob(bytes) => bytes,
        ValueRef::Null => return Ok(Value::Null),
        _ => return Err(StoreError::Refused("ana_blob_put: the argument must be a blob".into())),
    };
    if bytes.len() > MAX_BLOB_BYTES {
        let what = format!("ana_blob_put: the blob exceeds {MAX_BLOB_BYTES} bytes");
        return Err(StoreError::Refused(what));
    }
    let (db, hash) = (&cx.db, blake3::hash(bytes));
    let work = || {
        crate::transaction::name_blob(cx, *hash.as_bytes())?;
        if is_whole(db, hash.as_bytes())? { Ok(()) } else { store(db, hash.as_bytes(), bytes) }
    };
    let rowid = db.last_insert_rowid();
    // Inside a statement that writes there can be no savepoint, and what stands with that
    // statement is one change; of a blob that is stored in part nobody reads anything.
    let stored = match db.is_autocommit() && !db.is_writing() {
        true => atomically(db, Bracket::Savepoint, work),
        false => work(),
    };
    db.set_last_insert_rowid(rowid);
    stored?;
    Ok(Value::Blob(hash.as_bytes().to_vec()))
}

fn store(db: &Db, hash: &[u8; 32], bytes: &[u8]) -> Result<()> {
    let mut insert = db.prepare("INSERT OR REPLACE INTO main.ana_blob_chunk VALUES(?1, ?2, ?3)")?;
    // The empty blob has one empty chunk.
    let chunks = bytes.chunks(BLOB_CHUNK_BYTES).chain(bytes.is_empty().then_some(bytes));
    for (chunk, n) in chunks.zip(0..) {
        insert.execute(&[ValueRef::Blob(hash), ValueRef::Integer(n), ValueRef::Blob(chunk)])?;
    }
    let n_bytes = ValueRef::Integer(bytes.len() as i64);
    let sql = "INSERT OR REPLACE INTO main.ana_blob VALUES(?1, ?2, 1)";
    Ok(db.execute(sql, &[ValueRef::Blob(hash), n_bytes])?)
}

/// The bytes with a hash; NULL if they are not here, or not all of them.
fn get(db: &Db, call: &Call<'_>) -> Result<Value> {
    let hash: &[u8; 32] = match call.arg(0) {
        ValueRef::Null => return Ok(Value::Null),
        ValueRef::Blob(hash) => hash.try_into().map_err(|_| not_a_hash())?,
        _ => return Err(not_a_hash()),
    };
    if !is_whole(db, hash)? {
        return Ok(Value::Null);
    }
    let sql = "SELECT bytes FROM main.ana_blob_chunk WHERE hash = ?1 ORDER BY chunk";
    let mut bytes = Vec::new();
    for row in db.query_rows(sql, &[ValueRef::Blob(hash)])? {
        if let Some(Value::Blob(chunk)) = row.first() {
            bytes.extend_from_slice(chunk);
        }
        if bytes.len() > MAX_BLOB_BYTES {
            let what = format!("ana_blob: the blob exceeds {MAX_BLOB_BYTES} bytes");
            return Err(StoreError::Refused(what));
        }
    }
    if blake3::hash(&bytes).as_bytes() != hash {
        let place = "ana_blob_chunk".to_string();
        return Err(StoreError::Damaged { place, what: "bytes that do not have their hash" });
    }
    Ok(Value::Blob(bytes))
}

fn is_whole(db: &Db, hash: &[u8; 32]) -> Result<bool> {
    let sql = "SELECT 1 FROM main.ana_blob WHERE hash = ?1 AND whole = 1";
    Ok(db.query_value(sql, &[ValueRef::Blob(hash)])?.is_some())
}

fn not_a_hash() -> StoreError {
    StoreError::Refused("ana_blob: the argument must be a hash, a blob of 32 bytes".into())
}
