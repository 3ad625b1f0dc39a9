//! The vectors of one channel: what each end holds, what it has been sent and told.
//!
//! Invariants: `theirs` grows only by what the peer has said, `told` only by what this end
//! has on disk and has said; `sent` is at or above `theirs`. Whoever loses these books starts
//! again from two Haves.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};

use crate::frame::{Ack, Entry};
use crate::limits::MAX_FRAME_ENTRIES;

/// Takes an entry out of a vector.
const NOTHING: Held = Held { version: 0, chain: Chain([0; 16]) };

#[derive(Debug, Default)]
pub(super) struct Books {
    /// What this end holds.
    pub(super) mine: VersionVector,
    /// What the peer has said to hold, on its disk.
    pub(super) theirs: VersionVector,
    /// What the peer will hold once all that is on its way has arrived.
    pub(super) sent: VersionVector,
    /// What the peer knows that this end holds on disk.
    pub(super) told: VersionVector,
    /// Acknowledgements owed for this end's own disk.
    disk: Owed,
    /// How many further disks there are, what is owed for them, and what was said of them.
    replicated: (u64, Owed, VersionVector),
    /// Sites of which `mine` has more than `sent`, more than `theirs`, less than `theirs`:
    /// kept site by site, so that a change costs what it touches and not the whole vector.
    unsent: BTreeSet<SiteId>,
    unacked: BTreeSet<SiteId>,
    lacking: BTreeSet<SiteId>,
}

/// What the peer delivered and was not acknowledged, against what is safe.
#[derive(Debug, Default)]
struct Owed {
    entries: VersionVector,
    safe: Arc<VersionVector>,
}

impl Books {
    /// Starts with what this end has on disk, or again: a Have follows that says all of it, so
    /// no acknowledgement is owed.
    pub(super) fn open(&mut self, vector: &Arc<VersionVector>) {
        self.disk.entries = VersionVector::new();
        self.replicated.1.entries = VersionVector::new();
        self.mine = (**vector).clone();
        self.disk.safe = vector.clone();
        self.compare_all();
    }

    /// What this end has on disk: what a Have may say. Deltas that were taken and are not
    /// synced are in `mine` already.
    pub(super) fn on_disk(&self) -> &VersionVector {
        &self.disk.safe
    }

    /// This end has said a whole Have.
    pub(super) fn said_have(&mut self) {
        self.told = (*self.disk.safe).clone();
    }

    /// The peer has said a whole Have.
    pub(super) fn heard_have(&mut self, vector: VersionVector) {
        self.sent = vector.clone();
        self.theirs = vector;
        self.compare_all();
    }

    /// Of a site under whose name both ends hold something else, this much is common.
    pub(super) fn common(&mut self, site: SiteId, held: Held) {
        if held.version <= self.mine.version(site) {
            self.theirs.set(site, held);
            if let Some(branch) = self.mine.branch(site) {
                self.theirs.set_branch(site, branch);
            }
        }
        self.lost();
    }

