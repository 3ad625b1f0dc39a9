//! Reading the blocks of a table in the order of its keys, with few queries: where changes
//! are dense, several blocks at a time; where they are sparse, one for each block.
//!
//! Invariant: blocks that are read ahead lie above all that is being merged, so that nothing
//! that is written meanwhile concerns them.

use std::collections::VecDeque;

use super::blocks::{Blocks, Raw};
use crate::error::Result;
use crate::ids::TableId;
use crate::limits::MAX_READ_AHEAD;

/// A walk over the blocks of one table.
pub(super) struct Walk {
    table: TableId,
    /// Blocks that follow each other.
    ahead: VecDeque<Raw>,
    /// The first of them follows the block taken last; if there is none, that was the last.
    is_next: bool,
    /// The first of them is the one in which the key asked for last is.
    is_found: bool,
    /// How many blocks are read at a time.
    n_ahead: usize,
}

impl Walk {
    pub(super) fn new(table: TableId) -> Walk {
        Walk { table, ahead: VecDeque::new(), is_next: false, is_found: false, n_ahead: 1 }
    }

    /// The table.
    pub(super) fn table(&self) -> TableId {
        self.table
    }

    /// The block in which `key` is or would be, which may also lie above it.
    pub(super) fn take(&mut self, blocks: &mut Blocks, key: &[u8]) -> Result<Option<Raw>> {
        if self.is_next {
            while self.ahead.get(1).is_some_and(|second| second.first.as_slice() <= key) {
                self.ahead.pop_front();
            }
        }
        let is_known = self.is_found || self.is_next && self.ahead.len() > 1;
        let mut found = self.ahead.pop_front().filter(|_| is_known);
        self.is_next &= found.is_some();
        self.is_found = false;
        if found.is_none() {
            self.ahead.clear();
            found = match blocks.raw(self.table, key)? {
                Some(block) => Some(block),
                None => blocks.raw_first(self.table)?,
            };
        }
        self.is_next |= found.is_none();
        Ok(found)
    }

    /// The block that follows the one taken last, which [`Walk::next`] showed.
    pub(super) fn take_next(&mut self) -> Option<Raw> {
        debug_assert!(self.is_next);
        self.is_found = false;
        let taken = self.ahead.pop_front();
        self.is_next = !self.ahead.is_empty();
        taken
    }

    /// The block that follows the one taken last, of which and before which nothing is
    /// stored above `last`; `None`: there is none.
    pub(super) fn next(&mut self, blocks: &mut Blocks, last: &[u8]) -> Result<Option<&Raw>> {
        if !self.is_next {
            self.fill(blocks, last)?;
        }
        Ok(self.ahead.front())
    }

    /// Whether `key` would be in the block taken last, which is called `first` and ends below
    /// the key. `is_dense`: it is probably in the one that follows.
    pub(super) fn belongs(
        &mut self,
        blocks: &mut Blocks,
        first: &[u8],
        key: &[u8],
        is_dense: bool,
    ) -> Result<bool> {
        if !self.is_next && !is_dense {
            self.n_ahead = 1;
            let found = blocks.raw(self.table, key)?;
            if let Some(found) = found.filter(|found| found.first.as_slice() > first) {
                self.ahead.clear();
                self.ahead.push_back(found);
                self.is_found = true;
                return Ok(false);
            }
        }
        let next = self.next(blocks, first)?;
        Ok(next.is_none_or(|next| key < next.first.as_slice()))
    }

    /// Reads the blocks that begin above `last`.
    fn fill(&mut self, blocks: &mut Blocks, last: &[u8]) -> Result<()> {
        self.ahead.clear();
        blocks.raw_above(self.table, last, self.n_ahead, &mut self.ahead)?;
        self.n_ahead = (self.n_ahead * 2).min(MAX_READ_AHEAD);
        (self.is_next, self.is_found) = (true, false);
        Ok(())
    }
}
