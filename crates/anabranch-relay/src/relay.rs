//! One running relay: what its connections and routes share.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_sync::Time;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::blobs::BlobDir;
use crate::clock;
use crate::config::Config;
use crate::hub::{Hub, OpenStore};
use crate::limits::{
    BLOB_GRACE, FIRST_TOKEN_LIFE_S, MAX_QUICK_PART_BYTES, MAX_WARM_STORES, MIN_JOIN_DELTAS,
};
use crate::metrics::Metrics;
use crate::storage::sqlite::SqliteStorage;
use crate::storage::{
    Appended, Body, Incoming, Pending, Storage, StorageError, StoredDelta, Wanted,
};
use crate::store_id::StoreId;
use crate::token::{Audience, KeyError, Order, Revocations, Tickets, Tokens};

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A file or folder.
    #[error("{path}")]
    Io {
        /// Which.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
    /// Another relay uses the data directory.
    #[error("{path}: another relay uses this data directory")]
    InUse {
        /// Which.
        path: String,
    },
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database.
    #[error("{path}")]
    Storage {
        /// Which.
        path: String,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// What happened.
        source: std::io::Error,
    },
    /// Certificate or key of TLS.
    #[error("TLS: {what}")]
    Tls {
        /// What is wrong.
        what: String,
    },
}

/// The relay's own key in its data directory.
pub(crate) const KEY_FILE: &str = "relay.key";

/// What connections and routes share.
pub(crate) struct Relay {
    config: Config,
    storage: Arc<SqliteStorage>,
    blobs: Arc<BlobDir>,
    hub: Arc<Hub>,
    tokens: Tokens,
    tickets: Tickets,
    revocations: Arc<Revocations>,
    metrics: Metrics,
    rates: Mutex<HashMap<StoreId, Rate>>,
    /// Deltas that came since a store's were joined.
    unjoined: Mutex<HashMap<StoreId, u64>>,
    must_join: Notify,
    site: SiteId,
    started: Instant,
    n_instances: AtomicU64,
    /// `true` once the relay stops.
    stopping: watch::Sender<bool>,
    /// Connections whose tasks have not ended.
    tasks: Tasks,
    /// Held as long as the relay runs, so that no second one opens the directory.
    _lock: std::fs::File,
}

/// Changes that a store took beyond its share, as of a time.
#[derive(Clone, Copy, Debug)]
struct Rate {
    debt: f64,
    at_ms: u64,
}

