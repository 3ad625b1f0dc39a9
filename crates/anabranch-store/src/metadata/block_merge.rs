//! Merging changed rows into the blocks of a table: each touched block is read, merged and
//! written once.
//!
//! A block that grows past its bounds is cut in halves, so that both have room; at the end
//! of the table, where keys that ascend arrive, blocks are filled. A block that became small
//! takes its small neighbour in. A row that alone is past [`MAX_BLOCK_BYTES`] (a long key,
//! many columns written at different times) is a block of its own, which SQLite spills.

use super::block::BlockRow;
use super::blocks::Blocks;
use super::key_code::shared_len;
use super::row_clock::RowClock;
use crate::error::Result;
use crate::ids::{Key, TableId};
use crate::limits::{MAX_BLOCK_BYTES, MAX_BLOCK_ROWS};

/// Changes of rows of one table, by ascending key.
pub(crate) trait Changes {
    /// How many rows change.
    fn len(&self) -> usize;
    /// The key of the i-th.
    fn key(&self, i: usize) -> &[u8];
    /// Changes the clock of the i-th, which is [`RowClock::unknown`] if the row is.
    fn apply(&mut self, i: usize, clock: &mut RowClock);
    /// Whether [`Changes::placed`] is wanted.
    fn wants_place(&self) -> bool {
        false
    }
    /// Tells how many leading bytes the key of the i-th shares with its neighbours, so far
    /// as they were seen; called again when it is more.
    fn placed(&mut self, _i: usize, _shared: usize) {}
}

/// The rows that are being merged and not written yet.
struct Pending {
    table: TableId,
    rows: Vec<BlockRow>,
    /// Rows before it are written.
    start: usize,
    /// Blocks that were read: overwritten, or deleted at the end.
    read: Vec<Key>,
    /// The block that shall take the rows in.
    join: Option<Key>,
    /// The last row before those of the present block, and the change it was, if it was one.
    before: Option<Key>,
    changed: Option<usize>,
    /// How many rows the next block probably takes.
    guess: usize,
    body: Vec<u8>,
}

impl Blocks {
    /// Changes rows of one table.
    pub(crate) fn update(&mut self, table: TableId, changes: &mut dyn Changes) -> Result<()> {
        let guess = MAX_BLOCK_ROWS;
        let body = Vec::with_capacity(MAX_BLOCK_BYTES * 2);
        let (rows, read) = (Vec::new(), Vec::new());
        let mut pending = Pending {
            table,
            rows,
            start: 0,
            read,
            join: None,
            before: None,
            changed: None,
            guess,
            body,
        };
        let mut done = 0;
        let n_changes = changes.len();
        while done < n_changes || pending.join.is_some() {
            let found = match pending.join.take() {
                Some(next) => self.load(table, &next)?,
                None => match self.load(table, changes.key(done))? {
                    Some(block) => Some(block),
                    None => self.load_from(table, &[])?,
                },
            };
            let (mut next, mut old) = (None, Vec::new());
            if let Some(block) = found {
                next = self.neighbour(table, &block.first)?;
                old = block.rows;
                pending.read.push(block.first);
            }
            let end = match &next {
                Some(next) => {
                    let in_block = |i: usize| changes.key(i) < next.first.as_slice();
                    first_not(done, n_changes, in_block)
                }
                None => n_changes,
            };
            // Where most rows change, the next block is probably read as well.
            let is_dense = end < n_changes && (end - done) * 2 >= old.len();
            self.merge(&mut pending, old, changes, done..end)?;
            done = end;
            let mut carries = false;
            while is_dense && pending.overflows(self) {
                self.write_full(&mut pending)?;
                carries = pending.len() > 0;
            }
            match next {
                // What is left over goes on with the rows of the next block, so that blocks
                // stay full.
                Some(next) if is_dense && carries => pending.join = Some(next.first),
                next => self.finish(&mut pending, next)?,
            }
        }
        Ok(())
    }

