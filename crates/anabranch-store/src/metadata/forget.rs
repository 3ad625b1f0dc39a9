//! Compaction: dropping what the floor covers and nobody needs
//! (`docs/decisions/0008-forgetting.md`).
//!
//! Two walks. Over the blocks: tombstones at or below the floor go, and each log row that a
//! clock still names is marked. Over the log: headers at or below the floor go, values that
//! gave way, and the records of rows that no clock names, if all are at or below the floor; a
//! row with nothing left goes, but for the last, whose id says which is the next.
//!
//! Addresses never change: an entry of which one record stands keeps all.

use std::collections::BTreeMap;

use hashbrown::HashSet;

use super::Metadata;
use super::block_forget::Repacking;
use super::blocks::place;
use super::entry::{self, Entry};
use super::header;
use super::log::LogRow;
use super::row_clock::RowClock;
use super::rows::BlockRow;
use super::sql::damaged;
use super::state::Versions;
use super::varint::Corrupt;
use crate::error::Result;
use crate::ids::{EntryId, Key, LocalDot, TableId};

/// What a compaction may drop.
#[derive(Debug, Default)]
pub(crate) struct Forgettable {
    /// The floor.
    pub(crate) floor: Versions,
    /// Tables whose tombstones go, with keys of which something is held and not shown.
    pub(crate) tables: BTreeMap<TableId, HashSet<Vec<u8>>>,
    /// Changes that are held and not shown: their headers stay.
    pub(crate) held: HashSet<LocalDot>,
    /// Nothing is written: only what would go is counted.
    pub(crate) is_dry: bool,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// Clocks of deleted rows.
    pub(crate) n_tombstones: u64,
    /// Headers of changes.
    pub(crate) n_headers: u64,
    /// Records of the log that nothing named any more.
    pub(crate) n_records: u64,
    /// Values that had given way: `ana_conflicts`.
    pub(crate) n_values: u64,
    /// Bytes of log and clocks.
    pub(crate) n_bytes: u64,
    /// One more than the largest causal length that went, by table.
    pub(crate) restarts: BTreeMap<TableId, u64>,
}

/// Rows of the log that a clock names: a bit for each.
struct Marks(Vec<u64>);

impl Marks {
    fn new(last: EntryId) -> Marks {
        Marks(vec![0; last.0 as usize / 64 + 1])
    }

    fn set(&mut self, id: EntryId) {
        if let Some(word) = self.0.get_mut(id.0 as usize / 64) {
            *word |= 1 << (id.0 % 64);
        }
    }

    fn has(&self, id: EntryId) -> bool {
        self.0.get(id.0 as usize / 64).is_some_and(|word| word >> (id.0 % 64) & 1 == 1)
    }
}

impl Forgettable {
    fn covers(&self, dot: LocalDot) -> bool {
        self.floor.get(&dot.author).is_some_and(|version| *version >= dot.version)
    }
}

impl Metadata {
    /// A vector by local author id; `None` for sites that no change here names.
    pub(crate) fn versions_of(
        &mut self,
        vector: &anabranch_core::vector::VersionVector,
    ) -> Result<Versions> {
        self.ensure()?;
        self.covered_versions(vector)
    }

    /// Whether there are clocks of a table.
    pub(crate) fn has_clocks(&mut self, table: TableId) -> Result<bool> {
        self.ensure()?;
        Ok(self.tables_with_clocks()?.contains(&table))
    }

    /// The clocks of one block, from the key `from` on, and of the unfolded rows that belong
    /// between; the first key of the next block.
    pub(crate) fn clocks_from(
        &mut self,
        table: TableId,
        from: &[u8],
    ) -> Result<(Vec<BlockRow>, Option<Key>)> {
        self.ensure()?;
        self.rows_of_block(table, from)
    }

