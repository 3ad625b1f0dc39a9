//! Writing what a transaction did: records into the log, clocks into the tail or blocks.
//!
//! Three ways: a few local operations ([`Metadata::write_ops`]) write a log row and stay in
//! the tail; many ([`super::write_bulk`]) are sorted and folded at once; records whose rows
//! were worked out already (merges, updates of keys) come through
//! [`Metadata::write_settled`].

use smallvec::SmallVec;

use super::entry::{Stamp, Writer};
use super::fold::Clocks;
use super::header;
use super::local;
use super::mask::Mask;
use super::record::RecordKind;
use super::row_clock::RowClock;
use super::rows::address;
use super::{Metadata, PendingChange};
use crate::buffer::{LocalBuffer, LocalKind, MergedBuffer, MergedRecord, MergedRow, Superseded};
use crate::error::Result;
use crate::ids::{Address, ColumnId, EntryId, Key, LocalDot, Ordinal, TableId};
use crate::limits::{MAX_ENTRY_KEY_BYTES, MAX_ENTRY_RECORDS, MAX_UNFOLDED_OPS, MAX_UNFOLDED_ROWS};

/// A record that is to be written, its row worked out.
pub(super) struct Settled<'a> {
    /// Index of its row; beyond them for a row that is as it was.
    pub(super) row: u32,
    pub(super) table: TableId,
    pub(super) key: &'a [u8],
    pub(super) stamp: Stamp<'a>,
    pub(super) superseded: Option<&'a Superseded>,
}

/// A row of a settled write, in the order of the first records; addresses are indexes of
/// records.
pub(super) struct SettledRow<'a> {
    pub(super) table: TableId,
    pub(super) key: &'a [u8],
    pub(super) clock: &'a RowClock,
}

impl<'a> Settled<'a> {
    fn of(buffer: &'a MergedBuffer, record: &'a MergedRecord, pending: LocalDot) -> Settled<'a> {
        let row = &buffer.rows[record.row as usize];
        let stamp = Stamp {
            kind: RecordKind::Merged,
            is_birth: record.is_birth,
            mask: &record.mask,
            first_seq: record.first_seq,
            dot: record.dot.unwrap_or(pending),
            origin: record.origin,
            db_version: record.db_version,
        };
        let superseded = record.superseded.as_deref();
        Settled { row: record.row, table: row.table, key: &row.key, stamp, superseded }
    }
}

impl<'a> SettledRow<'a> {
    fn of(row: &'a MergedRow) -> SettledRow<'a> {
        SettledRow { table: row.table, key: &row.key, clock: &row.clock }
    }

    /// The clock with its number, and with places in the log for indexes of records.
    fn settled(&self, number: u64, at: &[Address]) -> RowClock {
        let mut clock = RowClock { number, ..self.clock.clone() };
        for group in &mut clock.groups {
            if group.at.entry == EntryId::PENDING {
                group.at = at[group.at.index as usize];
            }
        }
        clock.normalise();
        clock
    }
}

/// The entries of one stretch of the log, a table each, in the order of their first records.
#[derive(Default)]
pub(super) struct Window {
    tables: SmallVec<[(TableId, Writer); 1]>,
    /// Tables of which a record is of the pending change.
    own: SmallVec<[TableId; 1]>,
}

impl Window {
    /// The entry of a table: its place in this window, and its records.
    #[inline]
    pub(super) fn entry(&mut self, table: TableId) -> (usize, &mut Writer) {
        let place = match self.tables.first() {
            Some((first, _)) if *first == table => 0,
            _ => self.find(table),
        };
        (place, &mut self.tables[place].1)
    }

    fn find(&mut self, table: TableId) -> usize {
        let found = self.tables.iter().position(|(id, _)| *id == table);
        found.unwrap_or_else(|| {
            self.tables.push((table, Writer::default()));
            self.tables.len() - 1
        })
    }