    fn merge(
        &mut self,
        pending: &mut Pending,
        old: Vec<BlockRow>,
        changes: &mut dyn Changes,
        range: std::ops::Range<usize>,
    ) -> Result<()> {
        let mut range = range;
        let mut old = old;
        if pending.len() == 0 && !changes.wants_place() {
            // Where every row is known, nothing moves.
            let n_done = apply_in_place(&mut old, changes, range.clone());
            range.start += n_done;
            if range.is_empty() {
                pending.rows = old;
                pending.start = 0;
                return Ok(());
            }
        }
        let mut old = old.into_iter().peekable();
        for i in range {
            while let Some(row) = old.next_if(|row| row.0.as_slice() < changes.key(i)) {
                pending.push(row, None, changes);
            }
            let row = match old.next_if(|row| row.0.as_slice() == changes.key(i)) {
                Some(known) => known,
                None => (Key::from_slice(changes.key(i)), RowClock::unknown()),
            };
            pending.push(row, Some(i), changes);
            if let Some((_, clock)) = pending.rows.last_mut() {
                changes.apply(i, clock);
            }
            while pending.len() > 2 * MAX_BLOCK_ROWS {
                self.write_full(pending)?;
            }
        }
        if let Some(row) = old.next() {
            pending.push(row, None, changes);
        }
        pending.rows.extend(old);
        if let Some((last, _)) = pending.rows.last().filter(|_| changes.wants_place()) {
            pending.before = Some(Key::from_slice(last));
        }
        Ok(())
    }

    /// Writes what is left, unless it is little and `next` takes it in.
    fn finish(
        &mut self,
        pending: &mut Pending,
        next: Option<super::blocks::Neighbour>,
    ) -> Result<()> {
        while pending.len() > 2 * MAX_BLOCK_ROWS {
            self.write_full(pending)?;
        }
        let Some(next) = next else {
            while pending.len() > 0 {
                self.write_full(pending)?;
            }
            return self.delete_read(pending);
        };
        while pending.len() > 0 {
            let n_rows = pending.len();
            if n_rows <= MAX_BLOCK_ROWS {
                pending.encode(self, n_rows);
                let n_bytes = pending.body.len();
                let joins = n_bytes + next.n_bytes <= MAX_BLOCK_BYTES * 3 / 4
                    && n_rows + next.n_rows <= MAX_BLOCK_ROWS * 3 / 4;
                // Two blocks that share fill better than three halves (Knuth's B*-tree).
                let shares = n_bytes > MAX_BLOCK_BYTES
                    && n_bytes + next.n_bytes <= MAX_BLOCK_BYTES * 9 / 5
                    && n_rows + next.n_rows <= MAX_BLOCK_ROWS * 9 / 5;
                if joins || shares {
                    pending.join = Some(next.first);
                    return Ok(());
                }
                if n_bytes <= MAX_BLOCK_BYTES || n_rows == 1 {
                    self.write_encoded(pending, n_rows)?;
                    continue;
                }
            }
            self.write_half(pending)?;
        }
        self.delete_read(pending)
    }

    /// Writes as many rows as a block takes.
    fn write_full(&mut self, pending: &mut Pending) -> Result<()> {
        let mut n_rows = pending.guess.min(pending.len()).max(1);
        loop {
            pending.encode(self, n_rows);
            let n_bytes = pending.body.len();
            if n_bytes <= MAX_BLOCK_BYTES || n_rows == 1 {
                let has_room = n_bytes + n_bytes / n_rows <= MAX_BLOCK_BYTES;
                pending.guess = (n_rows + usize::from(has_room)).min(MAX_BLOCK_ROWS);
                return self.write_encoded(pending, n_rows);
            }
            n_rows = (n_rows * MAX_BLOCK_BYTES / n_bytes).clamp(1, n_rows - 1);
        }
    }

