//! Merging changed rows into the blocks of a table: each touched block is read, merged and
//! written once.
//!
//! A block that grows past its bounds is cut in halves, so that both have room; at the end
//! of the table, where keys that ascend arrive, blocks are filled. A block that became small
//! takes its small neighbour in. A row that alone is past [`MAX_BLOCK_BYTES`] (a long key,
//! many columns written at different times) is a block of its own, which SQLite spills.

use std::cmp::Ordering;
use std::ops::Range;

use smallvec::SmallVec;

use super::block::{self, Parts};
use super::block_walk::Walk;
use super::blocks::{Blocks, Raw, place};
use super::key_code::shared_len;
use super::local::Outcome;
use super::patterns::{Op, Patterns, UNKNOWN};
use super::rows::{Rows, Slot, compare, first_not};
use super::sql::damaged;
use crate::error::Result;
use crate::ids::{Key, TableId};
use crate::limits::{MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, MAX_FILLED_BYTES};

/// Changes of rows of one table, by ascending key.
pub(crate) trait Changes {
    /// How many rows change.
    fn len(&self) -> usize;
    /// The key of the i-th.
    fn key(&self, i: usize) -> &[u8];
    /// Changes the i-th.
    fn apply(&mut self, i: usize, row: &mut Slot, patterns: &mut Patterns);
    /// The operation that all changes of a range are, each on its row, if they are alike in all
    /// but their addresses and numbers. `are_unknown`: so are the rows.
    fn alike(&self, _range: Range<usize>, _are_unknown: bool) -> Option<Op<'_>> {
        None
    }
    /// Address and number of the i-th, if it is alike with others: the number is for a row that
    /// is unknown.
    fn place(&self, _i: usize) -> (u64, u64) {
        unreachable!("no changes are alike")
    }
    /// Tells what came of the i-th, which was alike with others.
    fn came_out(&mut self, _i: usize, _outcome: Outcome) {}
    /// Whether [`Changes::placed`] is wanted.
    fn wants_place(&self) -> bool {
        false
    }
    /// Tells how many leading bytes the key of the i-th shares with its neighbours, so far
    /// as they were seen; called again when it is more.
    fn placed(&mut self, _i: usize, _shared: usize) {}
}

/// In a block with so many rows for each one that changes, they are changed where they are;
/// where more change, all are decoded.
const SPARSE: usize = 4;

/// The rows that are being merged and not written yet.
struct Pending {
    table: TableId,
    rows: Rows,
    /// Rows before it are written.
    start: usize,
    /// Blocks that were read: overwritten, or deleted at the end.
    read: Vec<Key>,
    /// The next block shall take the rows in.
    joins: bool,
    /// The last row before those of the present block, and the change it was, if it was one.
    before: Option<Key>,
    changed: Option<usize>,
    /// How many rows the next block probably takes.
    guess: usize,
    /// The block of the first `n_encoded` rows, if any.
    body: Vec<u8>,
    n_encoded: usize,
    /// The row that is being changed.
    slot: Slot,
    /// The present block, and what its patterns are called among `rows`.
    old: Rows,
    names: Vec<u32>,
}

impl Blocks {
    /// Changes rows of one table.
    pub(crate) fn update(&mut self, table: TableId, changes: &mut impl Changes) -> Result<()> {
        let mut pending = Pending::new(table);
        let mut walk = Walk::new(table);
        let mut done = 0;
        let n_changes = changes.len();
        while done < n_changes || pending.joins {
            let found = match std::mem::take(&mut pending.joins) {
                true => walk.take_next(),
                false => walk.take(self, changes.key(done))?,
            };
            pending.old.clear();
            let (mut end, mut is_dense) = (n_changes, false);
            if let Some(block) = found {
                let is_broken = |what| damaged(place(table, &block.first), what);
                let parts = Parts::read(&block.body).map_err(is_broken)?;
                (end, is_dense) = self.end_of_block(&mut walk, &block, &parts, changes, done)?;
                pending.read.push(block.first.clone());
                if self.edit(&mut pending, &block, &parts, changes, done..end)?
                    || self.edit_all(&mut pending, &block, &parts, changes, done..end)?
                {
                    done = end;
                    self.finish_edited(&mut pending, &block, &mut walk)?;
                    continue;
                }
                block::decode_into(&block.first, &block.body, &mut pending.old)
                    .map_err(is_broken)?;
            }
            self.merge(&mut pending, changes, done..end)?;
            done = end;
            let mut carries = false;
            while is_dense && pending.overflows(self) {
                self.write_full(&mut pending)?;
                carries = pending.len() > 0;
            }
            // What is left over goes on with the rows of the next block, so that blocks stay
            // full.
            pending.joins = carries && pending.next_of(self, &mut walk)?.is_some();
            if !pending.joins {
                self.finish(&mut pending, &mut walk)?;
            }
        }
        Ok(())
    }

