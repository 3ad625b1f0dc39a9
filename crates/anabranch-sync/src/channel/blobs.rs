//! Blobs on one channel: those wanted of the peer, and those it wants.
//!
//! Chunks come in order, each proven before the store sees it; a chunk counts as on its way
//! until the store has kept it, so the window bounds memory and disk queue alike.

use std::collections::VecDeque;

use crate::driver::{Event, Refusal, Request};
use crate::frame::{BlobChunk, BlobId, BlobWant, Chunk, ErrorCode, Frame, Retry};
use crate::limits::{MAX_CHUNKS_IN_FLIGHT, MAX_WANTED_BLOBS};

use super::outbox::Outbox;
use super::{ChannelId, Outputs};

#[derive(Debug, Default)]
pub(super) struct Blobs {
    wanted: VecDeque<Wanted>,
    /// Chunks that the peer wants: blob, next, end.
    serving: VecDeque<(BlobId, u64, u64)>,
    /// Whether the store was asked for the first of them.
    is_reading: bool,
}

#[derive(Debug)]
struct Wanted {
    blob: BlobId,
    /// The next chunk that the peer is asked for.
    ask: u64,
    /// The next that comes.
    come: u64,
    /// The next that the store keeps.
    keep: u64,
    /// How many there are, once it is known.
    end: Option<u64>,
}

impl Wanted {
    fn n_on_the_way(&self) -> u64 {
        self.ask.min(self.end.unwrap_or(u64::MAX)).saturating_sub(self.keep)
    }

    fn is_asked(&self) -> bool {
        self.end.is_some_and(|end| self.ask >= end)
    }
}

impl Blobs {
    /// Wants a blob from chunk `first` on; `false` if too many are wanted.
    pub(super) fn want(&mut self, blob: BlobId, first: u64) -> bool {
        if self.wanted.iter().any(|wanted| wanted.blob == blob) {
            return true;
        }
        let has_room = self.wanted.len() < MAX_WANTED_BLOBS;
        if has_room {
            self.wanted.push_back(Wanted { blob, ask: first, come: first, keep: first, end: None });
        }
        has_room
    }

    /// Asks the peer for chunks and the store for those that the peer wants, within bounds.
    pub(super) fn advance(&mut self, outbox: &mut Outbox, id: ChannelId, out: &mut Outputs) {
        let window = MAX_CHUNKS_IN_FLIGHT as u64;
        let n_taken: u64 = self.wanted.iter().map(Wanted::n_on_the_way).sum();
        let mut n_free = window.saturating_sub(n_taken);
        for wanted in &mut self.wanted {
            if n_free > 0 && !wanted.is_asked() {
                let left = wanted.end.map_or(n_free, |end| end.saturating_sub(wanted.ask));
                let (first, count) = (wanted.ask, n_free.min(left));
                wanted.ask += count;
                n_free -= count;
                outbox.push(Frame::BlobWant(BlobWant { blob: wanted.blob, first, count }));
            }
        }
        if let Some((blob, index, _)) = self.serving.front()
            && !self.is_reading
            && outbox.has_room()
            && out.has_room(id)
        {
            self.is_reading = true;
            out.request(Request::ReadChunk { channel: id, blob: *blob, index: *index });
        }
    }

    /// The peer wants chunks; `false` if it wants too many at once.
    pub(super) fn serve(&mut self, want: BlobWant) -> bool {
        let n_waiting: u64 = self.serving.iter().map(|(_, next, end)| end - next).sum();
        let is_within = n_waiting + want.count <= MAX_CHUNKS_IN_FLIGHT as u64;
        if is_within {
            self.serving.push_back((want.blob, want.first, want.first + want.count));
        }
        is_within
    }

    /// The store has read the chunk it was asked for, or does not have it.
    pub(super) fn read(&mut self, blob: BlobId, chunk: Option<Chunk>, outbox: &mut Outbox) {
        let is_it = |(served, next, _): &(BlobId, u64, u64)| {
            *served == blob && chunk.as_ref().is_none_or(|chunk| chunk.index == *next)
        };
        if !self.is_reading || !self.serving.front().is_some_and(is_it) {
            return;
        }
        self.is_reading = false;
        let is_end = chunk.as_ref().is_none_or(Chunk::is_last);
        if let Some((_, next, end)) = self.serving.front_mut() {
            *next += 1;
            if is_end || next == end {
                self.serving.pop_front();
            }
        }
        outbox.push_bulk(Frame::BlobChunk(BlobChunk { blob, chunk }));
    }

    /// A chunk came; what nobody waits for any more is dropped.
    pub(super) fn came(&mut self, came: BlobChunk, id: ChannelId, out: &mut Outputs) {
        let blob = came.blob;
        let is_it = |wanted: &&mut Wanted| wanted.blob == blob;
        let Some(wanted) = self.wanted.iter_mut().find(is_it) else { return };
        let Some(chunk) = came.chunk else {
            let why = Refusal::new(ErrorCode::NoStore, Retry::Never, "the peer has no such blob");
            return self.fail(blob, why, id, out);
        };
        if chunk.index < wanted.come {
            return;
        }
        let end = crate::blob::n_chunks(chunk.blob_bytes);
        let is_next = chunk.index == wanted.come
            && chunk.index < wanted.ask
            && wanted.end.is_none_or(|known| known == end);
        if let Err(error) = chunk.verify(blob) {
            let why = Refusal::new(ErrorCode::Damaged, Retry::Never, error.to_string());
            return self.fail(blob, why, id, out);
        }
        if !is_next {
            let why = Refusal::new(ErrorCode::Unexpected, Retry::Never, "not the next chunk");
            return self.fail(blob, why, id, out);
        }
        wanted.come += 1;
        wanted.end = Some(end);
        out.request(Request::StoreChunk { channel: id, blob, chunk });
    }

    /// The store has kept a chunk, or not.
    pub(super) fn stored(
        &mut self,
        blob: BlobId,
        index: u64,
        refusal: Option<Refusal>,
        id: ChannelId,
        out: &mut Outputs,
    ) {
        let is_it = |wanted: &&mut Wanted| {
            wanted.blob == blob && wanted.keep == index && index < wanted.come
        };
        let Some(wanted) = self.wanted.iter_mut().find(is_it) else { return };
        if let Some(refusal) = refusal {
            return self.fail(blob, refusal, id, out);
        }
        wanted.keep += 1;
        if wanted.end == Some(wanted.keep) {
            self.wanted.retain(|wanted| wanted.blob != blob);
            out.event(Event::BlobDone { channel: id, blob });
        }
    }

    fn fail(&mut self, blob: BlobId, refusal: Refusal, id: ChannelId, out: &mut Outputs) {
        self.wanted.retain(|wanted| wanted.blob != blob);
        out.event(Event::BlobFailed { channel: id, blob, refusal });
    }
}
