//! Marks of savepoints: how much the buffer held when each was set.
//!
//! Levels are SQLite's savepoint numbers. An *epoch* is the time between two flushes; a
//! mark's lengths count what the buffer held in the mark's epoch. When a flush ends an
//! epoch in which marks stand, the operations up to the newest of them are saved: going
//! back to a mark brings back what SQLite takes out of the log again.

use std::rc::Rc;

use crate::buffer::{LocalBuffer, LocalLen, MergedBuffer};
use crate::metadata::PendingChange;

/// The marks of a transaction, by level from 0.
#[derive(Default)]
pub(super) struct Marks {
    marks: Vec<Mark>,
    saved: Vec<Saved>,
    /// The present epoch.
    epoch: u64,
    /// Epochs given out so far.
    last_epoch: u64,
}

/// What stood when a savepoint was set.
#[derive(Clone)]
pub(super) struct Mark {
    pub(super) epoch: u64,
    pub(super) local: LocalLen,
    /// Merged records.
    pub(super) merged: usize,
    pub(super) change: Rc<PendingChange>,
    /// `crsql_rows_impacted`.
    pub(super) impacted: u64,
    pub(super) has_failed: bool,
}

struct Saved {
    epoch: u64,
    local: LocalBuffer,
    merged: MergedBuffer,
}

/// What going back to a mark finds.
pub(super) struct Restored {
    pub(super) mark: Mark,
    /// The log was written since the mark: SQLite has undone that. With it the operations
    /// that the buffer held then, to be cut to the mark.
    pub(super) flushed: Option<(LocalBuffer, MergedBuffer)>,
}

impl Marks {
    /// Number of marks.
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    /// The present epoch.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sets the mark of `level`, and those below that SQLite never announced: nothing of
    /// this transaction happened before them.
    pub(super) fn set(&mut self, level: usize, mark: Mark) {
        self.marks.truncate(level);
        while self.marks.len() < level {
            self.marks.push(mark.clone());
        }
        self.marks.push(mark);
    }

    /// Drops the marks from `level` on; their work stays.
    pub(super) fn release(&mut self, level: usize) {
        self.marks.truncate(level);
        self.drop_unneeded();
    }

    /// Goes back to the mark of `level`, which stays.
    pub(super) fn restore(&mut self, level: usize) -> Option<Restored> {
        self.marks.truncate(level + 1);
        let mark = self.marks.get(level)?.clone();
        let flushed = (mark.epoch != self.epoch).then(|| {
            let at = self.saved.iter().position(|saved| saved.epoch == mark.epoch);
            at.map(|at| self.saved.swap_remove(at))
                .map_or_else(Default::default, |saved| (saved.local, saved.merged))
        });
        self.epoch = mark.epoch;
        self.drop_unneeded();
        Some(Restored { mark, flushed })
    }

    /// How much of the buffer marks of this epoch hold; `None` if nothing.
    pub(super) fn flushed(&self) -> Option<(LocalLen, usize)> {
        let newest = self.marks.iter().rfind(|mark| mark.epoch == self.epoch)?;
        (newest.local.ops > 0 || newest.merged > 0).then_some((newest.local, newest.merged))
    }

    /// How many merged records the newest mark of this epoch holds.
    pub(super) fn n_merged(&self) -> usize {
        let newest = self.marks.last().filter(|mark| mark.epoch == self.epoch);
        newest.map_or(0, |mark| mark.merged)
    }

    /// Saves what [`Marks::flushed`] told.
    pub(super) fn save(&mut self, local: LocalBuffer, merged: MergedBuffer) {
        self.saved.push(Saved { epoch: self.epoch, local, merged });
    }

    /// The buffer was written.
    pub(super) fn begin_epoch(&mut self) {
        self.last_epoch += 1;
        self.epoch = self.last_epoch;
    }

    fn drop_unneeded(&mut self) {
        let Marks { marks, saved, .. } = self;
        if saved.is_empty() {
            return;
        }
        saved.retain(|saved| marks.iter().any(|mark| mark.epoch == saved.epoch));
    }
}
