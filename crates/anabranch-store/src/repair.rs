//! What went wrong by no fault of the store's, made good: times of changes, after the clock of
//! this machine ran ahead.

use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::VersionVector;
use anabranch_sqlite::SqlError;
use anabranch_sqlite::function::Flags;

use crate::atomic::{Bracket, atomically};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::metadata::Retimed;
use crate::transaction;

/// Registers the function.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let flags = Flags { direct_only: true, ..Flags::default() };
    let at = cx.clone();
    // 1 as its argument: only say what would be done.
    cx.db.create_function("ana_internal_retime", 1, flags, move |call| {
        let is_dry = !matches!(call.arg(0), ValueRef::Integer(0));
        let Retimed { n_changes, first, last, ahead_ms } = retime(&at, is_dry)?;
        let json = format!(
            "{{\"changes\":{n_changes},\"first\":{first},\"last\":{last},\"ahead_ms\":{ahead_ms}}}"
        );
        Ok(Value::Text(json.into_bytes()))
    })
}

fn retime(cx: &Context, is_dry: bool) -> Result<Retimed> {
    if cx.transaction.borrow().has_writes() {
        return Err(StoreError::Refused(
            "ana_repair: this transaction has uncommitted writes; commit first".into(),
        ));
    }
    let now_ms = (cx.clock)();
    if is_dry {
        cx.refresh()?;
        return cx.metadata.borrow_mut().retime(now_ms, &acknowledged(cx)?, true);
    }
    let bracket = match cx.db.is_autocommit() && !cx.db.is_writing() {
        true => Bracket::Transaction,
        false => Bracket::Savepoint,
    };
    atomically(&cx.db, bracket, || {
        transaction::enrol(cx)?;
        cx.refresh()?;
        cx.metadata.borrow_mut().retime(now_ms, &acknowledged(cx)?, false)
    })
}

/// What each peer has, by its address.
fn acknowledged(cx: &Context) -> Result<Vec<(String, VersionVector)>> {
    let mut peers = Vec::new();
    for row in cx.db.query_rows("SELECT url, held FROM main.ana_peer ORDER BY url", &[])? {
        if let [Value::Text(url), Value::Text(held)] = &row[..] {
            let held = std::str::from_utf8(held).ok().map(VersionVector::from_json);
            let url = String::from_utf8_lossy(url).into_owned();
            peers.push((url, held.and_then(std::result::Result::ok).unwrap_or_default()));
        }
    }
    Ok(peers)
}
