//! A delta on its way in: parts are checked as they come, large ones become files at once,
//! and the last one commits the delta.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{PartHead, WireError, part_head};
use anabranch_sync::limits::MAX_WANTED_BLOBS;
use anabranch_sync::scope::Scope;
use bytes::Bytes;

use crate::absent::{Absence, Absent};
use crate::blobs::{BlobDir, BlobHash};
use crate::limits::{MAX_ASKED_BLOBS, MAX_INLINE_BYTES, MAX_QUICK_PART_BYTES};
use crate::outline::{OutlineReader, outline_of};
use crate::relay::Relay;
use crate::storage::{
    Answer, Body, DeltaSize, Incoming, LooseFile, NamedBlob, Owners, StagedDelta, StagedPart,
    StorageError,
};
use crate::store_id::StoreId;
use crate::token::Grant;

/// Takes the parts of one delta after another, of one sender.
#[derive(Debug)]
pub(crate) struct Intake {
    store: StoreId,
    subject: Arc<str>,
    owners: Owners,
    /// What its sender does not bring, where deltas wait for the blobs that they name; `None`:
    /// nobody can be asked for them.
    absent: Option<Arc<Absent>>,
    /// The delta whose parts are coming; boxed, for most of the time there is none.
    open: Option<Box<OpenDelta>>,
}

#[derive(Debug)]
struct OpenDelta {
    /// Its name; `None` before the first part.
    delta: Option<[u8; 16]>,
    reader: OutlineReader,
    parts: Vec<(BlobHash, u32)>,
    /// Of how many blobs it is known that they are here.
    n_blobs: usize,
}

/// What became of a part.
pub(crate) enum Taken {
    /// It is on disk; the next one is awaited.
    Part,
    /// It was the last one.
    Delta {
        /// Where the delta leads.
        to: Arc<VersionVector>,
        /// What it brings. It is being committed.
        size: DeltaSize,
    },
}

impl Intake {
    /// For deltas of one store, delivered by who has this grant. With `strict-sites` only an
    /// admin delivers what others wrote.
    pub(crate) fn new(relay: &Relay, store: StoreId, grant: &Grant) -> Intake {
        let is_strict = relay.config().strict_sites && !grant.scopes.has(Scope::Admin);
        let owners = if is_strict { Owners::Strict } else { Owners::Any };
        let subject = Arc::clone(&grant.subject);
        Intake { store, subject, owners, absent: None, open: None }
    }

