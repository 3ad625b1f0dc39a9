//! Spellings of a key that its index takes for one: 'a' and 'A' under NOCASE, 5 and 5.0.
//!
//! INSERT OR REPLACE may change a live row's spelling, and SQLite reports the row it replaces
//! to no trigger. Collated keys have a BEFORE trigger that tells what was there. An untyped
//! key has none, for it would cost every insert: there a real that is an integer (5.0) over a
//! live row is taken for another spelling, and an integer for the same. So 5 over 5.0 keeps
//! the row's life, and its spelling stays here until the row is written anew.

use std::rc::Rc;

use anabranch_core::key::{self, Affinity, Collation};
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::function::Call;

use crate::context::Context;
use crate::error::Result;
use crate::registry::TableInfo;
use crate::transaction;

/// `ana_internal_old(token, key…)`: what is there under the key that comes, or NULLs.
pub(super) fn note(cx: &Context, table: &Rc<TableInfo>, call: &Call<'_>) -> Result<()> {
    let old: Vec<Value> = (1..call.len()).map(|i| call.arg(i).into()).collect();
    let is_there = old.len() == table.key.len() && !matches!(old.first(), Some(Value::Null));
    cx.capture.replaced.replace(is_there.then_some(old));
    Ok(())
}

/// Whether a row that was inserted took the place of one that spelled its key otherwise.
pub(super) fn is_changed(cx: &Context, table: &TableInfo, new: &[ValueRef<'_>]) -> Result<bool> {
    if let Some(old) = cx.capture.replaced.take() {
        let is_same = old.iter().zip(new).all(|(old, new)| old.as_ref().is_same(*new));
        let old: Vec<ValueRef<'_>> = old.iter().map(Value::as_ref).collect();
        return Ok(!is_same && super::folds_alike(table, new, &old)?);
    }
    let has_respelled = table.key_columns.iter().zip(new).any(|(column, value)| {
        let is_untyped = column.affinity == Affinity::Blob && column.collation == Collation::Binary;
        is_untyped && matches!(value, ValueRef::Real(real) if real.fract() == 0.0)
    });
    if !has_respelled {
        return Ok(false);
    }
    let key = key::fold(new, &table.key_columns).map_err(|error| super::bad_key(table, &error))?;
    let clock = transaction::row_clock(cx, table.id, &key)?;
    Ok(clock.is_some_and(|clock| clock.is_alive()))
}
