//! All clock blocks of a file: finding a row, and merging changed rows in.
//!
//! Invariant: the blocks of a table partition its keys; a block's `first` is the least key
//! in it, and a key that is in the table is in the block with the greatest `first` not
//! above it.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::rc::Rc;

use anabranch_core::value::ValueRef;
use anabranch_sqlite::{Db, Statement};
use hashbrown::HashMap;

use super::block;
use super::cursor::KeptBlock;
use super::row_clock::RowClock;
use super::rows::BlockRow;
use super::sql::{damaged, int, read_blob, read_u32};
use super::varint::Reader;
use crate::error::Result;
use crate::ids::{Key, TableId};
use crate::kept::Kept;
use crate::limits::{MAX_ASKED_BLOCKS, MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, MAX_KEPT_ROWS};

/// A decoded block.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) first: Key,
    pub(crate) rows: Vec<BlockRow>,
    pub(crate) n_bytes: usize,
}

/// A block as it is stored.
pub(super) struct Raw {
    pub(super) first: Key,
    pub(super) body: Vec<u8>,
}

impl Raw {
    fn read(row: &Statement) -> Result<Raw> {
        let first = Key::from_slice(read_blob(row, 0, "ana_clock")?);
        Ok(Raw { first, body: read_blob(row, 1, "ana_clock")?.to_vec() })
    }

    /// Number of rows. What cannot be read is too many: whoever decodes it says so.
    pub(super) fn n_rows(&self) -> usize {
        let n_rows = Reader::new(&self.body).number().unwrap_or(u64::MAX);
        n_rows.min(2 * MAX_BLOCK_ROWS as u64) as usize
    }
}

/// Keys of a table that no block has: all above `last`, and below `next` if there is one.
struct Gap {
    table: TableId,
    last: Key,
    next: Option<Key>,
}

impl Gap {
    fn holds(&self, table: TableId, key: &[u8]) -> bool {
        self.table == table
            && key > self.last.as_slice()
            && self.next.as_ref().is_none_or(|next| key < next.as_slice())
    }
}

/// How often single rows of each block were asked for.
#[derive(Default)]
struct Asked {
    /// By the hash of table and first key: two blocks taken for one cost a little time.
    counts: HashMap<u64, u8>,
}

/// Rows of a block that are looked for one by one before it is decoded whole, which costs about
/// as much as five of them.
const SINGLE_ROWS: u8 = 4;

impl Asked {
    /// Counts a question; whether there were several before.
    fn is_often(&mut self, table: TableId, first: &[u8]) -> bool {
        if self.counts.len() >= MAX_ASKED_BLOCKS {
            self.counts.clear();
        }
        let hash = self.counts.hasher().hash_one((table, first));
        let count = self.counts.entry(hash).or_default();
        *count = count.saturating_add(1);
        *count > SINGLE_ROWS
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn clear(&mut self) {
        self.counts.clear();
    }
}

/// The statements on `ana_clock`.
pub(crate) struct Blocks {
    db: Db,
    at_or_below: Kept,
    at_or_above: Kept,
    above: Kept,
    write: Kept,
    delete: Kept,
    drop: Kept,
    next_table: Kept,
    /// Blocks that are kept decoded while a scan runs, or a transaction that asks for many single
    /// rows: records of one log row are spread over all blocks of a table with random keys, and
    /// the next row comes back to the same ones.
    kept: BTreeMap<(TableId, Key), Rc<KeptBlock>>,
    n_kept_rows: usize,
    /// How often single rows of a block were asked for.
    asked: Asked,
    /// Where no row is: what ascending keys meet one after the other.
    gap: Option<Gap>,
    /// Working space of the encoder.
    pub(super) encoder: block::Encoder,
    /// Blocks read so far: what tests and benchmarks count.
    pub(crate) n_decoded: Cell<u64>,
}

fn table_id(table: TableId) -> ValueRef<'static> {
    int(u64::from(table.0))
}

impl Blocks {
    /// Drops what is kept, so that the connection can close.
    pub(crate) fn drop_statements(&mut self) {
        let kept = [
            &mut self.at_or_below,
            &mut self.at_or_above,
            &mut self.above,
            &mut self.next_table,
            &mut self.write,
            &mut self.delete,
            &mut self.drop,
        ];
        kept.into_iter().for_each(Kept::clear);
    }

