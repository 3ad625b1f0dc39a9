//! A delta on its way in: parts are checked as they come, large ones become files at once,
//! and the last one commits the delta.

use std::sync::Arc;

use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{WireError, part_head};
use bytes::Bytes;

use crate::limits::{MAX_INLINE_BYTES, MAX_QUICK_PART_BYTES};
use crate::outline::{OutlineReader, outline_of};
use crate::relay::Relay;
use crate::storage::{Appended, Body, Incoming, Owners, Pending, StorageError};
use crate::store_id::StoreId;

/// Takes the parts of one delta after another, of one sender.
#[derive(Debug)]
pub(crate) struct Intake {
    store: StoreId,
    subject: Arc<str>,
    /// The delta whose parts are coming.
    open: Option<OpenDelta>,
}

#[derive(Debug, Default)]
struct OpenDelta {
    reader: OutlineReader,
    parts: Vec<(crate::blobs::BlobHash, u32)>,
}

/// What became of a part.
pub(crate) enum Taken {
    /// It is on disk; the next one is awaited.
    Part,
    /// It was the last one.
    Delta {
        /// Where the delta leads.
        to: Arc<VersionVector>,
        /// It is being committed.
        committing: Pending<'static, Appended>,
    },
}

impl Intake {
    /// For deltas of one store, delivered by `subject`.
    pub(crate) fn new(store: StoreId, subject: Arc<str>) -> Intake {
        Intake { store, subject, open: None }
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// [`StorageError`]; then nothing of this delta is kept.
    pub(crate) async fn take(
        &mut self,
        relay: &Arc<Relay>,
        part: Bytes,
    ) -> Result<Taken, StorageError> {
        let (head, _) = part_head(&part)?;
        if head.of == 1 && part.len() <= MAX_INLINE_BYTES {
            let checked = part.clone();
            let outline = relay.work(part.len(), move || outline_of(&checked)).await?;
            // A copy: what came may be a small piece of a large buffer.
            let body = Body::Inline(Bytes::copy_from_slice(&part));
            return self.append(relay, head.delta, outline?, body);
        }
        // A first part begins anew, whatever was left unfinished.
        let open = self.open.take().filter(|_| head.part > 0).unwrap_or_default();
        let blobs = Arc::clone(relay.blobs());
        let open = relay.work(usize::MAX, move || open.take(&blobs, &part)).await??;
        if head.part + 1 < head.of {
            self.open = Some(open);
            return Ok(Taken::Part);
        }
        let body = Body::Blobs(open.parts.into());
        self.append(relay, head.delta, open.reader.finish()?, body)
    }

    fn append(
        &self,
        relay: &Arc<Relay>,
        name: [u8; 16],
        outline: crate::outline::Outline,
        body: Body,
    ) -> Result<Taken, StorageError> {
        let incoming = Incoming {
            store: self.store.clone(),
            subject: Arc::clone(&self.subject),
            name,
            outline,
            body,
            owners: if relay.config().strict_sites { Owners::Strict } else { Owners::Any },
            max_store_bytes: relay.config().max_store_bytes,
            now_ms: crate::clock::now_ms(),
        };
        let to = Arc::new(incoming.outline.to.clone());
        Ok(Taken::Delta { to, committing: relay.append(incoming)? })
    }
}

impl OpenDelta {
    /// Checks a part and stores it; slow.
    fn take(
        mut self,
        blobs: &crate::blobs::BlobDir,
        part: &[u8],
    ) -> Result<OpenDelta, StorageError> {
        self.reader.push(part)?;
        self.parts.push((blobs.put(part)?, part.len() as u32));
        Ok(self)
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