impl Relay {
    /// Opens the data directory, making what is missing; the first admin token if keys were
    /// made now.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) fn open(config: Config) -> Result<(Relay, Option<String>), StartError> {
        let data = config.data.clone();
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |source| StartError::Io { path, source }
        };
        make_private_dir(&data).map_err(at(&data))?;
        let lock = lock(&data)?;
        let blobs = data.join("blobs");
        let blobs = BlobDir::open(&blobs).map_err(at(&blobs))?;
        let revocations = Arc::new(Revocations::default());
        let secret = config.jwt_secret.as_deref().map(str::as_bytes);
        let (tokens, is_new) = Tokens::open(
            &data.join(KEY_FILE),
            secret,
            config.jwks.as_deref(),
            Arc::clone(&revocations),
        )?;
        let hub = Arc::new(Hub::default());
        let database = data.join("relay.db");
        let observer: Arc<dyn crate::storage::Observer> = Arc::clone(&hub) as _;
        let storage = SqliteStorage::open(&database, observer).map_err(|error| {
            StartError::Storage { path: database.display().to_string(), source: error.into() }
        })?;
        let first_token = if is_new { Some(first_token(&tokens)?) } else { None };
        let relay = Relay {
            site: tokens.site(),
            started: Instant::now(),
            n_instances: AtomicU64::new(0),
            config,
            storage: Arc::new(storage),
            blobs: Arc::new(blobs),
            hub,
            tokens,
            tickets: Tickets::default(),
            revocations,
            metrics: Metrics::default(),
            rates: Mutex::default(),
            unjoined: Mutex::default(),
            must_join: Notify::new(),
            stopping: watch::Sender::new(false),
            tasks: Tasks::default(),
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
        Time(self.started.elapsed().as_millis() as u64)
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
        if n_bytes <= MAX_QUICK_PART_BYTES {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await.map_err(|_| StorageError::Stopping)
    }

    /// Hands a delta over to be committed, within the store's rate.
    ///
    /// # Errors
    /// [`StorageError::TooFast`].
    pub(crate) fn append(
        self: &Arc<Relay>,
        incoming: Incoming,
    ) -> Result<Pending<'static, Appended>, StorageError> {
        self.check_rate(&incoming.store, incoming.outline.n_changes(), incoming.now_ms)?;
        let (n_changes, n_bytes) = (incoming.outline.n_changes(), incoming.body.n_bytes());
        let subject = Arc::clone(&incoming.subject);
        let store = incoming.store.clone();
        let committing = self.storage.append(incoming);
        let relay = Arc::clone(self);
        Ok(Box::pin(async move {
            let appended = committing.await;
            relay.metrics.appended(&appended, &subject, n_changes, n_bytes);
            if let Ok(Appended::Stored) = appended {
                relay.count_delta(store);
            }
            appended
        }))
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

    /// A bucket that fills by the changes taken and drains at the configured rate: whoever
    /// comes while it holds more than a second's worth is told when to come again.
    fn check_rate(&self, store: &StoreId, n_changes: u64, now_ms: u64) -> Result<(), StorageError> {
        let limit = self.config.max_changes_per_second;
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let per_ms = limit as f64 / 1000.0;
        let drained =
            |rate: &Rate| (rate.debt - now_ms.saturating_sub(rate.at_ms) as f64 * per_ms).max(0.0);
        if rates.len() > MAX_WARM_STORES {
            rates.retain(|_, rate| drained(rate) > 0.0);
        }
        let debt = rates.get(store).map_or(0.0, drained);
        if debt > limit as f64 {
            let retry_ms = ((debt - limit as f64) / per_ms).ceil() as u64;
            return Err(StorageError::TooFast { store: store.clone(), limit, retry_ms });
        }
        rates.insert(store.clone(), Rate { debt: debt + n_changes as f64, at_ms: now_ms });
        Ok(())
    }

    /// Removes blobs that nothing has named for [`BLOB_GRACE`].
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) async fn collect_blobs(&self, grace: Duration) -> Result<u64, StorageError> {
        let blobs = Arc::clone(&self.blobs);
        let now = SystemTime::now();
        let old = self.work(usize::MAX, move || blobs.older_than(grace, now)).await??;
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
    fn count_delta(&self, store: StoreId) {
        let mut unjoined = self.unjoined.lock().unwrap_or_else(PoisonError::into_inner);
        if unjoined.len() > MAX_WARM_STORES {
            // Some wait longer for it, no more.
            unjoined.clear();
        }
        let n = unjoined.entry(store).or_default();
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

    /// What a relay does now and then.
    pub(crate) async fn tend(&self) {
        let grace_ms = BLOB_GRACE.as_millis() as u64;
        if let Err(error) = self.storage.unstage(clock::now_ms().saturating_sub(grace_ms)).await {
            tracing::warn!(%error, "old parts not forgotten");
        }
        match self.collect_blobs(BLOB_GRACE).await {
            Ok(0) => {}
            Ok(n) => tracing::info!(n, "removed blobs that nothing names"),
            Err(error) => tracing::warn!(%error, "blobs not collected"),
        }
    }
}

/// Counts tasks, so that a stop can wait for them.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(Arc<watch::Sender<usize>>);

impl Default for Tasks {
    fn default() -> Tasks {
        Tasks(Arc::new(watch::Sender::new(0)))
    }
}

impl Tasks {
    /// Counts one until what this gives is dropped.
    pub(crate) fn enter(&self) -> Task {
        self.0.send_modify(|n| *n += 1);
        Task(self.clone())
    }

    /// Ready once none is left.
    pub(crate) async fn all_ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|n| *n == 0).await;
    }
}

/// One task that is counted.
#[derive(Debug)]
pub(crate) struct Task(Tasks);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.0.send_modify(|n| *n -= 1);
    }
}

/// Makes the data directory, open to its owner only.
fn make_private_dir(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

fn lock(data: &Path) -> Result<std::fs::File, StartError> {
    let path = data.join("lock");
    let io = |source| StartError::Io { path: path.display().to_string(), source };
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(StartError::InUse { path: data.display().to_string() })
        }
        Err(std::fs::TryLockError::Error(error)) => Err(io(error)),
    }
}

/// The token that whoever starts a relay for the first time is given.
fn first_token(tokens: &Tokens) -> Result<String, KeyError> {
    let now_s = clock::now_s();
    let order = Order {
        subject: "admin".to_string(),
        audience: Audience::new("*").into_iter().collect(),
        scope: vec!["admin".to_string()],
        expires_s: now_s + FIRST_TOKEN_LIFE_S,
    };
    Ok(tokens.make(&order, now_s)?.token)
}