    /// Notes that the pending change has a record of this table.
    #[inline]
    pub(super) fn note_own(&mut self, table: TableId) {
        if self.own.last() != Some(&table) && !self.own.contains(&table) {
            self.own.push(table);
        }
    }
}

/// Where records will stand: windows of the log are cut after so many records or bytes of
/// keys, all tables together, so that the records of two windows never interleave.
pub(super) struct Addresses {
    first: EntryId,
    /// By index of the record; `None`: all are of one table, and windows are full.
    each: Option<Vec<Address>>,
    /// Where each window ends.
    pub(super) ends: Vec<usize>,
}

/// As numbers the addresses of full entries follow each other.
const _: () = assert!(MAX_ENTRY_RECORDS == 1 << 12);

/// Whether so many keys of this length as an entry has records stay below its bytes.
#[inline]
pub(super) fn is_short(key_len: u32) -> bool {
    key_len as usize <= MAX_ENTRY_KEY_BYTES / MAX_ENTRY_RECORDS
}

impl Addresses {
    /// Lays records (table and length of the key) out from `first` on.
    pub(super) fn lay_out(
        first: EntryId,
        records: impl Iterator<Item = (TableId, usize)>,
    ) -> Addresses {
        let mut at = Vec::with_capacity(records.size_hint().0);
        let mut ends = Vec::new();
        let mut tables: SmallVec<[(TableId, u32); 4]> = SmallVec::new();
        let (mut id, mut n_records, mut n_bytes, mut place) = (first.0, 0, 0, 0);
        for (table, key_len) in records {
            if n_records == MAX_ENTRY_RECORDS || n_bytes > MAX_ENTRY_KEY_BYTES {
                ends.push(at.len());
                id += tables.len() as u64;
                tables.clear();
                (n_records, n_bytes) = (0, 0);
            }
            if tables.get(place).is_none_or(|(known, _)| *known != table) {
                let known = tables.iter().position(|(known, _)| *known == table);
                place = known.unwrap_or_else(|| {
                    tables.push((table, 0));
                    tables.len() - 1
                });
            }
            at.push(Address { entry: EntryId(id + place as u64), index: tables[place].1 });
            tables[place].1 += 1;
            n_records += 1;
            n_bytes += key_len;
        }
        ends.push(at.len());
        Addresses { first, each: Some(at), ends }
    }

    /// Lays `n` records of one table out whose keys are short ([`is_short`]).
    pub(super) fn in_a_row(first: EntryId, n: usize) -> Addresses {
        let ends = (MAX_ENTRY_RECORDS..n).step_by(MAX_ENTRY_RECORDS).chain([n]).collect();
        Addresses { first, each: None, ends }
    }

    /// Where the i-th record will stand.
    #[inline]
    pub(super) fn get(&self, i: usize) -> Address {
        match &self.each {
            Some(each) => each[i],
            None => address((self.first.0 << 12) + i as u64),
        }
    }
}

impl Metadata {
    pub(super) fn write_ops(
        &mut self,
        change: &mut PendingChange,
        ops: &LocalBuffer,
    ) -> Result<()> {
        change.db_version = change.db_version.max(self.committed.dbv + 1);
        if ops.ops.iter().any(|op| op.kind == LocalKind::Rekey) {
            return self.write_rekeys(change, ops);
        }
        let n_bytes: u64 = ops.ops.iter().map(|op| u64::from(op.key_len)).sum();
        if ops.ops.len() > MAX_UNFOLDED_OPS || n_bytes > MAX_ENTRY_KEY_BYTES as u64 {
            return self.write_bulk(change, ops);
        }
        let mut window = Window::default();
        let next = self.state.last.0 + 1;
        let dot = self.pending_dot();
        for op in &ops.ops {
            let (kind, key) = (record_kind(op.kind), ops.key(op));
            let columns = &ops.masks[op.mask as usize];
            let (place, writer) = window.entry(op.table);
            let entry = EntryId(next + place as u64);
            let at = Address { entry, index: writer.len() as u32 };
            let outcome = self.apply_to_tail(op.table, key, kind, columns, at)?;
            let mask = stamped(kind, columns, outcome);
            let stamp = take_seqs(change, kind, &mask, outcome, dot);
            window.entry(op.table).1.push(&stamp, key, key.len());
            window.note_own(op.table);
        }
        self.tail.n_entries += window.tables.len();
        self.write_window(change, &mut window)?;
        if self.tail.len() > MAX_UNFOLDED_ROWS || self.tail.n_entries > MAX_UNFOLDED_ROWS {
            self.fold_tail()?;
        }
        Ok(())
    }

