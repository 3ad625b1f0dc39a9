//! One channel's side of the storage: answers what the session asks, in its order, and tells
//! it what others brought.
//!
//! Reads run one at a time; parts of deltas are checked one at a time, while the commits of
//! those before are still under way. So a client that sends many small deltas shares commits
//! with itself, and one that asks much waits for itself only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use anabranch_core::forest::Reading;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_sync::frame::{Delta, DeltaName, ErrorCode, Partial, Participant, Retry};
use anabranch_sync::{Refusal, Request, StoreEvent, Time};
use bytes::Bytes;

use super::work::{Job, Outcome, Took};
use super::{blobs, refusal};
use crate::absent::Absent;
use crate::blobs::BlobHash;
use crate::hub::{Ended, Next, OpenStore, Seat, Shown, Wake};
use crate::intake::Intake;
use crate::relay::Relay;
use crate::storage::{Answer, Appended, DeltaSize, Live, StorageError, StoredDelta};
use crate::token::Grant;

/// See the module.
pub(super) struct Lane {
    /// Tells apart lanes of one channel number, one after another.
    pub(super) serial: u32,
    pub(super) grant: Grant,
    seat: Option<Seat>,
    /// Questions that wait; `is_reading` while one is being answered.
    reads: VecDeque<Request>,
    is_reading: bool,
    /// Parts that wait; without `intake` while one is being checked.
    takes: VecDeque<Delta>,
    /// Of which delta that part is: it may be committed before it is known here to be checked.
    taking: Option<DeltaName>,
    intake: Option<Intake>,
    /// Deltas that are being committed, in order.
    commits: VecDeque<Commit>,
    n_commits_told: u64,
    /// Deltas of several parts that the peer is being sent.
    exported: BTreeMap<DeltaName, Arc<StoredDelta>>,
    /// All deltas up to this id are covered by the vector that was exported last.
    export: ExportPosition,
    /// All deltas up to this id were told to the session.
    told: u64,
    /// So were so many changes of names.
    n_renamings: u64,
    /// Who is shown to others through this channel.
    present: BTreeSet<Participant>,
    /// Blobs that the peer is asked for, and whether there is room for them.
    pub(super) wanted: BTreeMap<BlobHash, bool>,
    /// Blobs that it did not bring.
    pub(super) absent: Arc<Absent>,
    /// The copy at the other end.
    pub(super) peer: Option<SiteId>,
    /// Since when what the peer has said to have is not written down.
    pub(super) unsaved: Option<Time>,
    /// Whether the peer waits for a Have: a delta was refused until its blobs have come.
    pub(super) owes_have: bool,
}

/// A delta that was handed over.
struct Commit {
    delta: DeltaName,
    ends: Ends,
}

/// How it ends.
enum Ends {
    /// That is not known yet: where it leads then, and what it brings.
    Later(Arc<VersionVector>, DeltaSize),
    /// It is on disk, and leads here.
    Stored(Arc<VersionVector>),
    /// Otherwise.
    Other(Vec<StoreEvent>),
}

#[derive(Default)]
struct ExportPosition {
    above: VersionVector,
    after: Option<u64>,
}

impl Lane {
    pub(super) fn new(serial: u32, grant: Grant) -> Lane {
        Lane {
            serial,
            grant,
            seat: None,
            reads: VecDeque::new(),
            is_reading: false,
            takes: VecDeque::new(),
            taking: None,
            intake: None,
            commits: VecDeque::new(),
            n_commits_told: 0,
            exported: BTreeMap::new(),
            export: ExportPosition::default(),
            told: 0,
            n_renamings: 0,
            present: BTreeSet::new(),
            wanted: BTreeMap::new(),
            absent: Arc::default(),
            peer: None,
            unsaved: None,
            owes_have: false,
        }
    }

    /// The store, once it is open.
    pub(super) fn store(&self) -> Option<&Arc<OpenStore>> {
        self.seat.as_ref().map(Seat::store)
    }

    /// Shows somebody to all others on the store; bounded by what the session lets through.
    pub(super) fn show(&mut self, who: Participant, state: Option<Bytes>) {
        match &state {
            Some(_) => self.present.insert(who),
            None => self.present.remove(&who),
        };
        if let Some(seat) = &self.seat {
            seat.store().show(seat, &Shown { channel: 0, who, state });
        }
    }

    /// The store is open.
    pub(super) fn opened(&mut self, relay: &Relay, seat: Seat, n_renamings: u64) {
        self.n_renamings = n_renamings;
        let intake = Intake::new(relay, seat.store().name().clone(), &self.grant);
        self.intake = Some(intake.waiting_for_blobs(Arc::clone(&self.absent)));
        self.told = seat.position();
        self.seat = Some(seat);
    }

