//! What waits to be sent on one channel, in order of urgency.
//!
//! Small frames of the protocol first, then presence, then deltas and chunks in turn.
//! Bounded: bulk is asked for only while there is room, so a peer that does not read costs
//! two parts and no more.

use std::collections::VecDeque;

use crate::frame::{ErrorFrame, Frame};
use crate::limits::{MAX_QUEUED_BYTES, MAX_QUEUED_ERRORS, MAX_QUEUED_FRAMES};

#[derive(Debug, Default)]
pub(super) struct Outbox {
    control: VecDeque<Frame>,
    /// Errors among `control`.
    n_errors: usize,
    deltas: VecDeque<Frame>,
    chunks: VecDeque<Frame>,
    /// Bytes of deltas and chunks.
    n_bytes: usize,
    /// Whether a chunk's turn is next.
    is_chunks_turn: bool,
    /// Bytes of parts that were handed out.
    pub(super) n_sent_bytes: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, frame: Frame) {
        self.control.push_back(frame);
    }

    /// Queues an error; `false` if too many wait.
    pub(super) fn push_error(&mut self, error: ErrorFrame) -> bool {
        let has_room = self.n_errors < MAX_QUEUED_ERRORS;
        if has_room {
            self.n_errors += 1;
            self.control.push_back(Frame::Error(error));
        }
        has_room
    }

    /// Whether refusals that the peer can work out by itself are better left unsaid.
    pub(super) fn is_short_of_errors(&self) -> bool {
        self.n_errors >= MAX_QUEUED_ERRORS / 2
    }

    /// Whether bulk may be added.
    pub(super) fn has_room(&self) -> bool {
        self.n_bytes < MAX_QUEUED_BYTES && self.deltas.len() < MAX_QUEUED_FRAMES
    }

    pub(super) fn push_bulk(&mut self, frame: Frame) {
        self.n_bytes += bulk_bytes(&frame);
        match frame {
            Frame::Delta(_) => self.deltas.push_back(frame),
            _ => self.chunks.push_back(frame),
        }
    }

    /// Drops the deltas that were not sent.
    pub(super) fn drop_deltas(&mut self) {
        self.n_bytes -= self.deltas.drain(..).map(|frame| bulk_bytes(&frame)).sum::<usize>();
    }

    pub(super) fn pop_control(&mut self) -> Option<Frame> {
        let frame = self.control.pop_front()?;
        self.n_errors -= usize::from(matches!(frame, Frame::Error(_)));
        Some(frame)
    }

    pub(super) fn pop_bulk(&mut self) -> Option<Frame> {
        let queues = match self.is_chunks_turn {
            true => [&mut self.chunks, &mut self.deltas],
            false => [&mut self.deltas, &mut self.chunks],
        };
        let frame = queues.into_iter().find_map(VecDeque::pop_front)?;
        self.is_chunks_turn = matches!(frame, Frame::Delta(_));
        self.n_bytes -= bulk_bytes(&frame);
        if self.is_chunks_turn {
            self.n_sent_bytes += bulk_bytes(&frame) as u64;
        }
        Some(frame)
    }

    /// Small frames that wait.
    pub(super) fn n_control(&self) -> usize {
        self.control.len()
    }

    /// Bytes of deltas and chunks that wait.
    pub(super) fn len_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Whether no delta waits.
    pub(super) fn has_no_deltas(&self) -> bool {
        self.deltas.is_empty()
    }
}

fn bulk_bytes(frame: &Frame) -> usize {
    match frame {
        Frame::Delta(delta) => delta.part().len(),
        Frame::BlobChunk(chunk) => chunk.chunk.as_ref().map_or(0, |chunk| chunk.bytes.len()),
        _ => 0,
    }
}