    /// Takes rows out of the blocks: those that `gone` names between two keys, in order.
    pub(crate) fn drop_rows(
        &mut self,
        table: TableId,
        gone: impl Fn(&[u8], Option<&[u8]>) -> Result<Vec<Vec<u8>>>,
    ) -> Result<()> {
        self.ensure()?;
        self.or_stale(|this| {
            this.fold_tail()?;
            let mut packing = Repacking::new(table, false);
            let mut from = Some(Key::new());
            while let Some(first) = from {
                let Some(block) = this.blocks.load_from(table, &first)? else { break };
                from = this.blocks.next_first(table, &block.first)?;
                let gone = gone(&block.first, from.as_deref())?;
                let is_kept =
                    |row: &&BlockRow| gone.binary_search_by(|key| key[..].cmp(&row.0)).is_err();
                let kept = block.rows.iter().filter(is_kept).cloned().collect();
                packing.take(&mut this.blocks, &block, kept)?;
            }
            packing.finish(&mut this.blocks)?;
            this.note_forgotten()
        })
    }

    /// Drops what is forgettable; in a dry run says what would go. In the present transaction,
    /// whose floor is raised before.
    pub(crate) fn forget(&mut self, what: &Forgettable) -> Result<Forgotten> {
        self.ensure()?;
        if what.is_dry {
            // What is unfolded is looked at where it would be.
            return self.walk(what);
        }
        self.or_stale(|this| {
            this.fold_tail()?;
            let forgotten = this.walk(what)?;
            this.note_forgotten()?;
            Ok(forgotten)
        })
    }

    fn walk(&mut self, what: &Forgettable) -> Result<Forgotten> {
        let mut forgotten = Forgotten::default();
        let mut marks = Marks::new(self.state.last);
        for table in self.tables_with_clocks()? {
            self.walk_table(table, what, &mut marks, &mut forgotten)?;
        }
        self.walk_log(what, &marks, &mut forgotten)?;
        self.blocks.forget();
        Ok(forgotten)
    }

    fn walk_table(
        &mut self,
        table: TableId,
        what: &Forgettable,
        marks: &mut Marks,
        forgotten: &mut Forgotten,
    ) -> Result<()> {
        let mut packing = Repacking::new(table, what.is_dry);
        let mut from = Some(Key::new());
        while let Some(first) = from {
            let Some(block) = self.blocks.load_from(table, &first)? else { break };
            from = self.blocks.next_first(table, &block.first)?;
            let mut kept: Vec<BlockRow> = Vec::with_capacity(block.rows.len());
            for (key, clock) in &block.rows {
                // What is unfolded stands in the place of what is in the block.
                let is_former = self.tail.row(table, key).is_some();
                if is_former || !self.forget_row(table, key, clock, what, marks, forgotten)? {
                    kept.push((key.clone(), clock.clone()));
                }
            }
            packing.take(&mut self.blocks, &block, kept)?;
        }
        packing.finish(&mut self.blocks)?;
        forgotten.n_bytes += packing.n_before.saturating_sub(packing.n_after);
        // Only in a dry run is anything unfolded.
        for (key, clock) in self.tail.rows(table) {
            self.forget_row(table, &key, &clock, what, marks, forgotten)?;
        }
        Ok(())
    }

    /// Counts a row that goes, or marks the log rows that it needs; whether it goes.
    fn forget_row(
        &mut self,
        table: TableId,
        key: &Key,
        clock: &RowClock,
        what: &Forgettable,
        marks: &mut Marks,
        forgotten: &mut Forgotten,
    ) -> Result<bool> {
        if !self.is_forgettable(table, key, clock, what)? {
            clock.groups.iter().for_each(|group| marks.set(group.at.entry));
            return Ok(false);
        }
        forgotten.n_tombstones += 1;
        let restart = forgotten.restarts.entry(table).or_insert(1);
        *restart = (*restart).max(clock.causal_length + 1);
        Ok(true)
    }

