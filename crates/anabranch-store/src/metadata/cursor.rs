//! Looking up many rows of one table by ascending key: each block is read once.

use super::block::BlockRow;
use super::blocks::Blocks;
use crate::error::Result;
use crate::ids::{Address, Key, TableId};

/// The block last read, and which keys belong into it.
pub(crate) struct Cursor {
    table: TableId,
    rows: Vec<BlockRow>,
    /// Keys from here on are in this block or after it; `None`: nothing is read.
    first: Option<Key>,
    /// First key of the next block; `None`: there is none.
    end: Option<Key>,
}

impl Cursor {
    pub(crate) fn new(table: TableId) -> Cursor {
        Cursor { table, rows: Vec::new(), first: None, end: None }
    }

    /// Reads the block in which `key` is or would be.
    fn seek(&mut self, blocks: &mut Blocks, key: &[u8]) -> Result<()> {
        let is_here = self.first.as_deref().is_some_and(|first| first <= key)
            && self.end.as_deref().is_none_or(|end| key < end);
        if is_here {
            return Ok(());
        }
        match blocks.load(self.table, key)? {
            Some(block) => {
                let next = blocks.neighbour(self.table, &block.first)?;
                self.end = next.map(|next| next.first);
                self.first = Some(block.first);
                self.rows = block.rows;
            }
            None => {
                let next = blocks.load_from(self.table, &[])?;
                self.end = next.map(|next| next.first);
                self.first = Some(Key::new());
                self.rows = Vec::new();
            }
        }
        Ok(())
    }

    /// A row by key.
    pub(crate) fn row(&mut self, blocks: &mut Blocks, key: &[u8]) -> Result<Option<&BlockRow>> {
        self.seek(blocks, key)?;
        let at = self.rows.binary_search_by(|row| row.0.as_slice().cmp(key));
        Ok(at.ok().map(|at| &self.rows[at]))
    }

    /// The row whose key begins with `prefix` and whose clock names the record `at`.
    pub(crate) fn named(
        &mut self,
        blocks: &mut Blocks,
        prefix: &[u8],
        at: Address,
    ) -> Result<Option<&BlockRow>> {
        self.seek(blocks, prefix)?;
        let mut start = self.rows.partition_point(|row| row.0.as_slice() < prefix);
        loop {
            let names = |row: &BlockRow| row.1.groups.iter().any(|group| group.at == at);
            let alike = self.rows[start..].iter().take_while(|row| row.0.starts_with(prefix));
            let n_alike = alike.clone().count();
            if let Some(found) = alike.clone().position(names) {
                return Ok(Some(&self.rows[start + found]));
            }
            match self.end.clone() {
                Some(end) if start + n_alike == self.rows.len() && end.starts_with(prefix) => {
                    self.seek(blocks, &end)?;
                    start = 0;
                }
                _ => return Ok(None),
            }
        }
    }
}
