//! How many changes a second each store takes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::limits::MAX_WARM_STORES;
use crate::storage::StorageError;
use crate::store_id::StoreId;

/// A bucket for each store that fills by the changes taken and drains at the configured rate:
/// whoever comes while it holds more than a second's worth is told when to come again.
#[derive(Debug)]
pub(crate) struct Rates {
    /// Changes a second.
    limit: u64,
    buckets: Mutex<HashMap<StoreId, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    changes: f64,
    /// As of when, Unix milliseconds.
    at_ms: u64,
}

impl Rates {
    pub(crate) fn new(limit: u64) -> Rates {
        Rates { limit, buckets: Mutex::default() }
    }

    /// Counts changes of a store, or says when it takes some again.
    ///
    /// # Errors
    /// [`StorageError::TooFast`].
    pub(crate) fn count(
        &self,
        store: &StoreId,
        n_changes: u64,
        now_ms: u64,
    ) -> Result<(), StorageError> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.limit as f64;
        let per_ms = limit / 1000.0;
        let drained = |bucket: &Bucket| {
            let passed_ms = now_ms.saturating_sub(bucket.at_ms) as f64;
            (bucket.changes - passed_ms * per_ms).max(0.0)
        };
        if buckets.len() > MAX_WARM_STORES {
            buckets.retain(|_, bucket| drained(bucket) > 0.0);
        }
        let changes = buckets.get(store).map_or(0.0, drained);
        if changes > limit {
            let retry_ms = ((changes - limit) / per_ms).ceil() as u64;
            return Err(StorageError::TooFast {
                store: store.clone(),
                limit: self.limit,
                retry_ms,
            });
        }
        let changes = changes + n_changes as f64;
        let bucket = Bucket { changes, at_ms: now_ms };
        match buckets.get_mut(store) {
            Some(held) => *held = bucket,
            None => drop(buckets.insert(store.clone(), bucket)),
        }
        Ok(())
    }
}