    /// Whether a row is dead, and every delete that this copy knows of is at or below the floor.
    fn is_forgettable(
        &mut self,
        table: TableId,
        key: &Key,
        clock: &RowClock,
        what: &Forgettable,
    ) -> Result<bool> {
        if clock.is_alive() {
            return Ok(false);
        }
        let held = what.tables.get(&table);
        if held.is_none_or(|held| held.contains(key.as_slice())) {
            return Ok(false);
        }
        for group in &clock.groups {
            let missing = || damaged(place(table, key), Corrupt("it names a record that is gone"));
            let entry = self.entry(group.at.entry)?.ok_or_else(missing)?;
            let stamp = entry.stamp(group.at.index).ok_or_else(missing)?;
            if !what.covers(stamp.dot) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn walk_log(
        &mut self,
        what: &Forgettable,
        marks: &Marks,
        forgotten: &mut Forgotten,
    ) -> Result<()> {
        let mut next = EntryId(1);
        while let Some(row) = self.log.next(next)? {
            next = EntryId(row.id.0 + 1);
            let head = self
                .log
                .header_of(&row)?
                .map(|head| LocalDot { author: head.author, version: head.version });
            let is_head_gone =
                head.is_some_and(|change| what.covers(change) && !what.held.contains(&change));
            let is_gone = row
                .entry
                .as_ref()
                .is_some_and(|entry| !marks.has(row.id) && is_all_covered(entry, what));
            let gone: Vec<bool> = row.entry.as_ref().map_or_else(Vec::new, |entry| {
                let is_gone = |index: &u32, dot: LocalDot| {
                    let by = entry.stamp(*index).map(|stamp| stamp.dot);
                    what.covers(dot) && by.is_none_or(|by| what.covers(by))
                };
                entry.superseded.iter().map(|(index, cell)| is_gone(index, cell.dot)).collect()
            });
            let are_values_gone = gone.iter().all(|is_gone| *is_gone);
            if is_head_gone || (is_gone && are_values_gone) || gone.contains(&true) {
                let left = Left { is_head_gone, is_body_gone: is_gone && are_values_gone, gone };
                self.forget_of_row(&row, &left, what, forgotten)?;
            }
        }
        Ok(())
    }

    fn forget_of_row(
        &mut self,
        row: &LogRow,
        left: &Left,
        what: &Forgettable,
        forgotten: &mut Forgotten,
    ) -> Result<()> {
        let (head, body) = self.log.raw(row.id)?;
        let broken = |what| damaged(format!("ana_entry {}", row.id.0), what);
        let new_head = if left.is_head_gone { &[][..] } else { &head };
        let new_body = match (left.is_body_gone || body.is_empty(), left.is_head_gone) {
            (true, _) => Vec::new(),
            // What the records take for granted the head said, before any renaming.
            (false, is_head_gone) => {
                let stored = is_head_gone.then(|| header::decode_dot(&head, row.dbv)).transpose();
                let version = stored.map_err(broken)?.map(|(_, version)| version);
                entry::strip(&body, version, |place| !left.gone[place]).map_err(broken)?
            }
        };
        forgotten.n_headers += u64::from(left.is_head_gone);
        forgotten.n_values += left.gone.iter().filter(|is_gone| **is_gone).count() as u64;
        if left.is_body_gone {
            forgotten.n_records += row.entry.as_ref().map_or(0, |entry| u64::from(entry.len()));
        }
        let before = (head.len() + body.len()) as u64;
        forgotten.n_bytes += before.saturating_sub((new_head.len() + new_body.len()) as u64);
        if what.is_dry {
            return Ok(());
        }
        match new_head.is_empty() && new_body.is_empty() && row.id != self.state.last {
            true => self.log.delete(row.id),
            false => self.log.rewrite(row.id, new_head, &new_body),
        }
    }
}

/// What goes of a row of the log.
struct Left {
    is_head_gone: bool,
    is_body_gone: bool,
    /// Of its superseded cells, by place.
    gone: Vec<bool>,
}

fn is_all_covered(entry: &Entry, what: &Forgettable) -> bool {
    (0..entry.len()).all(|index| entry.stamp(index).is_some_and(|stamp| what.covers(stamp.dot)))
}
