//! What the last change through `crsql_changes` looked at: the next is mostly of the same row.
//!
//! A key is kept as it was packed, with what it folds to. Values of a base row, and of some rows
//! after it if ties come in the order of the rows, are kept from one tie to the next, and never
//! across a write: triggers of ours tell of each, a write that none of them saw moves SQLite's
//! count, and what is undone tells too.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::value::{Value, ValueRef};
use smallvec::SmallVec;

use crate::base::{self, RowView};
use crate::context::Context;
use crate::error::Result;
use crate::ids::{ColumnId, Key, TableId};
use crate::limits::{MAX_RECENT_ROW_BYTES, MAX_RECENT_ROWS};
use crate::registry::TableInfo;

/// What one connection keeps of the last change.
#[derive(Default)]
pub(crate) struct Recent {
    key: RefCell<Option<RecentKey>>,
    rows: RefCell<Option<RecentRows>>,
    stride: Cell<Stride>,
    /// A table whose rows are too long to be read for one value.
    long: Cell<Option<TableId>>,
    n_writes: Cell<u64>,
}

/// A key of a table, packed and folded.
pub(crate) struct RecentKey {
    pub(crate) table: Rc<TableInfo>,
    /// Of the registry that had the table.
    pub(crate) generation: u64,
    /// Empty: it was not sent packed.
    pub(crate) packed: SmallVec<[u8; 24]>,
    pub(crate) folded: Key,
}

/// Rows of a table that follow each other.
struct RecentRows {
    table: Rc<TableInfo>,
    rows: SmallVec<[RecentRow; 1]>,
    /// Index into `rows` of the one last asked for.
    at: usize,
    seen: Seen,
}

struct RecentRow {
    key: Key,
    /// `None`: there is no such row.
    values: Option<Vec<Value>>,
}

/// How many rows to read for a tie: twice as many each time, as long as all of them were asked for.
#[derive(Clone, Copy, Default)]
struct Stride {
    /// Reads to come of one row alone.
    n_alone: u32,
    /// Grows with each read that brought rows which nobody asked for.
    backoff: u32,
}

/// How far writing had come.
#[derive(Clone, Copy)]
struct Seen {
    n_writes: u64,
    total_changes: u32,
}

impl Seen {
    fn now(cx: &Context) -> Seen {
        Seen { n_writes: cx.recent.n_writes.get(), total_changes: cx.db.total_changes() }
    }

    /// Whether nothing was written until `now` but, by SQLite's count, one change that the
    /// host merged.
    fn holds(self, now: Seen) -> bool {
        let n_counted = now.total_changes.wrapping_sub(self.total_changes);
        self.n_writes == now.n_writes && n_counted <= 1
    }
}

impl Recent {
    /// The key of the last change; whoever takes it gives one back.
    pub(crate) fn take_key(&self) -> Option<RecentKey> {
        self.key.take()
    }

    /// Hands the key of the last change to `f`.
    pub(crate) fn with_key<T>(&self, f: impl FnOnce(&RecentKey) -> T) -> Option<T> {
        self.key.borrow().as_ref().map(f)
    }

    /// Keeps the key of a change.
    pub(crate) fn keep_key(&self, key: RecentKey) {
        self.key.replace(Some(key));
    }

    /// Some row was written, or a write undone.
    pub(crate) fn note_write(&self) {
        self.n_writes.set(self.n_writes.get().wrapping_add(1));
    }
}

