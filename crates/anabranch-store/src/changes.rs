//! `crsql_changes`: the state of all conflict-free tables as rows, and a door for others'.
//!
//! The table of cr-sqlite 0.16.3, to the letter where clients depend on it: columns, default
//! order, ties, rowids, messages. Reading is [`cursor`] over the log and the clocks, INSERT
//! is [`insert`]; the rest is refused.

use std::rc::Rc;

use anabranch_core::value::ValueRef;
use anabranch_sqlite::SqlError;
use anabranch_sqlite::vtab::{Constraint, Cursor, OrderTerm, Plan, Table};

use crate::context::Context;
use crate::registry::TableInfo;

mod cursor;
mod filter;
mod image;
mod insert;
mod literal;
mod order;
mod plan;
mod source;

/// Columns of the table, by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Table,
    Pk,
    Cid,
    Val,
    ColVersion,
    DbVersion,
    SiteId,
    Cl,
    Seq,
}

impl Column {
    const ALL: [Column; 9] = [
        Column::Table,
        Column::Pk,
        Column::Cid,
        Column::Val,
        Column::ColVersion,
        Column::DbVersion,
        Column::SiteId,
        Column::Cl,
        Column::Seq,
    ];

    /// The column at a place; `None` for the rowid.
    fn at(place: i32) -> Option<Column> {
        usize::try_from(place).ok().and_then(|place| Column::ALL.get(place).copied())
    }
}

/// Name of the sentinel: the row itself.
const SENTINEL_NAME: &str = "-1";

/// Rows of one table that rowids can tell apart; beyond, they repeat.
const ROWIDS_PER_TABLE: i64 = 10_000_000_000_000;

/// The rowid that all cells of a row share.
fn rowid(table: &TableInfo, number: u64) -> i64 {
    i64::from(table.order) * ROWIDS_PER_TABLE + (number % ROWIDS_PER_TABLE as u64) as i64
}

struct Changes {
    cx: Rc<Context>,
}

/// Registers the table.
pub(crate) fn register(cx: &Rc<Context>) -> Result<(), SqlError> {
    cx.db.create_table("crsql_changes", true, Changes { cx: cx.clone() })
}

impl Table for Changes {
    fn declaration(&self) -> String {
        "CREATE TABLE x([table] TEXT NOT NULL, [pk] BLOB NOT NULL, [cid] TEXT NOT NULL, [val] ANY, \
         [col_version] INTEGER NOT NULL, [db_version] INTEGER NOT NULL, [site_id] BLOB NOT NULL, \
         [cl] INTEGER NOT NULL, [seq] INTEGER NOT NULL)"
            .to_string()
    }

    fn plan(&self, constraints: &[Constraint], order: &[OrderTerm]) -> Result<Plan, SqlError> {
        Ok(plan::plan(constraints, order))
    }

    fn open(&self) -> Result<Box<dyn Cursor>, SqlError> {
        Ok(Box::new(cursor::ChangesCursor::new(self.cx.clone())))
    }

    fn insert(&self, values: &[ValueRef<'_>]) -> Result<i64, SqlError> {
        Ok(insert::insert(&self.cx, values)?)
    }

    fn update_or_delete(&self) -> Result<(), SqlError> {
        Err(SqlError {
            code: SqlError::MISUSE,
            message:
                "Only INSERT and SELECT statements are allowed against the crsql changes table"
                    .to_string(),
        })
    }
}
