//! Numbers that are local to one file and never reused.

use smallvec::SmallVec;

/// A conflict-free table, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableId(pub(crate) u32);

/// A replicated column of a table, from 1 in declaration order; 0 is the sentinel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ColumnId(pub(crate) u16);

impl ColumnId {
    /// The row itself: `cid = '-1'` in `crsql_changes`.
    pub(crate) const SENTINEL: ColumnId = ColumnId(0);
}

/// A row of `ana_entry`: position in the log, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryId(pub(crate) u64);

impl EntryId {
    /// Stands for records that are buffered and not written yet: `index` then counts
    /// records of the buffer.
    pub(crate) const PENDING: EntryId = EntryId(u64::MAX);
}

/// Where a record stands: an entry and the record's index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub(crate) entry: EntryId,
    pub(crate) index: u32,
}

/// An author of changes: row of `ana_site`; 0 is this copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AuthorId(pub(crate) u32);

/// An origin of cells: ordinal of `crsql_site_id`; 0 is this copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ordinal(pub(crate) u32);

/// A dot by local author id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LocalDot {
    pub(crate) author: AuthorId,
    pub(crate) version: u64,
}

/// A folded key (`anabranch_core::key::fold`).
pub(crate) type Key = SmallVec<[u8; 24]>;