    /// Queues a question; what can be begun.
    pub(super) fn ask(&mut self, relay: &Arc<Relay>, request: Request) -> Option<Job> {
        self.reads.push_back(request);
        self.next_read(relay)
    }

    /// Queues a part; what can be begun. How its delta ends is told to `wake`.
    pub(super) fn take(
        &mut self,
        relay: &Arc<Relay>,
        wake: &Arc<Wake>,
        part: Delta,
    ) -> Option<Job> {
        self.takes.push_back(part);
        self.next_take(relay, wake)
    }

    /// The peer needs this delta no more.
    pub(super) fn forget(&mut self, delta: DeltaName) {
        self.exported.remove(&delta);
    }

    /// A question was answered.
    pub(super) fn read(&mut self, event: StoreEvent, exported: Option<Exported>) -> StoreEvent {
        self.is_reading = false;
        if let Some(exported) = exported {
            self.export = ExportPosition { above: exported.above, after: exported.after };
            if let Some(delta) = exported.delta.filter(|delta| delta.body.n_parts() > 1) {
                self.exported.insert(DeltaName(delta.name), delta);
            }
        }
        event
    }

    /// A part was checked: what is known at once.
    pub(super) fn took(
        &mut self,
        delta: DeltaName,
        intake: Intake,
        took: Result<Took, StorageError>,
    ) -> Vec<StoreEvent> {
        (self.intake, self.taking) = (Some(intake), None);
        let ends = match took {
            Ok(Took::Delta { to, size }) => Ends::Later(to, size),
            Ok(Took::Part) => Ends::Other(vec![StoreEvent::Staged { delta }]),
            Err(error) => Ends::Other(self.refuse(delta, &error)),
        };
        self.commits.push_back(Commit { delta, ends });
        self.tell()
    }

    /// Commits have ended: what the session may hear now, in order.
    pub(super) fn committed(
        &mut self,
        relay: &Relay,
        ended: impl IntoIterator<Item = (u64, Result<Appended, StorageError>)>,
    ) -> Vec<StoreEvent> {
        for (slot, appended) in ended {
            self.end(relay, slot, appended);
        }
        let mut events = self.tell();
        // Before anything is acknowledged by names that the peer has not heard.
        events.extend(self.renamed());
        events
    }

    fn end(&mut self, relay: &Relay, slot: u64, appended: Result<Appended, StorageError>) {
        let at = slot.checked_sub(self.n_commits_told).map(|at| at as usize);
        let commit = at.and_then(|at| self.commits.get(at));
        let Some(Commit { delta, ends: Ends::Later(to, size) }) = commit else { return };
        if let Some(store) = self.store() {
            relay.note_appended(&appended, (store.name(), &self.grant.subject), *size);
        }
        let ends = match &appended {
            Ok(appended) => Ends::Stored(Arc::clone(appended.to().unwrap_or(to))),
            Err(error) => Ends::Other(self.refuse(*delta, error)),
        };
        if let Some(commit) = at.and_then(|at| self.commits.get_mut(at)) {
            commit.ends = ends;
        }
    }

    /// The answer to a delta that was refused. Another channel may have brought the same one
    /// meanwhile, and its commit was taken for this one's.
    fn refuse(&self, delta: DeltaName, error: &StorageError) -> Vec<StoreEvent> {
        let stored = self.store().map(|store| {
            let vector = store.vector();
            let (from, to) = (Arc::clone(&vector), vector);
            StoreEvent::Committed { from, to, part: None }
        });
        stored.into_iter().chain([refused(delta, error)]).collect()
    }

    /// Whether something is known, or about to be, that the peer was not told.
    pub(super) fn has_untold(&self) -> bool {
        !self.commits.is_empty()
    }

    /// Goes on with parts that wait.
    pub(super) fn next_take(&mut self, relay: &Arc<Relay>, wake: &Arc<Wake>) -> Option<Job> {
        let mut intake = self.intake.take()?;
        let Some(part) = self.takes.pop_front() else {
            self.intake = Some(intake);
            return None;
        };
        let (serial, relay, delta) = (self.serial, Arc::clone(relay), part.name());
        self.taking = Some(delta);
        let (wake, slot) = (Arc::clone(wake), self.n_commits_told + self.commits.len() as u64);
        let answer: Answer =
            Box::new(move |appended| wake.end(Ended { channel: serial, slot, appended }));
        Some(Box::pin(async move {
            let took = intake.take(&relay, part.into_part(), answer).await;
            Outcome::Took { serial, delta, intake, took }
        }))
    }

