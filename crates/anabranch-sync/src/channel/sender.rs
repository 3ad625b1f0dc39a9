//! Sending deltas: from the books to frames, one delta at a time, part by part.
//!
//! What to send follows from vectors alone. A live change goes at once if the peer can take
//! it; whatever did not fit, was refused or lost is asked of the store again, above what the
//! peer has acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use anabranch_core::vector::VersionVector;

use super::books::Books;
use super::outbox::Outbox;
use super::{ChannelId, Outputs};
use crate::driver::Request;
use crate::frame::{Delta, DeltaName, Frame, Partial, Retry};
use crate::limits::{MAX_DELTAS_IN_FLIGHT, MAX_RETRY_MS, RETRY_MS};
use crate::session::Time;

#[derive(Debug, Default)]
pub(super) struct Sender {
    /// Whether the store was asked for a delta and has not answered.
    is_asked: bool,
    /// Whether what it answers is for a vector that is out of date.
    is_stale: bool,
    /// Whether it was asked to go on with a delta that the peer has in part.
    is_resuming: bool,
    /// The delta of several parts that is being sent.
    current: Option<Current>,
    /// Deltas sent whole, and not acknowledged.
    in_flight: VecDeque<InFlight>,
    pause: Pause,
    /// Refusals since the last acknowledgement.
    n_refusals: u32,
    /// Deltas that the peer has parts of.
    partials: Vec<Partial>,
    /// The store said that it has nothing for us; until it grows.
    has_nothing: bool,
}

#[derive(Debug)]
struct Current {
    delta: DeltaName,
    to: Arc<VersionVector>,
    /// The part that is asked for next.
    next: u32,
    of: u32,
    /// Whether it was asked for.
    is_asked: bool,
}

#[derive(Debug)]
struct InFlight {
    delta: DeltaName,
    to: Arc<VersionVector>,
    /// Whether the store keeps its parts for us.
    is_kept: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Pause {
    #[default]
    No,
    Until(Time),
    /// Until somebody did something about it.
    Stalled,
}

impl Sender {
    /// The peer has said what it holds: whatever was under way is void.
    pub(super) fn restart(&mut self, partials: Vec<Partial>, id: ChannelId, out: &mut Outputs) {
        self.abandon(id, out);
        if self.is_stalled() {
            self.pause = Pause::No;
        }
        self.partials = partials;
        self.has_nothing = false;
    }

    /// The store grew or changed.
    pub(super) fn wake(&mut self) {
        self.has_nothing = false;
    }

    /// Time went on.
    pub(super) fn tick(&mut self, now: Time) {
        if matches!(self.pause, Pause::Until(time) if time <= now) {
            self.pause = Pause::No;
        }
    }

    /// Somebody has done something about a refusal.
    pub(super) fn unstall(&mut self) {
        self.pause = Pause::No;
        self.n_refusals = 0;
    }

    pub(super) fn is_stalled(&self) -> bool {
        matches!(self.pause, Pause::Stalled)
    }

