//! Which changes of a delta this copy cannot show, while the delta is taken.
//!
//! A delta is taken in passes: one finds the rows that a constraint refuses and the changes
//! that wrote them, is undone, and the next leaves these changes out.

use hashbrown::HashMap;

use super::error::ChangeName;
use crate::limits::{MAX_HELD_APART, MAX_REASON_BYTES};

/// Why a change is not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reason {
    /// Empty if no row is known to be the cause.
    pub(super) table: String,
    /// The packed key.
    pub(super) pk: Vec<u8>,
    /// What the constraint or trigger said.
    pub(super) what: String,
    /// It undid the transaction it was tried in.
    pub(super) undoes: bool,
}

impl Reason {
    pub(super) fn new(table: &str, pk: &[u8], mut what: String) -> Reason {
        what.truncate(what.floor_char_boundary(MAX_REASON_BYTES));
        Reason { table: table.to_owned(), pk: pk.to_vec(), what, undoes: false }
    }
}

/// Changes to leave out, each with the first reason that was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Holding {
    changes: HashMap<ChangeName, Reason>,
    /// All of the delta is held.
    all: Option<Reason>,
}

impl Holding {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.all.is_none()
    }

    pub(super) fn is_all(&self) -> bool {
        self.all.is_some()
    }

    /// How many are held one by one.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn reason(&self, change: ChangeName) -> Option<&Reason> {
        self.changes.get(&change).or(self.all.as_ref())
    }

    /// Those that are held one by one.
    pub(super) fn changes(&self) -> impl Iterator<Item = (ChangeName, &Reason)> {
        self.changes.iter().map(|(change, reason)| (*change, reason))
    }

    /// Leaves out one more; all, where these are too many.
    pub(super) fn blame(&mut self, change: ChangeName, reason: Reason) {
        if self.changes.len() >= MAX_HELD_APART && !self.changes.contains_key(&change) {
            self.hold_all(reason);
            return;
        }
        self.changes.entry(change).or_insert(reason);
    }

    pub(super) fn hold_all(&mut self, reason: Reason) {
        self.all.get_or_insert(reason);
    }

    /// Takes over what a pass found.
    pub(super) fn extend(&mut self, found: Holding) {
        found.changes.into_iter().for_each(|(change, reason)| self.blame(change, reason));
        if let Some(reason) = found.all {
            self.hold_all(reason);
        }
    }

    /// Any reason, for when all must be held.
    pub(super) fn any_reason(&self) -> Reason {
        let first = self.changes.iter().min_by_key(|(change, _)| (change.site, change.version));
        first.map_or_else(Reason::default, |(_, reason)| reason.clone())
    }
}