    /// Goes on with questions that wait.
    pub(super) fn next_read(&mut self, relay: &Arc<Relay>) -> Option<Job> {
        if self.is_reading {
            return None;
        }
        let store = Arc::clone(self.store()?);
        let request = self.reads.pop_front()?;
        self.is_reading = true;
        let (serial, relay) = (self.serial, Arc::clone(relay));
        match request {
            Request::Export { above, partial, .. } => {
                let after = self.export_after(&above);
                Some(Box::pin(async move {
                    let answer = export(&relay, &store, above, after, partial).await;
                    let (event, exported) = answer.unwrap_or_else(|error| (failed(&error), None));
                    Outcome::Read { serial, event: Box::new(event), exported }
                }))
            }
            Request::ReadPart { delta, number, .. } => {
                let found = self.exported.get(&delta).map(Arc::clone);
                Some(Box::pin(async move {
                    let event = read_part(&relay, found, number).await;
                    let event = event.unwrap_or_else(|error| failed(&error));
                    Outcome::Read { serial, event: Box::new(event), exported: None }
                }))
            }
            Request::Read { theirs, .. } => Some(Box::pin(async move {
                let read = relay.storage().read(store.name(), theirs).await;
                let event = StoreEvent::Read(read.unwrap_or_else(|error| {
                    // Nothing is known to be common: what is sent for it is taken by nobody.
                    tracing::warn!(%error, "a vector cannot be read");
                    Reading::default()
                }));
                Outcome::Read { serial, event: Box::new(event), exported: None }
            })),
            Request::Chains { question, asked, .. } => Some(Box::pin(async move {
                let chains = chains(&relay, &store, &asked).await;
                let event = StoreEvent::Chains { question, chains };
                Outcome::Read { serial, event: Box::new(event), exported: None }
            })),
            Request::ReadChunk { blob, index, .. } => Some(Box::pin(async move {
                let event = blobs::read_chunk(&relay, store.name(), blob, index).await;
                Outcome::Read { serial, event: Box::new(event), exported: None }
            })),
            Request::StoreChunk { blob, chunk, .. } => {
                let room = self.wanted.get_mut(&BlobHash(blob.0));
                let has_room = room.is_some_and(|room| std::mem::replace(room, true));
                Some(Box::pin(async move {
                    let name = store.name();
                    let event = blobs::store_chunk(&relay, name, blob, chunk, has_room).await;
                    Outcome::Read { serial, event: Box::new(event), exported: None }
                }))
            }
            _ => {
                self.is_reading = false;
                None
            }
        }
    }

    /// Where to go on: what was covered by less is covered by more.
    fn export_after(&self, above: &VersionVector) -> Option<u64> {
        let has_grown = self.export.above.is_at_or_below(above);
        self.export.after.filter(|_| has_grown)
    }

    /// What others brought since this was asked last.
    pub(super) fn news(&mut self) -> Vec<StoreEvent> {
        let Some(store) = self.store().map(Arc::clone) else { return Vec::new() };
        let is_own = |lane: &Lane, name: DeltaName| {
            lane.taking == Some(name) || lane.commits.iter().any(|commit| commit.delta == name)
        };
        let mut events: Vec<StoreEvent> = self.renamed().into_iter().collect();
        loop {
            match store.next(self.told) {
                Next::Gone => {
                    events.push(StoreEvent::OpenFailed(refusal::store_deleted()));
                    return events;
                }
                Next::Behind(first) => {
                    self.told = first;
                    let vector = store.vector();
                    let (from, to) = (Arc::clone(&vector), vector);
                    events.push(StoreEvent::Committed { from, to, part: None });
                }
                Next::Deltas(deltas) => {
                    self.told = deltas.last().map_or(self.told, |delta| delta.id);
                    // Of what this channel brought it hears when the commit has ended.
                    let others = deltas.iter().filter(|delta| !is_own(self, DeltaName(delta.name)));
                    events.extend(others.map(|delta| committed(delta)));
                    return events;
                }
            }
        }
    }

    /// Whether names have changed since this was asked last.
    fn renamed(&mut self) -> Option<StoreEvent> {
        let store = Arc::clone(self.store()?);
        let n_renamings = store.n_renamings();
        if self.n_renamings == n_renamings {
            return None;
        }
        self.n_renamings = n_renamings;
        self.export = ExportPosition::default();
        Some(StoreEvent::Replaced { vector: store.vector() })
    }

