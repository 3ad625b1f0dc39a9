//! Stores that somebody is connected to: what they hold, what was committed last, and who
//! must be told.
//!
//! Fan-out is a short log, not a queue for each reader: a committed delta is appended to
//! its store's ring once, and each reader follows at its own pace by position. One that falls
//! behind the ring's end reads from disk. So a slow reader costs nothing, and memory follows
//! the stores that are open; the last reader that leaves closes its store.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, VersionVector};
use anabranch_sync::frame::{Ack, Participant, Place, Reach, Receipt, Role};
use anabranch_sync::{ReceiptBook, Time};
use tokio::sync::Notify;

use crate::limits::{MAX_RING_BYTES, MAX_RING_DELTAS};
use crate::relay::Relay;
use crate::storage::{Appended, Body, Observer, Remembered, StorageError, StoredDelta};
use crate::store_id::StoreId;

/// All open stores.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    open: Mutex<HashMap<StoreId, Weak<OpenStore>>>,
    /// Those in which something was committed and nobody was woken for it yet.
    touched: Mutex<Vec<Arc<OpenStore>>>,
}

/// A store with at least one connection.
#[derive(Debug)]
pub(crate) struct OpenStore {
    name: StoreId,
    hub: Weak<Hub>,
    state: Mutex<State>,
    readers: Mutex<HashMap<u64, Reader>>,
    receipts: Mutex<ReceiptBook>,
    /// Whether what was kept of them was asked for.
    is_recalled: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// What is on disk: all that was committed since the store was opened, and what was read
    /// then.
    vector: Arc<VersionVector>,
    /// The last deltas, ascending by id.
    ring: VecDeque<Arc<StoredDelta>>,
    n_ring_bytes: u64,
    /// Every delta of the store after this id is in the ring; `None` until one came.
    complete_after: Option<u64>,
    /// How often names have changed since it was opened.
    n_renamings: u64,
    /// What that was first. Who entered before one came has read all up to there from disk.
    began_after: u64,
    /// The store was deleted: whoever is here must leave.
    is_gone: bool,
    next_reader: u64,
}

/// A channel that follows the store.
#[derive(Debug)]
struct Reader {
    wake: Arc<Wake>,
    channel: u32,
}

/// How a connection is told that something happened in its stores.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    notify: Arc<Notify>,
    news: Mutex<News>,
}

/// What happened since a connection looked last.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Commits of what this connection brought, in order.
    pub(crate) ended: Vec<Ended>,
    /// Channels whose store has something.
    pub(crate) channels: BTreeSet<u32>,
    /// What others on these stores show: channel, who, what.
    pub(crate) presence: VecDeque<Shown>,
}

/// A commit that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Of what this channel brought.
    pub(crate) channel: u32,
    /// Which of its deltas.
    pub(crate) slot: u64,
    /// How.
    pub(crate) appended: Result<Appended, StorageError>,
}

/// One participant's presence, on its way to others.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// The channel of who is told.
    pub(crate) channel: u32,
    /// Who.
    pub(crate) who: Participant,
    /// What; `None`: has left.
    pub(crate) state: Option<bytes::Bytes>,
}

/// What a reader finds in the ring.
#[derive(Debug)]
pub(crate) enum Next {
    /// These deltas; none: wait for newer ones.
    Deltas(Vec<Arc<StoredDelta>>),
    /// It is further behind than the ring reaches: all up to this id is on disk.
    Behind(u64),
    /// The store was deleted.
    Gone,
}

impl Hub {
    /// The open store of this name, opened if need be.
    pub(crate) fn open(self: &Arc<Hub>, name: &StoreId) -> Arc<OpenStore> {
        let mut open = lock(&self.open);
        if let Some(store) = open.get(name).and_then(Weak::upgrade) {
            return store;
        }
        let store = Arc::new(OpenStore {
            name: name.clone(),
            hub: Arc::downgrade(self),
            state: Mutex::default(),
            readers: Mutex::default(),
            receipts: Mutex::default(),
            is_recalled: AtomicBool::new(false),
        });
        open.insert(name.clone(), Arc::downgrade(&store));
        store
    }

    /// Tells everybody on a store that it was deleted.
    pub(crate) fn evict(&self, name: &StoreId) {
        let store = lock(&self.open).remove(name).and_then(|store| store.upgrade());
        if let Some(store) = store {
            lock(&store.state).is_gone = true;
            store.wake_all();
        }
    }

    /// How many stores are open.
    pub(crate) fn n_open(&self) -> usize {
        lock(&self.open).len()
    }
}

