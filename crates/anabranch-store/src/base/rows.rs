//! Reading many rows of a user's table by key, in whatever order they are wanted.
//!
//! Where the next row wanted is the next row of the table, one statement stands and is
//! stepped; else each row is sought. A row is missing only if a search for it alone did not
//! find it, so nothing here rests on SQLite's order of keys being that of folded ones.

use std::rc::Rc;

use anabranch_core::value::ValueRef;
use anabranch_sqlite::Statement;

use super::{KeyValues, RowView, Shape, read_with, run};
use crate::context::Context;
use crate::error::Result;
use crate::registry::TableInfo;

/// Reads rows, and remembers from one call to the next whether stepping pays.
#[derive(Debug, Default)]
pub(crate) struct RowReader {
    /// Rows to come that are sought alone.
    n_alone: u32,
    /// Grows with each step in a row that led astray.
    backoff: u32,
}

/// Most rows sought alone before a step is tried again.
const MAX_ALONE: u32 = 64;

impl RowReader {
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
        if table.key.len() != 1 || keys.peek().is_none() {
            for key in std::iter::once(first).chain(keys) {
                if !alone(cx, table, key, &mut take)? {
                    break;
                }
            }
            return Ok(());
        }
        let keys = std::iter::once(first).chain(keys);
        run(cx, table, Shape::ReadFrom, |statement| {
            let result = self.walk(cx, table, statement, keys, take);
            statement.reset();
            Ok(result)
        })?
    }

    fn walk<'k>(
        &mut self,
        cx: &Context,
        table: &Rc<TableInfo>,
        statement: &mut Statement,
        keys: impl Iterator<Item = &'k [u8]>,
        mut take: impl FnMut(Option<&RowView<'_>>) -> Result<bool>,
    ) -> Result<()> {
        let mut stands = false;
        for key in keys {
            let values = KeyValues::of(table, key)?;
            let is_found = match values.one() {
                Some(wanted) if self.n_alone == 0 => self.search(statement, wanted, &mut stands)?,
                _ => {
                    self.n_alone = self.n_alone.saturating_sub(1);
                    false
                }
            };
            let goes_on = match is_found {
                true => take(Some(&RowView { statement, key_columns: 1 }))?,
                false => alone(cx, table, key, &mut take)?,
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Steps to a row, or seeks it; whether the statement stands on it.
    fn search(
        &mut self,
        statement: &mut Statement,
        wanted: ValueRef<'_>,
        stands: &mut bool,
    ) -> Result<bool> {
        if *stands {
            *stands = statement.step()?;
            if *stands && is_same(statement.column(0), wanted) {
                self.backoff = 0;
                return Ok(true);
            }
            self.backoff = (2 * self.backoff + 1).min(MAX_ALONE);
            if self.backoff > 1 {
                self.n_alone = self.backoff;
                *stands = false;
                return Ok(false);
            }
        }
        *stands = statement.query(&[wanted])?;
        Ok(*stands && is_same(statement.column(0), wanted))
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

fn is_same(stored: ValueRef<'_>, wanted: ValueRef<'_>) -> bool {
    match (stored, wanted) {
        (ValueRef::Integer(a), ValueRef::Integer(b)) => a == b,
        (ValueRef::Text(a), ValueRef::Text(b)) | (ValueRef::Blob(a), ValueRef::Blob(b)) => a == b,
        _ => false,
    }
}
