//! Writing what a transaction did: records into the log, clocks into the tail or blocks.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;

use super::entry::{self, Entry};
use super::local;
use super::mask::Mask;
use super::record::{Record, RecordKind};
use super::row_clock::RowClock;
use super::{Metadata, PendingChange};
use crate::buffer::{LocalBuffer, LocalKind, LocalOp, MergedBuffer, MergedRecord};
use crate::error::Result;
use crate::ids::{Address, ColumnId, EntryId, Key, LocalDot, Ordinal, TableId};
use crate::limits::{MAX_ENTRY_RECORDS, MAX_UNFOLDED_OPS, MAX_UNFOLDED_ROWS};

/// Clocks of rows in work, by table and key.
type Rows = HashMap<(TableId, Key), RowClock>;

/// Entries of one window of the log, by table, in the order of their first records.
#[derive(Default)]
struct Window {
    tables: Vec<(TableId, Entry)>,
    n_records: usize,
}

impl Window {
    /// The entry of a table: its place in this window, and its records.
    fn entry(&mut self, table: TableId) -> (usize, &mut Entry) {
        let found = self.tables.iter().position(|(id, _)| *id == table);
        let place = found.unwrap_or_else(|| {
            self.tables.push((table, Entry::default()));
            self.tables.len() - 1
        });
        (place, &mut self.tables[place].1)
    }
}

impl Metadata {
    pub(super) fn write_ops(
        &mut self,
        change: &mut PendingChange,
        ops: &LocalBuffer,
    ) -> Result<()> {
        self.take_db_version(change);
        let is_small = ops.ops.len() <= MAX_UNFOLDED_OPS
            && ops.ops.iter().all(|op| op.kind != LocalKind::Rekey);
        if !is_small {
            return self.write_many(change, ops);
        }
        let mut window = Window::default();
        for op in &ops.ops {
            let kind = record_kind(op.kind);
            let columns = &ops.masks[op.mask as usize];
            let at = self.next_address(&mut window, op.table);
            let outcome = self.apply_to_tail(op.table, ops.key(op), kind, columns, at)?;
            let dot = self.pending_dot();
            let record = local_record(change, kind, ops.key(op), columns, outcome, dot);
            window.entry(op.table).1.records.push(record);
        }
        self.tail.n_entries += window.tables.len();
        self.write_window(change, window)?;
        if self.tail.len() > MAX_UNFOLDED_ROWS || self.tail.n_entries > MAX_UNFOLDED_ROWS {
            self.fold_tail()?;
        }
        Ok(())
    }

    /// Where the next record of a table will stand.
    fn next_address(&self, window: &mut Window, table: TableId) -> Address {
        let (place, entry) = window.entry(table);
        let entry_id = EntryId(self.state.last.0 + 1 + place as u64);
        Address { entry: entry_id, index: entry.records.len() as u32 }
    }

    fn take_db_version(&mut self, change: &mut PendingChange) {
        change.db_version = change.db_version.max(self.committed.dbv + 1);
    }

    fn write_many(&mut self, change: &mut PendingChange, ops: &LocalBuffer) -> Result<()> {
        self.fold_tail()?;
        let mut rows = Rows::new();
        let has_rekeys = ops.ops.iter().any(|op| op.kind == LocalKind::Rekey);
        let mut window = Window::default();
        let mut i = 0;
        while i < ops.ops.len() {
            let op = &ops.ops[i];
            if op.kind == LocalKind::Rekey {
                self.rekey(change, ops, i, &mut rows, &mut window)?;
                i += 2;
            } else {
                self.write_one(change, ops, op, has_rekeys, &mut rows, &mut window)?;
                i += 1;
            }
            if window.n_records >= MAX_ENTRY_RECORDS {
                self.write_window(change, std::mem::take(&mut window))?;
            }
        }
        self.write_window(change, window)?;
        self.fold_working(rows)
    }

    fn write_one(
        &mut self,
        change: &mut PendingChange,
        ops: &LocalBuffer,
        op: &LocalOp,
        is_merged: bool,
        rows: &mut Rows,
        window: &mut Window,
    ) -> Result<()> {
        let at = self.next_address(window, op.table);
        let mut clock = self.take_row(rows, op.table, ops.key(op))?;
        let number = self.number_for(op.table, &clock)?;
        let kind = record_kind(op.kind);
        let columns = &ops.masks[op.mask as usize];
        let outcome = local::apply(&mut clock, kind, columns, at, number);
        if let Some(clock) = clock {
            rows.insert((op.table, Key::from_slice(ops.key(op))), clock);
        }
        let dot = self.pending_dot();
        let mut record = local_record(change, kind, ops.key(op), columns, outcome, dot);
        if is_merged {
            record.kind = RecordKind::Merged;
        }
        window.entry(op.table).1.records.push(record);
        window.n_records += 1;
        Ok(())
    }

