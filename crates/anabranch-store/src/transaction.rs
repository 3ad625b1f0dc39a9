//! One transaction of this connection: its buffer, its marks, and its fate.

use crate::buffer::{LocalBuffer, MergedBuffer, MergedRecord};
use crate::context::Context;
use crate::error::Result;
use crate::ids::TableId;
use crate::metadata::PendingChange;
use crate::metadata::row_clock::RowClock;

/// The state of the present transaction; empty outside one.
#[derive(Default)]
pub(crate) struct Transaction {
    /// The own change being made.
    pub(crate) change: PendingChange,
    pub(crate) local: LocalBuffer,
    pub(crate) merged: MergedBuffer,
}

impl Transaction {
    /// Whether anything was written that is no change yet.
    pub(crate) fn has_writes(&self) -> bool {
        !self.local.ops.is_empty()
            || !self.merged.records.is_empty()
            || self.change.first_entry.is_some()
    }
}

/// Makes sure that SQLite tells us this transaction's fate.
pub(crate) fn enrol(_cx: &Context) -> Result<()> {
    todo!()
}

/// Writes all that is buffered to the log (early flush, or at commit).
pub(crate) fn flush(_cx: &Context) -> Result<()> {
    todo!()
}

/// The clock of a row, buffered merges included; buffered local operations are flushed
/// first.
pub(crate) fn row_clock(_cx: &Context, _table: TableId, _key: &[u8]) -> Result<Option<RowClock>> {
    todo!()
}

/// Buffers a merged record and the clock its row has after it (whose new groups point at
/// `(EntryId::PENDING, index)` with the index this returns). Enrols; flushes local
/// operations first. `after` is made by the caller through `make`, which gets the index.
pub(crate) fn push_merged(
    _cx: &Context,
    _record: MergedRecord,
    _make: impl FnOnce(u32) -> RowClock,
) -> Result<()> {
    todo!()
}

/// `db_version` a local write would get now: max(committed + 1, pending).
pub(crate) fn next_db_version(_cx: &Context) -> Result<u64> {
    todo!()
}

/// Raises the pending `db_version` to at least `version` and returns it.
pub(crate) fn raise_db_version(_cx: &Context, _version: u64) -> Result<u64> {
    todo!()
}
