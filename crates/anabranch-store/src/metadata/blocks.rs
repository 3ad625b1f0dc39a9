//! All clock blocks of a file: finding a row, and merging changed rows in.
//!
//! Invariant: the blocks of a table partition its keys; a block's `first` is the least key
//! in it, and a key that is in the table is in the block with the greatest `first` not
//! above it.

use std::cell::Cell;

use anabranch_core::value::ValueRef;
use anabranch_sqlite::Db;

use super::block::{self, BlockRow};
use super::row_clock::RowClock;
use super::sql::{Kept, damaged, int, read_blob};
use crate::error::Result;
use crate::ids::{Key, TableId};
use crate::limits::{MAX_BLOCK_BYTES, MAX_BLOCK_ROWS};

/// A decoded block and the range of keys that belong into it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) first: Key,
    pub(crate) rows: Vec<BlockRow>,
}

/// The statements on `ana_clock`.
pub(crate) struct Blocks {
    db: Db,
    at_or_below: Kept,
    lowest: Kept,
    above: Kept,
    next_first: Kept,
    write: Kept,
    delete: Kept,
    drop: Kept,
    /// Blocks decoded so far: what tests and benchmarks count.
    pub(crate) n_decoded: Cell<u64>,
}

fn table_id(table: TableId) -> ValueRef<'static> {
    ValueRef::Integer(i64::from(table.0))
}

impl Blocks {
    /// Drops what is kept, so that the connection can close.
    pub(crate) fn drop_statements(&mut self) {
        let kept = [
            &mut self.at_or_below,
            &mut self.lowest,
            &mut self.above,
            &mut self.next_first,
            &mut self.write,
            &mut self.delete,
            &mut self.drop,
        ];
        kept.into_iter().for_each(Kept::clear);
    }

    pub(crate) fn new(db: &Db) -> Blocks {
        Blocks {
            db: db.clone(),
            at_or_below: Kept::new(
                "SELECT first, body FROM main.ana_clock WHERE tbl=?1 AND first<=?2
                 ORDER BY first DESC LIMIT 1",
            ),
            lowest: Kept::new(
                "SELECT first, body FROM main.ana_clock WHERE tbl=?1 ORDER BY first LIMIT 1",
            ),
            above: Kept::new(
                "SELECT first, body FROM main.ana_clock WHERE tbl=?1 AND first>?2
                 ORDER BY first LIMIT 1",
            ),
            next_first: Kept::new(
                "SELECT first FROM main.ana_clock WHERE tbl=?1 AND first>?2
                 ORDER BY first LIMIT 1",
            ),
            write: Kept::new("REPLACE INTO main.ana_clock(tbl, first, body) VALUES(?1,?2,?3)"),
            delete: Kept::new("DELETE FROM main.ana_clock WHERE tbl=?1 AND first=?2"),
            drop: Kept::new("DELETE FROM main.ana_clock WHERE tbl=?1"),
            n_decoded: Cell::new(0),
        }
    }

    /// The block in which `key` is or would be; `None` when all blocks lie above it.
    pub(crate) fn load(&mut self, table: TableId, key: &[u8]) -> Result<Option<Loaded>> {
        let params = [table_id(table), ValueRef::Blob(key)];
        load(&self.db, &mut self.at_or_below, &params, table, &self.n_decoded)
    }

    /// The first block of a table.
    pub(crate) fn load_lowest(&mut self, table: TableId) -> Result<Option<Loaded>> {
        load(&self.db, &mut self.lowest, &[table_id(table)], table, &self.n_decoded)
    }

    /// The block after the one that begins with `first`.
    pub(crate) fn load_next(&mut self, table: TableId, first: &[u8]) -> Result<Option<Loaded>> {
        let params = [table_id(table), ValueRef::Blob(first)];
        load(&self.db, &mut self.above, &params, table, &self.n_decoded)
    }

    /// The clock of one row.
    pub(crate) fn row(&mut self, table: TableId, key: &[u8]) -> Result<Option<RowClock>> {
        let Some(mut block) = self.load(table, key)? else { return Ok(None) };
        let found = block.rows.binary_search_by(|(k, _)| k.as_slice().cmp(key)).ok();
        Ok(found.map(|at| block.rows.swap_remove(at).1))
    }

    fn next_first(&mut self, table: TableId, first: &[u8]) -> Result<Option<Key>> {
        let params = [table_id(table), ValueRef::Blob(first)];
        self.next_first
            .first(&self.db, &params, |row| Ok(Key::from_slice(read_blob(row, 0, "ana_clock")?)))
    }