    pub(crate) fn new(db: &Db) -> Blocks {
        Blocks {
            db: db.clone(),
            // +?1: of a bare parameter SQLite believes that 0 and 1 want another plan.
            at_or_below: Kept::new(
                "SELECT first, body FROM main.ana_clock WHERE tbl=+?1 AND first<=?2
                 ORDER BY first DESC LIMIT 1",
            ),
            at_or_above: Kept::new(
                "SELECT first, body FROM main.ana_clock WHERE tbl=+?1 AND first>=?2
                 ORDER BY first LIMIT 1",
            ),
            above: Kept::new(
                "SELECT first, body FROM main.ana_clock WHERE tbl=+?1 AND first>?2
                 ORDER BY first",
            ),
            write: Kept::new("REPLACE INTO main.ana_clock(tbl, first, body) VALUES(?1,?2,?3)"),
            delete: Kept::new("DELETE FROM main.ana_clock WHERE tbl=+?1 AND first=?2"),
            drop: Kept::new("DELETE FROM main.ana_clock WHERE tbl=?1"),
            next_table: Kept::new("SELECT min(tbl) FROM main.ana_clock WHERE tbl>=?1"),
            kept: BTreeMap::new(),
            n_kept_rows: 0,
            asked: Asked::default(),
            gap: None,
            encoder: block::Encoder::default(),
            n_decoded: Cell::new(0),
        }
    }

    fn count(&self) {
        self.n_decoded.set(self.n_decoded.get() + 1);
    }

    /// The block in which `key` is or would be; `None` when all blocks lie above it.
    pub(crate) fn load(&mut self, table: TableId, key: &[u8]) -> Result<Option<Loaded>> {
        self.count();
        let params = [table_id(table), ValueRef::Blob(key)];
        self.at_or_below.first(&self.db, &params, |row| decode(table, row))
    }

    /// The first block of a table that begins at or above `key`.
    pub(crate) fn load_from(&mut self, table: TableId, key: &[u8]) -> Result<Option<Loaded>> {
        self.count();
        let params = [table_id(table), ValueRef::Blob(key)];
        self.at_or_above.first(&self.db, &params, |row| decode(table, row))
    }

    /// The block in which `key` is or would be, kept for the next time.
    pub(super) fn kept(&mut self, table: TableId, key: &[u8]) -> Result<Rc<KeptBlock>> {
        if let Some(block) = self.known(table, key) {
            return Ok(block.clone());
        }
        let (first, rows, next) = match self.load(table, key)? {
            Some(block) => {
                let next = self.next_first(table, &block.first)?;
                (block.first, block.rows, next)
            }
            None => (Key::new(), Vec::new(), self.load_from(table, &[])?.map(|block| block.first)),
        };
        if self.n_kept_rows > MAX_KEPT_ROWS {
            self.forget();
        }
        Ok(self.keep(table, KeptBlock { rows, first, end: next }))
    }

    /// The block in which `key` is or would be, if it is kept.
    fn known(&self, table: TableId, key: &[u8]) -> Option<&Rc<KeptBlock>> {
        if self.kept.is_empty() {
            return None;
        }
        let place = (table, Key::from_slice(key));
        let (at, block) = self.kept.range(..=&place).next_back()?;
        (at.0 == table && block.covers(key)).then_some(block)
    }

    fn keep(&mut self, table: TableId, block: KeptBlock) -> Rc<KeptBlock> {
        self.n_kept_rows += block.rows.len() + 1;
        let (place, block) = ((table, block.first.clone()), Rc::new(block));
        self.kept.insert(place, block.clone());
        block
    }

    /// Forgets the blocks that are kept, and where no row is.
    pub(crate) fn forget(&mut self) {
        self.gap = None;
        self.kept.clear();
        self.n_kept_rows = 0;
        self.asked.clear();
    }

    /// Gives back the memory of blocks that single rows were asked of.
    pub(super) fn end_lookups(&mut self) {
        if !self.asked.is_empty() {
            self.forget();
        }
    }

    /// Where the block after the one that begins with `first` begins.
    pub(super) fn next_first(&mut self, table: TableId, first: &[u8]) -> Result<Option<Key>> {
        let params = [table_id(table), ValueRef::Blob(first)];
        self.above
            .first(&self.db, &params, |row| Ok(Key::from_slice(read_blob(row, 0, "ana_clock")?)))
    }

    /// The block in which `key` is or would be, as it is stored.
    pub(super) fn raw(&mut self, table: TableId, key: &[u8]) -> Result<Option<Raw>> {
        self.count();
        let params = [table_id(table), ValueRef::Blob(key)];
        self.at_or_below.first(&self.db, &params, Raw::read)
    }

