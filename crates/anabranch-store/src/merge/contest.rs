//! What is held here of a row that a delta says something of.

use std::rc::Rc;

use anabranch_core::value::ValueRef;

use crate::base::{self, BaseRow};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::ColumnId;
use crate::registry::TableInfo;

/// What is held here of a row, read when first needed.
pub(super) struct Contest<'a> {
    cx: &'a Context,
    table: &'a Rc<TableInfo>,
    key: &'a [ValueRef<'a>],
    row: Option<Option<BaseRow>>,
}

impl<'a> Contest<'a> {
    pub(super) fn new(
        cx: &'a Context,
        table: &'a Rc<TableInfo>,
        key: &'a [ValueRef<'a>],
    ) -> Contest<'a> {
        Contest { cx, table, key, row: None }
    }

    pub(super) fn row(&mut self) -> Result<Option<&BaseRow>> {
        if self.row.is_none() {
            self.row = Some(base::read(self.cx, self.table, self.key)?);
        }
        Ok(self.row.as_ref().and_then(Option::as_ref))
    }

    pub(super) fn value(&mut self, column: ColumnId) -> Result<ValueRef<'_>> {
        let position = self.table.columns.iter().position(|known| known.id == column);
        let table = self.table.clone();
        let row = self.row()?.ok_or_else(|| {
            StoreError::Refused(format!("could not find row to merge with for tbl {}", table.name))
        })?;
        Ok(position.map_or(ValueRef::Null, |position| row.values[position].as_ref()))
    }
}