    /// Which changes from `done` on belong into the block that was read, and whether most of
    /// its rows change and changes go on, so that the next block is probably read as well.
    fn end_of_block(
        &mut self,
        walk: &mut Walk,
        block: &Raw,
        parts: &Parts<'_>,
        changes: &impl Changes,
        done: usize,
    ) -> Result<(usize, bool)> {
        let last = parts.last_key(&block.first);
        let last = last.map_err(|what| damaged(place(walk.table(), &block.first), what))?;
        let n_changes = changes.len();
        let is_dense = |end: usize| end < n_changes && (end - done) * 2 >= parts.n_rows;
        let is_below = |i: usize| compare(changes.key(i), &last) != Ordering::Greater;
        let end = first_not(done, n_changes, is_below);
        if end == n_changes {
            return Ok((end, false));
        }
        let key = changes.key(end);
        if !walk.belongs(self, &block.first, key, is_dense(end))? {
            return Ok((end, is_dense(end)));
        }
        let end = match walk.next(self, &block.first)? {
            Some(next) => first_not(end, n_changes, |i| changes.key(i) < next.first.as_slice()),
            None => n_changes,
        };
        Ok((end, is_dense(end)))
    }

    /// Changes few rows of a block that are all there, and makes its new bytes; `false`: it
    /// is not so, and nothing was done.
    fn edit(
        &mut self,
        pending: &mut Pending,
        block: &Raw,
        parts: &Parts<'_>,
        changes: &mut impl Changes,
        range: Range<usize>,
    ) -> Result<bool> {
        if pending.len() > 0 || range.is_empty() || range.len() * SPARSE > parts.n_rows {
            return Ok(false);
        }
        let is_broken = |what| damaged(place(pending.table, &block.first), what);
        let start = range.start;
        let found = parts.find_all(&block.first, range.len(), |i| changes.key(start + i));
        let Some(found) = found.map_err(is_broken)? else { return Ok(false) };
        let Pending { rows, slot, body, .. } = pending;
        let apply = |i: usize, slot: &mut Slot, patterns: &mut Patterns| {
            changes.apply(start + i, slot, patterns);
        };
        let edited = self.encoder.edit(parts, &found, &mut rows.patterns, slot, apply, body);
        edited.map_err(|what| damaged(place(pending.table, &block.first), what))?;
        if changes.wants_place() {
            for (i, (_, shared)) in found.iter().enumerate() {
                changes.placed(start + i, *shared);
            }
        }
        pending.changed = None;
        Ok(true)
    }

    /// Changes all rows of a block by operations that are alike, and makes its new bytes;
    /// `false`: it is not so, or they are too many for a block, and nothing was done.
    fn edit_all(
        &mut self,
        pending: &mut Pending,
        block: &Raw,
        parts: &Parts<'_>,
        changes: &mut impl Changes,
        range: Range<usize>,
    ) -> Result<bool> {
        if pending.len() > 0 || range.len() != parts.n_rows {
            return Ok(false);
        }
        let is_broken = |what| damaged(place(pending.table, &block.first), what);
        let start = range.start;
        let found = parts.are_all(&block.first, range.len(), |i| changes.key(start + i));
        let Some(found) = found.map_err(is_broken)? else { return Ok(false) };
        let Some(op) = changes.alike(range.clone(), false) else { return Ok(false) };
        let at: SmallVec<[u64; MAX_BLOCK_ROWS]> = range.map(|i| changes.place(i).0).collect();
        let Pending { rows, body, .. } = pending;
        let edited = self.encoder.edit_all(parts, &mut rows.patterns, &op, &at, body);
        let edited = edited.map_err(|what| damaged(place(pending.table, &block.first), what))?;
        let Some(outcomes) = edited.filter(|_| pending.body.len() <= MAX_BLOCK_BYTES) else {
            return Ok(false);
        };
        for (i, outcome) in outcomes.into_iter().enumerate() {
            changes.came_out(start + i, outcome);
        }
        if changes.wants_place() {
            for (i, (_, shared)) in found.iter().enumerate() {
                changes.placed(start + i, *shared);
            }
        }
        pending.changed = None;
        Ok(true)
    }

