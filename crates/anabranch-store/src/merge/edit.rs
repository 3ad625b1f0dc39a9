//! Edits of a row's clock that keep its invariants, and the record that goes with each.

use crate::buffer::MergedRecord;
use crate::context::Context;
use crate::error::Result;
use crate::ids::{Address, ColumnId, TableId};
use crate::metadata::mask::Mask;
use crate::metadata::row_clock::{Group, RowClock};
use crate::transaction;

/// A row under merge.
pub(super) struct RowEdit<'a> {
    cx: &'a Context,
    table: TableId,
    key: &'a [u8],
    /// Its clock before the first record; `None` too once a record is pushed.
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

    /// Buffers a record and lets `edit` change the clock, given the record's address.
    pub(super) fn push(
        &mut self,
        record: MergedRecord,
        edit: impl FnOnce(&mut RowClock, Address),
    ) -> Result<()> {
        transaction::push_merged(self.cx, (self.table, self.key), self.clock.take(), record, edit)
    }
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
/// stays only as the memory of a birth. Columns of one record and version are one group, the
/// sentinel apart.
pub(super) fn put(clock: &mut RowClock, group: Group) {
    let is_like = |old: &Group| {
        (old.at, old.version) == (group.at, group.version)
            && !old.mask.is_empty()
            && !old.mask.contains(ColumnId::SENTINEL)
            && !group.mask.contains(ColumnId::SENTINEL)
    };
    for old in &mut clock.groups {
        old.mask.subtract(&group.mask);
    }
    clock.groups.retain(|old| !old.mask.is_empty() || old.is_birth);
    if let Some(old) = clock.groups.iter_mut().find(|old| is_like(old)) {
        old.mask.unite(&group.mask);
        old.is_birth |= group.is_birth;
        return;
    }
    clock.groups.push(group);
    // Few groups, nearly sorted: new addresses are the largest.
    clock.groups.sort_by_key(|group| (group.at, group.version));
}
