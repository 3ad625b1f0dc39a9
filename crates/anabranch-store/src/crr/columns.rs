//! Ids of replicated columns: from 1 in each table, never reused.
//!
//! A column that is gone keeps its id under no name, so that cells that the log still holds
//! of it are never taken for another's; one that comes back is a new column.

use anabranch_core::value::{Value, ValueRef};

use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{ColumnId, TableId};
use crate::shape::{TableShape, integer, text};

/// Numbers the columns of a table that have no id yet, and answers them; columns that are
/// gone lose their name.
pub(super) fn number(cx: &Context, table: TableId, shape: &TableShape) -> Result<Vec<ColumnId>> {
    let id_of_table = ValueRef::Integer(i64::from(table.0));
    let sql = "SELECT id, name FROM main.ana_names WHERE tbl = ?1 ORDER BY id";
    let known = cx.db.query_rows(sql, &[id_of_table])?;
    for row in &known {
        let is_gone = match &row[1] {
            Value::Text(_) => !shape.replicated().any(|column| column.name == text(&row[1])),
            _ => false,
        };
        if is_gone {
            let sql = "UPDATE main.ana_names SET name = NULL WHERE tbl = ?1 AND id = ?2";
            cx.db.execute(sql, &[id_of_table, row[0].as_ref()])?;
        }
    }
    let mut next = known.last().map_or(0, |row| integer(&row[0]));
    let mut fresh = Vec::new();
    for column in shape.replicated() {
        let name = Value::Text(column.name.clone().into_bytes());
        if known.iter().any(|row| row[1] == name) {
            continue;
        }
        next += 1;
        let id = u16::try_from(next).map_err(|_| {
            StoreError::Refused(format!("table {}: no ids are left for columns", shape.name))
        })?;
        let sql = "INSERT INTO main.ana_names(tbl, id, name) VALUES (?1, ?2, ?3)";
        cx.db.execute(sql, &[id_of_table, ValueRef::Integer(next), name.as_ref()])?;
        fresh.push(ColumnId(id));
    }
    Ok(fresh)
}
