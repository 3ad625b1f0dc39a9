//! Where the files of a directory relay are: four dumb verbs, over a folder or a bucket.
//!
//! Invariant: an object is immutable and appears whole or not at all; putting one that is
//! there already is not an error, and changes nothing.

#[cfg(feature = "s3")]
mod bucket;
mod folder;

#[cfg(feature = "s3")]
pub(crate) use bucket::Bucket;
pub(crate) use folder::Folder;

use std::io;
use std::ops::Range;

use bytes::Bytes;

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// Its name inside the folder that was listed.
    pub(crate) name: String,
    /// Its size.
    pub(crate) n_bytes: u64,
    /// When it appeared, in Unix milliseconds by the storage's clock; 0 if unknown.
    pub(crate) modified_ms: u64,
}

/// What may be asked of a storage. Paths are relative, with `/` between folder and name.
pub(crate) trait Storage {
    /// The objects of a folder, in any order; none if there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<Entry>, StorageError>;
    /// Bytes of an object; fewer where it ends.
    fn get(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>, StorageError>;
    /// Writes pieces one behind the other; durable when it returns.
    fn put(&self, path: &str, pieces: &dyn Pieces) -> Result<(), StorageError>;
    /// Deletes an object; one that is not there is deleted already.
    fn delete(&self, path: &str) -> Result<(), StorageError>;
    /// Whether a folder exists; `None` where folders are only parts of names.
    fn has_folder(&self, folder: &str) -> Result<Option<bool>, StorageError>;
}

/// What is to be written, piece by piece: in memory or not.
pub(crate) trait Pieces {
    /// Bytes of all of them.
    fn n_bytes(&self) -> u64;
    /// How many there are.
    fn len(&self) -> usize;
    /// One of them, from 0; `None` behind the last.
    fn piece(&self, index: usize) -> io::Result<Option<Bytes>>;

    /// All of them as one, where memory is the storage.
    #[cfg(any(test, feature = "testing"))]
    fn concat(&self) -> Vec<u8> {
        let piece = |index| self.piece(index).expect("no file is in the way").unwrap_or_default();
        (0..self.len()).flat_map(piece).collect()
    }
}

impl Pieces for Vec<Vec<u8>> {
    fn n_bytes(&self) -> u64 {
        self.iter().map(|piece| piece.len() as u64).sum()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn piece(&self, index: usize) -> io::Result<Option<Bytes>> {
        Ok(self.get(index).map(|piece| Bytes::copy_from_slice(piece)))
    }
}

/// Why a storage does not do what it is asked, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// All of it is out of reach: come again later.
    #[error("{place} is not there: {why}")]
    Offline {
        /// What was to be reached.
        place: String,
        /// Why not.
        why: String,
    },
    /// One object is not there, or no longer: list again.
    #[error("{place} is gone")]
    Gone {
        /// The object.
        place: String,
    },
    /// It may not be read, or not be written.
    #[error("{place}: {why}")]
    Denied {
        /// The object.
        place: String,
        /// In the system's words.
        why: String,
    },
    /// There is no room.
    #[error("{place}: no space is left")]
    Full {
        /// The object.
        place: String,
    },
    /// Anything else: the medium fails, the name is impossible.
    #[error("{place}: {why}")]
    Failed {
        /// The object.
        place: String,
        /// In the system's words.
        why: String,
    },
}
