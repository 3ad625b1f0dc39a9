//! The texts of statements on users' tables; any name is quoted.

use anabranch_core::value::ValueRef;

use super::{Columns, Shape};
use crate::ids::ColumnId;
use crate::registry::TableInfo;

/// A name as an identifier of SQL.
pub(crate) fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal of SQL.
pub(crate) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The statement of a shape; parameters as [`Shape`] says.
pub(super) fn text(table: &TableInfo, shape: &Shape) -> String {
    let name = format!("main.{}", quote_name(&table.name));
    let n_key = table.key.len();
    let whole = || key_names(table).chain(all_names(table)).collect::<Vec<_>>().join(", ");
    // +?1: of a bare parameter SQLite may believe that 0 and 1 want another plan.
    let by_key: Vec<String> =
        key_names(table).enumerate().map(|(i, key)| format!("{key} = +?{}", i + 1)).collect();
    let by_key = by_key.join(" AND ");
    match shape {
        Shape::Read => format!("SELECT {} FROM {name} WHERE {by_key}", whole()),
        Shape::ReadFrom => {
            let key: Vec<String> = key_names(table).collect();
            let key = key.join(", ");
            format!("SELECT {} FROM {name} WHERE {key} >= ?1 ORDER BY {key}", whole())
        }
        Shape::Rowid => format!("SELECT {} FROM {name} WHERE {by_key}", rowid(table)),
        Shape::ReadFromRowid => {
            let (whole, rowid) = (whole(), rowid(table));
            format!("SELECT {whole} FROM {name} WHERE {rowid} >= ?1 ORDER BY {rowid}")
        }
        Shape::ReadCell(column) => {
            format!("SELECT {} FROM {name} WHERE {by_key}", column_name(table, *column))
        }
        Shape::Insert(columns) => insert(table, &name, columns, 1),
        Shape::InsertRows(columns, n) => insert(table, &name, columns, *n),
        Shape::Update(columns) => {
            let set = assignments(names(table, columns), n_key + 1).join(", ");
            format!("UPDATE {name} SET {set} WHERE {by_key}")
        }
        Shape::UpdateAt(columns) => {
            let set = assignments(names(table, columns), n_key + 1).join(", ");
            let at = format!("{} = +?{}", rowid(table), n_key + columns.len() + 1);
            format!("UPDATE {name} SET {set} WHERE {at} AND {by_key}")
        }
        Shape::Respell(columns) => {
            let mut set = assignments(names(table, columns), n_key + 1);
            set.extend(assignments(key_names(table), n_key + columns.len() + 1));
            format!("UPDATE {name} SET {} WHERE {by_key}", set.join(", "))
        }
        Shape::Delete => format!("DELETE FROM {name} WHERE {by_key}"),
    }
}

fn rowid(table: &TableInfo) -> &'static str {
    table.rowid.expect("only of tables that have one")
}

fn insert(table: &TableInfo, name: &str, columns: &Columns, n_rows: usize) -> String {
    let into: Vec<String> = key_names(table).chain(names(table, columns)).collect();
    let row = |row: usize| {
        let first = row * into.len() + 1;
        let parameters: Vec<String> =
            (first..first + into.len()).map(|n| format!("?{n}")).collect();
        format!("({})", parameters.join(", "))
    };
    let rows: Vec<String> = (0..n_rows).map(row).collect();
    let set: Vec<String> =
        names(table, columns).map(|column| format!("{column} = excluded.{column}")).collect();
    let conflict = match set.is_empty() {
        true => "DO NOTHING".to_string(),
        false => format!("DO UPDATE SET {}", set.join(", ")),
    };
    // Of the key alone: a row that another unique index takes for this one is another row.
    let key = key_names(table).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO {name} ({}) VALUES {} ON CONFLICT({key}) {conflict}",
        into.join(", "),
        rows.join(", ")
    )
}

/// `name = ?n` for each name, numbered from `first`.
fn assignments(names: impl Iterator<Item = String>, first: usize) -> Vec<String> {
    names.enumerate().map(|(i, name)| format!("{name} = ?{}", first + i)).collect()
}

fn key_names(table: &TableInfo) -> impl Iterator<Item = String> + '_ {
    table.key.iter().map(|part| quote_name(&part.name))
}

fn all_names(table: &TableInfo) -> impl Iterator<Item = String> + '_ {
    table.columns.iter().map(|column| quote_name(&column.name))
}

fn names<'a>(table: &'a TableInfo, columns: &'a Columns) -> impl Iterator<Item = String> + 'a {
    columns.iter().map(|column| column_name(table, *column))
}

fn column_name(table: &TableInfo, id: ColumnId) -> String {
    let column = table.columns.iter().find(|column| column.id == id);
    quote_name(&column.expect("ids of cells come from this table's columns").name)
}

/// Longest text or blob shown whole in an error.
const MAX_SHOWN_BYTES: usize = 40;

/// A key for people: `1`, or `('a', 2)`.
pub(crate) fn show_key(key: &[ValueRef<'_>]) -> String {
    let values: Vec<String> = key.iter().map(|value| show(*value)).collect();
    match values.as_slice() {
        [one] => one.clone(),
        _ => format!("({})", values.join(", ")),
    }
}

fn show(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_string(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) => real.to_string(),
        ValueRef::Text(bytes) => {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_SHOWN_BYTES)]);
            format!("'{shown}{}'", ellipsis(bytes))
        }
        ValueRef::Blob(bytes) => {
            let digits: String =
                bytes.iter().take(MAX_SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
            format!("x'{digits}{}'", ellipsis(bytes))
        }
    }
}

fn ellipsis(bytes: &[u8]) -> &'static str {
    if bytes.len() > MAX_SHOWN_BYTES { "…" } else { "" }
}
