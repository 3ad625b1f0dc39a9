//! Who is here: states that nobody stores, forgotten 30 s after the last heartbeat.
//!
//! Three small things: who is present at the other end ([`Present`]), what this end shows
//! and repeats ([`Shown`]), and how often a peer may speak ([`RateLimit`]).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::frame::{Participant, Presence};
use crate::limits::{HEARTBEAT_MS, MAX_PRESENT, PRESENCE_BURST, PRESENCE_MS, PRESENCE_REFILL_MS};
use crate::session::Time;

/// Participants that were heard of, and when each is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// `None`: the other end itself.
    known: BTreeMap<Option<Participant>, (Time, Option<Bytes>)>,
}

impl Present {
    /// Notes what was said; whether it says something new.
    pub(crate) fn note(&mut self, now: Time, said: &Presence) -> bool {
        if said.state.is_none() {
            return self.known.remove(&said.from).is_some();
        }
        if self.known.len() >= MAX_PRESENT && !self.known.contains_key(&said.from) {
            return false;
        }
        let heard = (now.after(PRESENCE_MS), said.state.clone());
        let before = self.known.insert(said.from, heard);
        before.is_none_or(|(_, state)| state != said.state)
    }

    /// Forgets one that was not heard of in time, and says which.
    pub(crate) fn expire(&mut self, now: Time) -> Option<Option<Participant>> {
        let late = self.known.iter().find(|(_, (until, _))| *until <= now).map(|(who, _)| *who)?;
        self.known.remove(&late);
        Some(late)
    }

    /// Forgets one, whoever it is.
    pub(crate) fn pop(&mut self) -> Option<Option<Participant>> {
        self.known.pop_first().map(|(who, _)| who)
    }

    /// When the next is forgotten.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.known.values().map(|(until, _)| *until).min()
    }
}

/// What is to be said: the latest of each participant, so that a slow reader misses steps
/// between, never the last.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    own: Option<Bytes>,
    /// When the own state is repeated.
    repeat: Option<Time>,
    /// How often the own state goes: less than the other end lets through, so that of many the
    /// last is never the one that is dropped.
    rate: RateLimit,
    waiting: BTreeMap<Option<Participant>, Option<Bytes>>,
}

impl Shown {
    /// Shows this end's own state, until it is taken back by `None`.
    pub(crate) fn set_own(&mut self, state: Option<Bytes>) {
        self.own = state.clone();
        self.waiting.insert(None, state);
        self.repeat = None;
    }

    /// Passes on another's; `false` if too many wait.
    pub(crate) fn pass_on(&mut self, who: Participant, state: Option<Bytes>) -> bool {
        let has_room = self.waiting.len() < MAX_PRESENT || self.waiting.contains_key(&Some(who));
        if has_room {
            self.waiting.insert(Some(who), state);
        }
        has_room
    }

    /// Queues the own state again when its time has come.
    pub(crate) fn repeat(&mut self, now: Time) {
        if let (Some(own), Some(at)) = (&self.own, self.repeat)
            && at <= now
        {
            self.waiting.entry(None).or_insert_with(|| Some(own.clone()));
            self.repeat = None;
        }
    }

    /// The next that is to be sent.
    pub(crate) fn take(&mut self, now: Time) -> Option<Presence> {
        let is_own = self.waiting.first_key_value()?.0.is_none();
        let (from, state) = match is_own && !self.rate.take(now, OWN_BURST) {
            true => {
                let who = *self.waiting.keys().nth(1)?;
                self.waiting.remove_entry(&who)?
            }
            false => self.waiting.pop_first()?,
        };
        if from.is_none() && self.own.is_some() {
            self.repeat = Some(now.after(HEARTBEAT_MS));
        }
        Some(Presence { from, state })
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let waits = self.waiting.contains_key(&None);
        self.repeat.or_else(|| waits.then(|| self.rate.next(OWN_BURST)))
    }
}

/// Own states in a burst: half of what the other end takes, whose clock and line are others.
const OWN_BURST: u64 = PRESENCE_BURST / 2;

/// A bucket that gains one each [`PRESENCE_REFILL_MS`].
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    /// When the bucket will be full again.
    full_at: Time,
}

impl RateLimit {
    /// Whether one more is within the rate of a bucket of `burst`; takes it if so.
    pub(crate) fn take(&mut self, now: Time, burst: u64) -> bool {
        let full_at = self.full_at.max(now).after(PRESENCE_REFILL_MS);
        let is_within = full_at <= now.after(burst * PRESENCE_REFILL_MS);
        if is_within {
            self.full_at = full_at;
        }
        is_within
    }

    /// When one more is within the rate again.
    pub(crate) fn next(&self, burst: u64) -> Time {
        Time(self.full_at.0.saturating_sub((burst - 1) * PRESENCE_REFILL_MS))
    }
}
