//! Parts of deltas whose other parts are still to come: what lets a large delta go on where
//! its connection was cut.

use rusqlite::{Connection, OptionalExtension};

use super::rows;
use crate::blobs::BlobHash;
use crate::limits::MIN_LOOSE_BYTES;
use crate::storage::{LooseFile, StagedDelta, StagedPart, StorageError};
use crate::store_id::StoreId;
use anabranch_sync::limits::MAX_PARTIALS;

type Result<T> = std::result::Result<T, StorageError>;

/// Makes room for a file, within what its store may hold.
pub(super) fn reserve(db: &Connection, store: &StoreId, file: &LooseFile) -> Result<()> {
    let name = store.as_str();
    let held: i64 = db
        .prepare_cached("SELECT n_bytes FROM store WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let loose: i64 = db
        .prepare_cached(
            "SELECT coalesce(sum(n_bytes), 0) FROM loose WHERE store = ?1 AND hash <> ?2",
        )?
        .query_row((name, file.hash.0), |row| row.get(0))?;
    let n_bytes = file.n_bytes.max(MIN_LOOSE_BYTES);
    if (held as u64).saturating_add(loose as u64) + u64::from(n_bytes) > file.max_store_bytes {
        let limit = file.max_store_bytes;
        return Err(StorageError::StoreFull { store: store.clone(), limit });
    }
    db.prepare_cached(
        "INSERT OR REPLACE INTO loose(store, hash, n_bytes, at_ms) VALUES(?1, ?2, ?3, ?4)",
    )?
    .execute((name, file.hash.0, n_bytes, file.now_ms as i64))?;
    Ok(())
}

/// A stored delta names these files, and is counted for them.
pub(super) fn settle(db: &Connection, store: &StoreId, parts: &[(BlobHash, u32)]) -> Result<()> {
    let mut statement = db.prepare_cached("DELETE FROM loose WHERE store = ?1 AND hash = ?2")?;
    for (hash, _) in parts {
        statement.execute((store.as_str(), hash.0))?;
    }
    Ok(())
}

/// Notes a part whose bytes are in a file.
pub(super) fn stage(db: &Connection, store: &StoreId, part: &StagedPart) -> Result<()> {
    let name = store.as_str();
    if part.part == 0 {
        make_room(db, name)?;
    }
    db.prepare_cached(
        "INSERT OR REPLACE INTO staged(store, delta, part, of, hash, n_bytes, at_ms) \
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        name,
        part.delta,
        part.part,
        part.of,
        part.hash.0,
        part.n_bytes,
        part.now_ms as i64,
    ))?;
    Ok(())
}

/// Forgets the oldest unfinished deltas of a store, so that one more fits.
fn make_room(db: &Connection, store: &str) -> Result<()> {
    db.prepare_cached(
        "DELETE FROM staged WHERE store = ?1 AND delta IN \
         (SELECT delta FROM staged WHERE store = ?1 AND part = 0 \
          ORDER BY at_ms DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute((store, MAX_PARTIALS as i64 - 1))?;
    Ok(())
}

/// A delta is complete, or refused.
pub(super) fn finish(db: &Connection, store: &StoreId, delta: &[u8; 16]) -> Result<()> {
    db.prepare_cached("DELETE FROM staged WHERE store = ?1 AND delta = ?2")?
        .execute((store.as_str(), delta))?;
    Ok(())
}

/// Forgets what was staged before a time, and files that are collected as old as that.
pub(super) fn expire(db: &Connection, before_ms: u64) -> Result<()> {
    db.execute("DELETE FROM loose WHERE at_ms < ?1", [before_ms as i64])?;
    db.execute("DELETE FROM staged WHERE at_ms < ?1", [before_ms as i64])?;
    Ok(())
}

/// The unfinished deltas of a store, the last to begin last.
pub(super) fn staged(db: &Connection, store: &StoreId) -> Result<Vec<StagedDelta>> {
    let mut statement = db.prepare_cached(
        "SELECT delta, of, hash, n_bytes, part FROM staged AS s WHERE store = ?1 ORDER BY \
         (SELECT at_ms FROM staged WHERE store = ?1 AND delta = s.delta AND part = 0), \
         delta, part",
    )?;
    let mut rows = statement.query([store.as_str()])?;
    let mut found: Vec<StagedDelta> = Vec::new();
    while let Some(row) = rows.next()? {
        let delta = rows::delta_name(row.get_ref(0)?.as_blob().unwrap_or_default())?;
        let hash = rows::blob_hash(row.get_ref(2)?.as_blob().unwrap_or_default())?;
        let (part, file): (usize, _) = (row.get::<_, u32>(4)? as usize, (hash, row.get(3)?));
        match found.last_mut().filter(|last| last.delta == delta) {
            // What follows a gap is of no use.
            Some(last) if last.parts.len() == part => last.parts.push(file),
            None if part == 0 => {
                found.push(StagedDelta { delta, of: row.get(1)?, parts: vec![file] });
            }
            _ => {}
        }
    }
    Ok(found)
}
