//! `ana_internal_writers(table, pk)`: for each cell of one row the change that wrote it, for
//! `ana log` and `ana diverge`.
//!
//! `crsql_changes` tells the site a cell first came from and this copy's `db_version`; a
//! change is named by its author and the author's version, its dot.

use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::value::Value;
use anabranch_sqlite::SqlError;
use anabranch_sqlite::vtab::Operator;

use crate::context::Context;
use crate::error::Result;
use crate::ids::ColumnId;
use crate::listing::{Arguments, Listing, all};
use crate::metadata::scan::LiveRecord;
use crate::registry::TableInfo;
use crate::snapshot;

/// Registers the table.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let at = cx.clone();
    let writers = Listing {
        declaration: "CREATE TABLE x(cid TEXT, site BLOB, version INTEGER, \
                      tbl TEXT HIDDEN, pk BLOB HIDDEN)",
        arguments: &[(3, Operator::Eq), (4, Operator::Eq)],
        ordered_by: None,
        start: move |arguments: Arguments| {
            Ok(all(snapshot::read(&at, || writers_of(&at, &arguments))?))
        },
    };
    cx.db.create_table("ana_internal_writers", false, writers)
}

/// One row a cell; none for a table or key that is not known.
fn writers_of(cx: &Context, arguments: &Arguments) -> Result<Vec<Vec<Value>>> {
    let [Some(Value::Text(name)), Some(Value::Blob(pk))] = arguments.as_slice() else {
        return Ok(Vec::new());
    };
    let name = String::from_utf8_lossy(name);
    let table = cx.registry.borrow().by_name(&name);
    let Some(table) = table else { return Ok(Vec::new()) };
    let Some(folded) = folded(&table, pk) else { return Ok(Vec::new()) };
    let records = cx.metadata.borrow_mut().row_records(table.id, &folded)?;
    let mut rows = Vec::new();
    for record in &records {
        add(cx, &table, record, pk, &mut rows)?;
    }
    Ok(rows)
}

/// The key as clocks are kept under it; `None` for what is no key of the table.
fn folded(table: &TableInfo, pk: &[u8]) -> Option<Vec<u8>> {
    key::fold(&key::unpack(pk).ok()?, &table.key_columns).ok()
}

fn add(
    cx: &Context,
    table: &TableInfo,
    record: &LiveRecord,
    pk: &[u8],
    rows: &mut Vec<Vec<Value>>,
) -> Result<()> {
    let site = cx.metadata.borrow_mut().author_site(record.dot.author)?;
    let mut row = |cid: &str| {
        rows.push(vec![
            Value::Text(cid.as_bytes().to_vec()),
            Value::Blob(site.as_bytes().to_vec()),
            Value::Integer(record.dot.version.cast_signed()),
            Value::Text(table.name.clone().into_bytes()),
            Value::Blob(pk.to_vec()),
        ]);
    };
    // The insert that made a row has no cell of its own until the row has been dead.
    if record.is_birth && !record.cells.iter().any(|cell| cell.column == ColumnId::SENTINEL) {
        row("-1");
    }
    for cell in &record.cells {
        match table.columns.iter().find(|column| column.id == cell.column) {
            Some(column) => row(&column.name),
            None => row("-1"),
        }
    }
    Ok(())
}
