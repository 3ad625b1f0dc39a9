//! Blobs of one connection: those that a delta names are wanted before it is taken, and who
//! asks for one is given its chunks.
//!
//! A delta that names blobs which are not here is refused with `BlobsFirst`, and they are
//! wanted of who sent it. Once the last has come, or will not, the relay says Have again, and
//! the peer sends the delta anew. So nothing is kept in memory for it, and a connection that is
//! cut in between loses nothing: chunks that came are on disk.

use std::sync::Arc;

use anabranch_sync::frame::{BlobId, Chunk, ErrorCode, Retry};
use anabranch_sync::{ChannelId, CommandError, Refusal, StoreEvent};

use super::{Connection, refusal};
use crate::absent::Absence;
use crate::blobs::BlobHash;
use crate::relay::Relay;
use crate::storage::{BlobRoom, StorageError};
use crate::store_id::StoreId;

impl Connection {
    /// Wants blobs of a channel's peer; `is_first`: a delta waits for them.
    pub(super) fn want_blobs(&mut self, channel: ChannelId, blobs: &[BlobHash], is_first: bool) {
        for blob in blobs {
            let Some(lane) = self.lanes.get_mut(&channel) else { return };
            let first = self.relay.blobs().n_chunks_come(*blob);
            match self.session.want_blob(channel, BlobId(blob.0), first) {
                Ok(()) => drop(lane.wanted.entry(*blob).or_default()),
                Err(CommandError::NotAllowed) => lane.absent.note(*blob, Absence::Nowhere),
                // Others come first; what is left is wanted with the next try.
                Err(_) => break,
            }
        }
        if let Some(lane) = self.lanes.get_mut(&channel).filter(|_| is_first) {
            lane.owes_have = true;
        }
        self.say_have_if_due(channel);
    }

    /// A blob has come, or will not.
    pub(super) fn blob_ended(
        &mut self,
        channel: ChannelId,
        blob: BlobId,
        refusal: Option<&Refusal>,
    ) {
        let blob = BlobHash(blob.0);
        if let Some(lane) = self.lanes.get_mut(&channel) {
            lane.wanted.remove(&blob);
            if let Some(refusal) = refusal {
                tracing::debug!(%blob, why = refusal.text, "a blob did not come");
                lane.absent.note(blob, absence(refusal.code));
            }
        }
        self.say_have_if_due(channel);
    }

    /// Says again what is held once nothing is wanted any more, and once what was refused for
    /// it was told.
    pub(super) fn say_have_if_due(&mut self, channel: ChannelId) {
        let Some(lane) = self.lanes.get_mut(&channel) else { return };
        if !lane.owes_have || !lane.wanted.is_empty() || lane.has_untold() {
            return;
        }
        lane.owes_have = false;
        let Some(vector) = lane.store().map(|store| store.vector()) else { return };
        self.answer(channel, StoreEvent::Replaced { vector });
    }
}

fn absence(code: ErrorCode) -> Absence {
    match code {
        ErrorCode::OverQuota => Absence::Full,
        ErrorCode::Storage | ErrorCode::Busy => Absence::Failed,
        // What the peer sends in its place is no blob.
        _ => Absence::Nowhere,
    }
}

/// A chunk of a blob that a change of this store names.
pub(super) async fn read_chunk(
    relay: &Arc<Relay>,
    store: &StoreId,
    blob: BlobId,
    index: u64,
) -> StoreEvent {
    let hash = BlobHash(blob.0);
    let chunk = async {
        if !relay.storage().names(store, hash).await? {
            return Ok(None);
        }
        let reading = Arc::clone(relay);
        let read = move || reading.proofs().chunk(reading.blobs(), hash, index);
        Ok::<_, StorageError>(relay.work(usize::MAX, read).await??)
    };
    let chunk = chunk.await.unwrap_or_else(|error| {
        tracing::warn!(%error, blob = %hash, "a blob cannot be read");
        None
    });
    if let Some(chunk) = &chunk {
        relay.metrics().sent(chunk.bytes.len());
    }
    StoreEvent::Chunk { blob, chunk }
}

/// Keeps a chunk, which was proven. `has_room`: room was made for the blob before.
pub(super) async fn store_chunk(
    relay: &Arc<Relay>,
    store: &StoreId,
    blob: BlobId,
    chunk: Chunk,
    has_room: bool,
) -> StoreEvent {
    let (hash, index) = (BlobHash(blob.0), chunk.index);
    let stored = async {
        if !has_room {
            let room = BlobRoom {
                blob: hash,
                n_bytes: chunk.blob_bytes,
                max_store_blob_bytes: relay.config().max_store_blob_bytes,
                now_ms: anabranch_clock::now_ms(),
            };
            relay.storage().make_room(store, room).await?;
        }
        let (is_last, blobs) = (chunk.is_last(), Arc::clone(relay.blobs()));
        let put = move || blobs.put_chunk(hash, index, &chunk.bytes, is_last);
        let is_kept = relay.work(usize::MAX, put).await??;
        if is_kept && is_last {
            relay.storage().came(store, hash).await?;
        }
        Ok::<_, StorageError>(is_kept)
    };
    let refusal = match stored.await {
        Ok(true) => None,
        Ok(false) => {
            let text = "what came before this chunk is damaged";
            Some(Refusal::new(ErrorCode::Storage, Retry::AfterMs(0), text))
        }
        Err(error) => Some(refusal::of_storage(&error)),
    };
    StoreEvent::ChunkStored { blob, index, refusal }
}
