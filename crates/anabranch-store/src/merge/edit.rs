//! Edits of a row's clock that keep its invariants, and the record that goes with each.

use crate::buffer::MergedRecord;
use crate::context::Context;
use crate::error::Result;
use crate::ids::{Address, ColumnId, EntryId, Key, TableId};
use crate::metadata::mask::Mask;
use crate::metadata::row_clock::{Group, RowClock};
use crate::transaction;

/// A row under merge: its clock as it stands after the records buffered so far.
pub(super) struct RowEdit<'a> {
    cx: &'a Context,
    table: TableId,
    key: &'a [u8],
    clock: Option<RowClock>,
}

impl<'a> RowEdit<'a> {
    pub(super) fn new(
        cx: &'a Context,
        table: TableId,
        key: &'a [u8],
        clock: Option<RowClock>,
    ) -> RowEdit<'a> {
        RowEdit { cx, table, key, clock }
    }

    /// Buffers a record (its table, key and undo image are filled in here) and lets `edit`
    /// change the clock, given the record's address.
    pub(super) fn push(
        &mut self,
        record: MergedRecord,
        edit: impl FnOnce(&mut RowClock, Address),
    ) -> Result<()> {
        let before = self.clock.take();
        let mut after = before.clone().unwrap_or_else(unborn);
        let slot = &mut self.clock;
        let record =
            MergedRecord { table: self.table, key: Key::from_slice(self.key), before, ..record };
        transaction::push_merged(self.cx, record, |index| {
            edit(&mut after, Address { entry: EntryId::PENDING, index });
            slot.insert(after).clone()
        })
    }
}

/// The clock of a row that nothing is known of.
fn unborn() -> RowClock {
    RowClock { number: 0, causal_length: 0, groups: Default::default() }
}

/// Gives the row a causal length; the cells of its former life are forgotten.
pub(super) fn begin_life(clock: &mut RowClock, causal_length: u64) {
    clock.causal_length = causal_length;
    clock.groups.clear();
}

/// Adds a sentinel written at `at`.
pub(super) fn put_sentinel(clock: &mut RowClock, at: Address) {
    let version = clock.causal_length;
    put(clock, Group { mask: Mask::of(ColumnId::SENTINEL), version, at, is_birth: true });
}

/// Adds a group; its columns leave the groups they were in. A group that is left empty
/// stays only as the memory of a birth.
pub(super) fn put(clock: &mut RowClock, group: Group) {
    for old in &mut clock.groups {
        old.mask.subtract(&group.mask);
    }
    clock.groups.retain(|old| !old.mask.is_empty() || old.is_birth);
    clock.groups.push(group);
    // Few groups, nearly sorted: new addresses are the largest.
    clock.groups.sort_by_key(|group| (group.at, group.version));
}
