//! Foreign changes against the rows held here: the rule of the core, applied to the store.
//!
//! Two doors: [`merge_change`] takes one row of `crsql_changes` (cr-sqlite's rules, kept to
//! the letter), [`merge_row_delta`] what a delta says of one row, [`merge_fresh_rows`] of
//! several that are new. All write base rows at once, before they buffer metadata: a refusal
//! by a constraint or a trigger changes nothing.

use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;

use crate::ids::{ColumnId, LocalDot};

mod change;
mod contest;
mod edit;
mod known;
mod recent;
mod records;
mod row;
mod stamp;

pub(crate) use change::merge_change;
pub(crate) use known::is_known;
pub(crate) use recent::{Recent, RecentKey};
pub(crate) use row::{is_fresh, merge_fresh_rows, merge_row_delta};

/// The column an incoming change names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IncomingColumn<'a> {
    /// `-1`: the row itself.
    Row,
    /// A replicated column.
    Known(ColumnId),
    /// No column of this table: refused once it would have to be compared or written.
    Unknown(&'a str),
}

/// One row of `crsql_changes`, checked against the bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IncomingChange<'a> {
    /// The folded key.
    pub(crate) key: &'a [u8],
    /// The key's values as sent.
    pub(crate) spelled: &'a [ValueRef<'a>],
    pub(crate) column: IncomingColumn<'a>,
    pub(crate) value: ValueRef<'a>,
    pub(crate) version: u64,
    /// The sender's; ours becomes at least this.
    pub(crate) db_version: u64,
    /// `None`: this copy.
    pub(crate) origin: Option<SiteId>,
    pub(crate) causal_length: u64,
    pub(crate) seq: u64,
}

/// What a delta says of one row, as far as it was not held before: what the receiver's
/// vector covers is left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IncomingRow<'a> {
    /// The folded key.
    pub(crate) key: &'a [u8],
    /// The key's values as its birth spells them.
    pub(crate) spelled: &'a [ValueRef<'a>],
    pub(crate) causal_length: u64,
    /// What gave it this causal length; of a dead row the deletes.
    pub(crate) births: &'a [IncomingBirth],
    /// Cells by ascending column, each column once; empty for a dead row.
    pub(crate) cells: &'a [IncomingCell<'a>],
}

/// The change that gave a row its causal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IncomingBirth {
    pub(crate) dot: LocalDot,
    /// A site, not an ordinal: only origins of winning cells get one.
    pub(crate) origin: SiteId,
}

/// One cell of a delta.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IncomingCell<'a> {
    pub(crate) column: ColumnId,
    /// From 1.
    pub(crate) version: u64,
    pub(crate) value: ValueRef<'a>,
    pub(crate) dot: LocalDot,
    pub(crate) origin: SiteId,
}

/// What a delta is merged under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaScope {
    /// The `db_version` of all that the delta brings.
    pub(crate) db_version: u64,
}

/// What became of one row of a delta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowOutcome {
    /// Cells (and deletions or new lives of the row, one each) that stand: what
    /// `crsql_rows_impacted` counts.
    pub(crate) won: u32,
    /// What the user sees of it.
    pub(crate) effect: RowEffect,
}

/// What a merge did to the row of the user's table; `ana merge` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RowEffect {
    /// The base row is as it was.
    #[default]
    None,
    /// There is a row where none was.
    Inserted,
    /// The row was there, and was written.
    Updated,
    /// The row is gone.
    Deleted,
}
