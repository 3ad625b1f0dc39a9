//! Scans over the log that yield only what still stands.

use smallvec::SmallVec;

use super::Metadata;
use crate::error::Result;
use crate::ids::{ColumnId, Key, LocalDot, Ordinal, TableId};

/// What still stands of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveRecord {
    pub(crate) table: TableId,
    /// The folded key, whole.
    pub(crate) key: Key,
    /// `__crsql_key` of the row.
    pub(crate) number: u64,
    /// Present causal length of the row.
    pub(crate) causal_length: u64,
    pub(crate) dot: LocalDot,
    pub(crate) origin: Ordinal,
    pub(crate) db_version: u64,
    /// The record gave the row its present causal length.
    pub(crate) is_birth: bool,
    /// Columns whose latest write this record is, in `seq` order.
    pub(crate) cells: SmallVec<[LiveCell; 4]>,
}

/// One column of a live record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveCell {
    /// 0: the sentinel, with the causal length as version.
    pub(crate) column: ColumnId,
    pub(crate) version: u64,
    pub(crate) seq: u64,
}

/// A scan in progress. It reads the log piecewise, holds no borrow between batches, and
/// sees what stood when each batch was read.
pub(crate) struct Scan {}

impl Scan {
    /// The next batch, at most a few thousand records; empty at the end.
    ///
    /// Batches are in order of `(db_version, seq)`; inside a batch records may stand in
    /// any order: whoever shows them sorts.
    pub(crate) fn next_batch(&mut self, _metadata: &mut Metadata) -> Result<Vec<LiveRecord>> {
        todo!()
    }
}
