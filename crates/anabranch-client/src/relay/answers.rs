//! One store behind one channel: what the session asks of it, and what is told to the session
//! when somebody commits.
//!
//! Invariant: what is said to be here is on the disk: it is synced first.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_core::forest::Reading;
use anabranch_core::vector::{Dot, VersionVector};
use anabranch_core::wire::peek;
use anabranch_sync::frame::{Chunk, Delta, DeltaName, ErrorCode, Partial, Receipt, Retry};
use anabranch_sync::{Refusal, Request, StoreEvent};
use bytes::Bytes;

use crate::blob::{self, Prover};
use crate::limits::MAX_PARTIALS;
use crate::replica::{Replica, StoreError};
use crate::report::ForkedBranch;
use crate::spool::Spool;
use crate::storage::Pieces;

/// A store, and what its channel has in hand.
pub(super) struct Answers<'a> {
    replica: Replica<'a>,
    /// What the session was told is here.
    told: VersionVector,
    /// What was here when the peer's vector was last read: by the names of then.
    read_at: VersionVector,
    /// All names as they were when forks were last told; `None` before it was opened.
    named: Option<VersionVector>,
    /// Forks that were not told yet.
    forked: Vec<ForkedBranch>,
    /// Changes that it was told are held and not shown.
    held: BTreeSet<Dot>,
    /// The last delta of several parts that was exported.
    kept: Option<Kept>,
    prover: Prover,
    /// Whether something was applied that the session has not heard to be durable.
    owes_durable: bool,
}

struct Kept {
    delta: DeltaName,
    parts: Spool,
    to: Arc<VersionVector>,
}

impl Kept {
    fn part(&self, number: u32) -> Result<Option<Bytes>, StoreError> {
        self.parts.piece(number as usize).map_err(StoreError::Temporary)
    }
}

/// A delta that was made just now.
struct Export {
    from: VersionVector,
    kept: Kept,
}

/// An answer, and what was taken for it.
pub(super) struct Answer {
    pub(super) event: Option<StoreEvent>,
    pub(super) took: Option<Took>,
}

/// What came with a part.
#[derive(Default)]
pub(super) struct Took {
    /// Changes newly held.
    pub(super) changes: u64,
    /// Bytes that brought them.
    pub(super) bytes: u64,
    /// What was here before, of what the delta leads to: who sends it has that too.
    pub(super) known: VersionVector,
}

impl From<StoreEvent> for Answer {
    fn from(event: StoreEvent) -> Answer {
        Answer { event: Some(event), took: None }
    }
}

impl<'a> Answers<'a> {
    pub(super) fn new(replica: Replica<'a>) -> Answers<'a> {
        Answers {
            replica,
            told: VersionVector::new(),
            read_at: VersionVector::new(),
            named: None,
            forked: Vec::new(),
            held: BTreeSet::new(),
            kept: None,
            prover: Prover::default(),
            owes_durable: false,
        }
    }

    /// Changes that are held and not shown, to be said when a channel opens.
    pub(super) fn held_at_open(&mut self) -> Result<StoreEvent, StoreError> {
        self.held = self.replica.held()?;
        Ok(StoreEvent::Held(self.held.iter().copied().collect()))
    }

    /// What has come to be held since this was asked last, and what was shown after all.
    fn held_since(&mut self) -> Result<(Vec<Dot>, Vec<Dot>), StoreError> {
        let now = self.replica.held()?;
        let before = std::mem::replace(&mut self.held, now);
        let held = self.held.difference(&before).copied().collect();
        Ok((held, before.difference(&self.held).copied().collect()))
    }

    pub(super) fn replica(&self) -> Replica<'a> {
        self.replica
    }