    /// Deltas wait for the blobs that they name, but for those that are noted as absent.
    pub(crate) fn waiting_for_blobs(self, absent: Arc<Absent>) -> Intake {
        Intake { absent: Some(absent), ..self }
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// [`StorageError`]; then nothing of this delta is kept.
    pub(crate) async fn take(
        &mut self,
        relay: &Arc<Relay>,
        part: Bytes,
        answer: Answer,
    ) -> Result<Taken, StorageError> {
        let (head, _) = part_head(&part)?;
        if head.of == 1 && part.len() <= MAX_INLINE_BYTES {
            let checked = part.clone();
            let outline = relay.work(part.len(), move || outline_of(&checked)).await?;
            // A copy: what came may be a small piece of a large buffer.
            let body = Body::Inline(Bytes::copy_from_slice(&part));
            return self.append(relay, head.delta, outline?, (body, answer)).await;
        }
        let open = self.unfinished(relay, &head).await?;
        let checked = part.clone();
        let (mut open, hash) = relay.work(usize::MAX, move || open.take(&checked)).await??;
        if open.reader.blobs().len() > open.n_blobs {
            // As early as possible: what follows would be sent in vain.
            open.n_blobs = self.blobs(relay, open.reader.blobs()).await?.len();
        }
        let (n_bytes, now_ms) = (part.len() as u32, anabranch_clock::now_ms());
        let max_store_bytes = relay.config().max_store_bytes;
        let file = LooseFile { hash, n_bytes, max_store_bytes, now_ms };
        relay.storage().reserve(&self.store, file).await?;
        let blobs = Arc::clone(relay.blobs());
        relay.work(usize::MAX, move || blobs.put(&part)).await??;
        if head.part + 1 < head.of {
            let (delta, part, of) = (head.delta, head.part, head.of);
            let staged = StagedPart { delta, part, of, hash, n_bytes, now_ms };
            relay.storage().stage(&self.store, staged).await?;
            self.open = Some(Box::new(open));
            return Ok(Taken::Part);
        }
        let body = Body::Blobs(open.parts.into());
        self.append(relay, head.delta, open.reader.finish()?, (body, answer)).await
    }

    /// The blobs that a delta names, each with its length if it is here.
    async fn blobs(
        &self,
        relay: &Arc<Relay>,
        named: &BTreeSet<BlobHash>,
    ) -> Result<Vec<NamedBlob>, StorageError> {
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let (blobs, named) = (Arc::clone(relay.blobs()), named.clone());
        let hold = move |blob| blobs.hold(blob).map(|n_bytes| NamedBlob { blob, n_bytes });
        let hold_all = move || named.into_iter().map(hold).collect::<std::io::Result<Vec<_>>>();
        let named = relay.work(usize::MAX, hold_all).await??;
        let Some(absent) = &self.absent else { return Ok(named) };
        let mut first = Vec::new();
        for NamedBlob { blob, .. } in named.iter().filter(|named| named.n_bytes.is_none()) {
            match absent.of(*blob) {
                None => first.push(*blob),
                Some(Absence::Nowhere) => {}
                Some(Absence::Full) => {
                    let limit = relay.config().max_store_blob_bytes;
                    return Err(StorageError::BlobsFull { store: self.store.clone(), limit });
                }
                Some(Absence::Failed) => {
                    return Err(std::io::Error::other("a blob could not be kept").into());
                }
            }
        }
        if first.is_empty() { Ok(named) } else { Err(StorageError::BlobsFirst { blobs: first }) }
    }

    /// Blobs that are here and that a complete delta mentions: their headers may be forgotten.
    ///
    /// What is not here its sender is asked for before, up to a bound: whatever looks like the
    /// name of a blob in a cell may be one.
    async fn mentioned(
        &self,
        relay: &Arc<Relay>,
        outline: &crate::outline::Outline,
    ) -> Result<Vec<NamedBlob>, StorageError> {
        let others = outline.mentioned.difference(&outline.blobs).copied();
        let others: Vec<BlobHash> = others.collect();
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let blobs = Arc::clone(relay.blobs());
        let hold = move |blob| blobs.hold(blob).map(|n_bytes| NamedBlob { blob, n_bytes });
        let hold_all =
            move || others.into_iter().map(hold).collect::<std::io::Result<Vec<NamedBlob>>>();
        let mut mentioned = relay.work(usize::MAX, hold_all).await??;
        if let Some(absent) = self.absent.as_ref().filter(|absent| absent.len() < MAX_ASKED_BLOBS) {
            let is_asked =
                |named: &&NamedBlob| named.n_bytes.is_none() && absent.of(named.blob).is_none();
            let asked = mentioned.iter().filter(is_asked).take(MAX_WANTED_BLOBS);
            let blobs: Vec<BlobHash> = asked.map(|named| named.blob).collect();
            if !blobs.is_empty() {
                return Err(StorageError::BlobsFirst { blobs });
            }
        }
        mentioned.retain(|named| named.n_bytes.is_some());
        Ok(mentioned)
    }

    /// The delta that a part goes on with: the one under way, or one that was staged when an
    /// earlier connection was cut. A first part begins anew, whatever was left unfinished.
    async fn unfinished(
        &mut self,
        relay: &Arc<Relay>,
        head: &PartHead,
    ) -> Result<OpenDelta, StorageError> {
        let under_way = self.open.take();
        if head.part == 0 {
            return Ok(OpenDelta::new());
        }
        if let Some(open) = under_way.filter(|open| open.delta == Some(head.delta)) {
            return Ok(*open);
        }
        let staged = relay.storage().staged(&self.store).await?;
        let is_it = |staged: &StagedDelta| staged.delta == head.delta;
        let Some(staged) = staged.into_iter().find(is_it) else {
            return Ok(OpenDelta::new());
        };
        let blobs = Arc::clone(relay.blobs());
        let n_parts = head.part as usize;
        relay.work(usize::MAX, move || OpenDelta::again(&blobs, &staged, n_parts)).await?
    }

    async fn append(
        &self,
        relay: &Arc<Relay>,
        name: [u8; 16],
        outline: crate::outline::Outline,
        (body, answer): (Body, Answer),
    ) -> Result<Taken, StorageError> {
        if outline.n_unread > 0 {
            let (store, n) = (&self.store, outline.n_unread);
            tracing::warn!(%store, n, "a delta with sections of a later version, kept as it came");
        }
        let mut blobs = self.blobs(relay, &outline.blobs).await?;
        blobs.extend(self.mentioned(relay, &outline).await?);
        let to = Arc::new(outline.to.clone());
        let size = DeltaSize { n_changes: outline.n_changes(), n_bytes: body.n_bytes() };
        let incoming = Incoming {
            blobs,
            max_store_blob_bytes: relay.config().max_store_blob_bytes,
            store: self.store.clone(),
            subject: Arc::clone(&self.subject),
            name,
            outline,
            body,
            owners: self.owners,
            max_store_bytes: relay.config().max_store_bytes,
            now_ms: anabranch_clock::now_ms(),
        };
        relay.append(incoming, answer).await?;
        Ok(Taken::Delta { to, size })
    }
}

impl OpenDelta {
    fn new() -> OpenDelta {
        OpenDelta { delta: None, reader: OutlineReader::new(), parts: Vec::new(), n_blobs: 0 }
    }

    /// Checks a part, to be kept under this name; slow.
    fn take(mut self, part: &[u8]) -> Result<(OpenDelta, BlobHash), StorageError> {
        self.reader.push(part)?;
        self.delta = Some(part_head(part)?.0.delta);
        let hash = BlobHash::of(part);
        self.parts.push((hash, part.len() as u32));
        Ok((self, hash))
    }

    /// Reads the first parts of a delta again; slow.
    fn again(
        blobs: &BlobDir,
        staged: &StagedDelta,
        n_parts: usize,
    ) -> Result<OpenDelta, StorageError> {
        let missing = StorageError::Damaged { what: "a staged part" };
        let Some(parts) = staged.parts.get(..n_parts) else { return Err(missing) };
        let mut open = OpenDelta { delta: Some(staged.delta), ..OpenDelta::new() };
        for (hash, n_bytes) in parts {
            let missing = StorageError::Damaged { what: "the file of a staged part" };
            let part = blobs.get(*hash)?.ok_or(missing)?;
            open.reader.push(&part)?;
            open.parts.push((*hash, *n_bytes));
        }
        Ok(open)
    }
}

const _: () = assert!(MAX_QUICK_PART_BYTES <= MAX_INLINE_BYTES);

/// Ends a stream of parts.
///
/// # Errors
/// [`WireError::Incomplete`] if a delta is open.
pub(crate) fn must_be_complete(intake: &Intake) -> Result<(), WireError> {
    match &intake.open {
        Some(open) => {
            let found = open.parts.len() as u32;
            Err(WireError::Incomplete { found, expected: found + 1 })
        }
        None => Ok(()),
    }
}
