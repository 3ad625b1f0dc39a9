//! Columns that are more than a number or a text, to and from their bytes.

use anabranch_core::branch::Branch;
use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use bytes::Bytes;
use rusqlite::{Connection, Row};

use crate::blobs::BlobHash;
use crate::storage::{Body, Span, StorageError};

/// Writes spans as `delta.spans` has them.
pub(super) fn spans_bytes(spans: &[Span]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(spans.len() * 49);
    for span in spans {
        let site = span.site.as_bytes();
        bytes.push(site.len() as u8);
        bytes.extend_from_slice(site);
        bytes.extend_from_slice(&span.first.to_le_bytes());
        bytes.extend_from_slice(&span.last.to_le_bytes());
        bytes.extend_from_slice(&span.chain.0);
    }
    bytes
}

/// Reads `delta.spans`.
pub(super) fn spans(mut bytes: &[u8]) -> Result<Vec<Span>, StorageError> {
    let mut spans = Vec::new();
    while !bytes.is_empty() {
        spans.push(next_span(&mut bytes).ok_or(damaged("spans of a delta"))?);
    }
    Ok(spans)
}

fn next_span(bytes: &mut &[u8]) -> Option<Span> {
    let (len, rest) = bytes.split_first()?;
    let (site, rest) = rest.split_at_checked(usize::from(*len))?;
    let (first, rest) = rest.split_first_chunk()?;
    let (last, rest) = rest.split_first_chunk()?;
    let (chain, rest) = rest.split_first_chunk()?;
    *bytes = rest;
    let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    Some(Span { site: SiteId::new(site)?, first, last, chain: Chain(*chain) })
}

/// Reads a site.
pub(super) fn site(bytes: &[u8]) -> Result<SiteId, StorageError> {
    SiteId::new(bytes).ok_or(damaged("a site"))
}

/// Reads what a site branched from: three columns from `first` on; `None`: nothing.
pub(super) fn branch(row: &Row<'_>, first: usize) -> Result<Option<Branch>, StorageError> {
    let Some(root) = row.get_ref(first)?.as_blob_or_null().unwrap_or_default() else {
        return Ok(None);
    };
    let base = row.get::<_, i64>(first + 1)? as u64;
    let chain = chain(row.get_ref(first + 2)?.as_blob().unwrap_or_default())?;
    Ok(Some(Branch { root: site(root)?, base, chain }))
}

/// Reads a chain.
pub(super) fn chain(bytes: &[u8]) -> Result<Chain, StorageError> {
    bytes.try_into().map(Chain).map_err(|_| damaged("a chain"))
}

/// The bytes of a delta, whose row has `part`.
pub(super) fn body(db: &Connection, delta: i64, part: Option<&[u8]>) -> Result<Body, StorageError> {
    if let Some(part) = part {
        return Ok(Body::Inline(Bytes::copy_from_slice(part)));
    }
    let mut statement =
        db.prepare_cached("SELECT hash, n_bytes FROM blob WHERE delta = ?1 ORDER BY part")?;
    let mut rows = statement.query([delta])?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        let hash = blob_hash(row.get_ref(0)?.as_blob().unwrap_or_default())?;
        parts.push((hash, row.get(1)?));
    }
    if parts.is_empty() {
        return Err(damaged("a delta without parts"));
    }
    Ok(Body::Blobs(parts.into()))
}

/// The chain of a site at `version`, from its row in `site`; `None` above what is held.
pub(super) fn chain_at(
    db: &Connection,
    origin: Branch,
    row_id: i64,
    version: u64,
) -> Result<Option<Chain>, StorageError> {
    let mut statement = db.prepare_cached(
        "SELECT first, before, salts FROM span WHERE site = ?1 AND last >= ?2 \
         ORDER BY last LIMIT 1",
    )?;
    let mut rows = statement.query((row_id, version as i64))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let first = row.get::<_, i64>(0)? as u64;
    let before = chain(row.get_ref(1)?.as_blob().unwrap_or_default())?;
    let salts = row.get_ref(2)?.as_blob().unwrap_or_default();
    let n = (version + 1).checked_sub(first).ok_or(damaged("a span"))? as usize;
    let salts = salts.get(..n * 8).ok_or(damaged("the salts of a span"))?;
    let at = (first..).zip(salts.chunks_exact(8)).fold(before, |chain, (version, salt)| {
        let salt = u64::from_le_bytes(salt.try_into().expect("chunks of eight bytes"));
        origin.next(chain, version, salt)
    });
    Ok(Some(at))
}

/// The name of a delta.
pub(super) fn delta_name(bytes: &[u8]) -> Result<[u8; 16], StorageError> {
    bytes.try_into().map_err(|_| damaged("the name of a delta"))
}

/// The hash of a blob.
pub(super) fn blob_hash(bytes: &[u8]) -> Result<BlobHash, StorageError> {
    bytes.try_into().map(BlobHash).map_err(|_| damaged("a blob's hash"))
}

/// Names what in the database is not as it was written.
pub(super) fn damaged(what: &'static str) -> StorageError {
    StorageError::Damaged { what }
}
