//! `ana_conflicts`: cells that were written concurrently and do not stand, with the reason.
//!
//! Read out of the log, one row of it at a time. A cell is told here as long as the log keeps
//! it, which is until compaction; copies need not list the same, for each notes what it saw
//! give way.

use std::rc::Rc;

use anabranch_core::value::Value;
use anabranch_sqlite::SqlError;
use anabranch_sqlite::vtab::Operator;

use crate::buffer::Superseded;
use crate::context::Context;
use crate::error::Result;
use crate::ids::EntryId;
use crate::listing::{Arguments, Listing, Rows};
use crate::registry::TableInfo;
use crate::snapshot;

/// Registers the table.
pub(super) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let at = cx.clone();
    let conflicts = Listing {
        declaration: "CREATE TABLE x(\"table\" TEXT, pk BLOB, \"column\" TEXT, value ANY, \
                      site BLOB, time INTEGER, why TEXT)",
        arguments: &[(0, Operator::Eq), (1, Operator::Eq)],
        ordered_by: None,
        start: move |arguments: Arguments| Ok(rows(&at, arguments)),
    };
    cx.db.create_table("ana_conflicts", false, conflicts)
}

/// All of them, or those of a table, of a key, or of both.
fn rows(cx: &Rc<Context>, asked: Arguments) -> Rows {
    let cx = cx.clone();
    let (mut position, mut rows) = (Some(EntryId(0)), Vec::new().into_iter());
    Box::new(move || {
        loop {
            if let Some(row) = rows.next() {
                return Ok(Some(row));
            }
            let Some(after) = position else { return Ok(None) };
            match snapshot::read(&cx, || rows_of_next(&cx, after, &asked))? {
                Some((at, found)) => (position, rows) = (Some(at), found.into_iter()),
                None => position = None,
            }
        }
    })
}

/// What the first log row after a position notes, and its position.
fn rows_of_next(
    cx: &Context,
    after: EntryId,
    asked: &Arguments,
) -> Result<Option<(EntryId, Vec<Vec<Value>>)>> {
    let noted = cx.metadata.borrow_mut().superseded_after(after)?;
    let Some((at, noted)) = noted else { return Ok(None) };
    let is_asked = |slot: usize, value: &Value| {
        asked[slot].as_ref().is_none_or(|asked| asked.as_ref().is_same(value.as_ref()))
    };
    let mut rows = Vec::new();
    for note in noted {
        let table = cx.registry.borrow().by_id(note.table);
        let Some(table) = table else { continue };
        let name = text(&table.name);
        if !is_asked(0, &name) {
            continue;
        }
        let pk = Value::Blob(table.pack_folded(&note.key)?);
        if is_asked(1, &pk) {
            rows.push(row(cx, &table, [name, pk], &note.cell)?);
        }
    }
    Ok(Some((at, rows)))
}

fn row(
    cx: &Context,
    table: &TableInfo,
    [name, pk]: [Value; 2],
    cell: &Superseded,
) -> Result<Vec<Value>> {
    let column = table.columns.iter().find(|column| column.id == cell.column);
    let mut metadata = cx.metadata.borrow_mut();
    let site = metadata.author_site(cell.origin)?;
    let time = metadata.time_of(cell.dot)?;
    Ok(vec![
        name,
        pk,
        column.map_or(Value::Null, |column| text(&column.name)),
        cell.value.clone(),
        Value::Blob(site.as_bytes().to_vec()),
        time.map_or(Value::Null, |time| Value::Integer(time.millis().cast_signed())),
        text(why(cell)),
    ])
}

fn why(cell: &Superseded) -> &'static str {
    match (cell.stands > cell.causal_length, cell.stands % 2) {
        (false, _) => "overwritten",
        (true, 0) => "row deleted",
        (true, _) => "row inserted again",
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.as_bytes().to_vec())
}
