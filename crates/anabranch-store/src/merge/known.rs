//! Whether a change through `crsql_changes` says anything new, told from memory alone: peers that
//! send what is here already are the rule, and the cells of a row come one after another.
//!
//! Invariant: "known" is what [`super::merge_change`] would do nothing about; whatever is not in
//! memory is not known.

use std::cmp::Ordering;

use anabranch_core::merge::{CellState, Incoming, RowVerdict, Ties, cell_wins, merge_row};
use anabranch_core::value::ValueRef;

use super::recent::{self, RecentKey};
use crate::context::Context;
use crate::metadata::row_clock::RowClock;

/// A cell: name of its column, value, version.
type Cell<'a> = (&'a [u8], ValueRef<'a>, u64);

/// Whether nothing would come of a cell (`None`: of the row itself) of the row that was looked at
/// last, in a life of causal length `causal_length`.
pub(crate) fn is_known(
    cx: &Context,
    key: &RecentKey,
    cell: Option<Cell<'_>>,
    causal_length: u64,
) -> bool {
    let (table, folded) = (key.table.id, key.folded.as_slice());
    let transaction = cx.transaction.borrow();
    if !transaction.takes_merged() {
        return false;
    }
    let metadata = cx.metadata.borrow();
    let buffered = transaction.merged.clock(table, folded);
    let Some(clock) = buffered.or_else(|| metadata.recent_clock(table, folded)) else {
        return false;
    };
    let what = if cell.is_some() { Incoming::Cell } else { Incoming::Row };
    match (merge_row(clock.causal_length, causal_length, what), cell) {
        (RowVerdict::Stale, None) => true,
        (RowVerdict::Stale, Some((name, ..))) => {
            key.table.columns.iter().any(|column| column.name.as_bytes() == name)
        }
        (RowVerdict::CompareCells, Some(cell)) => loses(cx, key, clock, cell),
        _ => false,
    }
}

/// Whether the cell of a row whose present life has `clock` does not stand, for all that is in
/// memory.
fn loses(
    cx: &Context,
    key: &RecentKey,
    clock: &RowClock,
    (name, value, version): Cell<'_>,
) -> bool {
    let mut columns = key.table.columns.iter();
    let Some(position) = columns.position(|column| column.name.as_bytes() == name) else {
        return false;
    };
    let Some(held) = clock.column(key.table.columns[position].id) else { return false };
    match version.cmp(&held.version) {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => {
            // Which of two sites is larger matters only where equal values are merged.
            let own = cx.metadata.borrow().own_site();
            let wins = |held: ValueRef<'_>| {
                let held = CellState { version, value: held, origin: own };
                let incoming = CellState { version, value, origin: own };
                cell_wins(Some(held), incoming, Ties::KeepLocal)
            };
            cx.settings.keeps_local()
                && recent::kept_value(cx, key, position, wins).is_some_and(|wins| !wins)
        }
    }
}
