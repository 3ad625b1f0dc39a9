//! What is known of where changes got, kept across a restart: a cache that may say less than is
//! true, never more.

use anabranch_sync::limits::MAX_RECEIPT_SITES;
use rusqlite::Connection;

use super::rows;
use crate::storage::{Remembered, StorageError};
use crate::store_id::StoreId;

type Result<T> = std::result::Result<T, StorageError>;

/// Keeps what is known of a place; of more places than are told apart the oldest goes.
pub(super) fn remember(db: &Connection, store: &StoreId, place: &Remembered) -> Result<()> {
    let (name, at_ms) = (store.as_str(), place.now_ms as i64);
    db.prepare_cached(
        "INSERT OR REPLACE INTO known(store, site, bytes, at_ms) VALUES(?1, ?2, ?3, ?4)",
    )?
    .execute((name, place.site.as_bytes(), &place.bytes, at_ms))?;
    db.prepare_cached(
        "DELETE FROM known WHERE store = ?1 AND site = \
         (SELECT site FROM known WHERE store = ?1 ORDER BY at_ms DESC LIMIT 1 OFFSET ?2)",
    )?
    .execute((name, MAX_RECEIPT_SITES as i64))?;
    Ok(())
}

/// What was kept of a store's places.
pub(super) fn remembered(db: &Connection, store: &StoreId) -> Result<Vec<Remembered>> {
    let sql = "SELECT site, bytes, at_ms FROM known WHERE store = ?1 ORDER BY at_ms";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([store.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let site = rows::site(row.get_ref(0)?.as_blob().unwrap_or_default())?;
        found.push(Remembered { site, bytes: row.get(1)?, now_ms: row.get::<_, i64>(2)? as u64 });
    }
    Ok(found)
}
