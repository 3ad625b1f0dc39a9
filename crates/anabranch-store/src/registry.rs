//! The conflict-free tables of this file as this connection knows them.

use std::rc::Rc;

use anabranch_core::key::{Affinity, KeyColumn};
use anabranch_sqlite::Db;

use crate::error::Result;
use crate::ids::{ColumnId, TableId};

/// A conflict-free table.
#[derive(Clone, Debug)]
pub(crate) struct TableInfo {
    pub(crate) id: TableId,
    /// As declared.
    pub(crate) name: String,
    /// Random; what its triggers call with.
    pub(crate) token: i64,
    /// Order in which tables became conflict-free, from 0.
    pub(crate) order: u32,
    /// Key columns in PRIMARY KEY order.
    pub(crate) key: Vec<KeyPart>,
    /// Replicated columns (not of the key, not generated) in declaration order.
    pub(crate) columns: Vec<ColumnInfo>,
    /// The stored spelling of a key may differ from its folded form.
    pub(crate) has_spellings: bool,
    /// The table's columns are not those its triggers were made for.
    pub(crate) is_stale: bool,
}

/// A key column.
#[derive(Clone, Debug)]
pub(crate) struct KeyPart {
    pub(crate) name: String,
    pub(crate) column: KeyColumn,
}

/// A replicated column.
#[derive(Clone, Debug)]
pub(crate) struct ColumnInfo {
    pub(crate) id: ColumnId,
    pub(crate) name: String,
    pub(crate) affinity: Affinity,
}

/// All tables, by token, id and name; re-read when the schema version changes.
pub(crate) struct Registry {}

impl Registry {
    /// Nothing read yet.
    pub(crate) fn new() -> Registry {
        Registry {}
    }

    /// Re-reads if `PRAGMA schema_version` changed; dropped tables leave.
    pub(crate) fn refresh(&mut self, _db: &Db) -> Result<()> {
        todo!()
    }

    /// Re-reads at next use whatever the schema version says (a rollback lowers it again).
    pub(crate) fn invalidate(&mut self) {
        todo!()
    }

    /// By exact name.
    pub(crate) fn by_name(&self, _name: &str) -> Option<Rc<TableInfo>> {
        todo!()
    }

    /// By id.
    pub(crate) fn by_id(&self, _id: TableId) -> Option<Rc<TableInfo>> {
        todo!()
    }

    /// By the token its triggers call with.
    pub(crate) fn by_token(&self, _token: i64) -> Option<Rc<TableInfo>> {
        todo!()
    }

    /// All tables, in the order in which they became conflict-free.
    pub(crate) fn all(&self) -> Vec<Rc<TableInfo>> {
        todo!()
    }
}
