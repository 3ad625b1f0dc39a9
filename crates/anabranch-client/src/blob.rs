//! Blobs of a store, chunk by chunk: `ana_blob` and `ana_blob_chunk`, which `ana_blob_put`
//! and `ana_blob` read and write whole.
//!
//! Invariant: a chunk is stored only once it was proven to belong to its blob; a blob that is
//! fetched as one stream counts as whole only once all of it has its hash.

use anabranch_sync::blob::{Outline, n_chunks};
use anabranch_sync::frame::{BlobId, Chunk};
use anabranch_sync::limits::CHUNK_BYTES;
use bytes::Bytes;
use rusqlite::OptionalExtension;

use crate::replica::{Replica, StoreError};

/// Whether all of a blob is here.
pub(crate) fn is_whole(replica: Replica<'_>, blob: BlobId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM main.ana_blob WHERE hash = ?1 AND whole = 1";
    let mut statement = replica.sql().prepare_cached(sql)?;
    Ok(statement.exists([&blob.0[..]])?)
}

/// The first chunk that is not here.
pub(crate) fn first_missing(replica: Replica<'_>, blob: BlobId) -> Result<u64, StoreError> {
    // Chunks come in order; one that is missing between others is fetched with all after it.
    let sql = "SELECT count(*), coalesce(max(chunk) + 1, 0) FROM main.ana_blob_chunk
               WHERE hash = ?1";
    let mut statement = replica.sql().prepare_cached(sql)?;
    let (n_here, end): (i64, i64) =
        statement.query_row([&blob.0[..]], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(if n_here == end { end.cast_unsigned() } else { 0 })
}

/// Length of a blob that is whole here.
pub(crate) fn len_bytes(replica: Replica<'_>, blob: BlobId) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT bytes FROM main.ana_blob WHERE hash = ?1 AND whole = 1";
    let mut statement = replica.sql().prepare_cached(sql)?;
    let n_bytes: Option<i64> = statement.query_row([&blob.0[..]], |row| row.get(0)).optional()?;
    Ok(n_bytes.map(i64::cast_unsigned))
}

/// One chunk; `None` if it is not here.
pub(crate) fn chunk(
    replica: Replica<'_>,
    blob: BlobId,
    index: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT bytes FROM main.ana_blob_chunk WHERE hash = ?1 AND chunk = ?2";
    let mut statement = replica.sql().prepare_cached(sql)?;
    let chunk = statement.query_row((&blob.0[..], index.cast_signed()), |row| row.get(0));
    Ok(chunk.optional()?)
}

/// Stores a chunk that was proven; whether all are here now.
pub(crate) fn store(
    replica: Replica<'_>,
    blob: BlobId,
    index: u64,
    blob_bytes: u64,
    bytes: &[u8],
) -> Result<bool, StoreError> {
    let sql = "INSERT OR REPLACE INTO main.ana_blob_chunk(hash, chunk, bytes) VALUES(?1, ?2, ?3)";
    let mut insert = replica.sql().prepare_cached(sql)?;
    insert.execute((&blob.0[..], index.cast_signed(), bytes))?;
    // The length that the last chunk proves is the one that counts.
    let is_last = index + 1 == n_chunks(blob_bytes);
    let is_whole = is_last && first_missing(replica, blob)? == n_chunks(blob_bytes);
    let sql = "INSERT OR REPLACE INTO main.ana_blob(hash, bytes, whole) VALUES(?1, ?2, ?3)";
    let mut insert = replica.sql().prepare_cached(sql)?;
    insert.execute((&blob.0[..], blob_bytes.cast_signed(), is_whole))?;
    Ok(is_whole)
}

/// Serves chunks with their proofs; keeps the outline of the blob that was asked for last.
#[derive(Default)]
pub(crate) struct Prover {
    last: Option<(BlobId, Outline)>,
}

impl Prover {
    /// A chunk of a blob that is whole here.
    pub(crate) fn chunk(
        &mut self,
        replica: Replica<'_>,
        blob: BlobId,
        index: u64,
    ) -> Result<Option<Chunk>, StoreError> {
        let Some(blob_bytes) = len_bytes(replica, blob)? else { return Ok(None) };
        if index >= n_chunks(blob_bytes) {
            return Ok(None);
        }
        let outline = match self.last.take().filter(|(last, _)| *last == blob) {
            Some((_, outline)) => outline,
            None => outline(replica, blob, blob_bytes)?,
        };
        let path = outline.path(index);
        self.last = Some((blob, outline));
        let bytes = chunk(replica, blob, index)?;
        Ok(bytes.map(|bytes| Chunk { blob_bytes, index, path, bytes: Bytes::from(bytes) }))
    }
}

fn outline(replica: Replica<'_>, blob: BlobId, blob_bytes: u64) -> Result<Outline, StoreError> {
    let mut chunks = Vec::new();
    for index in 0..n_chunks(blob_bytes) {
        let bytes = chunk(replica, blob, index)?.unwrap_or_default();
        // A chunk that is damaged here makes proofs that the peer does not take.
        if bytes.len() > CHUNK_BYTES {
            return Ok(Outline::default());
        }
        chunks.push(bytes);
    }
    let is_well_cut = chunks.iter().rev().skip(1).all(|chunk| chunk.len() == CHUNK_BYTES);
    if !is_well_cut {
        return Ok(Outline::default());
    }
    Ok(Outline::of(chunks.iter().map(Vec::as_slice)))
}