    /// The first block of a table, as it is stored.
    pub(super) fn raw_first(&mut self, table: TableId) -> Result<Option<Raw>> {
        self.count();
        self.at_or_above.first(&self.db, &[table_id(table), ValueRef::Blob(&[])], Raw::read)
    }

    /// Appends up to `n` blocks that begin above `key`, at least one if there is one, but
    /// not many bytes.
    pub(super) fn raw_above(
        &mut self,
        table: TableId,
        key: &[u8],
        n: usize,
        found: &mut VecDeque<Raw>,
    ) -> Result<()> {
        let mut n_bytes = 0;
        self.above.each(&self.db, &[table_id(table), ValueRef::Blob(key)], |row| {
            let block = Raw::read(row)?;
            n_bytes += block.first.len() + block.body.len();
            found.push_back(block);
            Ok(found.len() < n && n_bytes < 2 * n * MAX_BLOCK_BYTES)
        })?;
        self.n_decoded.set(self.n_decoded.get() + found.len() as u64);
        Ok(())
    }

    /// The clock of one row. A block that is asked for again and again is decoded and kept.
    pub(crate) fn row(&mut self, table: TableId, key: &[u8]) -> Result<Option<RowClock>> {
        if self.gap.as_ref().is_some_and(|gap| gap.holds(table, key)) {
            return Ok(None);
        }
        if let Some(block) = self.known(table, key) {
            return Ok(block.row(key).map(|(_, clock)| clock.clone()));
        }
        self.count();
        let params = [table_id(table), ValueRef::Blob(key)];
        let has_room = self.n_kept_rows <= MAX_KEPT_ROWS;
        let (mut above, mut whole) = (None, None);
        let found = self.at_or_below.first(&self.db, &params, |row| {
            let first = read_blob(row, 0, "ana_clock")?;
            let body = read_blob(row, 1, "ana_clock")?;
            if self.asked.is_often(table, first) && has_room {
                whole = Some(decode(table, row)?);
                return Ok(None);
            }
            let found = block::find(first, body, key).and_then(|found| {
                if found.is_none() {
                    above = block::last_number_below(first, body, key)?;
                }
                Ok(found)
            });
            found.map_err(|what| damaged(place(table, first), what))
        })?;
        if let Some(Loaded { first, rows, .. }) = whole {
            let end = self.next_first(table, &first)?;
            let block = self.keep(table, KeptBlock { rows, first, end });
            return Ok(block.row(key).map(|(_, clock)| clock.clone()));
        }
        if let Some(last) = above {
            let next = self.next_first(table, &last)?;
            self.gap = Some(Gap { table, last, next });
        }
        Ok(found.flatten())
    }

    /// Writes a block over whatever began with the same key.
    pub(super) fn write(&mut self, table: TableId, first: &[u8], body: &[u8]) -> Result<()> {
        self.forget();
        let params = [table_id(table), ValueRef::Blob(first), ValueRef::Blob(body)];
        self.write.run(&self.db, &params)
    }

    /// Deletes the block that begins with `first`.
    pub(super) fn delete(&mut self, table: TableId, first: &[u8]) -> Result<()> {
        self.forget();
        self.delete.run(&self.db, &[table_id(table), ValueRef::Blob(first)])
    }

    /// The first table at or after `table` that has blocks.
    pub(crate) fn next_table(&mut self, table: TableId) -> Result<Option<TableId>> {
        let found = self.next_table.first(&self.db, &[table_id(table)], |row| {
            Ok(match row.column(0) {
                ValueRef::Null => None,
                _ => Some(TableId(read_u32(row, 0, "ana_clock")?)),
            })
        })?;
        Ok(found.flatten())
    }

    /// Forgets all rows of a table.
    pub(crate) fn drop_table(&mut self, table: TableId) -> Result<()> {
        self.forget();
        self.drop.run(&self.db, &[table_id(table)])
    }
}

fn decode(table: TableId, row: &Statement) -> Result<Loaded> {
    let first = read_blob(row, 0, "ana_clock")?;
    let body = read_blob(row, 1, "ana_clock")?;
    let rows = block::decode(first, body).map_err(|what| damaged(place(table, first), what))?;
    Ok(Loaded { first: Key::from_slice(first), rows, n_bytes: body.len() })
}

/// Names a block for people.
pub(super) fn place(table: TableId, first: &[u8]) -> String {
    let hex: String = first.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("ana_clock, table {}, block {hex}", table.0)
}
