//! The embedded backend: one SQLite database in a relay's data directory.
//!
//! One thread writes, with group commit ([`queue`]); questions run beside it on connections
//! of their own, at most [`MAX_READERS`] at a time. WAL with `synchronous=FULL`: what was
//! answered survives a power cut.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_core::clock::Chain;
use anabranch_core::forest::Reading;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{
    Answer, BlobNames, BlobRoom, Catalog, Delivered, DeltaLog, Incoming, Listed, LooseFile,
    Observer, Pending, Remembered, Revoked, StagedDelta, StagedPart, StorageError, StoreFacts,
    StoredDelta, Wanted,
};
use crate::blobs::BlobHash;
use crate::limits::MAX_READERS;
use crate::store_id::StoreId;

mod forks;
mod known;
mod ledger;
mod named;
mod queue;
mod read;
mod rows;
mod schema;
mod staging;
mod unwritten;

pub(crate) use schema::Place;

/// A relay's database.
#[derive(Debug)]
pub(crate) struct SqliteStorage {
    // Dropped first: the last connection to close moves the log into the database, and those
    // that read cannot.
    readers: Arc<Readers>,
    queue: queue::Queue,
}

#[derive(Debug)]
struct Readers {
    place: Place,
    /// Whether questions are answered on the thread that asks.
    is_stepped: bool,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

impl SqliteStorage {
    /// Opens the database, making it if there is none, and starts the thread that writes.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(crate) fn open(
        place: Place,
        observer: Arc<dyn Observer>,
    ) -> Result<SqliteStorage, StorageError> {
        let ledger = ledger::Ledger::new(schema::open_writer(&place)?, observer)?;
        Ok(SqliteStorage {
            readers: Arc::new(Readers::new(place, false)),
            queue: queue::Queue::start(ledger)?,
        })
    }

    /// As [`SqliteStorage::open`], without threads: [`SqliteStorage::step`] writes, and
    /// questions are answered at once.
    ///
    /// # Errors
    /// [`StorageError`].
    #[cfg(feature = "testing")]
    pub(crate) fn open_stepped(
        place: Place,
        observer: Arc<dyn Observer>,
    ) -> Result<SqliteStorage, StorageError> {
        let ledger = ledger::Ledger::new(schema::open_writer(&place)?, observer)?;
        Ok(SqliteStorage {
            readers: Arc::new(Readers::new(place, true)),
            queue: queue::Queue::stepped(ledger),
        })
    }

    /// Writes what waits, in one transaction; whether anything waited.
    #[cfg(feature = "testing")]
    pub(crate) fn step(&self) -> bool {
        self.queue.step()
    }

    /// Transactions committed since the start.
    pub(crate) fn n_commits(&self) -> u64 {
        self.queue.n_commits()
    }

    /// Asks the database on a thread that may wait.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> Result<T, StorageError> + Send + 'static,
    ) -> Pending<'_, T> {
        let readers = Arc::clone(&self.readers);
        if readers.is_stepped {
            return Box::pin(async move { readers.ask(question) });
        }
        Box::pin(async move {
            let turn = Arc::clone(&readers.turns).acquire_owned().await;
            let turn = turn.map_err(|_| StorageError::Stopping)?;
            let asked = tokio::task::spawn_blocking(move || {
                let answer = readers.ask(question);
                drop(turn);
                answer
            });
            asked.await.map_err(|_| StorageError::Stopping)?
        })
    }
}

impl Readers {
    fn new(place: Place, is_stepped: bool) -> Readers {
        let turns = Arc::new(Semaphore::new(MAX_READERS));
        Readers { place, is_stepped, idle: Mutex::default(), turns }
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(&mut Connection) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut db = self.take()?;
        let answer = question(&mut db);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
        answer
    }

    fn take(&self) -> Result<Connection, StorageError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::open_reader(&self.place), Ok)
    }
}