    /// Answers a request about this store.
    ///
    /// # Errors
    /// What is wrong with this store's own file, and not with the peer.
    pub(super) fn answer(&mut self, request: Request) -> Result<Answer, StoreError> {
        Ok(match request {
            Request::Open { .. } => self.open()?.into(),
            Request::Export { above, partial, .. } => self.export(&above, partial)?.into(),
            Request::ReadPart { delta, number, .. } => self.read_part(delta, number)?.into(),
            Request::Forget { delta, .. } => {
                self.kept.take_if(|kept| kept.delta == delta);
                Answer { event: None, took: None }
            }
            Request::Take { part, .. } => self.take(&part)?,
            Request::Chains { question, asked, .. } => {
                let chain = |(site, version)| self.replica.chain(site, version);
                let chains = asked.into_iter().map(chain).collect::<Result<_, _>>()?;
                StoreEvent::Chains { question, chains }.into()
            }
            Request::Read { theirs, .. } => StoreEvent::Read(self.read(&theirs)?).into(),
            Request::ReadChunk { blob, index, .. } => {
                let chunk = self.prover.chunk(self.replica, blob, index)?;
                StoreEvent::Chunk { blob, chunk }.into()
            }
            Request::StoreChunk { blob, chunk, .. } => {
                let Chunk { blob_bytes, index, bytes, .. } = chunk;
                let stored = blob::store(self.replica, blob, index, blob_bytes, &bytes);
                let refusal = match stored {
                    Ok(_) => None,
                    Err(error @ StoreError::Busy(_)) => Some(refusal(&error)),
                    Err(error) => return Err(error),
                };
                StoreEvent::ChunkStored { blob, index, refusal }.into()
            }
            Request::IssueTicket { .. } => StoreEvent::Ticket(None).into(),
            Request::Receipts { changes, .. } => {
                let nowhere = |change| Receipt { change, places: Vec::new() };
                StoreEvent::Receipts(changes.into_iter().map(nowhere).collect()).into()
            }
            Request::Verify { .. } | Request::Close { .. } => Answer { event: None, took: None },
        })
    }

    /// The peer's vector by the names that are used here, which another connection may change
    /// before the session has heard of them: then the news say so.
    fn read(&mut self, theirs: &VersionVector) -> Result<Reading, StoreError> {
        loop {
            self.read_at = self.replica.vector()?;
            let reading = self.replica.read(theirs)?;
            if self.replica.vector()? == self.read_at {
                return Ok(reading);
            }
        }
    }

    fn open(&mut self) -> Result<StoreEvent, StoreError> {
        self.replica.make_durable()?;
        self.told = self.replica.vector()?;
        self.note_forks(&self.told.clone());
        Ok(StoreEvent::Opened {
            site: self.replica.site()?,
            vector: Arc::new(self.told.clone()),
            partials: self.partials()?,
            resumed: None,
        })
    }

    /// Deltas of which the first parts are staged, the newest last.
    fn partials(&self) -> Result<Vec<Partial>, StoreError> {
        let sql = format!(
            "SELECT delta, of, count(*) FROM main.ana_part GROUP BY delta
             HAVING count(*) = max(part) + 1 ORDER BY max(rowid) DESC LIMIT {MAX_PARTIALS}"
        );
        let mut statement = self.replica.sql().prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        let mut partials = Vec::new();
        while let Some(row) = rows.next()? {
            let delta = row.get_ref(0)?.as_blob().ok().and_then(|name| name.try_into().ok());
            if let Some(delta) = delta.map(DeltaName) {
                partials.push(Partial { delta, of: row.get(1)?, next: row.get(2)? });
            }
        }
        partials.reverse();
        Ok(partials)
    }

    fn export(
        &mut self,
        above: &VersionVector,
        partial: Option<Partial>,
    ) -> Result<StoreEvent, StoreError> {
        if let (Some(kept), Some(partial)) = (&self.kept, partial)
            && kept.delta == partial.delta
            && let Some(part) = kept.part(partial.next)?
        {
            return Ok(exported(part, &kept.to));
        }
        let export = match self.make(above) {
            Ok(export) => export,
            Err(error) if error.is_refusal() => {
                return Ok(StoreEvent::ExportFailed(refusal(&error)));
            }
            Err(error) => return Err(error),
        };
        if export.kept.to.is_at_or_below(above) {
            return Ok(StoreEvent::NothingAbove);
        }
        self.replica.make_durable()?;
        let first = export.kept.part(0)?.ok_or(StoreError::Answer("ana_parts"))?;
        let event = exported(first, &export.kept.to);
        if export.kept.parts.len() > 1 {
            self.kept = Some(export.kept);
        }
        Ok(event)
    }

