//! Where the row that was written last is: the cells of a row come one after another, and a rowid
//! is found without the index of the key.
//!
//! A hint only: whoever uses it says the key too, for the row may have gone elsewhere.

use std::rc::Rc;

use anabranch_core::value::ValueRef;
use smallvec::SmallVec;

use super::{Shape, run};
use crate::context::Context;
use crate::error::Result;
use crate::registry::TableInfo;

/// The row of a table that was written last.
#[derive(Default)]
pub(super) struct LastPlace {
    /// Its key; empty: none, or one that is not kept.
    key: SmallVec<[u8; 24]>,
    /// `None`: not known.
    rowid: Option<i64>,
    /// The row before it was written more than once, so this one probably will be.
    repeats: bool,
}

/// The bytes of a key that is worth being kept: one text or blob.
fn bytes<'k>(table: &TableInfo, key: &[ValueRef<'k>]) -> Option<&'k [u8]> {
    match key {
        [ValueRef::Text(bytes) | ValueRef::Blob(bytes)] if table.rowid.is_some() => Some(bytes),
        _ => None,
    }
}

/// Notes that a row was inserted just now.
pub(super) fn note_insert(cx: &Context, table: &Rc<TableInfo>, key: &[ValueRef<'_>]) {
    let Some(bytes) = bytes(table, key) else { return };
    let rowid = cx.db.last_insert_rowid();
    let mut base = cx.base.borrow_mut();
    let place = &mut base.of(table).place;
    place.key = SmallVec::from_slice(bytes);
    place.rowid = Some(rowid);
    place.repeats = false;
}

/// Where the row that is to be updated probably is, if that is worth knowing.
pub(super) fn of(cx: &Context, table: &Rc<TableInfo>, key: &[ValueRef<'_>]) -> Result<Option<i64>> {
    let Some(bytes) = bytes(table, key) else { return Ok(None) };
    {
        let mut base = cx.base.borrow_mut();
        let place = &mut base.of(table).place;
        if place.key.as_slice() == bytes {
            place.repeats = true;
            if place.rowid.is_some() {
                return Ok(place.rowid);
            }
        } else {
            let is_first = !std::mem::take(&mut place.repeats);
            place.key = SmallVec::from_slice(bytes);
            place.rowid = None;
            if is_first {
                return Ok(None);
            }
        }
    }
    let found = run(cx, table, Shape::Rowid, |statement| {
        statement.query_row(key, |row| match row.column(0) {
            ValueRef::Integer(rowid) => Ok(Some(rowid)),
            _ => Ok(None),
        })
    })?;
    let rowid = found.flatten();
    cx.base.borrow_mut().of(table).place.rowid = rowid;
    Ok(rowid)
}