impl DeltaLog for SqliteStorage {
    fn append(&self, incoming: Incoming, answer: Answer) -> Option<Pending<'static, ()>> {
        if let Err(error) = incoming.outline.newest.check_ahead(incoming.now_ms) {
            answer(Err(error.into())).inspect(|who| who.notify_one());
            return None;
        }
        self.queue.append(incoming, answer)
    }

    fn reserve(&self, store: &StoreId, file: LooseFile) -> Pending<'static, ()> {
        let store = store.clone();
        self.queue.submit(move |ledger| {
            ledger.flush(&store)?;
            staging::reserve(ledger.db(), &store, &file)
        })
    }

    fn stage(&self, store: &StoreId, part: StagedPart) -> Pending<'static, ()> {
        let store = store.clone();
        self.queue.submit(move |ledger| staging::stage(ledger.db(), &store, &part))
    }

    fn staged(&self, store: &StoreId) -> Pending<'_, Vec<StagedDelta>> {
        let store = store.clone();
        self.ask(move |db| staging::staged(db, &store))
    }

    fn unstage(&self, before_ms: u64) -> Pending<'_, ()> {
        self.queue.submit(move |ledger| {
            staging::expire(ledger.db(), before_ms)?;
            named::expire(ledger.db(), before_ms)
        })
    }

    fn vector(&self, store: &StoreId) -> Pending<'_, VersionVector> {
        let store = store.clone();
        self.ask(move |db| read::vector(db, &store))
    }

    fn deltas(&self, store: &StoreId, wanted: Wanted) -> Pending<'_, Vec<StoredDelta>> {
        let store = store.clone();
        self.ask(move |db| read::deltas(db, &store, &wanted))
    }

    fn chains(
        &self,
        store: &StoreId,
        site: SiteId,
        versions: Vec<u64>,
    ) -> Pending<'_, Vec<(u64, Chain)>> {
        let store = store.clone();
        self.ask(move |db| read::chains(db, &store, site, &versions))
    }

    fn read(&self, store: &StoreId, theirs: Arc<VersionVector>) -> Pending<'_, Reading> {
        let store = store.clone();
        self.ask(move |db| forks::read(db, &store, &theirs))
    }

    fn list(&self, store: &StoreId) -> Pending<'_, Vec<Listed>> {
        let store = store.clone();
        self.ask(move |db| read::list(db, &store))
    }

    fn replace(
        &self,
        store: &StoreId,
        first: u64,
        joined: StoredDelta,
        n_joined: u64,
    ) -> Pending<'_, bool> {
        let store = store.clone();
        self.queue.submit(move |ledger| ledger.replace(&store, first, &joined, n_joined))
    }
}

impl Catalog for SqliteStorage {
    fn stores(&self, after: Option<StoreId>, limit: u32) -> Pending<'_, Vec<StoreFacts>> {
        self.ask(move |db| read::stores(db, after.as_ref(), limit))
    }

    fn facts(&self, store: &StoreId) -> Pending<'_, Option<StoreFacts>> {
        let store = store.clone();
        self.ask(move |db| read::facts(db, &store))
    }

    fn deliverers(&self, store: &StoreId) -> Pending<'_, Vec<Delivered>> {
        let store = store.clone();
        self.ask(move |db| read::deliverers(db, &store))
    }

    fn claim(&self, store: &StoreId, site: SiteId, subject: Arc<str>) -> Pending<'_, ()> {
        let store = store.clone();
        let now_ms = anabranch_clock::now_ms();
        self.queue.submit(move |ledger| ledger.claim(&store, site, &subject, now_ms))
    }

    fn delete(&self, store: &StoreId) -> Pending<'_, bool> {
        let store = store.clone();
        self.queue.submit(move |ledger| ledger.delete(&store))
    }

    fn revoke(&self, revoked: Revoked) -> Pending<'_, ()> {
        self.queue.submit(move |ledger| {
            ledger.db().execute(
                "INSERT INTO revoked(kind, name, until_s) VALUES(?1, ?2, ?3) ON CONFLICT DO \
                 UPDATE SET until_s = max(until_s, excluded.until_s)",
                (revoked.kind as i64, revoked.name, revoked.until_s as i64),
            )?;
            Ok(())
        })
    }

    fn revoked(&self) -> Pending<'_, Vec<Revoked>> {
        self.ask(|db| read::revoked(db))
    }

    fn remember(&self, store: &StoreId, place: Remembered) -> Pending<'static, ()> {
        let store = store.clone();
        self.queue.submit(move |ledger| known::remember(ledger.db(), &store, &place))
    }

    fn remembered(&self, store: &StoreId) -> Pending<'_, Vec<Remembered>> {
        let store = store.clone();
        self.ask(move |db| known::remembered(db, &store))
    }
}

impl BlobNames for SqliteStorage {
    fn make_room(&self, store: &StoreId, room: BlobRoom) -> Pending<'static, ()> {
        let store = store.clone();
        self.queue.submit(move |ledger| named::make_room(ledger.db(), &store, &room))
    }

    fn came(&self, store: &StoreId, blob: BlobHash) -> Pending<'static, ()> {
        let store = store.clone();
        self.queue.submit(move |ledger| named::came(ledger.db(), &store, blob))
    }

    fn missing(&self, store: &StoreId) -> Pending<'_, Vec<BlobHash>> {
        let store = store.clone();
        self.ask(move |db| named::missing(db, &store))
    }

    fn to_be_swept(&self) -> Pending<'_, Vec<StoreId>> {
        self.ask(|db| named::to_be_swept(db))
    }

    fn named(&self, store: &StoreId) -> Pending<'_, HashSet<BlobHash>> {
        let store = store.clone();
        self.ask(move |db| named::all(db, &store))
    }

    fn fade(
        &self,
        store: &StoreId,
        named: HashSet<BlobHash>,
        now_ms: u64,
    ) -> Pending<'static, u64> {
        let store = store.clone();
        self.queue.submit(move |ledger| named::fade(ledger.db(), &store, &named, now_ms))
    }

    fn unnamed(&self, blobs: Vec<BlobHash>) -> Pending<'_, Vec<BlobHash>> {
        self.ask(move |db| read::unnamed(db, blobs))
    }

    fn names(&self, store: &StoreId, blob: BlobHash) -> Pending<'_, bool> {
        let store = store.clone();
        self.ask(move |db| named::names(db, &store, blob))
    }
}

#[cfg(test)]
mod tests;
