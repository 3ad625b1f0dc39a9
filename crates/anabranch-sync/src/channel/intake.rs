//! Deltas that come in: parts on their way to the store, in order, and what it answers.

use std::collections::VecDeque;

use anabranch_core::vector::Dot;

use super::ChannelId;
use super::Outputs;
use crate::driver::Request;
use crate::frame::{Delta, DeltaName, Partial};

#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Parts that the store has not answered: delta and bytes.
    waiting: VecDeque<(DeltaName, usize)>,
    n_waiting_bytes: usize,
    /// The delta refused last: its further parts are dropped.
    refused: Option<DeltaName>,
    /// Whether nothing was applied since a delta was refused: what the peer had sent after it
    /// will be missing something, and the peer knows.
    pub(super) is_void: bool,
    /// Changes to be said as held.
    held: VecDeque<Dot>,
    /// Changes to be said as shown after all.
    shown: VecDeque<Dot>,
    /// The delta of several parts that is coming.
    pub(super) receiving: Option<Partial>,
    /// Bytes of parts that came.
    pub(super) n_bytes: u64,
}

impl Intake {
    /// Hands a part to the store.
    pub(super) fn take(&mut self, part: Delta, id: ChannelId, out: &mut Outputs) {
        let (delta, number, of) = (part.name(), part.number(), part.of());
        if self.refused == Some(delta) && number > 0 {
            return;
        }
        self.refused = None;
        self.receiving =
            (number + 1 < of).then_some(Partial { delta, of, next: number.saturating_add(1) });
        self.n_bytes += part.part().len() as u64;
        self.n_waiting_bytes += part.part().len();
        self.waiting.push_back((delta, part.part().len()));
        out.request(Request::Take { channel: id, part });
    }

    /// The store has answered for the oldest part; `false` if it answers for another delta.
    pub(super) fn answered(&mut self, delta: DeltaName) -> bool {
        let Some((waiting, n_bytes)) = self.waiting.front().copied() else { return false };
        let is_it = waiting == delta;
        if is_it {
            self.waiting.pop_front();
            self.n_waiting_bytes -= n_bytes;
        }
        is_it
    }

    /// Notes a refusal; whether it is to be said: once for each delta.
    pub(super) fn refuse(&mut self, delta: DeltaName) -> bool {
        self.is_void = true;
        self.receiving.take_if(|receiving| receiving.delta == delta);
        self.refused.replace(delta) != Some(delta)
    }

    pub(super) fn note_held(&mut self, held: Vec<Dot>) {
        self.held.extend(held);
    }

    pub(super) fn note_shown(&mut self, shown: Vec<Dot>) {
        self.shown.extend(shown);
    }

    pub(super) fn has_dots(&self) -> bool {
        !self.held.is_empty() || !self.shown.is_empty()
    }

    /// Up to `limit` changes each that are to be said as held, and as shown.
    pub(super) fn take_dots(&mut self, limit: usize) -> (Vec<Dot>, Vec<Dot>) {
        let take = |dots: &mut VecDeque<Dot>| {
            let n = dots.len().min(limit);
            dots.drain(..n).collect()
        };
        (take(&mut self.held), take(&mut self.shown))
    }

    /// Whether the store has answered everything.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.receiving.is_none() && !self.has_dots()
    }

    /// Parts that the store has not answered, and their bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.n_waiting_bytes)
    }
}
