//! Questions to the database, each on a connection of its own.

use anabranch_core::branch::Branch;
use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use rusqlite::{Connection, OptionalExtension, Row};

use super::rows;
use crate::blobs::BlobHash;
use crate::limits::MAX_LISTED_DELIVERERS;
use crate::storage::{
    Delivered, Listed, Revoked, RevokedKind, StorageError, StoreFacts, StoredDelta, Wanted,
};
use crate::store_id::StoreId;

type Result<T> = std::result::Result<T, StorageError>;

fn store_row(db: &Connection, store: &StoreId) -> Result<Option<i64>> {
    let mut statement = db.prepare_cached("SELECT id FROM store WHERE name = ?1")?;
    Ok(statement.query_row([store.as_str()], |row| row.get(0)).optional()?)
}

pub(super) fn vector(db: &Connection, store: &StoreId) -> Result<VersionVector> {
    let mut vector = VersionVector::new();
    let Some(store) = store_row(db, store)? else { return Ok(vector) };
    let mut statement = db.prepare_cached(
        "SELECT site, version, chain, root, base, start FROM site WHERE store = ?1",
    )?;
    let mut rows = statement.query([store])?;
    while let Some(row) = rows.next()? {
        let site = rows::site(row.get_ref(0)?.as_blob().unwrap_or_default())?;
        let chain = rows::chain(row.get_ref(2)?.as_blob().unwrap_or_default())?;
        vector.set(site, Held { version: row.get::<_, i64>(1)? as u64, chain });
        if let Some(branch) = rows::branch(row, 3)? {
            vector.set_branch(site, branch);
        }
    }
    Ok(vector)
}

pub(super) fn deltas(
    db: &mut Connection,
    store: &StoreId,
    wanted: &Wanted,
) -> Result<Vec<StoredDelta>> {
    // One snapshot: a join may be replacing rows meanwhile.
    let db = db.transaction()?;
    let mut found = Vec::new();
    let Some(store) = store_row(&db, store)? else { return Ok(found) };
    let first = match wanted.after {
        Some(after) => after as i64 + 1,
        None => match first_lacking(&db, store, &wanted.held)? {
            Some(first) => first,
            None => return Ok(found),
        },
    };
    let mut statement = db.prepare_cached(
        "SELECT id, spans, part, name FROM delta WHERE store = ?1 AND id >= ?2 ORDER BY id",
    )?;
    let mut rows = statement.query((store, first))?;
    let mut n_bytes = 0;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let spans = rows::spans(row.get_ref(1)?.as_blob().unwrap_or_default())?;
        if spans.iter().all(|span| wanted.held.version(span.site) >= span.last) {
            continue;
        }
        let part = row.get_ref(2)?.as_blob_or_null().unwrap_or_default();
        n_bytes += part.map_or(0, |part| part.len() as u64);
        let name = rows::delta_name(row.get_ref(3)?.as_blob().unwrap_or_default())?;
        let body = rows::body(&db, id, part)?;
        found.push(StoredDelta { id: id as u64, name, spans, body, live: None });
        if found.len() as u32 >= wanted.max_deltas || n_bytes >= wanted.max_bytes {
            break;
        }
    }
    Ok(found)
}

pub(super) fn list(db: &Connection, store: &StoreId) -> Result<Vec<Listed>> {
    let Some(store) = store_row(db, store)? else { return Ok(Vec::new()) };
    let mut statement = db.prepare_cached(
        "SELECT id, spans, n_bytes, received_ms, \
         CASE WHEN part IS NULL THEN (SELECT count(*) FROM blob WHERE delta = id) ELSE 1 END \
         FROM delta WHERE store = ?1 ORDER BY id",
    )?;
    let mut rows = statement.query([store])?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        let spans = rows::spans(row.get_ref(1)?.as_blob().unwrap_or_default())?;
        let (id, n_bytes) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(2)? as u64);
        let received_ms = row.get::<_, i64>(3)? as u64;
        listed.push(Listed { id, spans, n_bytes, n_parts: row.get(4)?, received_ms });
    }
    Ok(listed)
}

/// The first delta with a change that `held` lacks, or an earlier one.
fn first_lacking(db: &Connection, store: i64, held: &VersionVector) -> Result<Option<i64>> {
    let mut first = None;
    let mut sites = db.prepare_cached("SELECT id, site, version FROM site WHERE store = ?1")?;
    let mut rows = sites.query([store])?;
    let mut spans =
        db.prepare_cached("SELECT delta FROM span WHERE site = ?1 AND last > ?2 LIMIT 1")?;
    while let Some(row) = rows.next()? {
        let (id, version) = (row.get::<_, i64>(0)?, row.get::<_, i64>(2)? as u64);
        let theirs = held.version(rows::site(row.get_ref(1)?.as_blob().unwrap_or_default())?);
        if theirs >= version {
            continue;
        }
        let delta: i64 = spans.query_row((id, theirs as i64), |row| row.get(0))?;
        first = Some(first.map_or(delta, |first: i64| first.min(delta)));
    }
    Ok(first)
}

