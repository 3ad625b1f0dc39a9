//! Kept statements on the users' tables: read, write and delete one row by key.
//!
//! All writes happen with the sync bit set, so that capture stands aside. A statement is
//! taken out of its cache while it runs: triggers of the table may come back here, and no
//! borrow of the context is held while SQL of others runs.

use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::{SqlError, Statement};
use smallvec::SmallVec;

use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::ColumnId;
use crate::limits::MAX_KEPT_STATEMENTS;
use crate::registry::TableInfo;

mod place;
mod rows;
mod sql;

pub(crate) use rows::{RowReader, read_from};
pub(crate) use sql::{quote_name, quote_text, show_key};

/// What somebody's trigger raises through a function, and a trigger that does not compile.
const SQLITE_ERROR: i32 = 1;
/// A value longer than this connection takes.
const SQLITE_TOOBIG: i32 = 18;
/// CHECK, NOT NULL, UNIQUE, a foreign key, RAISE, the type of a STRICT table.
const SQLITE_CONSTRAINT: i32 = 19;
/// A key that is no integer.
const SQLITE_MISMATCH: i32 = 20;

/// The kept statements of a connection, by table. Those of a table are dropped when the
/// registry has read the table anew.
#[derive(Default)]
pub(crate) struct BaseTables {
    /// The one used last first.
    tables: Vec<TableStatements>,
    /// Writes that are running: one, or more when a trigger came back here.
    n_writing: u32,
}

struct TableStatements {
    /// What the statements were made for.
    table: Rc<TableInfo>,
    /// `None` while one runs.
    kept: Vec<(Shape, Option<Statement>)>,
    /// Where the statement probably is that is wanted next: rows come alike.
    next: usize,
    /// Where the row written last is.
    place: place::LastPlace,
}

/// Columns in the order in which a statement binds them.
type Columns = SmallVec<[ColumnId; 4]>;

/// What a kept statement does. Parameters: the key's values, then the columns', then
/// (`Respell`) the new key's.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// The stored key, then all replicated columns.
    Read,
    /// The same of the row with a key of one column, or the first after it, and on from there.
    ReadFrom,
    /// The rowid, of a table that has one beside its key.
    Rowid,
    /// What `Read` does, of the row with a rowid, or the first after it, and on from there.
    ReadFromRowid,
    /// One column.
    ReadCell(ColumnId),
    Insert(Columns),
    /// So many rows at once, one behind the other.
    InsertRows(Columns, usize),
    Update(Columns),
    /// As `Update`, of the row with a rowid, which comes last, if it has that key.
    UpdateAt(Columns),
    Respell(Columns),
    Delete,
}

/// A cell to write.
pub(crate) type Cell<'a> = (ColumnId, ValueRef<'a>);

/// A row of a user's table: the key as stored, and the replicated columns.
#[derive(Debug)]
pub(crate) struct BaseRow {
    /// Key values as stored (their spelling).
    pub(crate) key: Vec<Value>,
    /// Values of all replicated columns, in declaration order.
    pub(crate) values: Vec<Value>,
}

/// The row a read statement stands on.
pub(crate) struct RowView<'a> {
    statement: &'a Statement,
    key_columns: usize,
}

impl RowView<'_> {
    /// Key column `index`, from 0, as stored.
    pub(crate) fn key(&self, index: usize) -> ValueRef<'_> {
        self.statement.column(index)
    }

    /// Replicated column at `position` of [`TableInfo::columns`].
    pub(crate) fn value(&self, position: usize) -> ValueRef<'_> {
        self.statement.column(self.key_columns + position)
    }
}

impl BaseTables {
    /// Whether a merge is writing a row: what asks is a trigger of its table.
    pub(crate) fn is_writing(&self) -> bool {
        self.n_writing > 0
    }

    /// Drops all statements (before the connection closes, or the host asked for it).
    pub(crate) fn clear(&mut self) {
        self.tables.clear();
    }

