//! Blobs that the changes of stores name, and those that come before such a change.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use super::rows;
use crate::blobs::BlobHash;
use crate::storage::{BlobRoom, NamedBlob, StorageError};
use crate::store_id::StoreId;
use anabranch_sync::limits::MAX_WANTED_BLOBS;

type Result<T> = std::result::Result<T, StorageError>;

/// On its way; no change names it yet.
const COMING: i64 = 0;
/// Named, and here.
const HERE: i64 = 1;
/// Named, and not here: who named it did not have it.
const MISSING: i64 = 2;
/// Here, and since `at_ms` nothing names it any more.
const FADING: i64 = 3;

/// Makes room for a blob, within what its store may hold.
pub(super) fn make_room(db: &Connection, store: &StoreId, room: &BlobRoom) -> Result<()> {
    check_room(db, store, (room.blob, room.n_bytes), room.max_store_blob_bytes)?;
    db.prepare_cached(
        "INSERT INTO named(store, hash, n_bytes, state, at_ms) VALUES(?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO UPDATE SET n_bytes = excluded.n_bytes, at_ms = excluded.at_ms",
    )?
    .execute((
        store.as_str(),
        room.blob.0,
        room.n_bytes as i64,
        COMING,
        room.now_ms as i64,
    ))?;
    Ok(())
}

fn check_room(
    db: &Connection,
    store: &StoreId,
    (blob, n_bytes): (BlobHash, u64),
    limit: u64,
) -> Result<()> {
    let others: i64 = db
        .prepare_cached(
            "SELECT coalesce(sum(n_bytes), 0) FROM named WHERE store = ?1 AND hash <> ?2",
        )?
        .query_row((store.as_str(), blob.0), |row| row.get(0))?;
    if (others as u64).saturating_add(n_bytes) > limit {
        return Err(StorageError::BlobsFull { store: store.clone(), limit });
    }
    Ok(())
}

/// A blob is whole: if a change names it, it is missing no more.
pub(super) fn came(db: &Connection, store: &StoreId, blob: BlobHash) -> Result<()> {
    db.prepare_cached("UPDATE named SET state = ?3 WHERE store = ?1 AND hash = ?2 AND state = ?4")?
        .execute((store.as_str(), blob.0, HERE, MISSING))?;
    Ok(())
}

/// That the blobs of a delta fit what its store may hold.
pub(super) fn check(
    db: &Connection,
    store: &StoreId,
    blobs: &[NamedBlob],
    limit: u64,
) -> Result<()> {
    let mut new_bytes = 0;
    for named in blobs {
        let Some(n_bytes) = named.n_bytes else { continue };
        let counted: Option<i64> = db
            .prepare_cached("SELECT n_bytes FROM named WHERE store = ?1 AND hash = ?2")?
            .query_row((store.as_str(), named.blob.0), |row| row.get(0))
            .optional()?;
        if counted.is_none() {
            new_bytes += n_bytes;
            check_room(db, store, (named.blob, new_bytes), limit)?;
        }
    }
    Ok(())
}

/// A stored delta names these.
pub(super) fn name(
    db: &Connection,
    store: &StoreId,
    blobs: &[NamedBlob],
    now_ms: u64,
) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO named(store, hash, n_bytes, state, at_ms) VALUES(?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO UPDATE SET n_bytes = max(n_bytes, excluded.n_bytes), \
         state = CASE WHEN state = 1 THEN 1 ELSE excluded.state END, \
         at_ms = excluded.at_ms",
    )?;
    for named in blobs {
        let (n_bytes, state) = match named.n_bytes {
            Some(n_bytes) => (n_bytes, HERE),
            None => (0, MISSING),
        };
        let store = store.as_str();
        statement.execute((store, named.blob.0, n_bytes as i64, state, now_ms as i64))?;
    }
    Ok(())
}

/// Forgets those that nothing has named since a time, or that began to come before it.
pub(super) fn expire(db: &Connection, before_ms: u64) -> Result<()> {
    let sql = "DELETE FROM named WHERE state IN (?1, ?2) AND at_ms < ?3";
    db.execute(sql, (COMING, FADING, before_ms as i64))?;
    Ok(())
}

/// Blobs of a store that are named, or were.
pub(super) fn all(db: &Connection, store: &StoreId) -> Result<HashSet<BlobHash>> {
    let mut statement =
        db.prepare_cached("SELECT hash FROM named WHERE store = ?1 AND state <> ?2")?;
    let mut rows = statement.query((store.as_str(), COMING))?;
    let mut named = HashSet::new();
    while let Some(row) = rows.next()? {
        named.insert(rows::blob_hash(row.get_ref(0)?.as_blob().unwrap_or_default())?);
    }
    Ok(named)
}

/// What is not in `named`, and was not named again since `now_ms`, fades; how many there are.
pub(super) fn fade(
    db: &Connection,
    store: &StoreId,
    named: &HashSet<BlobHash>,
    now_ms: u64,
) -> Result<u64> {
    let mut n_faded = 0;
    for blob in all(db, store)? {
        let (sql, is_faded) = match named.contains(&blob) {
            true => {
                ("UPDATE named SET state = 1 WHERE store = ?1 AND hash = ?2 AND state = 3", false)
            }
            false => (
                "UPDATE named SET state = 3, at_ms = ?3 \
                 WHERE store = ?1 AND hash = ?2 AND state IN (1, 2) AND at_ms < ?3",
                true,
            ),
        };
        let mut statement = db.prepare_cached(sql)?;
        match is_faded {
            true => {
                n_faded += statement.execute((store.as_str(), blob.0, now_ms as i64))? as u64;
            }
            false => drop(statement.execute((store.as_str(), blob.0))?),
        }
    }
    db.execute(
        "UPDATE store SET forgot_ms = NULL WHERE name = ?1 AND forgot_ms < ?2",
        (store.as_str(), now_ms as i64),
    )?;
    Ok(n_faded)
}

/// Stores that took a complete delta and were not looked through since.
pub(super) fn to_be_swept(db: &Connection) -> Result<Vec<StoreId>> {
    let mut statement = db.prepare_cached("SELECT name FROM store WHERE forgot_ms IS NOT NULL")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let names = names.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(names.iter().filter_map(|name| StoreId::new(name)).collect())
}

/// Named blobs that never came.
pub(super) fn missing(db: &Connection, store: &StoreId) -> Result<Vec<BlobHash>> {
    let mut statement = db.prepare_cached(
        "SELECT hash FROM named WHERE store = ?1 AND state = ?2 ORDER BY at_ms DESC LIMIT ?3",
    )?;
    let mut rows = statement.query((store.as_str(), MISSING, MAX_WANTED_BLOBS as i64))?;
    let mut missing = Vec::new();
    while let Some(row) = rows.next()? {
        missing.push(rows::blob_hash(row.get_ref(0)?.as_blob().unwrap_or_default())?);
    }
    Ok(missing)
}

/// Whether a change of the store names a blob.
pub(super) fn names(db: &Connection, store: &StoreId, blob: BlobHash) -> Result<bool> {
    let sql = "SELECT 1 FROM named WHERE store = ?1 AND hash = ?2 AND state <> ?3";
    Ok(db.prepare_cached(sql)?.exists((store.as_str(), blob.0, COMING))?)
}