impl Observer for Hub {
    fn renamed(&self, store: &StoreId, vector: VersionVector) {
        let open = lock(&self.open).get(store).and_then(Weak::upgrade);
        if let Some(open) = open {
            open.rename(vector);
            open.wake_all();
        }
    }

    fn committed(&self, store: &StoreId, deltas: Vec<Arc<StoredDelta>>) {
        let open = lock(&self.open).get(store).and_then(Weak::upgrade);
        if let Some(open) = open {
            open.push(deltas);
            lock(&self.touched).push(open);
        }
    }

    fn announce(&self) {
        let touched = std::mem::take(&mut *lock(&self.touched));
        touched.iter().for_each(|store| store.wake_all());
    }
}

impl OpenStore {
    /// Its name.
    pub(crate) fn name(&self) -> &StoreId {
        &self.name
    }

    /// Follows the store until the seat is dropped; `None` if `limit` do already. What is read
    /// from disk from then on has all deltas up to [`Seat::position`].
    pub(crate) fn enter(
        self: &Arc<OpenStore>,
        wake: &Arc<Wake>,
        channel: u32,
        limit: u64,
    ) -> Option<Seat> {
        let mut readers = lock(&self.readers);
        if readers.len() as u64 >= limit {
            return None;
        }
        let mut state = lock(&self.state);
        let number = state.next_reader;
        state.next_reader += 1;
        let position = state.ring.back().map(|delta| delta.id).or(state.complete_after);
        drop(state);
        readers.insert(number, Reader { wake: Arc::clone(wake), channel });
        Some(Seat { store: Arc::clone(self), number, position: position.unwrap_or(0) })
    }

    /// How often names have changed.
    pub(crate) fn n_renamings(&self) -> u64 {
        lock(&self.state).n_renamings
    }

    /// Adds what was read from disk to what is known to be there; `None` if names have changed
    /// since there were `n_renamings`.
    pub(crate) fn loaded(
        &self,
        n_renamings: u64,
        vector: &VersionVector,
    ) -> Option<Arc<VersionVector>> {
        let mut state = lock(&self.state);
        if state.n_renamings != n_renamings {
            return None;
        }
        if !vector.is_at_or_below(&state.vector) {
            Arc::make_mut(&mut state.vector).join(vector);
        }
        Some(Arc::clone(&state.vector))
    }

    /// Names have changed: all that is on disk is this. What is in memory has the old names.
    fn rename(&self, vector: VersionVector) {
        let mut state = lock(&self.state);
        state.vector = Arc::new(vector);
        state.n_renamings += 1;
        state.ring.clear();
        state.n_ring_bytes = 0;
        state.complete_after = None;
    }

    /// What is on disk.
    pub(crate) fn vector(&self) -> Arc<VersionVector> {
        Arc::clone(&lock(&self.state).vector)
    }

    /// What there is after `position`.
    pub(crate) fn next(&self, position: u64) -> Next {
        let state = lock(&self.state);
        if state.is_gone {
            return Next::Gone;
        }
        let position = position.max(state.began_after);
        match state.complete_after {
            None => return Next::Deltas(Vec::new()),
            Some(first) if position < first => return Next::Behind(first),
            Some(_) => {}
        }
        let at = state.ring.partition_point(|delta| delta.id <= position);
        Next::Deltas(state.ring.range(at..).cloned().collect())
    }

    /// The first delta after `after` that `held` lacks, and up to where there is none; `None`
    /// where the ring does not reach back to `after`.
    pub(crate) fn lacking(
        &self,
        after: u64,
        held: &VersionVector,
    ) -> Option<(Option<Arc<StoredDelta>>, u64)> {
        let state = lock(&self.state);
        if state.complete_after? > after {
            return None;
        }
        let at = state.ring.partition_point(|delta| delta.id <= after);
        let found = state.ring.range(at..).find(|delta| !delta.is_covered_by(held));
        let passed = found.or(state.ring.back()).map_or(after, |delta| delta.id.max(after));
        Some((found.map(Arc::clone), passed))
    }

    /// Notes how far a peer says to be.
    pub(crate) fn note_receipt(&self, now: Time, site: SiteId, role: Role, ack: &Ack) {
        lock(&self.receipts).note(now, site, role, ack);
    }

    /// Whether what was kept of receipts is to be recalled: once.
    pub(crate) fn must_recall(&self) -> bool {
        !self.is_recalled.swap(true, Ordering::Relaxed)
    }