    /// Whether there is something to be sent that is not on its way.
    pub(super) fn is_behind(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Compares the vectors at one site.
    fn compare(&mut self, site: SiteId) {
        let mine = self.mine.version(site);
        let (theirs, sent) = (self.theirs.version(site), self.sent.version(site));
        let note = |set: &mut BTreeSet<SiteId>, is_in: bool| match is_in {
            true => set.insert(site),
            false => set.remove(&site),
        };
        note(&mut self.unsent, mine > sent);
        note(&mut self.unacked, mine > theirs);
        note(&mut self.lacking, mine < theirs);
    }

    fn compare_all(&mut self) {
        for sites in [&mut self.unsent, &mut self.unacked, &mut self.lacking] {
            sites.clear();
        }
        let sites = self.mine.iter().chain(self.theirs.iter()).map(|(site, _)| site);
        sites.collect::<BTreeSet<SiteId>>().into_iter().for_each(|site| self.compare(site));
    }

    /// Something became part of the store, and is on its disk.
    pub(super) fn grew(&mut self, to: &VersionVector) {
        self.mine.join(to);
        if !to.is_at_or_below(&self.disk.safe) {
            Arc::make_mut(&mut self.disk.safe).join(to);
        }
        to.iter().for_each(|(site, _)| self.compare(site));
    }

    /// Whether a delta may be sent as it is: the peer can take it, and lacks some of it.
    pub(super) fn fits_live(&self, from: &VersionVector, to: &VersionVector) -> bool {
        from.is_at_or_below(&self.sent) && !to.is_at_or_below(&self.sent)
    }

    /// A whole delta is on its way.
    pub(super) fn sending(&mut self, to: &VersionVector) {
        self.mine.join(to);
        self.sent.join(to);
        to.iter().for_each(|(site, _)| self.compare(site));
    }

    /// What was on its way does not arrive.
    pub(super) fn lost(&mut self) {
        self.sent = self.theirs.clone();
        self.compare_all();
    }

    /// A delta that the peer delivered was taken: the peer has it on disk, and waits to hear
    /// that it is on this one. `is_retold`: also where it was told, since it may have passed
    /// over what was said by other names.
    pub(super) fn took(&mut self, to: &VersionVector, is_retold: bool) {
        for vector in [&mut self.mine, &mut self.theirs, &mut self.sent] {
            vector.join(to);
        }
        for (site, held) in to.iter() {
            if is_retold || self.told.version(site) < held.version {
                for owed in [&mut self.disk.entries, &mut self.replicated.1.entries] {
                    if owed.version(site) < held.version {
                        owed.set(site, held);
                    }
                }
            }
            self.compare(site);
        }
    }

    /// The driver says what is safe.
    pub(super) fn safe(&mut self, replicas: u64, vector: Arc<VersionVector>) {
        if replicas == 0 {
            if self.disk.safe.is_at_or_below(&vector) {
                self.disk.safe = vector;
            }
            return;
        }
        self.replicated.0 = replicas;
        self.replicated.1.safe = vector;
    }

    /// The peer acknowledges: drops from `ack` what it was never given; whether that is
    /// nothing.
    pub(super) fn acked(&mut self, ack: &mut Ack) -> bool {
        let is_true = |(site, held): &Entry| match self.mine.get(*site) {
            Some(mine) if mine.version == held.version => mine.chain == held.chain,
            mine => mine.is_some_and(|mine| mine.version > held.version),
        };
        let n_entries = ack.entries.len();
        ack.entries.retain(is_true);
        for (site, held) in &ack.entries {
            let branch = self.mine.branch(*site);
            // Who has taken it from this end knows that this end has it.
            for vector in [&mut self.theirs, &mut self.sent, &mut self.told] {
                if vector.version(*site) < held.version {
                    vector.set(*site, *held);
                    branch.into_iter().for_each(|branch| vector.set_branch(*site, branch));
                }
            }
            if self.told.version(*site) >= self.disk.entries.version(*site) {
                self.disk.entries.set(*site, NOTHING);
            }
            self.compare(*site);
        }
        ack.entries.len() == n_entries
    }

    /// The next acknowledgement that is due: entries that were delivered and are safe.
    pub(super) fn take_ack(&mut self) -> Option<(u64, Vec<Entry>)> {
        let entries = self.disk.take(&self.told);
        if !entries.is_empty() {
            entries.iter().for_each(|(site, held)| self.told.set(*site, *held));
            return Some((0, entries));
        }
        let (replicas, owed, told) = &mut self.replicated;
        let entries = owed.take(told);
        entries.iter().for_each(|(site, held)| told.set(*site, *held));
        (!entries.is_empty()).then_some((*replicas, entries))
    }

    /// Whether all that was delivered is acknowledged.
    pub(super) fn owes_nothing(&self) -> bool {
        self.disk.entries.is_empty()
    }

    /// Whether both ends hold the same; `is_sending`: whether this one may send.
    pub(super) fn is_converged(&self, is_sending: bool) -> bool {
        debug_assert_eq!(self.unsent.is_empty(), self.mine.is_at_or_below(&self.sent));
        debug_assert_eq!(self.unacked.is_empty(), self.mine.is_at_or_below(&self.theirs));
        debug_assert_eq!(self.lacking.is_empty(), self.theirs.is_at_or_below(&self.mine));
        self.lacking.is_empty() && (!is_sending || self.unacked.is_empty())
    }
}

impl Owed {
    /// Takes what is safe and above `told`, as far as it is safe.
    fn take(&mut self, told: &VersionVector) -> Vec<Entry> {
        let mut due = Vec::new();
        let mut done = Vec::new();
        for (site, owed) in self.entries.iter() {
            let Some(safe) = self.safe.get(site) else { continue };
            let is_whole = safe.version >= owed.version;
            let entry = if is_whole { owed } else { safe };
            if is_whole || entry.version > told.version(site) {
                due.push((site, entry));
            }
            if is_whole {
                done.push(site);
            }
            if due.len() == MAX_FRAME_ENTRIES {
                break;
            }
        }
        done.into_iter().for_each(|site| self.entries.set(site, NOTHING));
        due
    }
}