    /// The clock of a row in work: its former one if this is the first time.
    fn take_row(
        &mut self,
        rows: &mut Rows,
        table: TableId,
        key: &[u8],
    ) -> Result<Option<RowClock>> {
        match rows.remove(&(table, Key::from_slice(key))) {
            Some(clock) => Ok(Some(clock)),
            None => self.blocks.row(table, key),
        }
    }

    /// The number a row gets if it is unknown.
    fn number_for(&mut self, table: TableId, clock: &Option<RowClock>) -> Result<u64> {
        if clock.is_some() {
            return Ok(0);
        }
        let number = self.next_number(table)?;
        self.numbers.insert(table, number + 1);
        Ok(number)
    }

    /// An update of a key: the columns move to the new key with fresh stamps, the old key
    /// is deleted, the new one is born, then come the columns that changed too.
    fn rekey(
        &mut self,
        change: &mut PendingChange,
        ops: &LocalBuffer,
        i: usize,
        rows: &mut Rows,
        window: &mut Window,
    ) -> Result<()> {
        let (from, to) = (&ops.ops[i], &ops.ops[i + 1]);
        debug_assert_eq!(to.kind, LocalKind::Rekeyed);
        let (table, old_key, new_key) = (from.table, ops.key(from), ops.key(to));
        let changed = &ops.masks[to.mask as usize];
        let sentinel = Mask::of(ColumnId::SENTINEL);
        let mut push = |this: &Metadata,
                        change: &mut PendingChange,
                        key: &[u8],
                        mask: Mask,
                        is_birth: bool| {
            let at = this.next_address(window, table);
            let record = Record {
                kind: RecordKind::Merged,
                key: Key::from_slice(key),
                first_seq: change.next_seq,
                dot: this.pending_dot(),
                origin: Ordinal(0),
                db_version: change.db_version,
                is_birth,
                mask,
            };
            change.next_seq += u64::from(record.mask.len());
            window.entry(table).1.records.push(record);
            window.n_records += 1;
            at
        };
        let old = self.take_row(rows, table, old_key)?;
        let old_number = self.number_for(table, &old)?;
        let mut old = old.unwrap_or_else(|| unknown_row(old_number));
        if old_key == new_key {
            // Another spelling of the same key: a delete and an insert of all columns.
            let mut columns = columns_of(&old);
            columns.unite(changed);
            let at = push(self, change, old_key, sentinel.clone(), true);
            local::delete(&mut old, at);
            let mut all = columns.clone();
            all.insert(ColumnId::SENTINEL);
            let at = push(self, change, new_key, all, true);
            local::raise(&mut old, at);
            local::stamp(&mut old, &columns, at);
            rows.insert((table, Key::from_slice(new_key)), old);
            return Ok(());
        }
        let new = self.take_row(rows, table, new_key)?;
        let new_number = self.number_for(table, &new)?;
        let was_known = new.is_some();
        let mut new = new.unwrap_or_else(|| unknown_row(new_number));
        let mut moved = columns_of(&old);
        moved.unite(&columns_of(&new));
        if !moved.is_empty() {
            let at = push(self, change, new_key, moved.clone(), false);
            let version = |row: &RowClock, column| row.column(column).map_or(0, |g| g.version);
            let versions: Vec<_> = moved
                .iter()
                .map(|column| (column, version(&old, column).max(version(&new, column)) + 1))
                .collect();
            local::stamp_with(&mut new, versions, at);
        }
        let at = push(self, change, old_key, sentinel.clone(), true);
        local::delete(&mut old, at);
        let at = push(self, change, new_key, sentinel, true);
        if !was_known {
            new.causal_length = 0;
        }
        local::raise(&mut new, at);
        if !changed.is_empty() {
            let at = push(self, change, new_key, changed.clone(), false);
            local::stamp(&mut new, changed, at);
        }
        rows.insert((table, Key::from_slice(old_key)), old);
        rows.insert((table, Key::from_slice(new_key)), new);
        Ok(())
    }

    /// Writes the entries of a window.
    fn write_window(&mut self, change: &mut PendingChange, window: Window) -> Result<()> {
        let pending = self.pending_dot();
        let version = pending.version;
        for (table, entry) in window.tables {
            let newest = entry.records.iter().map(|record| record.db_version).max();
            let dbv = self.state.dbv.max(newest.unwrap_or(0));
            let body = entry::encode(&entry, version, dbv);
            let id = EntryId(self.state.last.0 + 1);
            self.log.insert(id, Some(table), dbv, None, Some(&body))?;
            self.state.last = id;
            self.state.dbv = dbv;
            // What a delta brought is its authors': it makes no change of this copy.
            if entry.records.iter().any(|record| record.dot == pending) {
                change.first_entry.get_or_insert(id);
            }
        }
        Ok(())
    }

