//! What a relay does beside answering: blobs that nothing names, parts that nobody goes on
//! with, deltas that can be joined.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use super::Relay;
use crate::joining::{Terms, make_checkpoints};
use crate::limits::{BLOB_GRACE, MAX_LISTED_STORES, MAX_WARM_STORES, MIN_JOIN_DELTAS};
use crate::storage::{BlobNames, Catalog, DeltaLog, StorageError};
use crate::store_id::StoreId;
use anabranch_clock as clock;

impl Relay {
    /// Removes blobs that nothing has named for [`BLOB_GRACE`].
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn collect_blobs(&self, grace: Duration) -> Result<u64, StorageError> {
        let blobs = Arc::clone(&self.blobs);
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(clock::now_ms());
        let look = move || {
            blobs.forget_incoming(grace, now)?;
            blobs.older_than(grace, now)
        };
        let old = self.work(usize::MAX, look).await??;
        let mut n_removed = 0;
        for some in old.chunks(1024) {
            let unnamed = self.storage.unnamed(some.to_vec()).await?;
            n_removed += unnamed.len() as u64;
            let blobs = Arc::clone(&self.blobs);
            self.work(usize::MAX, move || {
                unnamed.into_iter().try_for_each(|blob| blobs.collect(blob, grace, now))
            })
            .await??;
        }
        Ok(n_removed)
    }

    /// After so many deltas a store is looked through for those that can be joined.
    pub(super) fn count_delta(&self, store: &StoreId) {
        let mut unjoined = self.unjoined.lock().unwrap_or_else(PoisonError::into_inner);
        if unjoined.len() > MAX_WARM_STORES {
            // Some wait longer for it, no more.
            unjoined.clear();
        }
        let n = match unjoined.get_mut(store) {
            Some(n) => n,
            None => unjoined.entry(store.clone()).or_default(),
        };
        *n += 1;
        if *n == MIN_JOIN_DELTAS as u64 {
            self.must_join.notify_one();
        }
    }

    /// Joins deltas of stores that had many new ones, one store after another, for ever.
    pub(crate) async fn join_stores(&self) {
        loop {
            self.must_join.notified().await;
            let due: Vec<StoreId> = {
                let mut unjoined = self.unjoined.lock().unwrap_or_else(PoisonError::into_inner);
                let is_due = |_: &StoreId, n: &mut u64| *n >= MIN_JOIN_DELTAS as u64;
                unjoined.extract_if(is_due).map(|(store, _)| store).collect()
            };
            for store in due {
                match crate::joining::join_store(self, &store).await {
                    Ok(n) => tracing::debug!(%store, n, "old deltas joined"),
                    Err(error) => tracing::warn!(%store, %error, "old deltas not joined"),
                }
            }
        }
    }

    /// Makes the checkpoints that are due, in all stores; how many deltas went. A store of which
    /// none can be made, for a file of it is damaged, keeps nobody else from having one.
    pub(crate) async fn make_checkpoints(&self, terms: Terms) -> Result<u64, StorageError> {
        let (mut n_joined, mut after) = (0, None);
        loop {
            let some = self.storage.stores(after.take(), MAX_LISTED_STORES).await?;
            let Some(last) = some.last() else { return Ok(n_joined) };
            after = Some(last.store.clone());
            for facts in some.iter().filter(|facts| facts.n_bytes >= terms.min_bytes) {
                match make_checkpoints(self, &facts.store, terms).await {
                    Ok(n) => n_joined += n,
                    Err(error) => {
                        tracing::warn!(store = %facts.store, %error, "no checkpoint made");
                    }
                }
            }
        }
    }

    /// Whether a checkpoint that begins with delta `first` was not worth it, and little came
    /// since.
    pub(crate) fn has_no_gain(&self, store: &StoreId, first: u64, n_bytes: u64) -> bool {
        let no_gain = self.no_gain.lock().unwrap_or_else(PoisonError::into_inner);
        no_gain.get(&(store.clone(), first)).is_some_and(|then| n_bytes < 2 * then)
    }

    /// A checkpoint of so many bytes of deltas was not worth it.
    pub(crate) fn note_no_gain(&self, store: &StoreId, first: u64, n_bytes: u64) {
        let mut no_gain = self.no_gain.lock().unwrap_or_else(PoisonError::into_inner);
        if no_gain.len() > MAX_WARM_STORES {
            // Some are tried once more.
            no_gain.clear();
        }
        no_gain.insert((store.clone(), first), n_bytes);
    }

    /// What a relay does now and then.
    pub(crate) async fn tend(&self) {
        let grace_ms = BLOB_GRACE.as_millis() as u64;
        if let Err(error) = self.storage.unstage(clock::now_ms().saturating_sub(grace_ms)).await {
            tracing::warn!(%error, "old parts not forgotten");
        }
        match crate::forgotten::fade_unnamed(self, clock::now_ms()).await {
            Ok(0) => {}
            Ok(n) => tracing::info!(n, "blobs that nothing names any more"),
            Err(error) => tracing::warn!(%error, "blobs not looked through"),
        }
        if let Err(error) = self.make_checkpoints(Terms::at(clock::now_ms())).await {
            tracing::warn!(%error, "no checkpoints made");
        }
        match self.collect_blobs(BLOB_GRACE).await {
            Ok(0) => {}
            Ok(n) => tracing::info!(n, "removed blobs that nothing names"),
            Err(error) => tracing::warn!(%error, "blobs not collected"),
        }
    }
}