    /// The statements of a table, those of its former state dropped.
    fn of(&mut self, table: &Rc<TableInfo>) -> &mut TableStatements {
        let known = self.tables.iter().position(|known| Rc::ptr_eq(&known.table, table));
        let place = known.unwrap_or_else(|| {
            self.tables.retain(|known| known.table.id != table.id);
            self.tables.push(TableStatements::new(table));
            self.tables.len() - 1
        });
        self.tables.swap(0, place);
        &mut self.tables[0]
    }
}

impl TableStatements {
    fn new(table: &Rc<TableInfo>) -> TableStatements {
        let place = place::LastPlace::default();
        TableStatements { table: table.clone(), kept: Vec::new(), next: 0, place }
    }

    fn find(&self, shape: &Shape) -> Option<usize> {
        let (before, after) = self.kept.split_at(self.next.min(self.kept.len()));
        let is_it = |(known, _): &(Shape, _)| known == shape;
        match after.iter().position(is_it) {
            Some(place) => Some(before.len() + place),
            None => before.iter().position(is_it),
        }
    }

    fn take(&mut self, shape: &Shape) -> Option<Statement> {
        let place = self.find(shape)?;
        self.next = place;
        self.kept[place].1.take()
    }

    fn keep(&mut self, shape: Shape, statement: Statement) {
        match self.find(&shape) {
            Some(place) => {
                self.kept[place].1 = Some(statement);
                self.next = place + 1;
            }
            None => {
                if self.kept.len() >= MAX_KEPT_STATEMENTS {
                    self.kept.clear();
                }
                self.kept.push((shape, Some(statement)));
                self.next = self.kept.len();
            }
        }
    }
}

/// Sets the sync bit for as long as it lives.
pub(crate) struct SyncBit<'a> {
    cx: &'a Context,
    before: bool,
}

impl<'a> SyncBit<'a> {
    pub(crate) fn set(cx: &'a Context) -> SyncBit<'a> {
        cx.base.borrow_mut().n_writing += 1;
        cx.capture.forget_spellings();
        SyncBit { cx, before: cx.sync_bit.replace(true) }
    }
}

impl Drop for SyncBit<'_> {
    fn drop(&mut self) {
        self.cx.sync_bit.set(self.before);
        self.cx.base.borrow_mut().n_writing -= 1;
    }
}

