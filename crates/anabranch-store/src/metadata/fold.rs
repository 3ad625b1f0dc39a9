//! Folding: the clocks of the tail go into blocks, its headers into the vector.

use anabranch_core::value::ValueRef;
use anabranch_core::vector::Held;

use super::Metadata;
use super::block_merge::Changes;
use super::patterns::Patterns;
use super::row_clock::RowClock;
use super::rows::Slot;
use super::sql::int;
use super::state::{Versions, encode_versions};
use crate::error::Result;
use crate::ids::{AuthorId, EntryId, Key, TableId};
use crate::limits::CHAIN_STEP;

/// Clocks that were worked out elsewhere, by ascending key.
pub(super) struct Clocks {
    pub(super) rows: Vec<(Key, RowClock)>,
    /// How many leading bytes each key shares with its neighbours, if that is wanted.
    pub(super) shared: Option<Vec<u32>>,
}

impl Changes for Clocks {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn key(&self, i: usize) -> &[u8] {
        &self.rows[i].0
    }

    fn apply(&mut self, i: usize, row: &mut Slot, patterns: &mut Patterns) {
        patterns.set(row, &self.rows[i].1);
    }

    fn wants_place(&self) -> bool {
        self.shared.is_some()
    }

    fn placed(&mut self, i: usize, shared: usize) {
        if let Some(all) = &mut self.shared {
            all[i] = all[i].max(shared as u32);
        }
    }
}

impl Metadata {
    /// Folds all that is unfolded. The header of a change that is still being made is not
    /// part of it: [`Metadata::write_header`] sees that its entries are folded and writes
    /// the vector itself.
    pub(super) fn fold_tail(&mut self) -> Result<()> {
        if self.tail.n_entries == 0 {
            return Ok(());
        }
        // What was read of the tail is gone from memory until all is written.
        self.is_stale = true;
        for (table, rows) in self.tail.take_sorted() {
            self.blocks.update(table, &mut Clocks { rows, shared: None })?;
            self.store_number(table)?;
        }
        let heads = std::mem::take(&mut self.tail.heads);
        if let Some(own) = heads.last() {
            self.store_held(AuthorId(0), own.held, &own.context)?;
        }
        for head in heads {
            if head.held.version.is_multiple_of(CHAIN_STEP) {
                self.store_chain(AuthorId(0), head.held, head.entry, &head.context)?;
            }
        }
        self.tail.n_entries = 0;
        self.is_stale = false;
        self.set_folded(self.state.last)
    }

    /// Marks all rows up to `last` as folded.
    pub(super) fn set_folded(&mut self, last: EntryId) -> Result<()> {
        self.state.folded = last;
        self.set_meta("folded", last.0)?;
        self.set_meta("time", self.state.time.0)
    }

    /// Stores the number that the next new row of a table gets.
    pub(super) fn store_number(&mut self, table: TableId) -> Result<()> {
        let number = self.next_number(table)?;
        self.set_meta(&format!("next:{}", table.0), number)
    }

    /// Stores an author's entry of the vector and the context of its last change.
    pub(super) fn store_held(
        &mut self,
        author: AuthorId,
        held: Held,
        context: &Versions,
    ) -> Result<()> {
        let context = encode_versions(context);
        let params = [
            int(u64::from(author.0)),
            int(held.version),
            ValueRef::Blob(&held.chain.0),
            ValueRef::Blob(&context),
        ];
        self.sql.set_vector.run(&self.db, &params)
    }

    /// Stores where an author's change stands, with its chain and context.
    pub(super) fn store_chain(
        &mut self,
        author: AuthorId,
        held: Held,
        entry: EntryId,
        context: &Versions,
    ) -> Result<()> {
        let context = encode_versions(context);
        let params = [
            int(u64::from(author.0)),
            int(held.version),
            ValueRef::Blob(&held.chain.0),
            int(entry.0),
            ValueRef::Blob(&context),
        ];
        self.sql.set_chain.run(&self.db, &params)
    }
}