    /// Writes the first half of the rows, or less if that is too much for a block.
    fn write_half(&mut self, pending: &mut Pending) -> Result<()> {
        let mut n_rows = pending.len().div_ceil(2).min(MAX_BLOCK_ROWS);
        loop {
            pending.encode(self, n_rows);
            if pending.body.len() <= MAX_BLOCK_BYTES || n_rows == 1 {
                return self.write_encoded(pending, n_rows);
            }
            n_rows = n_rows.div_ceil(2);
        }
    }

    /// Writes the encoded block of the first `n_rows` rows.
    fn write_encoded(&mut self, pending: &mut Pending, n_rows: usize) -> Result<()> {
        // What was read goes first: SQLite would split a page for a row that takes the place
        // of another.
        let read = std::mem::take(&mut pending.read);
        let first = &pending.rows[pending.start].0;
        for stale in read.iter().filter(|read| *read != first) {
            self.delete(pending.table, stale)?;
        }
        self.write(pending.table, first, &pending.body)?;
        pending.start += n_rows;
        if pending.start == pending.rows.len() {
            pending.rows.clear();
            pending.start = 0;
        } else if pending.start > 8 * MAX_BLOCK_ROWS {
            pending.rows.drain(..pending.start);
            pending.start = 0;
        }
        Ok(())
    }

    /// Deletes blocks whose rows went elsewhere.
    fn delete_read(&mut self, pending: &mut Pending) -> Result<()> {
        for first in std::mem::take(&mut pending.read) {
            self.delete(pending.table, &first)?;
        }
        Ok(())
    }
}

impl Pending {
    fn len(&self) -> usize {
        self.rows.len() - self.start
    }

    /// Adds a row; tells it, and the one before it, what they share, if they were changed.
    #[inline]
    fn push(&mut self, row: BlockRow, change: Option<usize>, changes: &mut dyn Changes) {
        if (change.is_some() || self.changed.is_some()) && changes.wants_place() {
            let before = self.rows.last().map(|row| &row.0).or(self.before.as_ref());
            let shared = before.map_or(0, |before| shared_len(before, &row.0));
            for changed in [change, self.changed].into_iter().flatten() {
                changes.placed(changed, shared);
            }
        }
        self.changed = change;
        self.rows.push(row);
    }

    /// Whether the rows are more than a block takes.
    fn overflows(&mut self, blocks: &mut Blocks) -> bool {
        let n_rows = self.len();
        if n_rows <= MAX_BLOCK_ROWS && n_rows > 0 {
            self.encode(blocks, n_rows);
        }
        n_rows > MAX_BLOCK_ROWS || (n_rows > 1 && self.body.len() > MAX_BLOCK_BYTES)
    }

    fn encode(&mut self, blocks: &mut Blocks, n_rows: usize) {
        let rows = &self.rows[self.start..self.start + n_rows];
        blocks.encoder.encode(rows, &mut self.body);
    }
}

/// Applies changes of rows that are there, up to the first that is not; how many.
fn apply_in_place(
    rows: &mut [BlockRow],
    changes: &mut dyn Changes,
    range: std::ops::Range<usize>,
) -> usize {
    let (mut at, start) = (0, range.start);
    for i in range.clone() {
        let key = changes.key(i);
        while rows.get(at).is_some_and(|row| row.0.as_slice() < key) {
            at += 1;
        }
        match rows.get_mut(at) {
            Some((known, clock)) if known.as_slice() == key => changes.apply(i, clock),
            _ => return i - start,
        }
    }
    range.len()
}

/// The first index in the range for which `holds` is false; it holds up to there. Galloping,
/// for it is mostly near: a block takes few of many changes.
fn first_not(mut start: usize, mut end: usize, holds: impl Fn(usize) -> bool) -> usize {
    let mut step = 1;
    while start + step < end {
        if !holds(start + step) {
            end = start + step;
            break;
        }
        start += step + 1;
        step *= 2;
    }
    while start < end {
        let middle = start + (end - start) / 2;
        if holds(middle) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    start
}
