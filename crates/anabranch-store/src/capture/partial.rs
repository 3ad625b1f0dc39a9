//! Rows too wide for one call: a function takes at most 127 arguments everywhere, so a
//! trigger hands over a wide row in several calls that directly follow each other.
//!
//! Invariant: what is kept belongs to one row of one table; a first part drops whatever a
//! statement that was aborted between two calls left behind.

use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::function::Call;

use super::Values;
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::metadata::mask::Mask;
use crate::registry::TableInfo;

/// What the calls so far brought.
#[derive(Default)]
pub(super) struct Partial {
    token: i64,
    keys: Vec<Value>,
    /// Replicated columns compared.
    n_compared: usize,
    /// Those that changed.
    mask: Mask,
}

impl Partial {
    /// The values of the key, or of the new and the old one.
    pub(super) fn keys(&self) -> Values<'_> {
        self.keys.iter().map(Value::as_ref).collect()
    }

    /// Columns that changed.
    pub(super) fn mask(&self) -> &Mask {
        &self.mask
    }
}

/// `ana_internal_key(token, first, values…)`.
pub(super) fn add_key(cx: &Context, table: &Rc<TableInfo>, call: &Call<'_>) -> Result<()> {
    let first = first(table, call)?;
    let mut partial = cx.capture.partial.borrow_mut();
    if first == 0 {
        *partial = Partial { token: table.token, ..Partial::default() };
    }
    if partial.token != table.token || partial.keys.len() != first {
        return Err(out_of_order(table));
    }
    partial.keys.extend((2..call.len()).map(|i| Value::from(call.arg(i))));
    Ok(())
}

/// `ana_internal_compare(token, first, old, new, …)`.
pub(super) fn add_pairs(cx: &Context, table: &Rc<TableInfo>, call: &Call<'_>) -> Result<()> {
    let first = first(table, call)? / 2;
    let mut partial = cx.capture.partial.borrow_mut();
    // The key comes before, if it comes in parts at all.
    let follows_key = partial.token == table.token
        && partial.n_compared == 0
        && partial.keys.len() == 2 * table.key.len();
    if first == 0 && !follows_key {
        *partial = Partial { token: table.token, ..Partial::default() };
    }
    let columns = table.columns.get(first..).unwrap_or_default();
    let is_next = partial.token == table.token && partial.n_compared == first;
    if !is_next || !call.len().is_multiple_of(2) || (call.len() - 2) / 2 > columns.len() {
        return Err(out_of_order(table));
    }
    let mut at = 2;
    for column in columns.iter().take((call.len() - 2) / 2) {
        if !call.are_same(at, at + 1) {
            partial.mask.insert(column.id);
        }
        at += 2;
    }
    partial.n_compared += (call.len() - 2) / 2;
    Ok(())
}

/// Takes what the calls before the last one brought: so many key values and columns.
pub(super) fn finish(
    cx: &Context,
    table: &Rc<TableInfo>,
    call: &Call<'_>,
    n_keys: usize,
    n_columns: usize,
) -> Result<Partial> {
    let partial = cx.capture.partial.take();
    // With an empty key part the rest may be of an older row: only pairs count then.
    let is_whole = partial.token == table.token
        && partial.keys.len() == n_keys
        && partial.n_compared == n_columns;
    let has_own = call.len() == 1 || n_keys == 0;
    if is_whole && has_own { Ok(partial) } else { Err(out_of_order(table)) }
}

fn first(table: &TableInfo, call: &Call<'_>) -> Result<usize> {
    match (call.len() >= 2).then(|| call.arg(1)) {
        Some(ValueRef::Integer(first)) => usize::try_from(first).map_err(|_| out_of_order(table)),
        _ => Err(out_of_order(table)),
    }
}

fn out_of_order(table: &TableInfo) -> StoreError {
    StoreError::Refused(format!(
        "table {}: the values do not fit its columns; only its triggers call this",
        table.name
    ))
}
