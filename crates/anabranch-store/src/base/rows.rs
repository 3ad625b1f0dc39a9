//! Reading many rows of a user's table by key, in whatever order they are wanted.
//!
//! Where the next row wanted is the next row of the table, by its rowid (rows are mostly wanted
//! as they were made) or by its key, one statement stands and is stepped; else each row is
//! sought. A row is missing only if a search for it alone did not find it, so nothing here
//! rests on SQLite's order of keys being that of folded ones, nor on rowids staying.

use std::rc::Rc;

use anabranch_core::value::ValueRef;
use anabranch_sqlite::Statement;

use super::{KeyValues, Params, RowView, Shape, read_with, run};
use crate::context::Context;
use crate::error::Result;
use crate::registry::TableInfo;

/// Reads rows, and remembers from one call to the next whether stepping pays.
#[derive(Debug, Default)]
pub(crate) struct RowReader {
    order: Order,
    /// Rows to come that are sought alone.
    n_alone: u32,
    /// Grows with each step in a row that led astray.
    backoff: u32,
}

/// The order in which rows are probably wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    /// As they were made: by rowid. By key where that is the rowid, or there is none.
    #[default]
    Made,
    Key,
}

/// Most rows sought alone before a step is tried again.
const MAX_ALONE: u32 = 64;

impl RowReader {
    /// For rows that are wanted by ascending key; the default is for rows as they were made.
    pub(crate) fn by_key() -> RowReader {
        RowReader { order: Order::Key, ..RowReader::default() }
    }

    /// Reads rows by folded key and hands each to `take`, which says whether to go on;
    /// `None`: there is no such row.
    pub(crate) fn read<'k>(
        &mut self,
        cx: &Context,
        table: &Rc<TableInfo>,
        keys: impl Iterator<Item = &'k [u8]>,
        mut take: impl FnMut(Option<&RowView<'_>>) -> Result<bool>,
    ) -> Result<()> {
        let mut keys = keys.peekable();
        let Some(first) = keys.next() else { return Ok(()) };
        let shape = match (self.order, table.rowid) {
            (Order::Made, Some(_)) => Shape::ReadFromRowid,
            _ => Shape::ReadFrom,
        };
        let is_walk = shape == Shape::ReadFromRowid || table.key.len() == 1;
        let goes_on = keys.peek().is_some();
        let mut keys = std::iter::once(first).chain(keys);
        if !is_walk || !goes_on {
            while let Some(key) = keys.next()
                && alone(cx, table, key, &mut take)?
            {}
            return Ok(());
        }
        let by_rowid = shape == Shape::ReadFromRowid;
        run(cx, table, shape, |statement| {
            let mut walk = Walk { cx, table, statement, by_rowid, stands: false };
            let result = self.walk(&mut walk, keys, take);
            walk.statement.reset();
            Ok(result)
        })?
    }

    fn walk<'k>(
        &mut self,
        walk: &mut Walk<'_>,
        keys: impl Iterator<Item = &'k [u8]>,
        mut take: impl FnMut(Option<&RowView<'_>>) -> Result<bool>,
    ) -> Result<()> {
        let Walk { cx, table, .. } = *walk;
        for key in keys {
            let is_found = match self.n_alone {
                0 => self.search(walk, &KeyValues::of(table, key)?.params())?,
                _ => {
                    self.n_alone -= 1;
                    false
                }
            };
            let goes_on = match is_found {
                true => take(Some(&walk.row()))?,
                false => alone(cx, table, key, &mut take)?,
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Steps to a row, or seeks it; whether the statement stands on it.
    fn search(&mut self, walk: &mut Walk<'_>, wanted: &Params<'_>) -> Result<bool> {
        if walk.stands {
            walk.stands = walk.statement.step()?;
            if walk.stands && walk.is_at(wanted) {
                self.backoff = 0;
                return Ok(true);
            }
            self.go_astray();
            if self.n_alone > 0 {
                walk.stands = false;
                return Ok(false);
            }
        }
        let is_found = walk.seek(wanted)?;
        if !is_found {
            // It is gone, or stands there under another spelling.
            self.go_astray();
        }
        Ok(is_found)
    }

    fn go_astray(&mut self) {
        self.backoff = (2 * self.backoff + 1).min(MAX_ALONE);
        self.n_alone = if self.backoff > 1 { self.backoff } else { 0 };
    }
}

/// Reads the row with a key and those after it, as they were made or by key, and hands each to
/// `take`, which says whether to go on. Of a row that is not found so nothing is handed over: it
/// may be there under another spelling.
pub(crate) fn read_from(
    cx: &Context,
    table: &Rc<TableInfo>,
    key: &[ValueRef<'_>],
    mut take: impl FnMut(&RowView<'_>) -> bool,
) -> Result<()> {
    let shape = match table.rowid {
        Some(_) => Shape::ReadFromRowid,
        None if table.key.len() == 1 => Shape::ReadFrom,
        None => return Ok(()),
    };
    let by_rowid = table.rowid.is_some();
    run(cx, table, shape, |statement| {
        let mut walk = Walk { cx, table, statement, by_rowid, stands: false };
        let found = walk.seek(key);
        let mut goes_on = matches!(found, Ok(true)) && take(&walk.row());
        // What befalls a row that nobody asked for yet is told when somebody does.
        while goes_on && matches!(walk.statement.step(), Ok(true)) {
            goes_on = take(&walk.row());
        }
        walk.statement.reset();
        Ok(found.map(|_| ()))
    })?
}

/// A statement that goes through a table.
struct Walk<'a> {
    cx: &'a Context,
    table: &'a Rc<TableInfo>,
    statement: &'a mut Statement,
    by_rowid: bool,
    /// It is on a row.
    stands: bool,
}

impl Walk<'_> {
    /// Goes to the row with a key, or the first after it; whether it is that row.
    fn seek(&mut self, key: &[ValueRef<'_>]) -> Result<bool> {
        let rowid;
        let from = match self.by_rowid {
            false => key,
            true => {
                let found = run(self.cx, self.table, Shape::Rowid, |statement| {
                    statement.query_row(key, |row| {
                        let ValueRef::Integer(rowid) = row.column(0) else { return Ok(None) };
                        Ok(Some([ValueRef::Integer(rowid)]))
                    })
                })?;
                rowid = found.flatten();
                rowid.as_ref().map_or(&[][..], |rowid| rowid)
            }
        };
        self.stands = !from.is_empty() && self.statement.query(from)?;
        Ok(self.stands && self.is_at(key))
    }

    fn is_at(&self, key: &[ValueRef<'_>]) -> bool {
        let mut parts = key.iter().enumerate();
        parts.all(|(index, wanted)| self.statement.column(index).is_same(*wanted))
    }

    fn row(&self) -> RowView<'_> {
        RowView { statement: self.statement, key_columns: self.table.key.len() }
    }
}

fn alone(
    cx: &Context,
    table: &Rc<TableInfo>,
    key: &[u8],
    take: &mut impl FnMut(Option<&RowView<'_>>) -> Result<bool>,
) -> Result<bool> {
    match read_with(cx, table, key, |row| take(Some(row)))? {
        Some(goes_on) => goes_on,
        None => take(None),
    }
}
