//! Spellings of a key that its index takes for one: 'a' and 'A' under NOCASE, 5 and 5.0.
//!
//! INSERT OR REPLACE may change a live row's spelling, and SQLite reports the row it replaces
//! to no trigger. Collated keys have a BEFORE trigger that tells what was there. An untyped
//! key has none, for it would cost every insert: there a real that is an integer (5.0) over a
//! live row is taken for another spelling, and an integer for the same. So 5 over 5.0 keeps
//! the row's life, and its spelling stays here until the row is written anew.
//! UPDATE OR REPLACE of a key is told by a BEFORE trigger on the key's columns, which costs other
//! updates nothing.

use std::rc::Rc;

use anabranch_core::key::{self, Affinity, Collation};
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::function::Call;

use crate::context::Context;
use crate::error::Result;
use crate::registry::TableInfo;
use crate::transaction;

/// The key under which a row is about to be written, as a row that is there spells it.
pub(super) struct Replaced {
    /// Of its table.
    token: i64,
    there: Vec<Value>,
}

/// `ana_internal_old(token, key…)`: what is there under the key that comes, or NULLs.
pub(super) fn note(cx: &Context, table: &Rc<TableInfo>, call: &Call<'_>) -> Result<()> {
    let there: Vec<Value> = (1..call.len()).map(|i| call.arg(i).into()).collect();
    let is_there = there.len() == table.key.len() && !matches!(there.first(), Some(Value::Null));
    let replaced = Replaced { token: table.token, there };
    cx.capture.replaced.replace(is_there.then_some(replaced));
    Ok(())
}

/// Whether what was noted spells the key that was written otherwise.
pub(super) fn is_replaced(cx: &Context, table: &TableInfo, new: &[ValueRef<'_>]) -> Result<bool> {
    let noted = cx.capture.replaced.take();
    // A write that was ignored may have left the note.
    let Some(Replaced { there, .. }) = noted.filter(|noted| noted.token == table.token) else {
        return Ok(false);
    };
    let is_same = there.iter().zip(new).all(|(there, new)| there.as_ref().is_same(*new));
    let there: Vec<ValueRef<'_>> = there.iter().map(Value::as_ref).collect();
    Ok(!is_same && super::folds_alike(table, new, &there)?)
}

/// Whether a row that was inserted took the place of one that spelled its key otherwise.
pub(super) fn is_changed(cx: &Context, table: &TableInfo, new: &[ValueRef<'_>]) -> Result<bool> {
    let is_collated = table.key_columns.iter().any(|c| c.collation != Collation::Binary);
    if is_collated {
        return is_replaced(cx, table, new);
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
