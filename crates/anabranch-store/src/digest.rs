//! `ana_digest`: equal copies, equal hash.
//!
//! Rows go into the hash in the order of the key's values compared as bytes and numbers,
//! whatever collation a copy declared, so that equal rows make equal digests.

use std::rc::Rc;

use anabranch_core::digest::Digest;
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::SqlError;
use anabranch_sqlite::function::Flags;

use crate::base::quote_name;
use crate::context::Context;
use crate::error::Result;
use crate::registry::TableInfo;
use crate::{delta, snapshot};

/// Registers the functions of this module.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let flags = Flags { direct_only: true, ..Flags::default() };
    let pure = Flags { innocuous: true, deterministic: true, ..Flags::default() };
    cx.db.create_function("ana_internal_utf8", 1, pure, |call| match call.arg(0) {
        ValueRef::Text(bytes) => Ok(Value::Blob(bytes.to_vec())),
        other => Ok(Value::from(other)),
    })?;
    let at = cx.clone();
    cx.db.create_function("ana_digest", 0, flags, move |_| {
        Ok(Value::Blob(snapshot::read(&at, || digest(&at))?.to_vec()))
    })
}

/// Hash of all rows of the conflict-free tables, this transaction's own writes included.
///
/// # Errors
/// SQLite's, and a table that was altered and not mended.
pub(crate) fn digest(cx: &Context) -> Result<[u8; 32]> {
    let mut digest = Digest::new();
    for table in &delta::tables_by_name(cx) {
        table.refuse_stale()?;
        add_table(cx, table, &mut digest)?;
    }
    Ok(digest.finish())
}

/// What a key column is sorted by: numbers, then texts as UTF-8, then blobs.
fn in_order(cx: &Context, name: &str) -> Result<String> {
    let name = quote_name(name);
    let encoding = cx.db.query_value("PRAGMA main.encoding", &[])?;
    if encoding == Some(Value::Text(b"UTF-8".to_vec())) {
        return Ok(format!("{name} COLLATE BINARY"));
    }
    // There texts compare as they are stored, in UTF-16.
    Ok(format!(
        "CASE typeof({name}) WHEN 'text' THEN 1 WHEN 'blob' THEN 2 ELSE 0 END, \
         iif(typeof({name}) = 'text', ana_internal_utf8({name}), {name}) COLLATE BINARY"
    ))
}

fn add_table(cx: &Context, table: &TableInfo, digest: &mut Digest) -> Result<()> {
    let key = table.key.iter().map(|part| part.name.as_str());
    let mut names: Vec<&str> =
        key.clone().chain(table.columns.iter().map(|column| column.name.as_str())).collect();
    names.sort_unstable();
    digest.table(&table.name, &names);
    let columns: Vec<String> = names.iter().map(|name| quote_name(name)).collect();
    let order: Vec<String> = key.map(|name| in_order(cx, name)).collect::<Result<_>>()?;
    let sql = format!(
        "SELECT {} FROM main.{} ORDER BY {}",
        columns.join(", "),
        quote_name(&table.name),
        order.join(", ")
    );
    let mut rows = cx.db.prepare(&sql)?;
    while rows.step()? {
        digest.row((0..names.len()).map(|index| rows.column(index)));
    }
    Ok(())
}