    /// Tells what is known, in order; that it is safe once for all.
    fn tell(&mut self) -> Vec<StoreEvent> {
        let (mut events, mut is_stored) = (Vec::new(), false);
        while let Some(Commit { delta, ends }) =
            self.commits.pop_front_if(|commit| !matches!(commit.ends, Ends::Later(..)))
        {
            self.n_commits_told += 1;
            match ends {
                Ends::Stored(to) => {
                    is_stored = true;
                    events.push(StoreEvent::Applied { delta, to, held: Vec::new() });
                }
                Ends::Other(told) => events.extend(told),
                Ends::Later(..) => {}
            }
        }
        if let Some(store) = self.store().filter(|_| is_stored) {
            events.push(StoreEvent::Durable { replicas: 0, vector: store.vector() });
        }
        events
    }
}

impl Drop for Lane {
    /// Whoever was shown through this channel has left with it.
    fn drop(&mut self) {
        for who in std::mem::take(&mut self.present) {
            self.show(who, None);
        }
    }
}

/// Where an export ended.
pub(super) struct Exported {
    above: VersionVector,
    after: Option<u64>,
    delta: Option<Arc<StoredDelta>>,
}

/// A committed delta, as the session hears of it.
fn committed(delta: &StoredDelta) -> StoreEvent {
    match &delta.live {
        Some(Live { from, to, part }) => {
            let (from, to, part) = (Arc::clone(from), Arc::clone(to), part.clone());
            StoreEvent::Committed { from, to, part }
        }
        None => {
            let to = delta.to();
            StoreEvent::Committed { from: Arc::clone(&to), to, part: None }
        }
    }
}

/// The next delta that `above` does not cover, with the part to begin with.
async fn export(
    relay: &Arc<Relay>,
    store: &OpenStore,
    above: VersionVector,
    after: Option<u64>,
    partial: Option<Partial>,
) -> Result<(StoreEvent, Option<Exported>), StorageError> {
    let above = Arc::new(above);
    let (delta, passed) = relay.next_lacking(store, &above, after).await?;
    let Some(delta) = delta else {
        let exported = Exported { above: Arc::unwrap_or_clone(above), after: passed, delta: None };
        return Ok((StoreEvent::NothingAbove, Some(exported)));
    };
    let n_parts = delta.body.n_parts();
    let is_known = |partial: &Partial| (partial.delta.0, partial.of) == (delta.name, n_parts);
    let first = partial.filter(is_known).map_or(0, |partial| partial.next);
    let part = part_of(relay, &delta, first).await?;
    let event = StoreEvent::Exported { part, to: delta.to() };
    // Before this one there is nothing that `above` lacks.
    let after = Some(delta.id - 1);
    let above = Arc::unwrap_or_clone(above);
    Ok((event, Some(Exported { above, after, delta: Some(delta) })))
}

async fn read_part(
    relay: &Arc<Relay>,
    delta: Option<Arc<StoredDelta>>,
    number: u32,
) -> Result<StoreEvent, StorageError> {
    let delta = delta.ok_or(StorageError::Damaged { what: "a delta that is not being sent" })?;
    Ok(StoreEvent::Part(part_of(relay, &delta, number).await?))
}

async fn part_of(
    relay: &Arc<Relay>,
    delta: &StoredDelta,
    number: u32,
) -> Result<Delta, StorageError> {
    let part = relay.read_part(delta, number).await?;
    relay.metrics().sent(part.len());
    Delta::new(part).map_err(|_| StorageError::Damaged { what: "the part of a delta" })
}

async fn chains(
    relay: &Arc<Relay>,
    store: &OpenStore,
    asked: &[(SiteId, u64)],
) -> Vec<Option<anabranch_core::clock::Chain>> {
    let mut chains = vec![None; asked.len()];
    for (chain, (site, version)) in chains.iter_mut().zip(asked) {
        // Where the store cannot say the peer is told so.
        let found = relay.storage().chains(store.name(), *site, vec![*version]).await;
        *chain = found.ok().and_then(|found| found.first().map(|(_, chain)| *chain));
    }
    chains
}

fn refused(delta: DeltaName, error: &StorageError) -> StoreEvent {
    StoreEvent::Refused { delta, refusal: refusal::of_storage(error) }
}

fn failed(error: &StorageError) -> StoreEvent {
    tracing::warn!(%error, "an export failed");
    StoreEvent::ExportFailed(Refusal::new(
        ErrorCode::Storage,
        Retry::AfterMs(crate::limits::STORAGE_RETRY_MS),
        "the relay's storage failed",
    ))
}

#[cfg(test)]
mod tests;
