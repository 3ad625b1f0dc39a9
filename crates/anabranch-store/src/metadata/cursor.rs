//! Looking up many rows of one table by ascending key: each block is read once.

use std::rc::Rc;

use super::blocks::Blocks;
use super::row_clock::RowClock;
use super::rows::BlockRow;
use crate::error::Result;
use crate::ids::{Address, Key, TableId};

/// The block last read.
pub(crate) struct Cursor {
    table: TableId,
    /// `None`: nothing is read.
    block: Option<Rc<KeptBlock>>,
    /// The row after the one found last: mostly the next one asked for.
    next: usize,
}

/// A block, decoded, and which keys belong into it.
pub(crate) struct KeptBlock {
    pub(super) rows: Vec<BlockRow>,
    /// Keys from here on are in this block or after it.
    pub(super) first: Key,
    /// First key of the next block; `None`: there is none.
    pub(super) end: Option<Key>,
}

impl KeptBlock {
    /// Whether `key` is or would be in it.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        self.first.as_slice() <= key && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// A row by key.
    pub(super) fn row(&self, key: &[u8]) -> Option<&BlockRow> {
        let at = self.rows.binary_search_by(|row| row.0.as_slice().cmp(key)).ok()?;
        self.rows.get(at)
    }
}

impl Cursor {
    pub(crate) fn new(table: TableId) -> Cursor {
        Cursor { table, block: None, next: 0 }
    }

    /// Whether `key` is or would be in the block last read.
    fn covers(&self, key: &[u8]) -> bool {
        self.block.as_ref().is_some_and(|block| block.covers(key))
    }

    /// Reads the block in which `key` is or would be; its rows.
    fn seek(&mut self, blocks: &mut Blocks, key: &[u8]) -> Result<&KeptBlock> {
        let block = match self.block.take() {
            Some(block) if block.covers(key) => block,
            _ => blocks.kept(self.table, key)?,
        };
        Ok(self.block.insert(block))
    }

    /// A row by key.
    pub(crate) fn row(&mut self, blocks: &mut Blocks, key: &[u8]) -> Result<Option<&BlockRow>> {
        let next = self.next;
        let rows = &self.seek(blocks, key)?.rows;
        let is_next = rows.get(next).is_some_and(|row| row.0.as_slice() == key);
        let at = match is_next {
            true => Ok(next),
            false => rows.binary_search_by(|row| row.0.as_slice().cmp(key)),
        };
        self.next = at.map_or_else(|at| at, |at| at + 1);
        Ok(at.ok().and_then(|at| self.block.as_ref()?.rows.get(at)))
    }

    /// The row whose key begins with `prefix` and whose clock names the record `at`.
    pub(crate) fn named(
        &mut self,
        blocks: &mut Blocks,
        prefix: &[u8],
        at: Address,
    ) -> Result<Option<&BlockRow>> {
        let mut from = Key::from_slice(prefix);
        loop {
            let names = |row: &BlockRow| row.1.groups.iter().any(|group| group.at == at);
            let block = self.seek(blocks, &from)?;
            let start = block.rows.partition_point(|row| row.0.as_slice() < prefix);
            let alike = block.rows[start..].iter().take_while(|row| row.0.starts_with(prefix));
            let n_alike = alike.clone().count();
            let found = alike.clone().position(names);
            let goes_on = start + n_alike == block.rows.len();
            let end = block.end.as_ref().filter(|end| goes_on && end.starts_with(prefix));
            match (found, end) {
                (Some(found), _) => {
                    return Ok(self.block.as_ref().map(|block| &block.rows[start + found]));
                }
                (None, Some(end)) => from = Key::from_slice(end),
                (None, None) => return Ok(None),
            }
        }
    }
}

/// Lookups of one table by nearly ascending keys, dense or not: a block is read whole if
/// the one before it was asked for several rows, else only what is asked for.
pub(crate) struct Ascending {
    cursor: Cursor,
    /// Rows asked for of the block last read.
    n_asked: u32,
    /// Lookups to come that read no block whole.
    n_single: u32,
}

/// Rows of one block for which decoding it whole pays.
const DENSE_ROWS: u32 = 4;
/// Lookups after which a sparse run is looked at anew.
const SPARSE_LOOKUPS: u32 = 64;

impl Ascending {
    pub(crate) fn new(table: TableId) -> Ascending {
        Ascending { cursor: Cursor::new(table), n_asked: DENSE_ROWS, n_single: 0 }
    }

    /// The table.
    pub(crate) fn table(&self) -> TableId {
        self.cursor.table
    }

    /// Forgets the block last read: it was written.
    pub(crate) fn forget(&mut self) {
        *self = Ascending::new(self.cursor.table);
    }

    /// The clock of one row.
    pub(crate) fn row(&mut self, blocks: &mut Blocks, key: &[u8]) -> Result<Option<RowClock>> {
        if !self.cursor.covers(key) {
            if self.n_single > 0 {
                self.n_single -= 1;
                return blocks.row(self.cursor.table, key);
            }
            if self.n_asked < DENSE_ROWS {
                self.n_single = SPARSE_LOOKUPS;
            }
            self.n_asked = 0;
        }
        self.n_asked = self.n_asked.saturating_add(1);
        let row = self.cursor.row(blocks, key)?;
        Ok(row.map(|(_, clock)| clock.clone()))
    }
}
