//! What the last change through `crsql_changes` looked at: the next is mostly of the same row.
//!
//! A key is kept as it was packed, with what it folds to. Values of a base row are kept from
//! one tie to the next, and never across a write: triggers of ours tell of each, a write that
//! none of them saw moves SQLite's count, and what is undone tells too.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use smallvec::SmallVec;

use crate::base;
use crate::context::Context;
use crate::error::Result;
use crate::ids::{ColumnId, Key, TableId};
use crate::limits::MAX_RECENT_ROW_BYTES;
use crate::registry::TableInfo;

/// What one connection keeps of the last change.
#[derive(Default)]
pub(crate) struct Recent {
    key: RefCell<Option<RecentKey>>,
    row: RefCell<Option<RecentRow>>,
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

struct RecentRow {
    table: Rc<TableInfo>,
    key: Key,
    /// `None`: there is no such row.
    values: Option<Vec<Value>>,
    seen: Seen,
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
    let row = cx.recent.row.borrow();
    let values = row.as_ref().and_then(|row| row.values.as_ref());
    Ok(values.map(|values| f(values[position].as_ref())))
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
    let row = cx.recent.row.borrow();
    let values = row.as_ref()?.values.as_ref()?;
    Some(f(values[position].as_ref()))
}

/// Whether the row that is kept is this one, and nothing was written since it was looked at.
fn is_kept(cx: &Context, table: &Rc<TableInfo>, key: &[u8]) -> bool {
    let seen = Seen::now(cx);
    let mut row = cx.recent.row.borrow_mut();
    let is_it = |row: &&mut RecentRow| {
        Rc::ptr_eq(&row.table, table) && *row.key == *key && row.seen.holds(seen)
    };
    let Some(row) = row.as_mut().filter(is_it) else { return false };
    row.seen = seen;
    true
}

fn read(cx: &Context, table: &Rc<TableInfo>, key: &[u8], spelled: &[ValueRef<'_>]) -> Result<()> {
    let values = base::read_row(cx, table, spelled, |row| {
        (0..table.columns.len()).map(|i| row.value(i).into()).collect::<Vec<Value>>()
    })?;
    let n_bytes: usize = values.iter().flatten().map(n_bytes).sum();
    if n_bytes > MAX_RECENT_ROW_BYTES {
        cx.recent.long.set(Some(table.id));
    }
    let (table, key, seen) = (table.clone(), Key::from_slice(key), Seen::now(cx));
    cx.recent.row.replace(Some(RecentRow { table, key, values, seen }));
    Ok(())
}

fn n_bytes(value: &Value) -> usize {
    match value {
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
        _ => 0,
    }
}
