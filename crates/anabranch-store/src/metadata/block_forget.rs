//! Blocks out of which rows are taken: what is left is packed anew, so that blocks that lost
//! half of their rows become half as many.
//!
//! Blocks are come to by ascending key. What is left of one waits until there is enough for a
//! block, or until one comes that loses nothing, which is not written again.

use super::blocks::{Blocks, Loaded};
use super::rows::{BlockRow, Rows};
use crate::error::Result;
use crate::ids::{Key, TableId};
use crate::limits::{MAX_BLOCK_BYTES, MAX_BLOCK_ROWS};

/// Rows of one table that are packed anew.
pub(super) struct Repacking {
    table: TableId,
    /// Nothing is written: only what would be is counted.
    is_dry: bool,
    /// Rows that wait.
    rows: Vec<BlockRow>,
    /// First keys of the blocks that they are from.
    read: Vec<Key>,
    /// Bytes of blocks, keys included, before and after.
    pub(super) n_before: u64,
    pub(super) n_after: u64,
}

impl Repacking {
    pub(super) fn new(table: TableId, is_dry: bool) -> Repacking {
        Repacking { table, is_dry, rows: Vec::new(), read: Vec::new(), n_before: 0, n_after: 0 }
    }

    /// Takes the next block, of which `kept` is left.
    pub(super) fn take(
        &mut self,
        blocks: &mut Blocks,
        block: &Loaded,
        kept: Vec<BlockRow>,
    ) -> Result<()> {
        let n_bytes = (block.first.len() + block.n_bytes) as u64;
        if kept.len() == block.rows.len() {
            self.finish(blocks)?;
            return Ok(());
        }
        self.n_before += n_bytes;
        self.read.push(block.first.clone());
        self.rows.extend(kept);
        while self.rows.len() >= MAX_BLOCK_ROWS {
            self.write_one(blocks)?;
        }
        Ok(())
    }

    /// Writes what waits.
    pub(super) fn finish(&mut self, blocks: &mut Blocks) -> Result<()> {
        while !self.rows.is_empty() {
            self.write_one(blocks)?;
        }
        self.delete_read(blocks)
    }

    /// Writes as many of the rows as a block takes.
    fn write_one(&mut self, blocks: &mut Blocks) -> Result<()> {
        let mut body = Vec::new();
        let mut n_rows = self.rows.len().min(MAX_BLOCK_ROWS);
        loop {
            let rows = Rows::of(&self.rows[..n_rows]);
            blocks.encoder.encode(&rows, 0..n_rows, &mut body);
            if body.len() <= MAX_BLOCK_BYTES || n_rows == 1 {
                break;
            }
            n_rows = (n_rows * MAX_BLOCK_BYTES / body.len()).clamp(1, n_rows - 1);
        }
        let first = self.rows[0].0.clone();
        self.n_after += (first.len() + body.len()) as u64;
        self.delete_read(blocks)?;
        if !self.is_dry {
            blocks.write(self.table, &first, &body)?;
        }
        self.rows.drain(..n_rows);
        Ok(())
    }

    fn delete_read(&mut self, blocks: &mut Blocks) -> Result<()> {
        for first in self.read.drain(..).filter(|_| !self.is_dry) {
            blocks.delete(self.table, &first)?;
        }
        Ok(())
    }
}
