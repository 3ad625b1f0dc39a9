//! Clocks for what is in a table already: as if it were written now, in key order.

use anabranch_core::value::ValueRef;
use anabranch_sqlite::Statement;
use smallvec::SmallVec;

use crate::base::quote_name;
use crate::buffer::LocalKind;
use crate::capture;
use crate::context::Context;
use crate::error::Result;
use crate::ids::ColumnId;
use crate::metadata::mask::Mask;
use crate::registry::TableInfo;
use crate::shape::TableShape;

/// Every row is inserted.
pub(super) fn all_rows(cx: &Context, table: &TableInfo) -> Result<()> {
    each_key(cx, table, |key| capture::push(cx, table, &[(LocalKind::Insert, key, &table.mask)]))
}

/// Hands over the key of every row, in key order.
pub(super) fn each_key(
    cx: &Context,
    table: &TableInfo,
    mut f: impl FnMut(&[ValueRef<'_>]) -> Result<()>,
) -> Result<()> {
    let key = key_names(table);
    let sql = format!("SELECT {key} FROM main.{} ORDER BY {key}", quote_name(&table.name));
    each_row(cx, &sql, |row| f(&key_of(table, row)))
}

/// Of columns that the table did not have: the cells that are not the default.
pub(super) fn fresh_columns(
    cx: &Context,
    table: &TableInfo,
    shape: &TableShape,
    fresh: &[ColumnId],
) -> Result<()> {
    if fresh.is_empty() {
        return Ok(());
    }
    let key = key_names(table);
    let differs: Vec<String> = fresh.iter().map(|id| differs(table, shape, *id)).collect();
    let sql = format!(
        "SELECT {key}, {} FROM main.{} WHERE {} ORDER BY {key}",
        differs.join(", "),
        quote_name(&table.name),
        differs.join(" OR ")
    );
    each_row(cx, &sql, |row| {
        let mut mask = Mask::new();
        for (index, id) in fresh.iter().enumerate() {
            if let ValueRef::Integer(1) = row.column(table.key.len() + index) {
                mask.insert(*id);
            }
        }
        capture::push(cx, table, &[(LocalKind::Update, &key_of(table, row), &mask)])
    })
}

/// An expression that says whether a row's cell is not the column's default.
fn differs(table: &TableInfo, shape: &TableShape, id: ColumnId) -> String {
    let name = &table.column(id).expect("numbered from this table's columns").name;
    let column = shape.replicated().find(|column| column.name == *name);
    let default = column.and_then(|column| column.default.as_deref()).unwrap_or("NULL");
    format!("({} COLLATE BINARY IS NOT ({default}))", quote_name(name))
}

fn each_row(cx: &Context, sql: &str, mut f: impl FnMut(&Statement) -> Result<()>) -> Result<()> {
    let mut statement = cx.db.prepare(sql)?;
    while statement.step()? {
        f(&statement)?;
    }
    Ok(())
}

fn key_names(table: &TableInfo) -> String {
    let names: Vec<String> = table.key.iter().map(|part| quote_name(&part.name)).collect();
    names.join(", ")
}

fn key_of<'a>(table: &TableInfo, row: &'a Statement) -> SmallVec<[ValueRef<'a>; 4]> {
    (0..table.key.len()).map(|index| row.column(index)).collect()
}