    /// Changes rows of one table, block by block: `keys` ascend; `change` gets the index
    /// of the key and the row's clock, and leaves the new one.
    pub(crate) fn update(
        &mut self,
        table: TableId,
        keys: &[&[u8]],
        mut change: impl FnMut(usize, &mut Option<RowClock>) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < keys.len() {
            let found = match self.load(table, keys[done])? {
                Some(block) => Some(block),
                None => self.load_lowest(table)?,
            };
            let old_first = found.as_ref().map(|block| block.first.clone());
            let end = match &old_first {
                Some(first) => self.next_first(table, first)?,
                None => None,
            };
            let n_keys = match &end {
                Some(end) => keys[done..].partition_point(|key| *key < end.as_slice()),
                None => keys.len() - done,
            };
            let rows = found.map_or_else(Vec::new, |block| block.rows);
            let is_last = end.is_none();
            let merged =
                merge(rows, &keys[done..done + n_keys], |i, clock| change(done + i, clock))?;
            self.replace(table, old_first.as_deref(), &merged, is_last)?;
            done += n_keys;
        }
        Ok(())
    }

    fn replace(
        &mut self,
        table: TableId,
        old_first: Option<&[u8]>,
        rows: &[BlockRow],
        is_last: bool,
    ) -> Result<()> {
        let Some((least, _)) = rows.first() else { return Ok(()) };
        if let Some(old) = old_first.filter(|old| *old != least.as_slice()) {
            self.delete.run(&self.db, &[table_id(table), ValueRef::Blob(old)])?;
        }
        for (start, end, body) in split(rows, is_last) {
            debug_assert!(start < end);
            let first = ValueRef::Blob(&rows[start].0);
            self.write.run(&self.db, &[table_id(table), first, ValueRef::Blob(&body)])?;
        }
        Ok(())
    }

    /// Forgets all rows of a table.
    pub(crate) fn drop_table(&mut self, table: TableId) -> Result<()> {
        self.drop.run(&self.db, &[table_id(table)])
    }
}

fn load(
    db: &Db,
    statement: &mut Kept,
    params: &[ValueRef<'_>],
    table: TableId,
    n_decoded: &Cell<u64>,
) -> Result<Option<Loaded>> {
    n_decoded.set(n_decoded.get() + 1);
    statement.first(db, params, |row| {
        let first = Key::from_slice(read_blob(row, 0, "ana_clock")?);
        let rows = block::decode(read_blob(row, 1, "ana_clock")?)
            .map_err(|what| damaged(format!("ana_clock, table {}", table.0), what))?;
        Ok(Loaded { first, rows })
    })
}

/// Merges changed rows into the rows of a block.
fn merge(
    rows: Vec<BlockRow>,
    keys: &[&[u8]],
    mut change: impl FnMut(usize, &mut Option<RowClock>) -> Result<()>,
) -> Result<Vec<BlockRow>> {
    let mut merged = Vec::with_capacity(rows.len() + keys.len());
    let mut old = rows.into_iter().peekable();
    for (i, key) in keys.iter().enumerate() {
        while let Some(row) = old.next_if(|(k, _)| k.as_slice() < *key) {
            merged.push(row);
        }
        let mut clock = old.next_if(|(k, _)| k.as_slice() == *key).map(|row| row.1);
        change(i, &mut clock)?;
        if let Some(clock) = clock {
            merged.push((Key::from_slice(key), clock));
        }
    }
    merged.extend(old);
    Ok(merged)
}

/// Cuts rows into blocks: `(start, end, body)`.
fn split(rows: &[BlockRow], _is_last: bool) -> Vec<(usize, usize, Vec<u8>)> {
    let mut cuts = Vec::new();
    let mut start = 0;
    while start < rows.len() {
        let mut end = (start + MAX_BLOCK_ROWS).min(rows.len());
        let mut body = block::encode(&rows[start..end]);
        while body.len() > MAX_BLOCK_BYTES && end - start > 1 {
            let fit = (end - start) * MAX_BLOCK_BYTES / body.len();
            end = start + fit.clamp(1, end - start - 1);
            body = block::encode(&rows[start..end]);
        }
        cuts.push((start, end, body));
        start = end;
    }
    cuts
}

/// An id for statements that other modules bind.
pub(crate) fn bind_table(table: TableId) -> ValueRef<'static> {
    int(u64::from(table.0))
}
