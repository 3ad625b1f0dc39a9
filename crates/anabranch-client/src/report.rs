//! What a sync tells: events while it runs, and a report at its end.

use anabranch_core::branch::Branch;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, VersionVector};
use anabranch_sync::frame::{self, Reach, Receipt, Role};

use crate::limits::MAX_SKIPPED_LISTED;

/// Something that happened during a sync.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The peer answered.
    Connected,
    /// So much of what is to move has moved, in both directions.
    Progress(Progress),
    /// Changes came and are committed here.
    Took(Moved),
    /// Changes went and are on the peer's disk.
    Gave(Moved),
    /// Copies had gone on under one site id: what each wrote is kept, and has these names now.
    Forked(Vec<ForkedBranch>),
    /// A blob that was asked for has moved, in either direction, and is whole.
    Blob {
        /// BLAKE3 of its bytes.
        hash: [u8; 32],
        /// How many it has.
        bytes: u64,
    },
    /// A file or delta was left out for now.
    Skipped(Skipped),
    /// Nothing is left to move in either direction.
    Converged,
    /// The relay says that other copies hold these changes of this one and do not show them:
    /// a constraint there refuses them.
    HeldThere(Vec<Reached>),
    /// What the relay says of the changes that it was asked about.
    Receipts(Vec<Reached>),
    /// Somebody else on this store shows something, or has left: what the relay says of whom.
    Present {
        /// Whose copy.
        site: SiteId,
        /// Which of its connections.
        instance: u64,
        /// What; `None`: has left, or was not heard of for 30 s.
        state: Option<Vec<u8>>,
    },
    /// The peer does not go on before somebody does something: why.
    Refused(String),
    /// The token ends soon, and no other is at hand.
    TokenWanted,
    /// The peer cannot be reached; the next attempt comes after so many milliseconds.
    Offline {
        /// Why.
        why: String,
        /// `None`: there will be none.
        retry_in_ms: Option<u64>,
    },
}

/// What one of several copies wrote under a name that they shared: a copied file, or an old
/// backup that was written on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkedBranch {
    /// What it is called from then on.
    pub site: SiteId,
    /// The name that was shared.
    pub root: SiteId,
    /// How many changes of that name are common to all who share it.
    pub base: u64,
}

impl ForkedBranch {
    /// The branches of a vector that another one does not know.
    pub fn new_in(after: &VersionVector, before: &VersionVector) -> Vec<ForkedBranch> {
        let is_new = |(site, _): &(SiteId, Branch)| before.branch(*site).is_none();
        let branch = |(site, Branch { root, base, .. })| ForkedBranch { site, root, base };
        after.branches().filter(is_new).map(branch).collect()
    }
}

/// How far a change is known to have got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Who made it.
    pub site: SiteId,
    /// Its version there.
    pub version: u64,
    /// Who has it on disk, relays first.
    pub places: Vec<Place>,
}

/// Who has a change on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which copy, or relay.
    pub site: SiteId,
    /// Whether it is a relay, which keeps and forwards, and shows nothing to anybody.
    pub is_relay: bool,
    /// Whether it is visible there; else it is held.
    pub is_shown: bool,
}

impl From<Receipt> for Reached {
    fn from(receipt: Receipt) -> Reached {
        let place = |place: frame::Place| Place {
            site: place.site,
            is_relay: place.role == Role::Relay,
            is_shown: place.reach == Reach::Shown,
        };
        let Dot { site, version } = receipt.change;
        Reached { site, version, places: receipt.places.into_iter().map(place).collect() }
    }
}

/// An event, and the store it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The store's name at the relay; empty for a directory.
    pub store: String,
    /// What happened.
    pub event: Event,
}

/// Changes that moved one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Changes that the receiver did not hold.
    pub changes: u64,
    /// Encoded bytes, repetitions included.
    pub bytes: u64,
}

impl Moved {
    pub(crate) fn add(&mut self, other: Moved) {
        self.changes += other.changes;
        self.bytes += other.bytes;
    }
}

/// How far a sync is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Taken so far.
    pub took: Moved,
    /// Given so far.
    pub gave: Moved,
    /// Bytes that are known to be left; what the peer has not told yet is not in it.
    pub bytes_left: u64,
    /// Changes that are known to be left.
    pub changes_left: u64,
}

/// What was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file, or the change.
    pub name: String,
    /// Why, in words.
    pub why: String,
    /// Whether it was refused for what it says, and waits for a person; else for the file
    /// to become whole, or what comes before it to arrive.
    pub is_refused: bool,
}

/// How a sync ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Both hold the same changes.
    Converged,
    /// The peer could not be reached: nothing moved.
    Offline(String),
    /// The peer or this copy refused: nothing goes on before a person does something.
    Refused(String),
    /// Some of it moved, the rest is to come: run it again.
    Partly(String),
}

/// What a sync did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What came.
    pub took: Moved,
    /// What went.
    pub gave: Moved,
    /// How it ended.
    pub end: End,
    /// Histories that had forked, and were given names of their own.
    pub forked: Vec<ForkedBranch>,
    /// What was left out, the first [some](Report::n_skipped).
    pub skipped: Vec<Skipped>,
    /// How many were left out.
    pub n_skipped: u64,
    /// Changes of this copy that others hold and do not show, as a relay says.
    pub held_there: Vec<Reached>,
    /// What the relay says of the changes that it was asked about.
    pub receipts: Vec<Reached>,
}

impl Report {
    pub(crate) fn new() -> Report {
        Report {
            took: Moved::default(),
            gave: Moved::default(),
            end: End::Converged,
            forked: Vec::new(),
            skipped: Vec::new(),
            n_skipped: 0,
            held_there: Vec::new(),
            receipts: Vec::new(),
        }
    }

    /// Whether both hold the same changes.
    pub fn is_converged(&self) -> bool {
        self.end == End::Converged
    }

    pub(crate) fn skip(&mut self, skipped: Skipped) {
        self.n_skipped += 1;
        if self.skipped.len() < MAX_SKIPPED_LISTED {
            self.skipped.push(skipped);
        }
    }
}