pub(super) fn chains(
    db: &Connection,
    store: &StoreId,
    site: SiteId,
    versions: &[u64],
) -> Result<Vec<(u64, Chain)>> {
    let Some(store) = store_row(db, store)? else { return Ok(Vec::new()) };
    let mut statement =
        db.prepare_cached("SELECT id, root, base, start FROM site WHERE store = ?1 AND site = ?2")?;
    let mut found = statement.query((store, site.as_bytes()))?;
    let Some(found) = found.next()? else { return Ok(Vec::new()) };
    let row: i64 = found.get(0)?;
    let origin = rows::branch(found, 1)?.unwrap_or_else(|| Branch::trunk(site));
    let mut chains = Vec::new();
    for version in versions {
        if let Some(chain) = rows::chain_at(db, origin, row, *version)? {
            chains.push((*version, chain));
        }
    }
    Ok(chains)
}

const FACTS: &str = "SELECT name, created_ms, n_bytes, n_deltas, n_changes, \
     (SELECT count(*) FROM site WHERE site.store = store.id AND version > 0) FROM store";

pub(super) fn stores(
    db: &Connection,
    after: Option<&StoreId>,
    limit: u32,
) -> Result<Vec<StoreFacts>> {
    let mut statement =
        db.prepare_cached(&format!("{FACTS} WHERE name > ?1 ORDER BY name LIMIT ?2"))?;
    let mut rows = statement.query((after.map_or("", StoreId::as_str), limit))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read_facts(row)?);
    }
    Ok(found)
}

pub(super) fn facts(db: &Connection, store: &StoreId) -> Result<Option<StoreFacts>> {
    let mut statement = db.prepare_cached(&format!("{FACTS} WHERE name = ?1"))?;
    let mut rows = statement.query([store.as_str()])?;
    rows.next()?.map(read_facts).transpose()
}

fn read_facts(row: &Row<'_>) -> Result<StoreFacts> {
    let name: String = row.get(0)?;
    let number = |at| row.get::<_, i64>(at).map(|number| number as u64);
    Ok(StoreFacts {
        store: StoreId::new(&name).ok_or(rows::damaged("a store's name"))?,
        created_ms: number(1)?,
        n_bytes: number(2)?,
        n_deltas: number(3)?,
        n_changes: number(4)?,
        n_sites: number(5)?,
    })
}

pub(super) fn deliverers(db: &Connection, store: &StoreId) -> Result<Vec<Delivered>> {
    let mut statement = db.prepare_cached(
        "SELECT site.site, span.first, span.last, subject.name \
         FROM store JOIN site ON site.store = store.id JOIN span ON span.site = site.id \
         JOIN subject ON subject.id = span.subject \
         WHERE store.name = ?1 ORDER BY site.site, span.last",
    )?;
    let mut rows = statement.query([store.as_str()])?;
    let mut found: Vec<Delivered> = Vec::new();
    while let Some(row) = rows.next()? {
        let site = rows::site(row.get_ref(0)?.as_blob().unwrap_or_default())?;
        let (first, last) = (row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64);
        let subject = row.get_ref(3)?.as_str().unwrap_or_default();
        if let Some(run) = found.last_mut()
            && run.site == site
            && run.subject == subject
        {
            run.last = last;
        } else if found.len() < MAX_LISTED_DELIVERERS {
            found.push(Delivered { site, first, last, subject: subject.to_string() });
        } else {
            break;
        }
    }
    Ok(found)
}

pub(super) fn revoked(db: &Connection) -> Result<Vec<Revoked>> {
    let mut statement = db.prepare_cached("SELECT kind, name, until_s FROM revoked")?;
    let rows = statement.query_map([], |row| {
        let kind = match row.get::<_, i64>(0)? {
            0 => RevokedKind::Token,
            _ => RevokedKind::Subject,
        };
        let until_s = row.get::<_, i64>(2)? as u64;
        Ok(Revoked { kind, name: row.get(1)?, until_s })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn unnamed(db: &Connection, blobs: Vec<BlobHash>) -> Result<Vec<BlobHash>> {
    let mut statement = db.prepare_cached(
        "SELECT 1 FROM blob WHERE hash = ?1 UNION ALL SELECT 1 FROM staged WHERE hash = ?1 \
         UNION ALL SELECT 1 FROM named WHERE hash = ?1 LIMIT 1",
    )?;
    let mut unnamed = Vec::new();
    for blob in blobs {
        if !statement.exists([blob.0])? {
            unnamed.push(blob);
        }
    }
    Ok(unnamed)
}
