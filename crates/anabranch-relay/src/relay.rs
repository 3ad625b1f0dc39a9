//! One running relay: what its connections and routes share.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_sync::Time;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::blobs::{BlobDir, Proofs};
use crate::config::Config;
use crate::doorstep::Doorstep;
use crate::hub::{Hub, OpenStore};
use crate::limits::MAX_QUICK_PART_BYTES;
use crate::metrics::Metrics;
use crate::rates::Rates;
use crate::storage::sqlite::{Place, SqliteStorage};
use crate::storage::{
    Answer, Appended, Body, Catalog, DeltaLog, DeltaSize, Incoming, Observer, Storage,
    StorageError, StoredDelta, Wanted,
};
use crate::store_id::StoreId;
use crate::tasks::Tasks;
use crate::token::{Revocations, Tickets, Tokens};
use anabranch_clock as clock;

mod start;
mod upkeep;

pub use start::StartError;

/// The relay's own key in its data directory.
pub(crate) const KEY_FILE: &str = "relay.key";

/// What connections and routes share.
pub(crate) struct Relay {
    config: Config,
    storage: Arc<SqliteStorage>,
    blobs: Arc<BlobDir>,
    proofs: Proofs,
    hub: Arc<Hub>,
    tokens: Tokens,
    tickets: Tickets,
    revocations: Arc<Revocations>,
    metrics: Metrics,
    doorstep: Arc<Doorstep>,
    rates: Rates,
    /// Deltas that came since a store's were joined.
    unjoined: Mutex<HashMap<StoreId, u64>>,
    must_join: Notify,
    /// Of stores whose checkpoint was not worth it what it would have been made of.
    no_gain: Mutex<HashMap<(StoreId, u64), u64>>,
    site: SiteId,
    started: Instant,
    n_instances: AtomicU64,
    /// `true` once the relay stops.
    stopping: watch::Sender<bool>,
    /// Connections whose tasks have not ended.
    tasks: Tasks,
    /// Whether there are no threads, and all work is done where it is asked for.
    is_stepped: bool,
    /// Held as long as the relay runs, so that no second one opens the directory.
    _lock: std::fs::File,
}

