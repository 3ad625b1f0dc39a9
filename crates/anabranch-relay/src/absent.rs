//! Blobs that a peer was asked for and did not bring, and why: what decides whether a delta
//! that names them waits for them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::blobs::BlobHash;
use crate::limits::MAX_ABSENT_BLOBS;

/// Why a blob did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The peer does not have it either: what names it is taken without.
    Nowhere,
    /// The store may hold no more.
    Full,
    /// It could not be kept; it is asked for again.
    Failed,
}

/// What one channel did not bring.
#[derive(Debug, Default)]
pub(crate) struct Absent(Mutex<HashMap<BlobHash, Absence>>);

impl Absent {
    /// Notes why a blob did not come.
    pub(crate) fn note(&self, blob: BlobHash, absence: Absence) {
        let mut absent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() >= MAX_ABSENT_BLOBS {
            absent.clear();
        }
        absent.insert(blob, absence);
    }

    /// How many did not come.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Why a blob did not come when it was asked for; a failure is told once.
    pub(crate) fn of(&self, blob: BlobHash) -> Option<Absence> {
        let mut absent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match absent.get(&blob).copied() {
            Some(Absence::Failed) => absent.remove(&blob),
            other => other,
        }
    }
}
