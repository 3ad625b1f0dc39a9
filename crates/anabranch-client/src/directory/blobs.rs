//! Blobs of a directory: `blobs/<first two digits>/<hash>`, their bytes as they are.

use anabranch_sync::blob::n_chunks;
use anabranch_sync::frame::BlobId;
use anabranch_sync::limits::CHUNK_BYTES;

use super::RoundError;
use crate::blob;
use crate::replica::{Replica, StoreError};
use crate::storage::{Storage, StorageError};

/// What became of a blob that was asked for.
pub(super) enum Fetched {
    /// It is on both sides; so many bytes came, so many went.
    Both { took: u64, gave: u64 },
    /// It is on neither, or not whole there.
    Nowhere(String),
}

/// Brings a blob to whichever side lacks it.
pub(super) fn exchange(
    storage: &dyn Storage,
    replica: Replica<'_>,
    blob: BlobId,
) -> Result<Fetched, RoundError> {
    let hash = blob.to_string();
    let folder = format!("blobs/{}", &hash[..2]);
    let found = storage.list(&folder)?.into_iter().find(|entry| entry.name == hash);
    let path = format!("{folder}/{hash}");
    match (blob::len_bytes(replica, blob)?, found) {
        (Some(n_bytes), Some(entry)) if entry.n_bytes == n_bytes => {
            Ok(Fetched::Both { took: 0, gave: 0 })
        }
        (Some(n_bytes), _) => {
            let mut pieces = Vec::new();
            for index in 0..n_chunks(n_bytes) {
                pieces.push(blob::chunk(replica, blob, index)?.unwrap_or_default());
            }
            storage.put(&path, &pieces)?;
            Ok(Fetched::Both { took: 0, gave: n_bytes })
        }
        (None, Some(entry)) => match fetch(storage, replica, blob, &path, entry.n_bytes) {
            Ok(true) => Ok(Fetched::Both { took: entry.n_bytes, gave: 0 }),
            Ok(false) => Ok(Fetched::Nowhere("the file is damaged or not whole".into())),
            Err(RoundError::Storage(StorageError::Gone { .. })) => {
                Ok(Fetched::Nowhere("it is not here and not there".into()))
            }
            Err(error) => Err(error),
        },
        (None, None) => Ok(Fetched::Nowhere("it is not here and not there".into())),
    }
}

/// Stores a file's bytes in one transaction, if they have the hash.
fn fetch(
    storage: &dyn Storage,
    replica: Replica<'_>,
    blob: BlobId,
    path: &str,
    n_bytes: u64,
) -> Result<bool, RoundError> {
    let mut hasher = blake3::Hasher::new();
    let mut failed = None;
    let stored = replica.atomically(|| {
        for index in 0..n_chunks(n_bytes) {
            let start = index * CHUNK_BYTES as u64;
            match storage.get(path, start..start + CHUNK_BYTES as u64) {
                Ok(bytes) => {
                    hasher.update(&bytes);
                    blob::store(replica, blob, index, n_bytes, &bytes)?;
                }
                Err(error) => {
                    failed = Some(error);
                    return Err(StoreError::Answer("a blob's file"));
                }
            }
        }
        match hasher.finalize().as_bytes() == &blob.0 {
            true => Ok(()),
            false => Err(StoreError::Answer("a blob's file")),
        }
    });
    match (stored, failed) {
        (_, Some(error)) => Err(error.into()),
        (Ok(()), None) => Ok(true),
        // Undone with all it had stored.
        (Err(StoreError::Answer(_)), None) => Ok(false),
        (Err(error), None) => Err(error.into()),
    }
}