impl Relay {
    /// Opens the data directory, making what is missing; the first admin token if keys were
    /// made now.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) fn open(config: Config) -> Result<(Relay, Option<String>), StartError> {
        let place = Place { path: config.data.join("relay.db"), vfs: None };
        Relay::open_on(config, place, SqliteStorage::open, false)
    }

    /// As [`Relay::open`], without threads: [`Relay::step`] commits. The database lies on
    /// SQLite's disk `vfs`.
    ///
    /// # Errors
    /// [`StartError`].
    #[cfg(feature = "testing")]
    pub(crate) fn open_stepped(config: Config, vfs: &str) -> Result<Relay, StartError> {
        let place = Place { path: "relay.db".into(), vfs: Some(vfs.to_string()) };
        Ok(Relay::open_on(config, place, SqliteStorage::open_stepped, true)?.0)
    }

    /// Commits what waits, in one transaction; whether anything waited.
    #[cfg(feature = "testing")]
    pub(crate) fn step(&self) -> bool {
        self.storage.step()
    }

    fn open_on(
        config: Config,
        place: Place,
        open: impl FnOnce(Place, Arc<dyn Observer>) -> Result<SqliteStorage, StorageError>,
        is_stepped: bool,
    ) -> Result<(Relay, Option<String>), StartError> {
        let data = config.data.clone();
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |source| StartError::Io { path, source }
        };
        start::make_private_dir(&data).map_err(at(&data))?;
        let lock = start::lock(&data)?;
        let blobs = data.join("blobs");
        start::make_private_dir(&blobs).map_err(at(&blobs))?;
        let blobs = BlobDir::open(&blobs).map_err(at(&blobs))?;
        let revocations = Arc::new(Revocations::default());
        let secret = config.jwt_secret.as_deref().map(str::as_bytes);
        let (tokens, is_new) = Tokens::open(
            &data.join(KEY_FILE),
            secret,
            config.jwks.as_ref(),
            Arc::clone(&revocations),
        )?;
        let hub = Arc::new(Hub::default());
        let observer: Arc<dyn Observer> = Arc::clone(&hub) as _;
        if place.vfs.is_none() {
            start::make_private_file(&place.path).map_err(at(&place.path))?;
        }
        let path = place.path.display().to_string();
        let storage = open(place, observer)
            .map_err(|error| StartError::Storage { path, source: error.into() })?;
        let first_token = if is_new { Some(start::first_token(&tokens)?) } else { None };
        let relay = Relay {
            site: tokens.site(),
            started: Instant::now(),
            n_instances: AtomicU64::new(0),
            rates: Rates::new(config.max_changes_per_second),
            config,
            storage: Arc::new(storage),
            blobs: Arc::new(blobs),
            proofs: Proofs::default(),
            doorstep: Arc::default(),
            hub,
            tokens,
            tickets: Tickets::default(),
            revocations,
            metrics: Metrics::default(),
            unjoined: Mutex::default(),
            must_join: Notify::new(),
            no_gain: Mutex::default(),
            stopping: watch::Sender::new(false),
            tasks: Tasks::default(),
            is_stepped,
            _lock: lock,
        };
        Ok((relay, first_token))
    }

    /// Reads what is needed in memory from the start.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn load(&self) -> Result<(), StorageError> {
        let now_s = clock::now_s();
        let revoked = self.storage.revoked().await?;
        self.revocations.add(revoked.into_iter().filter(|revoked| revoked.until_s > now_s));
        Ok(())
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Transactions committed since the start.
    pub(crate) fn n_commits(&self) -> u64 {
        self.storage.n_commits()
    }

    pub(crate) fn blobs(&self) -> &Arc<BlobDir> {
        &self.blobs
    }

    pub(crate) fn doorstep(&self) -> &Arc<Doorstep> {
        &self.doorstep
    }

    pub(crate) fn proofs(&self) -> &Proofs {
        &self.proofs
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(crate) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    pub(crate) fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Milliseconds since the start: the time of all sessions.
    pub(crate) fn now(&self) -> Time {
        Time(clock::since_ms(|| self.started.elapsed()))
    }

    /// The instant of a session's time.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.started + Duration::from_millis(time.0)
    }

    /// A number that no other connection of this process has.
    pub(crate) fn next_instance(&self) -> u64 {
        self.n_instances.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a store still holds what it did: this relay may have been put back to an older
    /// state, and have taken another history since.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn holds(
        &self,
        store: &StoreId,
        vector: &VersionVector,
        before: &VersionVector,
    ) -> Result<bool, StorageError> {
        for (site, held) in before.iter() {
            let chain = match vector.get(site) {
                Some(now) if now.version == held.version => Some(now.chain),
                Some(now) if now.version > held.version => {
                    let chains = self.storage.chains(store, site, vec![held.version]).await?;
                    chains.first().map(|(_, chain)| *chain)
                }
                _ => None,
            };
            if chain != Some(held.chain) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first delta after `after` that `held` does not cover, from memory or from disk;
    /// and the place up to which there is none.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn next_lacking(
        &self,
        store: &OpenStore,
        held: &Arc<VersionVector>,
        after: Option<u64>,
    ) -> Result<(Option<Arc<StoredDelta>>, Option<u64>), StorageError> {
        if let Some((found, passed)) = after.and_then(|after| store.lacking(after, held)) {
            return Ok((found, Some(passed)));
        }
        let wanted = Wanted { held: Arc::clone(held), after, max_deltas: 1, max_bytes: 1 };
        let found = self.storage.deltas(store.name(), wanted).await?.pop().map(Arc::new);
        let passed = found.as_ref().map(|delta| delta.id).or(after);
        Ok((found, passed))
    }

    /// What the relay calls itself to its peers.
    pub(crate) fn site(&self) -> SiteId {
        self.site
    }

    /// Whether the relay stops.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Ready once the relay stops.
    pub(crate) async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Who must have ended before the process does.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Tells all connections to end.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Runs what takes time in proportion to `n_bytes`: here if that is little, else on a
    /// thread that may be busy.
    ///
    /// # Errors
    /// [`StorageError::Stopping`].
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        n_bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        if n_bytes <= MAX_QUICK_PART_BYTES || self.is_stepped {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await.map_err(|_| StorageError::Stopping)
    }

    /// Hands a delta over to be committed, within the store's rate; ready as soon as there is
    /// room for it.
    ///
    /// # Errors
    /// [`StorageError::TooFast`].
    pub(crate) async fn append(
        &self,
        incoming: Incoming,
        answer: Answer,
    ) -> Result<(), StorageError> {
        self.rates.count(&incoming.store, incoming.outline.n_changes(), incoming.now_ms)?;
        match self.storage.append(incoming, answer) {
            None => Ok(()),
            Some(waiting) => waiting.await,
        }
    }

    /// Counts what became of a delta of this size.
    pub(crate) fn note_appended(
        &self,
        appended: &Result<Appended, StorageError>,
        (store, subject): (&StoreId, &Arc<str>),
        size: DeltaSize,
    ) {
        self.metrics.appended(appended, subject, size);
        if let Ok(Appended::Stored(_)) = appended {
            self.count_delta(store);
        }
    }

    /// A part of a stored delta.
    ///
    /// # Errors
    /// [`StorageError`]; a blob that is missing or damaged is [`StorageError::Damaged`].
    pub(crate) async fn read_part(
        &self,
        delta: &StoredDelta,
        number: u32,
    ) -> Result<Bytes, StorageError> {
        let missing = StorageError::Damaged { what: "a part of a delta" };
        match &delta.body {
            Body::Inline(part) if number == 0 => Ok(part.clone()),
            Body::Inline(_) => Err(missing),
            Body::Blobs(parts) => {
                let (hash, _) = *parts.get(number as usize).ok_or(missing)?;
                let blobs = Arc::clone(&self.blobs);
                let read = self.work(usize::MAX, move || blobs.get(hash)).await??;
                let missing = StorageError::Damaged { what: "a file of a delta's part" };
                read.map(Bytes::from).ok_or(missing)
            }
        }
    }
}
