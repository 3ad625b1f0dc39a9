//! Kept statements on the users' tables: read, insert, update and delete one row by key.
//!
//! All writes happen with the sync bit set, so that capture stands aside.

use anabranch_core::value::{Value, ValueRef};

use crate::context::Context;
use crate::error::Result;
use crate::ids::ColumnId;
use crate::registry::TableInfo;

/// The kept statements of a connection, by table; dropped when the schema changes.
#[derive(Default)]
pub(crate) struct BaseTables {}

/// A row of a user's table: the key as stored, and the asked columns.
#[derive(Debug)]
pub(crate) struct BaseRow {
    /// Key values as stored (their spelling).
    pub(crate) key: Vec<Value>,
    /// Values of all replicated columns, in declaration order.
    pub(crate) values: Vec<Value>,
}

/// Reads one row by folded key; `None` if there is none.
pub(crate) fn read(_cx: &Context, _table: &TableInfo, _key: &[u8]) -> Result<Option<BaseRow>> {
    todo!()
}

/// Inserts a row with `key` as given and some columns; the others take their defaults.
pub(crate) fn insert(
    _cx: &Context,
    _table: &TableInfo,
    _key: &[ValueRef<'_>],
    _cells: &[(ColumnId, ValueRef<'_>)],
) -> Result<()> {
    todo!()
}

/// Writes some columns of a live row; `false` if there is no such row.
pub(crate) fn update(
    _cx: &Context,
    _table: &TableInfo,
    _key: &[u8],
    _cells: &[(ColumnId, ValueRef<'_>)],
) -> Result<bool> {
    todo!()
}

/// Deletes a row if it is there.
pub(crate) fn delete(_cx: &Context, _table: &TableInfo, _key: &[u8]) -> Result<()> {
    todo!()
}