    /// Takes back what was kept of receipts.
    pub(crate) fn recall(&self, now: Time, places: &[Remembered]) {
        let mut book = lock(&self.receipts);
        for Remembered { site, bytes, .. } in places {
            if let Err(error) = book.recall(now, *site, bytes) {
                tracing::warn!(store = %self.name, %site, %error, "receipts not recalled");
            }
        }
    }

    /// What is to be kept of what a place has said.
    pub(crate) fn remember(&self, site: SiteId) -> Option<Vec<u8>> {
        lock(&self.receipts).remember(site)
    }

    /// The newest changes of a site that some copy holds and does not show.
    pub(crate) fn held_of(&self, site: SiteId) -> Vec<Dot> {
        lock(&self.receipts).held_of(site)
    }

    /// How far changes got: on the relay's own disk, and as its peers have said.
    pub(crate) fn receipts(&self, relay: &Relay, changes: &[Dot]) -> Vec<Receipt> {
        let vector = self.vector();
        let book = lock(&self.receipts);
        let receipt = |change: &Dot| {
            let mut receipt = book.receipt(*change);
            if vector.covers(*change) {
                let (site, role) = (relay.site(), Role::Relay);
                receipt.places.insert(0, Place { site, role, reach: Reach::Held });
            }
            receipt
        };
        changes.iter().map(receipt).collect()
    }

    /// Shows a participant to all others.
    pub(crate) fn show(&self, by: &Seat, shown: &Shown) {
        for (number, reader) in lock(&self.readers).iter() {
            if *number != by.number {
                reader.wake.show(Shown { channel: reader.channel, ..shown.clone() });
            }
        }
    }

    fn push(&self, deltas: Vec<Arc<StoredDelta>>) {
        let mut state = lock(&self.state);
        let State { vector, ring, n_ring_bytes, complete_after, began_after, .. } = &mut *state;
        let vector = Arc::make_mut(vector);
        for delta in deltas {
            vector.join(&delta.to());
            if complete_after.is_none() {
                *began_after = delta.id - 1;
                *complete_after = Some(delta.id - 1);
            }
            *n_ring_bytes += in_memory(&delta);
            ring.push_back(delta);
        }
        while ring.len() > MAX_RING_DELTAS || *n_ring_bytes > MAX_RING_BYTES {
            let Some(oldest) = ring.pop_front() else { break };
            *n_ring_bytes -= in_memory(&oldest);
            *complete_after = Some(oldest.id);
        }
    }

    fn wake_all(&self) {
        lock(&self.readers).values().for_each(|reader| reader.wake.touch(reader.channel));
    }
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade() else { return };
        let mut open = lock(&hub.open);
        // Another one may have been opened under this name meanwhile.
        if open.get(&self.name).is_some_and(|store| store.strong_count() == 0) {
            open.remove(&self.name);
        }
    }
}

/// A channel's place among those who follow a store.
#[derive(Debug)]
pub(crate) struct Seat {
    store: Arc<OpenStore>,
    number: u64,
    position: u64,
}

impl Seat {
    /// The store.
    pub(crate) fn store(&self) -> &Arc<OpenStore> {
        &self.store
    }

    /// Where to go on with [`OpenStore::next`].
    pub(crate) fn position(&self) -> u64 {
        self.position
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.store.readers).remove(&self.number);
    }
}

impl Wake {
    /// Ready once there is news.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Takes the news.
    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut lock(&self.news))
    }

    /// Keeps how a commit ended; who is to be woken for it.
    pub(crate) fn end(&self, ended: Ended) -> Option<Arc<Notify>> {
        let mut news = lock(&self.news);
        news.ended.push(ended);
        (news.ended.len() == 1).then(|| Arc::clone(&self.notify))
    }

    /// Says that a channel must look at its store.
    pub(crate) fn touch(&self, channel: u32) {
        let is_new = lock(&self.news).channels.insert(channel);
        if is_new {
            self.notify.notify_one();
        }
    }

    /// What does not fit is dropped: it will be shown again, or not be true any more.
    fn show(&self, shown: Shown) {
        let mut news = lock(&self.news);
        if news.presence.len() < crate::limits::MAX_WAITING_PRESENCE {
            news.presence.push_back(shown);
            drop(news);
            self.notify.notify_one();
        }
    }
}

/// Bytes that a delta keeps in memory.
fn in_memory(delta: &StoredDelta) -> u64 {
    let body = match &delta.body {
        Body::Inline(part) => part.len(),
        Body::Blobs(parts) => 40 * parts.len(),
    };
    let from = delta.live.as_ref().map_or(0, |live| live.from.len() + live.to.len());
    (body + 64 * (from + delta.spans.len()) + 256) as u64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left no half-made change: each is one push or insert.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