    /// Writes a block that was edited, if it has the right size; else its rows go on as if
    /// they had been merged.
    fn finish_edited(&mut self, pending: &mut Pending, block: &Raw, walk: &mut Walk) -> Result<()> {
        let (n_bytes, n_rows) = (pending.body.len(), block.n_rows());
        if n_bytes <= MAX_BLOCK_BYTES && !is_small(n_bytes, n_rows) {
            pending.read.clear();
            return self.write(pending.table, &block.first, &pending.body);
        }
        pending.rows.clear();
        block::decode_into(&block.first, &pending.body, &mut pending.rows)
            .map_err(|what| damaged(place(pending.table, &block.first), what))?;
        pending.n_encoded = n_rows;
        self.finish(pending, walk)
    }

    fn merge(
        &mut self,
        pending: &mut Pending,
        changes: &mut impl Changes,
        range: Range<usize>,
    ) -> Result<()> {
        pending.rows.patterns.names(&pending.old.patterns, &mut pending.names);
        let (mut at, mut may_append) = (0, true);
        for i in range.clone() {
            if at == pending.old.len()
                && std::mem::take(&mut may_append)
                && self.append(pending, changes, i..range.end)?
            {
                break;
            }
            let key = changes.key(i);
            let (to, is_known) = pending.old.find(at, key);
            pending.keep(at..to, changes);
            pending.meet(0, Some(i), changes);
            pending.rows.push_key(changes.key(i));
            if is_known {
                let name = pending.names[pending.old.places[to] as usize];
                pending.old.read(to, name, &mut pending.slot);
            } else {
                pending.slot.place = UNKNOWN;
                pending.slot.at.clear();
            }
            at = to + usize::from(is_known);
            changes.apply(i, &mut pending.slot, &mut pending.rows.patterns);
            pending.rows.push(&pending.slot);
            pending.n_encoded = 0;
            while pending.len() > 2 * MAX_BLOCK_ROWS {
                self.write_full(pending)?;
            }
        }
        pending.keep(at..pending.old.len(), changes);
        pending.meet_end(changes);
        Ok(())
    }

    /// Adds rows that are unknown, and above all of the present block, if they are alike.
    fn append(
        &mut self,
        pending: &mut Pending,
        changes: &mut impl Changes,
        range: Range<usize>,
    ) -> Result<bool> {
        let Some(op) = changes.alike(range.clone(), true) else { return Ok(false) };
        let made = pending.rows.patterns.made(UNKNOWN, &op);
        if made.from.as_slice() != [None] || pending.rows.patterns.is_out_of_bounds(made.place) {
            return Ok(false);
        }
        for i in range {
            pending.meet(0, Some(i), changes);
            let (at, number) = changes.place(i);
            pending.rows.push_new(changes.key(i), made.place, number, at);
            changes.came_out(i, made.outcome);
            if pending.len() > 2 * MAX_BLOCK_ROWS {
                pending.n_encoded = 0;
                self.write_full(pending)?;
            }
        }
        pending.n_encoded = 0;
        Ok(true)
    }

    /// Writes what is left, unless it is little and the next block takes it in.
    fn finish(&mut self, pending: &mut Pending, walk: &mut Walk) -> Result<()> {
        while pending.len() > 2 * MAX_BLOCK_ROWS {
            self.write_full(pending)?;
        }
        while pending.len() > 0 {
            let n_rows = pending.len();
            let mut n_bytes = usize::MAX;
            if n_rows <= MAX_BLOCK_ROWS {
                pending.encode(self, n_rows);
                n_bytes = pending.body.len();
            }
            let fits = n_bytes <= MAX_BLOCK_BYTES || n_rows == 1;
            if fits && !is_small(n_bytes, n_rows) {
                self.write_encoded(pending, n_rows)?;
                continue;
            }
            let Some(next) = pending.next_of(self, walk)? else {
                self.write_full(pending)?;
                continue;
            };
            let (bytes, rows) = (n_bytes.saturating_add(next.body.len()), n_rows + next.n_rows());
            let joins = bytes <= MAX_BLOCK_BYTES * 3 / 4 && rows <= MAX_BLOCK_ROWS * 3 / 4;
            // Two blocks that share fill better than three halves (Knuth's B*-tree).
            let shares = n_bytes > MAX_BLOCK_BYTES
                && bytes <= MAX_BLOCK_BYTES * 9 / 5
                && rows <= MAX_BLOCK_ROWS * 9 / 5;
            if joins || shares {
                pending.joins = true;
                return Ok(());
            }
            match fits {
                true => self.write_encoded(pending, n_rows)?,
                false => self.write_half(pending)?,
            }
        }
        self.delete_read(pending)
    }

