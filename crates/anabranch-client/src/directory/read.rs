//! Reading one file whole, part by part, checking everything before anybody sees it.

use anabranch_core::limits::MAX_PART_BYTES;
use anabranch_core::wire::{Decoder, HEAD_BYTES, WireError, part_head};

use super::name::CHANGES;
use super::shelf::DeltaFile;
use crate::replica::StoreError;
use crate::storage::{Storage, StorageError};

/// Bytes asked for at a time: a request costs what some hundred kilobytes do.
const READ_BYTES: u64 = 1 << 20;

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It is not whole, damaged, or of a later version: skipped, and tried again.
    #[error("{0}")]
    Unreadable(String),
    #[error(transparent)]
    Storage(StorageError),
    /// The part was fine; who took it said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<WireError> for ReadError {
    fn from(error: WireError) -> ReadError {
        ReadError::Unreadable(error.to_string())
    }
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> ReadError {
        match error {
            StorageError::Offline { .. } => ReadError::Storage(error),
            // This one file cannot be read; others may.
            _ => ReadError::Unreadable(error.to_string()),
        }
    }
}

/// Gives each part to `take`, in order, once it is known to be whole and to belong.
///
/// Parts before a damaged one have been given: they are staged where they went, and an
/// incomplete delta is never applied.
pub(super) fn read_whole(
    storage: &dyn Storage,
    file: &DeltaFile,
    take: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(), ReadError> {
    let mut source = Source::new(storage, &file.name);
    let mut decoder = Decoder::new();
    let mut n_parts = 0;
    let mut n_bytes = 0;
    loop {
        let head = source.peek(HEAD_BYTES)?;
        let (head, len) = part_head(head)?;
        let part = source.peek(len)?;
        if part.len() < len {
            return Err(WireError::Truncated { found: part.len(), expected: len }.into());
        }
        decoder.push(part)?;
        take(part)?;
        source.consume(len);
        n_bytes += len as u64;
        n_parts += 1;
        if n_parts == head.of {
            break;
        }
    }
    decoder.finish()?;
    if n_bytes != file.n_bytes {
        let why = format!("{} bytes after the last part", file.n_bytes.saturating_sub(n_bytes));
        return Err(ReadError::Unreadable(why));
    }
    Ok(())
}

/// The bytes of a file from where reading is.
struct Source<'a> {
    storage: &'a dyn Storage,
    path: String,
    /// Place in the file of the first byte of `ahead`.
    at: u64,
    ahead: Vec<u8>,
}

impl<'a> Source<'a> {
    fn new(storage: &'a dyn Storage, name: &str) -> Source<'a> {
        Source { storage, path: format!("{CHANGES}/{name}"), at: 0, ahead: Vec::new() }
    }

    /// The next `len` bytes; fewer where the file ends.
    fn peek(&mut self, len: usize) -> Result<&[u8], ReadError> {
        debug_assert!(len <= MAX_PART_BYTES);
        if self.ahead.len() < len {
            let start = self.at + self.ahead.len() as u64;
            let missing = (len - self.ahead.len()) as u64;
            let more = self.storage.get(&self.path, start..start + missing.max(READ_BYTES))?;
            self.ahead.extend_from_slice(&more);
        }
        Ok(&self.ahead[..len.min(self.ahead.len())])
    }

    fn consume(&mut self, len: usize) {
        self.ahead.drain(..len);
        self.at += len as u64;
    }
}
