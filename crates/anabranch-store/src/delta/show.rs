//! Trying again to show what is held: it is taken like a delta, out of the file.
//!
//! Tried after each delta, when tables change, and by `ana_retry()`. What still fails stays as
//! it was; what does not is merged by the one rule, whatever was written meanwhile.

use super::apply::passes;
use super::held::{self, Words};
use super::intake::Intake;
use crate::context::Context;
use crate::error::Result;
use crate::limits::{MAX_CELLS_TRIED_AT_APPLY, MAX_HOLD_PASSES};
use crate::transaction;
use anabranch_core::value::ValueRef;

/// Tries, and again while that shows something that the rest may have waited for; the number
/// of changes newly shown.
///
/// # Errors
/// What befell SQLite; a constraint that still refuses is none.
pub(super) fn show(cx: &Context) -> Result<u64> {
    let before = held::n_changes(cx)?;
    let mut n_left = before;
    for _ in 0..MAX_HOLD_PASSES {
        if !held::is_any(cx)? {
            break;
        }
        passes(cx, ValueRef::Null)?;
        let n_before = std::mem::replace(&mut n_left, held::n_changes(cx)?);
        if n_left >= n_before {
            break;
        }
    }
    Ok(before.saturating_sub(n_left))
}

/// Tries after a delta was taken. The delta stands, whatever becomes of this.
///
/// # Errors
/// The transaction of the host's, and with it the delta, was undone.
pub(super) fn after_apply(cx: &Context) -> Result<()> {
    if !held::is_any(cx)? || held::has_more_than(cx, MAX_CELLS_TRIED_AT_APPLY)? {
        return Ok(());
    }
    beside(cx)
}

/// Tries where something else succeeded that must not fail by it.
///
/// # Errors
/// The transaction of the host's was undone.
pub(super) fn beside(cx: &Context) -> Result<()> {
    let is_own = cx.db.is_autocommit() && !cx.db.is_writing();
    if !is_own && held::has_undone(cx)? {
        return Ok(());
    }
    let was_autocommit = cx.db.is_autocommit();
    match show(cx) {
        Err(error) if cx.db.is_autocommit() != was_autocommit => Err(error),
        _ => Ok(()),
    }
}

/// One pass over all that is held: what is left out or waits is put back.
pub(super) fn pass(cx: &Context) -> Result<()> {
    transaction::enrol(cx)?;
    cx.refresh()?;
    let mut intake = Intake::again(cx)?;
    let mut name = String::new();
    while let Some(table) = held::next_table(cx, &name)? {
        let mut after = Vec::new();
        loop {
            let rows = held::rows_after(cx, &table, &after)?;
            let Some(last) = rows.last() else { break };
            after = last.key.clone();
            rows.iter().try_for_each(|row| held::delete(cx, &table, &row.key))?;
            let mut words = Words::default();
            let delta = words.table(&table, &rows);
            intake.speak(&words.sites)?;
            intake.table(&delta)?;
        }
        name = table;
    }
    held::settle(cx, &cx.delta.holding.borrow())
}
