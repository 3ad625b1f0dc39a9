//! The one merge function: which of two states of a row, or of a cell, stands.
//!
//! Rows are causal-length sets (Yu, Rostad 2020); cells are registers ordered by column
//! version, then value, then (if asked) site. Every door calls this.

use crate::site::SiteId;
use crate::value::ValueRef;

/// What an incoming change says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The row itself at this causal length (a sentinel, or any even length).
    Row,
    /// A cell of the row at this causal length.
    Cell,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowVerdict {
    /// The incoming state is known or older: nothing happens.
    Stale,
    /// The row is deleted: its cells go.
    Delete,
    /// The row starts a new life: cells of the former one go, then the cell stands.
    Raise,
    /// The row was unknown and is born with its first cell, without a sentinel.
    Born,
    /// Both are at one causal length: cells decide.
    CompareCells,
}

/// Decides about a row at local causal length `local` (0: unknown).
pub fn merge_row(local: u64, incoming: u64, what: Incoming) -> RowVerdict {
    if incoming < local {
        return RowVerdict::Stale;
    }
    let is_delete = incoming.is_multiple_of(2);
    match (incoming == local, is_delete, what) {
        (true, true, _) | (true, false, Incoming::Row) => RowVerdict::Stale,
        (true, false, Incoming::Cell) => RowVerdict::CompareCells,
        (false, true, _) => RowVerdict::Delete,
        (false, false, Incoming::Cell) if local == 0 && incoming == 1 => RowVerdict::Born,
        (false, false, _) => RowVerdict::Raise,
    }
}

/// One side of a comparison of cells.
#[derive(Clone, Copy, Debug)]
pub struct CellState<'a> {
    /// Column version; 0 for a cell that a raised row left behind.
    pub version: u64,
    /// The value.
    pub value: ValueRef<'a>,
    /// The site it first came from.
    pub origin: SiteId,
}

/// What happens to equal values of equal version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// The local cell stands (the default).
    KeepLocal,
    /// The larger site id stands (`merge-equal-values`).
    LargerSite,
}

/// Whether the incoming cell replaces the local one, both at one causal length.
pub fn cell_wins(local: Option<CellState<'_>>, incoming: CellState<'_>, ties: Ties) -> bool {
    let Some(local) = local else { return true };
    let order =
        incoming.version.cmp(&local.version).then_with(|| incoming.value.order(local.value));
    match (order, ties) {
        (std::cmp::Ordering::Equal, Ties::KeepLocal) => false,
        (std::cmp::Ordering::Equal, Ties::LargerSite) => {
            incoming.origin.as_bytes() > local.origin.as_bytes()
        }
        (order, _) => order == std::cmp::Ordering::Greater,
    }
}