    /// Writes as many rows as a block takes.
    fn write_full(&mut self, pending: &mut Pending) -> Result<()> {
        let mut n_rows = pending.guess.min(pending.len()).max(1);
        loop {
            pending.encode(self, n_rows);
            let n_bytes = pending.body.len();
            if n_bytes <= MAX_FILLED_BYTES || n_rows == 1 {
                let has_room = n_bytes + n_bytes / n_rows <= MAX_FILLED_BYTES;
                pending.guess = (n_rows + usize::from(has_room)).min(MAX_BLOCK_ROWS);
                return self.write_encoded(pending, n_rows);
            }
            n_rows = (n_rows * MAX_FILLED_BYTES / n_bytes).clamp(1, n_rows - 1);
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
        debug_assert_eq!(pending.n_encoded, n_rows);
        // What was read goes first: SQLite would split a page for a row that takes the place
        // of another.
        let read = std::mem::take(&mut pending.read);
        let first = pending.rows.key(pending.start);
        for stale in read.iter().filter(|read| read.as_slice() != first) {
            self.delete(pending.table, stale)?;
        }
        self.write(pending.table, first, &pending.body)?;
        pending.written(n_rows);
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

/// Whether a block may be joined with the next.
fn is_small(n_bytes: usize, n_rows: usize) -> bool {
    n_bytes <= MAX_BLOCK_BYTES * 3 / 8 && n_rows <= MAX_BLOCK_ROWS * 3 / 8
}

impl Pending {
    fn new(table: TableId) -> Pending {
        Pending {
            table,
            rows: Rows::default(),
            start: 0,
            read: Vec::new(),
            joins: false,
            before: None,
            changed: None,
            guess: MAX_BLOCK_ROWS,
            body: Vec::with_capacity(MAX_BLOCK_BYTES * 2),
            n_encoded: 0,
            slot: Slot::default(),
            old: Rows::default(),
            names: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.rows.len() - self.start
    }

    /// The block after all rows that are here or were written.
    fn next_of<'a>(&self, blocks: &mut Blocks, walk: &'a mut Walk) -> Result<Option<&'a Raw>> {
        walk.next(blocks, self.rows.last_key().unwrap_or_default())
    }

    /// Takes rows of the present block over.
    fn keep(&mut self, range: Range<usize>, changes: &mut impl Changes) {
        if range.is_empty() {
            return;
        }
        self.meet(range.start, None, changes);
        self.rows.extend(&self.old, range, &self.names);
        self.n_encoded = 0;
    }

    /// Tells a row that comes, a change or else that of the present block, and the one before
    /// it, what they share, if they were changed.
    #[inline]
    fn meet(&mut self, kept: usize, change: Option<usize>, changes: &mut impl Changes) {
        let before = std::mem::replace(&mut self.changed, change);
        if changes.wants_place() && (change.is_some() || before.is_some()) {
            let key = change.map_or_else(|| self.old.key(kept), |change| changes.key(change));
            let last = self.rows.last_key().or(self.before.as_deref());
            let shared = last.map_or(0, |last| shared_len(last, key));
            for changed in [change, before].into_iter().flatten() {
                changes.placed(changed, shared);
            }
        }
    }

    /// Keeps what the next block's first row may be compared with.
    fn meet_end(&mut self, changes: &impl Changes) {
        if let Some(last) = self.rows.last_key().filter(|_| changes.wants_place()) {
            self.before = Some(Key::from_slice(last));
        }
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
        if self.n_encoded != n_rows {
            let range = self.start..self.start + n_rows;
            blocks.encoder.encode(&self.rows, range, &mut self.body);
            self.n_encoded = n_rows;
        }
    }

    /// The first `n_rows` rows were written.
    fn written(&mut self, n_rows: usize) {
        self.start += n_rows;
        self.n_encoded = 0;
        if self.start == self.rows.len() {
            self.rows.clear();
            self.start = 0;
        } else if self.start > 8 * MAX_BLOCK_ROWS {
            self.rows = self.rows.split_off(self.start);
            self.start = 0;
            self.rows.patterns.names(&self.old.patterns, &mut self.names);
        }
    }
}
