//! One operation of the log: which columns of which row it stamped.

use super::mask::Mask;
use crate::ids::{Key, LocalDot, Ordinal};

/// What a record did, as far as replaying it over a row's clock needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// A local INSERT: all columns of the mask go up by one (or start at 1); bit 0 in the
    /// mask: the causal length rises to the next odd (a live row: by two).
    Insert,
    /// A local UPDATE: all columns of the mask go up by one.
    Update,
    /// A local DELETE: mask `{sentinel}`, the causal length rises to the next even.
    Delete,
    /// Anything whose result was computed when it was written (merges, key updates): never
    /// replayed, always folded at once.
    Merged,
}

/// A record, decoded. `seq` of a column of the mask is `first_seq` + its rank in the mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    /// The folded key, whole.
    pub(crate) key: Key,
    /// Columns stamped.
    pub(crate) mask: Mask,
    /// `seq` of the lowest column of the mask.
    pub(crate) first_seq: u64,
    /// The change that wrote it.
    pub(crate) dot: LocalDot,
    /// Where the cells first came from.
    pub(crate) origin: Ordinal,
    /// As `crsql_changes` shows it.
    pub(crate) db_version: u64,
    /// The record gave the row its causal length.
    pub(crate) is_birth: bool,
}