    fn make(&self, above: &VersionVector) -> Result<Export, StoreError> {
        let parts = self.replica.export(above)?;
        let first = parts.piece(0).map_err(StoreError::Temporary)?;
        let peeked = first.and_then(|first| peek(&first).ok().flatten());
        let (head, bounds) = peeked.ok_or(StoreError::Answer("ana_parts"))?;
        let (delta, to) = (DeltaName(head.delta), Arc::new(bounds.to));
        Ok(Export { from: bounds.from, kept: Kept { delta, parts, to } })
    }

    fn read_part(&self, delta: DeltaName, number: u32) -> Result<StoreEvent, StoreError> {
        let kept = self.kept.as_ref().filter(|kept| kept.delta == delta);
        let part = kept.map_or(Ok(None), |kept| kept.part(number))?;
        Ok(match part.and_then(|part| Delta::new(part).ok()) {
            Some(part) => StoreEvent::Part(part),
            None => {
                let text = "the delta is not kept any more";
                let refusal = Refusal::new(ErrorCode::Busy, Retry::AfterMs(0), text);
                StoreEvent::ExportFailed(refusal)
            }
        })
    }

    fn take(&mut self, part: &Delta) -> Result<Answer, StoreError> {
        let delta = part.name();
        let to = self.end_of(part)?;
        let n_bytes = part.part().len() as u64;
        match self.replica.apply(part.part()) {
            Ok(changes) => match to {
                Some(to) if part.number() + 1 == part.of() => {
                    let (to, known) = self.took(to)?;
                    self.owes_durable = true;
                    // What it shows after all is told with the news.
                    let held = self.replica.held()?;
                    let held = held.into_iter().filter(|dot| self.held.insert(*dot)).collect();
                    let event = StoreEvent::Applied { delta, to: Arc::new(to), held };
                    Ok(Answer {
                        event: Some(event),
                        took: Some(Took { changes, bytes: n_bytes, known }),
                    })
                }
                _ => Ok(Answer {
                    event: Some(StoreEvent::Staged { delta }),
                    took: Some(Took { bytes: n_bytes, ..Took::default() }),
                }),
            },
            Err(error) if error.is_refusal() || matches!(error, StoreError::Busy(_)) => {
                Ok(StoreEvent::Refused { delta, refusal: refusal(&error) }.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Where a delta that was taken led, by the names that are used here now, and what the session
    /// had been told of it before. Where names changed for it, the next news say so.
    fn took(&mut self, to: VersionVector) -> Result<(VersionVector, VersionVector), StoreError> {
        let vector = self.replica.vector()?;
        self.note_forks(&vector);
        let to = match vector.has_branches() || to.has_branches() {
            true => self.replica.read(&to)?.vector,
            false => to,
        };
        let known = self.known_of(&to);
        if self.told.is_at_or_below(&vector) {
            self.told.join(&to);
        }
        Ok((to, known))
    }

    /// A vector of somebody's by the names that its changes have here.
    pub(super) fn by_names_here(&self, theirs: VersionVector) -> Result<VersionVector, StoreError> {
        match self.told.has_branches() || theirs.has_branches() {
            true => Ok(self.replica.read(&theirs)?.vector),
            false => Ok(theirs),
        }
    }

    /// Notes the forks of a vector of this copy that were not known before.
    fn note_forks(&mut self, vector: &VersionVector) {
        let Some(before) = &self.named else {
            self.named = Some(vector.clone());
            return;
        };
        let forked = ForkedBranch::new_in(vector, before);
        if !forked.is_empty() {
            self.forked.extend(forked);
            self.named = Some(vector.clone());
        }
    }

    /// Forks that were found since this was asked last, by whomever.
    pub(super) fn forked(&mut self) -> Vec<ForkedBranch> {
        std::mem::take(&mut self.forked)
    }

    /// What the session was told is here, of this.
    fn known_of(&self, to: &VersionVector) -> VersionVector {
        let mut known = VersionVector::new();
        for (site, held) in to.iter() {
            if let Some(mine) = self.told.get(site) {
                known.set(site, if mine.version < held.version { mine } else { held });
                if let Some(branch) = to.branch(site) {
                    known.set_branch(site, branch);
                }
            }
        }
        known
    }

    /// Where a delta leads, as its first part says it: this one, or one that was staged.
    fn end_of(&self, part: &Delta) -> Result<Option<VersionVector>, StoreError> {
        if part.number() == 0 {
            return Ok(peek(part.part()).ok().flatten().map(|(_, bounds)| bounds.to));
        }
        if part.number() + 1 < part.of() {
            return Ok(None);
        }
        let sql = "SELECT bytes FROM main.ana_part WHERE delta = ?1 AND part = 0";
        let mut statement = self.replica.sql().prepare_cached(sql)?;
        let mut rows = statement.query([&part.name().0[..]])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let first = row.get_ref(0)?.as_blob().unwrap_or_default();
        Ok(peek(first).ok().flatten().map(|(_, bounds)| bounds.to))
    }

    /// What the session was told is here.
    pub(super) fn told(&self) -> &VersionVector {
        &self.told
    }

    /// Whether something was taken that the session has not heard to be durable.
    pub(super) fn owes_durable(&self) -> bool {
        self.owes_durable
    }

    /// What the session must hear that it did not ask for: commits, and what has become
    /// durable.
    pub(super) fn news(&mut self) -> Result<Vec<StoreEvent>, StoreError> {
        let mut news = Vec::new();
        let vector = self.replica.vector()?;
        let (held, shown) = self.held_since()?;
        if !held.is_empty() {
            news.push(StoreEvent::Held(held));
        }
        if !shown.is_empty() {
            news.push(StoreEvent::Shown(shown));
        }
        if vector != self.told {
            self.note_forks(&vector);
            self.replica.make_durable()?;
            news.extend(self.committed(vector)?);
        }
        if std::mem::take(&mut self.owes_durable) {
            self.replica.make_durable()?;
            let vector = Arc::new(self.told.clone());
            news.push(StoreEvent::Durable { replicas: 0, vector });
        }
        Ok(news)
    }

    fn committed(&mut self, vector: VersionVector) -> Result<Option<StoreEvent>, StoreError> {
        let before = std::mem::replace(&mut self.told, vector);
        let is_renamed = !self.read_at.is_at_or_below(&self.told);
        if is_renamed || !before.is_at_or_below(&self.told) {
            // What the peer holds is read anew.
            self.read_at = VersionVector::new();
            let vector = Arc::new(self.told.clone());
            return Ok(Some(StoreEvent::Replaced { vector }));
        }
        let Ok(export) = self.make(&before) else {
            // The session asks for it and hears why not.
            let (from, to) = (Arc::new(before), Arc::new(self.told.clone()));
            return Ok(Some(StoreEvent::Committed { from, to, part: None }));
        };
        let kept = export.kept;
        let only = if kept.parts.len() == 1 { kept.part(0)? } else { None };
        let part = only.and_then(|only| Delta::new(only).ok());
        let to = kept.to;
        self.told.join(&to);
        Ok(Some(StoreEvent::Committed { from: Arc::new(export.from), to, part }))
    }
}

fn exported(part: Bytes, to: &Arc<VersionVector>) -> StoreEvent {
    match Delta::new(part) {
        Ok(part) => StoreEvent::Exported { part, to: to.clone() },
        Err(error) => {
            let refusal = Refusal::new(ErrorCode::Internal, Retry::Never, error.to_string());
            StoreEvent::ExportFailed(refusal)
        }
    }
}

/// What the peer is told of an error here.
fn refusal(error: &StoreError) -> Refusal {
    let (code, retry) = match error {
        StoreError::Busy(_) => (ErrorCode::Busy, Retry::AfterMs(100)),
        // Of another history's beginning only the two vectors can tell how much is common.
        StoreError::Missing(_) | StoreError::SiteReused(_) => {
            (ErrorCode::Missing, Retry::AfterMs(0))
        }
        StoreError::FalseBranch(_) => (ErrorCode::SiteReused, Retry::Never),
        // The clock that is wrong may be either: a minute is soon enough.
        StoreError::ClockAhead(_) => (ErrorCode::ClockAhead, Retry::AfterMs(60_000)),
        _ => (ErrorCode::UnknownName, Retry::Never),
    };
    Refusal::new(code, retry, error.to_string())
}