/// Reads one row by folded key and hands it to `f`; `None` if there is none.
pub(crate) fn read_with<T>(
    cx: &Context,
    table: &Rc<TableInfo>,
    key: &[u8],
    f: impl FnOnce(&RowView<'_>) -> T,
) -> Result<Option<T>> {
    read_row(cx, table, &KeyValues::of(table, key)?.params(), f)
}

/// Reads one row by the values of its key, however they spell it.
pub(crate) fn read_row<T>(
    cx: &Context,
    table: &Rc<TableInfo>,
    key: &[ValueRef<'_>],
    f: impl FnOnce(&RowView<'_>) -> T,
) -> Result<Option<T>> {
    run(cx, table, Shape::Read, |statement| {
        statement
            .query_row(key, |statement| Ok(f(&RowView { statement, key_columns: table.key.len() })))
    })
}

/// Reads one row; `None` if there is none.
pub(crate) fn read(
    cx: &Context,
    table: &Rc<TableInfo>,
    key: &[ValueRef<'_>],
) -> Result<Option<BaseRow>> {
    read_row(cx, table, key, |row| BaseRow {
        key: (0..table.key.len()).map(|i| row.key(i).into()).collect(),
        values: (0..table.columns.len()).map(|i| row.value(i).into()).collect(),
    })
}

/// Reads one cell and hands it to `f`; `None` if there is no such row.
pub(crate) fn read_cell<T>(
    cx: &Context,
    table: &Rc<TableInfo>,
    key: &[ValueRef<'_>],
    column: ColumnId,
    f: impl FnOnce(ValueRef<'_>) -> T,
) -> Result<Option<T>> {
    run(cx, table, Shape::ReadCell(column), |statement| {
        statement.query_row(key, |statement| Ok(f(statement.column(0))))
    })
}

/// Inserts a row with `key` as spelled and some columns; the others take their defaults.
/// A row that is there already (written while capture stood aside) gets the columns.
///
/// # Errors
/// Constraints and triggers, with table and row named.
pub(crate) fn insert(
    cx: &Context,
    table: &Rc<TableInfo>,
    key: &[ValueRef<'_>],
    cells: &[Cell<'_>],
) -> Result<()> {
    let mut params: Params<'_> = key.iter().copied().collect();
    params.extend(cells.iter().map(|(_, value)| *value));
    let _bit = SyncBit::set(cx);
    let written = run(cx, table, Shape::Insert(columns_of(cells)), |statement| {
        statement.execute(&params)?;
        Ok(cx.db.changes() > 0)
    });
    let is_written = written.map_err(|error| at_row(error, table, key))?;
    if !is_written && !is_there(cx, table, key)? {
        return Err(ignored(table, key));
    }
    place::note_insert(cx, table, key);
    Ok(())
}

/// Inserts `n` rows at once: `values` are, of each row, the key as spelled and the columns.
///
/// # Errors
/// As [`insert`], but the row is not named.
pub(crate) fn insert_rows(
    cx: &Context,
    table: &Rc<TableInfo>,
    columns: impl Iterator<Item = ColumnId>,
    n: usize,
    values: &[ValueRef<'_>],
) -> Result<()> {
    let _bit = SyncBit::set(cx);
    let n_written = run(cx, table, Shape::InsertRows(columns.collect(), n), |statement| {
        statement.execute(values)?;
        Ok(cx.db.changes())
    })?;
    let n_key = table.key.len();
    for row in values.chunks(values.len() / n).filter(|_| n_written < n as u64) {
        if !is_there(cx, table, &row[..n_key])? {
            return Err(ignored(table, &row[..n_key]));
        }
    }
    Ok(())
}

/// Writes some columns (at least one) of a live row; `false` if there is no such row.
///
/// # Errors
/// As [`insert`].
pub(crate) fn update(
    cx: &Context,
    table: &Rc<TableInfo>,
    key: &[ValueRef<'_>],
    cells: &[Cell<'_>],
) -> Result<bool> {
    if let Some(rowid) = place::of(cx, table, key)? {
        let rowid = [ValueRef::Integer(rowid)];
        if write_keyed(cx, table, Shape::UpdateAt(columns_of(cells)), key, cells, &rowid)? {
            return Ok(true);
        }
        // The row went to another place.
    }
    write_row(cx, table, Shape::Update(columns_of(cells)), key, cells, &[])
}

/// Like [`update`], and rewrites the key as it is spelled here.
pub(crate) fn respell(
    cx: &Context,
    table: &Rc<TableInfo>,
    key: &[ValueRef<'_>],
    cells: &[Cell<'_>],
) -> Result<bool> {
    write_row(cx, table, Shape::Respell(columns_of(cells)), key, cells, key)
}

/// Deletes a row if it is there; whether it was.
///
/// # Errors
/// As [`insert`].
pub(crate) fn delete(cx: &Context, table: &Rc<TableInfo>, key: &[ValueRef<'_>]) -> Result<bool> {
    write_row(cx, table, Shape::Delete, key, &[], &[])
}

fn write_row(
    cx: &Context,
    table: &Rc<TableInfo>,
    shape: Shape,
    key: &[ValueRef<'_>],
    cells: &[Cell<'_>],
    spelled: &[ValueRef<'_>],
) -> Result<bool> {
    let is_written = write_keyed(cx, table, shape, key, cells, spelled)?;
    if !is_written && is_there(cx, table, key)? {
        return Err(ignored(table, key));
    }
    Ok(is_written)
}

/// Runs a statement on one row, whose last parameters are `last`; whether it wrote the row.
fn write_keyed(
    cx: &Context,
    table: &Rc<TableInfo>,
    shape: Shape,
    key: &[ValueRef<'_>],
    cells: &[Cell<'_>],
    last: &[ValueRef<'_>],
) -> Result<bool> {
    let mut params: Params<'_> = SmallVec::from_slice(key);
    params.extend(cells.iter().map(|(_, value)| *value));
    params.extend_from_slice(last);
    let _bit = SyncBit::set(cx);
    let written = run(cx, table, shape, |statement| {
        statement.execute(&params)?;
        Ok(cx.db.changes() > 0)
    });
    written.map_err(|error| at_row(error, table, key))
}

fn is_there(cx: &Context, table: &Rc<TableInfo>, key: &[ValueRef<'_>]) -> Result<bool> {
    let found = run(cx, table, Shape::Read, |statement| statement.query_row(key, |_| Ok(())))?;
    Ok(found.is_some())
}

/// A trigger of this copy let a write go by RAISE(IGNORE): clocks must not tell of it.
fn ignored(table: &TableInfo, key: &[ValueRef<'_>]) -> StoreError {
    StoreError::Constraint(SqlError::new(format!(
        "a trigger ignored the write (table {}, row {})",
        table.name,
        show_key(key)
    )))
}

/// Runs a kept statement, compiling it if need be.
fn run<T>(
    cx: &Context,
    table: &Rc<TableInfo>,
    shape: Shape,
    f: impl FnOnce(&mut Statement) -> std::result::Result<T, SqlError>,
) -> Result<T> {
    let kept = cx.base.borrow_mut().of(table).take(&shape);
    let mut statement = match kept {
        Some(statement) => statement,
        None => cx.db.prepare(&sql::text(table, &shape))?,
    };
    let result = f(&mut statement);
    cx.base.borrow_mut().of(table).keep(shape, statement);
    Ok(result?)
}

fn columns_of(cells: &[Cell<'_>]) -> Columns {
    cells.iter().map(|(column, _)| *column).collect()
}

/// What a statement binds, in order.
type Params<'a> = SmallVec<[ValueRef<'a>; 8]>;

/// The values of a folded key.
enum KeyValues<'k> {
    /// An integer key.
    Rowid(i64),
    /// A text or a blob.
    Bytes(ValueRef<'k>),
    /// Any other, which needs an allocation.
    Values(Vec<Value>),
}

impl<'k> KeyValues<'k> {
    fn of(table: &TableInfo, key: &'k [u8]) -> Result<KeyValues<'k>> {
        if let Some(rowid) = key::rowid_of(key, &table.key_columns) {
            return Ok(KeyValues::Rowid(rowid));
        }
        Ok(match key::unfold_bytes(key, &table.key_columns) {
            Some(value) => KeyValues::Bytes(value),
            None => KeyValues::Values(table.unfold(key)?),
        })
    }

    fn params(&self) -> Params<'_> {
        match self {
            KeyValues::Rowid(integer) => SmallVec::from_slice(&[ValueRef::Integer(*integer)]),
            KeyValues::Bytes(value) => SmallVec::from_slice(&[*value]),
            KeyValues::Values(values) => values.iter().map(Value::as_ref).collect(),
        }
    }
}

/// Names table and row in an error, and tells what a constraint or somebody's trigger says
/// from what befell SQLite.
fn at_row(error: StoreError, table: &TableInfo, key: &[ValueRef<'_>]) -> StoreError {
    let StoreError::Sql(SqlError { code, message }) = error else { return error };
    let message = format!("{message} (table {}, row {})", table.name, show_key(key));
    let error = SqlError { code, message };
    match error.primary() {
        SQLITE_ERROR | SQLITE_TOOBIG | SQLITE_CONSTRAINT | SQLITE_MISMATCH => {
            StoreError::Constraint(error)
        }
        _ => StoreError::Sql(error),
    }
}