    /// Whether nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_asked && self.current.is_none() && self.in_flight.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match self.pause {
            Pause::Until(time) => Some(time),
            _ => None,
        }
    }

    /// The delta of several parts that is being sent: how far it is.
    pub(super) fn current(&self) -> Option<Partial> {
        self.current.as_ref().map(|current| Partial {
            delta: current.delta,
            of: current.of,
            next: current.next,
        })
    }

    /// Asks for what comes next, if there is room for it.
    pub(super) fn advance(
        &mut self,
        now: Time,
        books: &mut Books,
        outbox: &Outbox,
        id: ChannelId,
        out: &mut Outputs,
    ) {
        self.tick(now);
        if !matches!(self.pause, Pause::No) || !outbox.has_room() {
            return;
        }
        if let Some(current) = &mut self.current {
            if !current.is_asked {
                current.is_asked = true;
                let (delta, number) = (current.delta, current.next);
                out.request(Request::ReadPart { channel: id, delta, number });
            }
            return;
        }
        let has_room = self.in_flight.len() < MAX_DELTAS_IN_FLIGHT;
        if !self.is_asked && has_room && !self.has_nothing && books.is_behind() {
            self.is_asked = true;
            let (above, partial) = (books.sent.clone(), self.partials.pop());
            self.is_resuming = partial.is_some();
            out.request(Request::Export { channel: id, above, partial });
        }
    }

    /// Sends a change at once if nothing is before it; else it is asked for later.
    pub(super) fn live(
        &mut self,
        from: &VersionVector,
        to: &Arc<VersionVector>,
        part: Delta,
        books: &mut Books,
        outbox: &mut Outbox,
    ) {
        let is_free = !self.is_asked
            && self.current.is_none()
            && matches!(self.pause, Pause::No)
            && self.in_flight.len() < MAX_DELTAS_IN_FLIGHT
            && outbox.has_room();
        if is_free && part.of() == 1 && books.fits_live(from, to) {
            books.sending(to);
            let sent = InFlight { delta: part.name(), to: to.clone(), is_kept: false };
            self.in_flight.push_back(sent);
            outbox.push_bulk(Frame::Delta(part));
        }
    }

    /// The store has made a delta.
    pub(super) fn exported(
        &mut self,
        part: Delta,
        to: Arc<VersionVector>,
        books: &mut Books,
        outbox: &mut Outbox,
        id: ChannelId,
        out: &mut Outputs,
    ) {
        if !std::mem::take(&mut self.is_asked) {
            return;
        }
        let leads_nowhere = to.is_at_or_below(&books.sent);
        if std::mem::take(&mut self.is_stale) || leads_nowhere {
            // A new delta that leads nowhere would be asked for again without end.
            self.has_nothing = leads_nowhere && !self.is_resuming;
            if part.of() > 1 {
                out.request(Request::Forget { channel: id, delta: part.name() });
            }
            return;
        }
        let (delta, of) = (part.name(), part.of());
        self.current = Some(Current { delta, to, next: part.number(), of, is_asked: true });
        self.part(part, books, outbox);
    }

    /// The store has read the part that was asked for.
    pub(super) fn part(&mut self, part: Delta, books: &mut Books, outbox: &mut Outbox) {
        let is_it = |current: &&mut Current| {
            current.is_asked && (current.delta, current.next) == (part.name(), part.number())
        };
        let Some(current) = self.current.as_mut().filter(is_it) else { return };
        current.is_asked = false;
        current.next += 1;
        outbox.push_bulk(Frame::Delta(part));
        if let Some(done) = self.current.take_if(|current| current.next == current.of) {
            books.sending(&done.to);
            let is_kept = done.of > 1;
            self.in_flight.push_back(InFlight { delta: done.delta, to: done.to, is_kept });
        }
    }

    /// The store has nothing above what it was asked with.
    pub(super) fn nothing_above(&mut self) {
        self.is_asked = false;
        self.has_nothing = !std::mem::take(&mut self.is_stale);
    }

    /// The store cannot make a delta, or not a part of it.
    pub(super) fn export_failed(&mut self, now: Time, retry: Retry) {
        self.is_asked = false;
        self.is_stale = false;
        self.current = None;
        self.pause_for(now, retry);
    }

    /// Drops what the peer has acknowledged from what is on its way.
    pub(super) fn acked(&mut self, theirs: &VersionVector, id: ChannelId, out: &mut Outputs) {
        while let Some(first) = self.in_flight.front()
            && first.to.is_at_or_below(theirs)
        {
            self.n_refusals = 0;
            if first.is_kept {
                out.request(Request::Forget { channel: id, delta: first.delta });
            }
            self.in_flight.pop_front();
        }
    }

    /// The peer has refused a delta: all that was sent after it is void too. `false` if it is
    /// none of those on their way, so that one fault is answered once.
    pub(super) fn refused(
        &mut self,
        now: Time,
        delta: DeltaName,
        retry: Retry,
        id: ChannelId,
        out: &mut Outputs,
    ) -> bool {
        let is_current = self.current.as_ref().is_some_and(|current| current.delta == delta);
        let is_ours = is_current || self.in_flight.iter().any(|sent| sent.delta == delta);
        if is_ours {
            self.abandon(id, out);
            self.pause_for(now, retry);
        }
        is_ours
    }

    fn pause_for(&mut self, now: Time, retry: Retry) {
        self.pause = match retry {
            Retry::Never => Pause::Stalled,
            Retry::AfterMs(ms) => {
                // A peer that says "at once" for ever must not be asked for ever.
                let least = RETRY_MS << self.n_refusals.min(6);
                let least = if self.n_refusals == 0 { 0 } else { least.min(MAX_RETRY_MS) };
                Pause::Until(now.after(ms.max(least)))
            }
        };
        self.n_refusals = self.n_refusals.saturating_add(1);
    }

    fn abandon(&mut self, id: ChannelId, out: &mut Outputs) {
        self.is_stale = self.is_asked;
        let current = self.current.take().filter(|current| current.of > 1);
        let kept = self.in_flight.drain(..).filter(|sent| sent.is_kept).map(|sent| sent.delta);
        for delta in current.map(|current| current.delta).into_iter().chain(kept) {
            out.request(Request::Forget { channel: id, delta });
        }
    }
}
