//! What the last delta did, for `ana merge`: two hidden tables.

use std::rc::Rc;

use anabranch_core::value::Value;
use anabranch_sqlite::SqlError;
use anabranch_sqlite::vtab::Operator;

use super::Applied;
use crate::buffer::Superseded;
use crate::context::Context;
use crate::error::Result;
use crate::ids::EntryId;
use crate::listing::{Arguments, Listing, Rows, all};
use crate::registry::TableInfo;
use crate::snapshot;

/// Registers the tables.
pub(super) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let at = cx.clone();
    let applied = Listing {
        declaration: "CREATE TABLE x(tbl TEXT, inserted INTEGER, updated INTEGER, \
                      deleted INTEGER, after INTEGER)",
        arguments: &[],
        ordered_by: None,
        start: move |_: Arguments| Ok(all(counts(&at.delta.applied.borrow()))),
    };
    cx.db.create_table("ana_internal_applied", false, applied)?;
    let at = cx.clone();
    let superseded = Listing {
        declaration: "CREATE TABLE x(position INTEGER, tbl TEXT, pk BLOB, cid TEXT, val ANY, \
                      site_id BLOB, col_version INTEGER, cl INTEGER)",
        arguments: &[(0, Operator::Gt)],
        ordered_by: Some(0),
        start: move |arguments: Arguments| {
            let after = match arguments[0] {
                Some(Value::Integer(after)) => u64::try_from(after).unwrap_or(0),
                _ => 0,
            };
            Ok(superseded_after(&at, EntryId(after)))
        },
    };
    cx.db.create_table("ana_internal_superseded", false, superseded)
}

fn counts(applied: &Applied) -> Vec<Vec<Value>> {
    let row = |(name, [inserted, updated, deleted]): &(String, [u64; 3])| {
        let mut row = vec![Value::Text(name.clone().into_bytes())];
        let numbers = [*inserted, *updated, *deleted, applied.after];
        row.extend(numbers.map(|number| Value::Integer(number.cast_signed())));
        row
    };
    applied.tables.iter().map(row).collect()
}

/// Cells that lost or were overwritten though written concurrently, of the log after a
/// position, one log row at a time; tables that were dropped since are left out.
fn superseded_after(cx: &Rc<Context>, after: EntryId) -> Rows {
    let cx = cx.clone();
    let (mut position, mut rows) = (Some(after), Vec::new().into_iter());
    Box::new(move || {
        loop {
            if let Some(row) = rows.next() {
                return Ok(Some(row));
            }
            let Some(after) = position else { return Ok(None) };
            let found = snapshot::read(&cx, || superseded_rows(&cx, after))?;
            match found {
                Some((at, found)) => (position, rows) = (Some(at), found.into_iter()),
                None => position = None,
            }
        }
    })
}

/// The rows of the first log row after a position that notes such cells, and its position.
fn superseded_rows(cx: &Context, after: EntryId) -> Result<Option<(EntryId, Vec<Vec<Value>>)>> {
    let noted = cx.metadata.borrow_mut().superseded_after(after)?;
    let Some((at, noted)) = noted else { return Ok(None) };
    let mut rows = Vec::with_capacity(noted.len());
    for note in noted {
        let table = cx.registry.borrow().by_id(note.table);
        if let Some(table) = table {
            let pk = table.pack_folded(&note.key)?;
            rows.push(superseded_row(cx, note.entry, &table, pk, &note.cell)?);
        }
    }
    Ok(Some((at, rows)))
}

fn superseded_row(
    cx: &Context,
    position: EntryId,
    table: &TableInfo,
    pk: Vec<u8>,
    cell: &Superseded,
) -> Result<Vec<Value>> {
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    let column = table.columns.iter().find(|column| column.id == cell.column);
    let site = cx.metadata.borrow_mut().author_site(cell.origin)?;
    Ok(vec![
        Value::Integer(position.0.cast_signed()),
        text(&table.name),
        Value::Blob(pk),
        column.map_or(Value::Null, |column| text(&column.name)),
        cell.value.clone(),
        Value::Blob(site.as_bytes().to_vec()),
        Value::Integer(cell.version.cast_signed()),
        Value::Integer(cell.causal_length.cast_signed()),
    ])
}
