//! Spellings of a key that its index takes for one: 'a' and 'A' under NOCASE, 5 and 5.0.
//!
//! INSERT OR REPLACE and UPDATE OR REPLACE may change a live row's spelling, and SQLite reports
//! the row they replace to no trigger. So a BEFORE trigger (`triggers.rs`) notes a key that is
//! about to be written over another spelling of it, and the AFTER trigger of that write finds the
//! note. Invariant: a note is true of the row that is there now, or belongs to no write any more:
//! whatever ends or respells a row settles what was noted of its key.

use std::collections::VecDeque;
use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::function::Call;

use super::partial;
use crate::context::Context;
use crate::error::Result;
use crate::limits::MAX_NOTED_SPELLINGS;
use crate::registry::TableInfo;

/// What BEFORE triggers noted in this transaction, and no write has taken up; each once.
///
/// More than one: triggers of somebody's may write between ours, and writes that are ignored
/// leave theirs behind. Those stay for the statements that follow: SQLite does not tell us
/// where one ends, for its count of changes grows inside of one that fires such triggers.
#[derive(Default)]
pub(super) struct Respelled(VecDeque<Noted>);

struct Noted {
    /// Of its table.
    token: i64,
    /// As the row that comes spells it.
    key: Vec<Value>,
    folded: Vec<u8>,
}

impl Noted {
    fn is_of(&self, table: &TableInfo, folded: &[u8]) -> bool {
        self.token == table.token && self.folded == folded
    }

    /// It is of this key, spelled so.
    fn is(&self, table: &TableInfo, folded: &[u8], key: &[ValueRef<'_>]) -> bool {
        let mut pairs = self.key.iter().zip(key);
        self.is_of(table, folded) && pairs.all(|(noted, new)| noted.as_ref().is_same(*new))
    }
}

impl Respelled {
    /// Forgets all: what was noted is over, or undone.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// `ana_internal_old(token, key…)`: a row is there that spells the key otherwise.
pub(super) fn note(cx: &Context, table: &Rc<TableInfo>, call: &Call<'_>) -> Result<()> {
    let n_key = table.key.len();
    if call.len() == 1 + n_key {
        return super::with_values(call, n_key, |key| push(cx, table, key));
    }
    let partial = partial::finish(cx, table, call, n_key, 0)?;
    push(cx, table, &partial.keys())
}

fn push(cx: &Context, table: &TableInfo, key: &[ValueRef<'_>]) -> Result<()> {
    let folded = super::fold(table, key)?;
    let mut noted = cx.capture.respelled.borrow_mut();
    if noted.0.iter().any(|noted| noted.is(table, &folded, key)) {
        return Ok(());
    }
    if noted.0.len() >= MAX_NOTED_SPELLINGS {
        noted.0.pop_front();
    }
    let key = key.iter().map(|value| Value::from(*value)).collect();
    noted.0.push_back(Noted { token: table.token, key, folded });
    Ok(())
}

/// Whether the row that is now under `key` took the place of one that spelled it otherwise.
/// Nothing is noted of the key any more.
pub(super) fn settle(cx: &Context, table: &TableInfo, key: &[ValueRef<'_>]) -> Result<bool> {
    let mut noted = cx.capture.respelled.borrow_mut();
    if noted.0.is_empty() || super::has_null(key) {
        return Ok(false);
    }
    let folded = super::fold(table, key)?;
    let mut is_respelled = false;
    noted.0.retain(|noted| {
        is_respelled |= noted.is(table, &folded, key);
        !noted.is_of(table, &folded)
    });
    Ok(is_respelled)
}
