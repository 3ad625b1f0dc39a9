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
    /// Notes why a blob did not come; of no more than [`MAX_ABSENT_BLOBS`].
    pub(crate) fn note(&self, blob: BlobHash, absence: Absence) {
        let mut absent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() < MAX_ABSENT_BLOBS || absent.contains_key(&blob) {
            absent.insert(blob, absence);
        }
    }

    /// How many did not come.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Why a blob did not come when it was asked for; a failure is told once. Where so many did
    /// not come no other is asked for: a delta that names more must be taken some time.
    pub(crate) fn of(&self, blob: BlobHash) -> Option<Absence> {
        let mut absent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match absent.get(&blob).copied() {
            Some(Absence::Failed) => absent.remove(&blob),
            None if absent.len() >= MAX_ABSENT_BLOBS => Some(Absence::Nowhere),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A delta is taken once none of its blobs is to be asked for, 64 of them at a time.
    #[test]
    fn however_many_do_not_come_asking_ends() {
        let blobs: Vec<BlobHash> =
            (0..2 * MAX_ABSENT_BLOBS as u64).map(|n| BlobHash::of(&n.to_le_bytes())).collect();
        let absent = Absent::default();
        for n_tries in 0.. {
            let asked = blobs.iter().filter(|blob| absent.of(**blob).is_none());
            let asked: Vec<BlobHash> = asked.take(64).copied().collect();
            if asked.is_empty() {
                break;
            }
            assert!(n_tries < MAX_ABSENT_BLOBS / 64, "it goes on for ever");
            asked.into_iter().for_each(|blob| absent.note(blob, Absence::Nowhere));
        }
        assert_eq!(absent.len(), MAX_ABSENT_BLOBS);
    }
}
