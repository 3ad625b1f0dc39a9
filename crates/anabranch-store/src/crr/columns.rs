//! Ids of replicated columns: from 1 in each table, never reused.
//!
//! A column that is gone keeps its id and name: other copies may hold its cells, so if a
//! column of that name comes back, its versions go on from where they were.

use anabranch_core::value::ValueRef;

use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{ColumnId, TableId};
use crate::shape::{TableShape, integer, text};

/// What became of a table's columns since they were numbered last.
pub(super) struct Numbered {
    /// Those that the table never had.
    pub(super) fresh: Vec<ColumnId>,
    /// Those that were gone and came back: nobody knows which of their cells were written.
    pub(super) returned: Vec<ColumnId>,
}

/// A column that a table has or had.
pub(super) struct Named {
    pub(super) id: ColumnId,
    pub(super) name: String,
    is_gone: bool,
}

/// All columns that a table has or had.
pub(super) fn all(cx: &Context, table: TableId) -> Result<Vec<Named>> {
    let sql = "SELECT id, name, gone FROM main.ana_names WHERE tbl = ?1 ORDER BY id";
    let rows = cx.db.query_rows(sql, &[ValueRef::Integer(i64::from(table.0))])?;
    let named = rows.iter().map(|row| {
        let id = u16::try_from(integer(&row[0])).map_err(|_| StoreError::Damaged {
            place: format!("ana_names, table {}, id {}", table.0, integer(&row[0])),
            what: "an id beyond 16 bits",
        })?;
        Ok(Named { id: ColumnId(id), name: text(&row[1]), is_gone: integer(&row[2]) != 0 })
    });
    named.collect()
}

/// Numbers the columns of a table that have no id yet, and notes which are gone.
pub(super) fn number(cx: &Context, table: TableId, shape: &TableShape) -> Result<Numbered> {
    let known = all(cx, table)?;
    let mut numbered = Numbered { fresh: Vec::new(), returned: Vec::new() };
    for column in &known {
        let is_gone = !shape.replicated().any(|there| there.name == column.name);
        if is_gone == column.is_gone {
            continue;
        }
        let sql = "UPDATE main.ana_names SET gone = ?3 WHERE tbl = ?1 AND id = ?2";
        let params = [i64::from(table.0), i64::from(column.id.0), i64::from(is_gone)];
        cx.db.execute(sql, &params.map(ValueRef::Integer))?;
        if !is_gone {
            numbered.returned.push(column.id);
        }
    }
    let mut last = known.last().map_or(ColumnId::SENTINEL, |column| column.id);
    for column in shape.replicated() {
        if !known.iter().any(|there| there.name == column.name) {
            last = add(cx, table, last, &column.name, false)?;
            numbered.fresh.push(last);
        }
    }
    Ok(numbered)
}

/// Gives an id to a column that the table of that name had, and has no more.
pub(super) fn add_gone(cx: &Context, table: TableId, name: &str) -> Result<ColumnId> {
    let last = all(cx, table)?.last().map_or(ColumnId::SENTINEL, |column| column.id);
    add(cx, table, last, name, true)
}

fn add(
    cx: &Context,
    table: TableId,
    last: ColumnId,
    name: &str,
    is_gone: bool,
) -> Result<ColumnId> {
    let id = last.0.checked_add(1).ok_or_else(|| {
        StoreError::Refused(format!("column {name}: the table has no ids left for columns"))
    })?;
    cx.db.execute(
        "INSERT INTO main.ana_names(tbl, id, name, gone) VALUES (?1, ?2, ?3, ?4)",
        &[
            ValueRef::Integer(i64::from(table.0)),
            ValueRef::Integer(i64::from(id)),
            ValueRef::Text(name.as_bytes()),
            ValueRef::Integer(i64::from(is_gone)),
        ],
    )?;
    Ok(ColumnId(id))
}