    /// Writes the entries of a window.
    pub(super) fn write_window(
        &mut self,
        change: &mut PendingChange,
        window: &mut Window,
    ) -> Result<()> {
        let version = self.pending_dot().version;
        let own = std::mem::take(&mut window.own);
        for (table, mut writer) in window.tables.drain(..) {
            let id = EntryId(self.state.last.0 + 1);
            let dbv = self.state.dbv.max(writer.newest());
            let is_own = own.contains(&table);
            let states_version = is_own && change.first_entry.is_some();
            let body = writer.finish(version, states_version, dbv);
            let closes_at = change.closes_at.filter(|_| is_own && change.first_entry.is_none());
            let head = closes_at.map(|now_ms| self.make_header(change, now_ms));
            let head_bytes = head.as_ref().map(|head| header::encode(head, Some(dbv)));
            self.log.insert(id, Some(table), dbv, head_bytes.as_deref(), Some(&body))?;
            if head.is_some() {
                self.written_head = head;
            }
            self.state.last = id;
            self.state.dbv = dbv;
            if is_own {
                // What a delta brought is its authors': it makes no change of this copy.
                change.first_entry.get_or_insert(id);
            }
        }
        Ok(())
    }

    pub(super) fn write_records(
        &mut self,
        change: &mut PendingChange,
        buffer: &MergedBuffer,
    ) -> Result<()> {
        self.fold_tail()?;
        if buffer.records.iter().any(|record| record.dot.is_none() && record.origin != Ordinal(0)) {
            self.note_unlisted()?;
        }
        if buffer.is_interleaved() {
            return self.write_in_turn(change, &buffer.apart());
        }
        self.write_in_turn(change, buffer)
    }

    fn write_in_turn(&mut self, change: &mut PendingChange, buffer: &MergedBuffer) -> Result<()> {
        let pending = self.pending_dot();
        let settled = |record| Settled::of(buffer, record, pending);
        let records: Vec<Settled<'_>> = buffer.records.iter().map(settled).collect();
        let rows: Vec<SettledRow<'_>> = buffer.rows.iter().map(SettledRow::of).collect();
        self.write_settled(change, &records, &rows)
    }

