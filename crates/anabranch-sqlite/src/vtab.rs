//! Eponymous virtual tables, and the hidden one through which SQLite tells a
//! transaction's fate. Panics are caught at each entry and poison the table.

use anabranch_core::value::{Value, ValueRef};

use crate::db::Db;
use crate::error::{Result, SqlError};

mod fate;
mod module;
mod object;

pub(crate) use module::create_announcing;

/// Comparison operators that may be pushed down to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operator {
    /// `=`
    Eq,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `!=`
    Ne,
    /// `IS`
    Is,
    /// `IS NOT`
    IsNot,
    /// `IS NULL`
    IsNull,
    /// `IS NOT NULL`
    IsNotNull,
    /// `LIMIT`
    Limit,
    /// `OFFSET`
    Offset,
    /// Any other (LIKE, GLOB, MATCH, REGEXP, functions).
    Other(u8),
}

/// A usable or unusable constraint offered by the planner.
#[derive(Clone, Copy, Debug)]
pub struct Constraint {
    /// Column, from 0; -1 is the rowid.
    pub column: i32,
    /// Operator.
    pub operator: Operator,
    /// Whether the right side is known when the scan starts.
    pub is_usable: bool,
}

/// One term of ORDER BY.
#[derive(Clone, Copy, Debug)]
pub struct OrderTerm {
    /// Column, from 0; -1 is the rowid.
    pub column: i32,
    /// Descending.
    pub is_desc: bool,
}

/// What a table answers the planner.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// For each constraint: `Some(n)` makes its right side argument `n` (from 0) of `filter`.
    pub arguments: Vec<Option<usize>>,
    /// For each constraint: SQLite need not check it again.
    pub omit: Vec<bool>,
    /// Handed to `filter`.
    pub index_number: i32,
    /// Handed to `filter`.
    pub index_string: String,
    /// Rows come out as ORDER BY asks.
    pub is_ordered: bool,
    /// Cost in row reads.
    pub cost: f64,
    /// Rows expected.
    pub rows: i64,
    /// At most one row.
    pub is_unique: bool,
}

/// A read-only or insertable eponymous virtual table.
pub trait Table: 'static {
    /// `CREATE TABLE x(...)` as `sqlite3_declare_vtab` takes it.
    fn declaration(&self) -> String;
    /// Answers the planner.
    fn plan(&self, constraints: &[Constraint], order: &[OrderTerm]) -> Result<Plan>;
    /// A new cursor.
    fn open(&self) -> Result<Box<dyn Cursor>>;
    /// `INSERT`: values by column; the new rowid. Without it, the table takes no INSERT.
    fn insert(&self, _values: &[ValueRef<'_>]) -> Result<i64> {
        Err(read_only())
    }
    /// `UPDATE` and `DELETE`.
    fn update_or_delete(&self) -> Result<()> {
        Err(read_only())
    }
}

fn read_only() -> SqlError {
    SqlError { code: libsqlite3_sys::SQLITE_READONLY, message: "table is read-only".into() }
}

/// A scan over a [`Table`]. SQLite calls `filter` first, and may call it again.
pub trait Cursor {
    /// Starts a scan.
    fn filter(
        &mut self,
        index_number: i32,
        index_string: &str,
        args: &[ValueRef<'_>],
    ) -> Result<()>;
    /// Goes to the next row.
    fn next(&mut self) -> Result<()>;
    /// Whether there is no row; asked once after each move.
    fn is_eof(&self) -> bool;
    /// Column `index` of the row, from 0.
    fn column(&mut self, index: usize) -> Result<ValueRef<'_>>;
    /// The rowid.
    fn rowid(&self) -> Result<i64>;
}

/// What follows a transaction's fate. Levels are SQLite's savepoint numbers; see the
/// facts about them in `docs/decisions`: lower levels may never be announced, and
/// `rollback_to(-1)` means the savepoint that opened the transaction.
pub trait TransactionFate: 'static {
    /// First use in a transaction.
    fn begin(&self) -> Result<()>;
    /// Commit is about to happen; may write ordinary tables; may be called again after BUSY.
    fn sync(&self) -> Result<()>;
    /// Committed.
    fn commit(&self);
    /// Rolled back.
    fn rollback(&self);
    /// A savepoint begins at `level`.
    fn savepoint(&self, level: i32);
    /// Savepoints at and above `level` are gone, their work stays.
    fn release(&self, level: i32);
    /// The work since savepoint `level` is undone; the savepoint stands.
    fn rollback_to(&self, level: i32);
    /// `INSERT INTO <name>(command) VALUES(…)`, how a transaction is enrolled: nothing to do.
    fn enrol(&self) -> Result<()> {
        Ok(())
    }
}

impl Db {
    /// Registers an eponymous (and eponymous-only) table; `is_innocuous`: usable from
    /// triggers with `trusted_schema=OFF`.
    ///
    /// # Errors
    /// SQLite's, when it refuses the name. A declaration that SQLite does not understand
    /// is reported by the first statement that uses the table.
    pub fn create_table(&self, name: &str, is_innocuous: bool, table: impl Table) -> Result<()> {
        module::create(self, name, is_innocuous, table, None)
    }

    /// Registers the hidden table that follows transactions: `INSERT INTO <name> VALUES(0)`
    /// enrols the present transaction.
    ///
    /// Its one column is `command`. Enrolling sets the last insert rowid to 0: whoever
    /// enrols restores it with [`Db::set_last_insert_rowid`].
    ///
    /// # Errors
    /// SQLite's, when it refuses the name.
    pub fn create_fate(&self, name: &str, fate: impl TransactionFate) -> Result<()> {
        fate::create(self, name, fate)
    }
}

/// A value for [`Cursor::column`] kept by a cursor.
pub type Cell = Value;

/// The cursor of a table without rows.
pub struct Nothing;

impl Cursor for Nothing {
    fn filter(&mut self, _: i32, _: &str, _: &[ValueRef<'_>]) -> Result<()> {
        Ok(())
    }
    fn next(&mut self) -> Result<()> {
        Ok(())
    }
    fn is_eof(&self) -> bool {
        true
    }
    fn column(&mut self, _: usize) -> Result<ValueRef<'_>> {
        Ok(ValueRef::Null)
    }
    fn rowid(&self) -> Result<i64> {
        Ok(0)
    }
}