/// Hands the value of a cell of a base row to `f`, which must run no SQL; `None` if there is
/// no such row.
pub(super) fn with_value<T>(
    cx: &Context,
    table: &Rc<TableInfo>,
    (key, spelled): (&[u8], &[ValueRef<'_>]),
    column: ColumnId,
    f: impl FnOnce(ValueRef<'_>) -> T,
) -> Result<Option<T>> {
    let position = table.columns.iter().position(|known| known.id == column);
    let Some(position) = position.filter(|_| cx.recent.long.get() != Some(table.id)) else {
        return base::read_cell(cx, table, spelled, column, f);
    };
    if !is_kept(cx, table, key) {
        read(cx, table, key, spelled)?;
    }
    Ok(present(cx, |row| f(row[position].as_ref())))
}

/// As [`with_value`], of the column at `position`, if the row was read and stands as it was.
pub(super) fn kept_value<T>(
    cx: &Context,
    key: &RecentKey,
    position: usize,
    f: impl FnOnce(ValueRef<'_>) -> T,
) -> Option<T> {
    if !is_kept(cx, &key.table, &key.folded) {
        return None;
    }
    present(cx, |row| f(row[position].as_ref()))
}

/// Hands the values of the row last asked for to `f`.
fn present<T>(cx: &Context, f: impl FnOnce(&[Value]) -> T) -> Option<T> {
    let recent = cx.recent.rows.borrow();
    let recent = recent.as_ref()?;
    recent.rows[recent.at].values.as_ref().map(|values| f(values))
}

/// Whether the row is kept, and nothing was written since it was looked at; then it is the one
/// last asked for.
fn is_kept(cx: &Context, table: &Rc<TableInfo>, key: &[u8]) -> bool {
    let seen = Seen::now(cx);
    let mut recent = cx.recent.rows.borrow_mut();
    let stands =
        |recent: &&mut RecentRows| Rc::ptr_eq(&recent.table, table) && recent.seen.holds(seen);
    let Some(recent) = recent.as_mut().filter(stands) else { return false };
    let near = recent.rows[recent.at..].iter().take(2);
    let Some(n_further) = near.map(|row| &row.key).position(|known| **known == *key) else {
        return false;
    };
    recent.at += n_further;
    recent.seen = seen;
    true
}

/// Reads a row, and those after it that will probably be asked for next.
fn read(cx: &Context, table: &Rc<TableInfo>, key: &[u8], spelled: &[ValueRef<'_>]) -> Result<()> {
    let n_wanted = n_to_read(cx, table);
    let (mut rows, mut n_bytes) = (SmallVec::<[RecentRow; 1]>::new(), 0);
    if n_wanted > 1 {
        base::read_from(cx, table, spelled, |row| {
            let read = match rows.is_empty() {
                true => Some(Key::from_slice(key)),
                false => folded(table, row),
            };
            let Some(key) = read else { return false };
            let values = values(table, row);
            n_bytes += n_bytes_of(&values);
            rows.push(RecentRow { key, values: Some(values) });
            rows.len() < n_wanted && n_bytes < MAX_RECENT_ROW_BYTES
        })?;
    }
    if rows.is_empty() {
        let values = base::read_row(cx, table, spelled, |row| values(table, row))?;
        rows.push(RecentRow { key: Key::from_slice(key), values });
    }
    if rows[0].values.as_deref().map_or(0, n_bytes_of) > MAX_RECENT_ROW_BYTES {
        cx.recent.long.set(Some(table.id));
    }
    let (table, seen) = (table.clone(), Seen::now(cx));
    cx.recent.rows.replace(Some(RecentRows { table, rows, at: 0, seen }));
    Ok(())
}

/// How many rows to read, by what became of those that were read last.
fn n_to_read(cx: &Context, table: &Rc<TableInfo>) -> usize {
    let recent = cx.recent.rows.borrow();
    let before = recent.as_ref().filter(|recent| Rc::ptr_eq(&recent.table, table));
    let Some(before) = before else { return 1 };
    let mut stride = cx.recent.stride.get();
    let n_read = before.rows.len();
    let n_wanted = match () {
        () if before.at + 1 < n_read => {
            stride.backoff = (2 * stride.backoff + 1).min(MAX_ALONE);
            stride.n_alone = stride.backoff;
            1
        }
        () if stride.n_alone > 0 => {
            stride.n_alone -= 1;
            1
        }
        () => (2 * n_read).min(MAX_RECENT_ROWS),
    };
    if n_read > 1 && before.at + 1 == n_read {
        stride.backoff = 0;
    }
    cx.recent.stride.set(stride);
    n_wanted
}

/// Most ties for which one row alone is read before more are tried again.
const MAX_ALONE: u32 = 64;

fn folded(table: &TableInfo, row: &RowView<'_>) -> Option<Key> {
    let values: SmallVec<[_; 4]> = (0..table.key.len()).map(|i| row.key(i)).collect();
    let folded = key::fold(&values, &table.key_columns).ok()?;
    Some(Key::from_slice(&folded))
}

fn values(table: &TableInfo, row: &RowView<'_>) -> Vec<Value> {
    (0..table.columns.len()).map(|i| row.value(i).into()).collect()
}

fn n_bytes_of(values: &[Value]) -> usize {
    let n_bytes = |value: &Value| match value {
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
        _ => 0,
    };
    values.iter().map(n_bytes).sum()
}