    /// Writes records whose rows were worked out: rows into the blocks, then the log.
    pub(super) fn write_settled(
        &mut self,
        change: &mut PendingChange,
        records: &[Settled<'_>],
        rows: &[SettledRow<'_>],
    ) -> Result<()> {
        let mut order: Vec<u32> = (0..records.len() as u32).collect();
        order.sort_by_key(|i| {
            let stamp = &records[*i as usize].stamp;
            (stamp.db_version, stamp.first_seq)
        });
        let in_order = || order.iter().map(|i| &records[*i as usize]);
        let first = EntryId(self.state.last.0 + 1);
        let laid = Addresses::lay_out(first, in_order().map(|r| (r.table, r.key.len())));
        let mut at = vec![Address { entry: EntryId::PENDING, index: 0 }; records.len()];
        order.iter().enumerate().for_each(|(place, i)| at[*i as usize] = laid.get(place));
        let shared = self.fold_settled(rows, &at)?;
        let pending = self.pending_dot();
        let (mut window, mut start) = (Window::default(), 0);
        for end in laid.ends {
            for i in &order[start..end] {
                let record = &records[*i as usize];
                let key_len = match (record.superseded, shared.get(record.row as usize)) {
                    (None, Some(shared)) => prefix_len(record.key, *shared) as usize,
                    _ => record.key.len(),
                };
                let writer = window.entry(record.table).1;
                writer.push(&record.stamp, record.key, key_len);
                if let Some(cell) = record.superseded {
                    writer.supersede(cell.clone());
                }
                if record.stamp.dot == pending {
                    window.note_own(record.table);
                }
            }
            self.write_window(change, &mut window)?;
            start = end;
        }
        self.set_folded(self.state.last)
    }

    /// Numbers new rows, gives clocks the addresses `at`, and merges them into the blocks.
    /// Returns for each row what its key shares with its neighbours.
    fn fold_settled(&mut self, rows: &[SettledRow<'_>], at: &[Address]) -> Result<Vec<u32>> {
        let mut numbers = Vec::with_capacity(rows.len());
        for row in rows {
            // A row that is not known at all is only talked of: a cell of it is listed.
            numbers.push(match row.clock.number {
                0 if !row.clock.is_unknown() => self.take_number(row.table)?,
                number => number,
            });
        }
        let place = |i: &u32| (rows[*i as usize].table, rows[*i as usize].key);
        let is_known = |i: &u32| !rows[*i as usize].clock.is_unknown();
        let mut order: Vec<u32> = (0..rows.len() as u32).filter(is_known).collect();
        order.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        let mut shared = vec![0; rows.len()];
        for one_table in order.chunk_by(|a, b| place(a).0 == place(b).0) {
            let table = place(&one_table[0]).0;
            let row = |i: &u32| {
                let row = &rows[*i as usize];
                (Key::from_slice(row.key), row.settled(numbers[*i as usize], at))
            };
            let places = vec![0; one_table.len()];
            let mut changed =
                Clocks { rows: one_table.iter().map(row).collect(), shared: Some(places) };
            self.blocks.update(table, &mut changed)?;
            self.store_number(table)?;
            for (i, len) in one_table.iter().zip(changed.shared.unwrap_or_default()) {
                shared[*i as usize] = len;
            }
        }
        Ok(shared)
    }

    /// The number of a row that is new.
    pub(super) fn take_number(&mut self, table: TableId) -> Result<u64> {
        let number = self.next_number(table)?;
        self.numbers.insert(table, number + 1);
        Ok(number)
    }
}

/// How much of a key that shares so much with its neighbours is written to the log: two bytes
/// more than tells it from them, so that rows that come later seldom begin alike. Number
/// keys pack better whole.
#[inline]
pub(super) fn prefix_len(key: &[u8], shared: u32) -> u32 {
    let len = key.len() as u32;
    if len == 8 { len } else { len.min(shared + 3) }
}

#[inline]
pub(super) fn record_kind(kind: LocalKind) -> RecordKind {
    match kind {
        LocalKind::Insert => RecordKind::Insert,
        LocalKind::Update => RecordKind::Update,
        LocalKind::Delete => RecordKind::Delete,
        LocalKind::Rekey | LocalKind::Rekeyed | LocalKind::RekeyedAnew => RecordKind::Merged,
    }
}

/// The columns a local record stamps.
pub(super) fn stamped(kind: RecordKind, columns: &Mask, outcome: local::Outcome) -> Mask {
    let mut mask = if kind == RecordKind::Delete { Mask::new() } else { columns.clone() };
    if outcome.has_sentinel {
        mask.insert(ColumnId::SENTINEL);
    }
    mask
}

/// The stamp of a local record, with the next `seq`s of the change.
#[inline]
pub(super) fn take_seqs<'a>(
    change: &mut PendingChange,
    kind: RecordKind,
    mask: &'a Mask,
    outcome: local::Outcome,
    dot: LocalDot,
) -> Stamp<'a> {
    let first_seq = change.next_seq + u64::from(outcome.skips_seq);
    change.next_seq = first_seq + u64::from(mask.len());
    Stamp {
        kind,
        is_birth: outcome.is_birth,
        mask,
        first_seq,
        dot,
        origin: Ordinal(0),
        db_version: change.db_version,
    }
}
