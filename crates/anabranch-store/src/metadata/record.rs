//! What a record of the log is: one operation on one row, which stamped some columns. `seq`
//! of a column is the record's first `seq` and the column's rank among those it stamped.

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