    /// Merges rows in work into the blocks; the log is written.
    fn fold_working(&mut self, rows: Rows) -> Result<()> {
        let mut sorted: Vec<_> = rows.into_iter().collect();
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for run in sorted.chunk_by(|a, b| a.0.0 == b.0.0) {
            let table = run[0].0.0;
            let keys: Vec<&[u8]> = run.iter().map(|row| row.0.1.as_slice()).collect();
            self.blocks.update(table, &keys, |i, clock| {
                *clock = Some(run[i].1.clone());
                Ok(())
            })?;
            self.store_number(table)?;
        }
        self.set_folded(self.state.last)
    }

    pub(super) fn write_records(
        &mut self,
        change: &mut PendingChange,
        buffer: &MergedBuffer,
    ) -> Result<()> {
        self.fold_tail()?;
        let mut order: Vec<usize> = (0..buffer.records.len()).collect();
        order.sort_by_key(|i| (buffer.records[*i].db_version, buffer.records[*i].first_seq));
        let mut addresses = vec![Address { entry: EntryId::PENDING, index: 0 }; order.len()];
        for indexes in order.chunks(MAX_ENTRY_RECORDS) {
            let mut window = Window::default();
            for i in indexes {
                let record = &buffer.records[*i];
                addresses[*i] = self.next_address(&mut window, record.table);
                let dot = record.dot.unwrap_or(self.pending_dot());
                let entry = window.entry(record.table).1;
                if let Some(cell) = &record.superseded {
                    let index = entry.records.len() as u32;
                    entry.superseded.push((index, cell.as_ref().clone()));
                }
                entry.records.push(merged_record(record, dot));
            }
            self.write_window(change, window)?;
        }
        let rows = self.settle(buffer, &addresses)?;
        self.fold_working(rows)
    }

    /// The rows of a buffer with numbers and with addresses in the log.
    fn settle(&mut self, buffer: &MergedBuffer, addresses: &[Address]) -> Result<Rows> {
        let mut rows = Rows::with_capacity(buffer.rows.len());
        for record in &buffer.records {
            let slot = match rows.entry((record.table, record.key.clone())) {
                Slot::Occupied(_) => continue,
                Slot::Vacant(slot) => slot,
            };
            let Some(clock) = buffer.rows.get(slot.key()) else { continue };
            let mut clock = clock.clone();
            if clock.number == 0 {
                let number = self.next_number(record.table)?;
                self.numbers.insert(record.table, number + 1);
                clock.number = number;
            }
            for group in &mut clock.groups {
                if group.at.entry == EntryId::PENDING {
                    group.at = addresses[group.at.index as usize];
                }
            }
            clock.normalise();
            slot.insert(clock);
        }
        Ok(rows)
    }
}

fn record_kind(kind: LocalKind) -> RecordKind {
    match kind {
        LocalKind::Insert => RecordKind::Insert,
        LocalKind::Update => RecordKind::Update,
        LocalKind::Delete => RecordKind::Delete,
        LocalKind::Rekey | LocalKind::Rekeyed => RecordKind::Merged,
    }
}

fn unknown_row(number: u64) -> RowClock {
    RowClock { number, causal_length: 1, groups: smallvec::SmallVec::new() }
}

/// The columns a row has clocks for, without the sentinel.
fn columns_of(row: &RowClock) -> Mask {
    let mut columns = Mask::new();
    for group in &row.groups {
        columns.unite(&group.mask);
    }
    columns.remove(ColumnId::SENTINEL);
    columns
}

/// The record of a local operation; takes its `seq`s from the change.
fn local_record(
    change: &mut PendingChange,
    kind: RecordKind,
    key: &[u8],
    columns: &Mask,
    outcome: local::Outcome,
    dot: LocalDot,
) -> Record {
    let mut mask = if kind == RecordKind::Delete { Mask::new() } else { columns.clone() };
    if outcome.has_sentinel {
        mask.insert(ColumnId::SENTINEL);
    }
    let first_seq = change.next_seq + u64::from(outcome.skips_seq);
    change.next_seq = first_seq + u64::from(mask.len());
    let (origin, db_version, is_birth) = (Ordinal(0), change.db_version, outcome.is_birth);
    Record { kind, key: Key::from_slice(key), mask, first_seq, dot, origin, db_version, is_birth }
}

fn merged_record(record: &MergedRecord, dot: LocalDot) -> Record {
    Record {
        kind: RecordKind::Merged,
        key: record.key.clone(),
        mask: record.mask.clone(),
        first_seq: record.first_seq,
        dot,
        origin: record.origin,
        db_version: record.db_version,
        is_birth: record.is_birth,
    }
}
