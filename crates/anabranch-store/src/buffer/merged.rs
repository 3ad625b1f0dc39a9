//! Merged records in order, and the present clock of every row they touched.
//!
//! Invariant: truncating to any mark that stands gives every row the clock it had then. A
//! row that was brought in after the newest mark goes with its first record; only for the
//! others is the former clock kept.

use std::hash::BuildHasher;

use anabranch_core::value::Value;
use anabranch_sqlite::SqlError;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::error::Result;
use crate::ids::{Address, AuthorId, ColumnId, EntryId, Key, LocalDot, Ordinal, TableId};
use crate::metadata::mask::Mask;
use crate::metadata::row_clock::{Group, RowClock};

/// One merged record of a row in [`MergedBuffer`].
#[derive(Clone, Debug)]
pub(crate) struct MergedRecord {
    /// Index in [`MergedBuffer::rows`]; set when it is pushed.
    pub(crate) row: u32,
    /// Columns stamped; may be empty for a birth that only adds its dot, and for a record
    /// that only keeps what was superseded.
    pub(crate) mask: Mask,
    pub(crate) first_seq: u64,
    /// `None`: the pending change of this copy.
    pub(crate) dot: Option<LocalDot>,
    pub(crate) origin: Ordinal,
    pub(crate) db_version: u64,
    pub(crate) is_birth: bool,
    /// The next cell of the row may join it, if it is of the same change.
    pub(crate) is_open: bool,
    /// A cell that lost or was overwritten though written concurrently; kept in the log
    /// entry until the floor passes.
    pub(crate) superseded: Option<Box<Superseded>>,
}

impl MergedRecord {
    /// Whether `next`, a record of the same row, says nothing but that one more column was
    /// stamped, the next in order.
    fn takes_in(&self, next: &MergedRecord) -> bool {
        let is_next = self.mask.last() < next.mask.first()
            && next.first_seq == self.first_seq + u64::from(self.mask.len());
        let is_same =
            (self.dot, self.origin, self.db_version) == (next.dot, next.origin, next.db_version);
        let is_plain = next.is_open && !next.is_birth && next.superseded.is_none();
        self.is_open && is_plain && is_same && is_next
    }
}

/// A concurrently written cell that does not stand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Superseded {
    pub(crate) column: ColumnId,
    pub(crate) version: u64,
    pub(crate) causal_length: u64,
    /// The causal length of the row that stands: a longer one is why the cell does not.
    pub(crate) stands: u64,
    pub(crate) dot: LocalDot,
    /// The site it first came from. An author, for ordinals go only to origins of cells that
    /// won, and this one may never have.
    pub(crate) origin: AuthorId,
    pub(crate) value: Value,
}

/// A row that records touched.
#[derive(Clone, Debug)]
pub(crate) struct MergedRow {
    pub(crate) table: TableId,
    /// Folded.
    pub(crate) key: Key,
    /// Its clock after all records. Addresses of buffered records are
    /// `(EntryId::PENDING, index in records)`.
    pub(crate) clock: RowClock,
    /// Index of the record that brought it in.
    first: u32,
}

/// What was merged and is not written yet.
#[derive(Debug, Default)]
pub(crate) struct MergedBuffer {
    pub(crate) records: Vec<MergedRecord>,
    /// In the order in which they were touched first.
    pub(crate) rows: Vec<MergedRow>,
    /// Places in `rows`, by table and key.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Records that changed rows which marks hold, and the clocks before them.
    undo: Vec<(u32, RowClock)>,
}

impl MergedBuffer {
    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The present clock of a row, if a record touched it.
    pub(crate) fn clock(&self, table: TableId, key: &[u8]) -> Option<&RowClock> {
        self.place(table, key).map(|row| &self.rows[row as usize].clock)
    }

    fn place(&self, table: TableId, key: &[u8]) -> Option<u32> {
        let is_it = |row: &MergedRow| row.table == table && row.key.as_slice() == key;
        // Changes come cell after cell of one row.
        let last = self.rows.last()?;
        if is_it(last) {
            return Some(self.rows.len() as u32 - 1);
        }
        let hash = self.hasher.hash_one((table, key));
        self.places.find(hash, |row| is_it(&self.rows[*row as usize])).copied()
    }

    /// Appends a record of a row and lets `edit` change the row's clock, which is `clock` if
    /// no record touched the row so far. A cell that only goes on where the last record ended
    /// joins it. `n_marked`: how many records the newest mark holds.
    ///
    /// # Errors
    /// SQLITE_NOMEM; nothing is changed then.
    pub(crate) fn push(
        &mut self,
        (table, key): (TableId, &[u8]),
        clock: Option<RowClock>,
        record: MergedRecord,
        n_marked: usize,
        edit: impl FnOnce(&mut RowClock, Address),
    ) -> Result<()> {
        let place = self.place(table, key);
        let next = self.records.len() as u32;
        if let (Some(last), Some(row)) = (self.records.last_mut(), place)
            && last.row == row
            && next as usize > n_marked
            && last.takes_in(&record)
        {
            last.mask.unite(&record.mask);
            let at = Address { entry: EntryId::PENDING, index: next - 1 };
            edit(&mut self.rows[row as usize].clock, at);
            return Ok(());
        }
        self.reserve()?;
        let row = match place {
            Some(row) => row,
            None => self.add(table, key, clock.unwrap_or_else(RowClock::unknown), next),
        };
        let MergedRow { clock, first, .. } = &mut self.rows[row as usize];
        if (*first as usize) < n_marked {
            self.undo.push((next, clock.clone()));
        }
        edit(clock, Address { entry: EntryId::PENDING, index: next });
        self.records.push(MergedRecord { row, ..record });
        Ok(())
    }

    fn reserve(&mut self) -> Result<()> {
        let MergedBuffer { records, rows, places, hasher, undo } = self;
        let hash =
            |row: &u32| hasher.hash_one((rows[*row as usize].table, &*rows[*row as usize].key));
        let has_room = places.try_reserve(1, hash).is_ok()
            && records.try_reserve(1).is_ok()
            && rows.try_reserve(1).is_ok()
            && undo.try_reserve(1).is_ok();
        if has_room { Ok(()) } else { Err(SqlError::out_of_memory().into()) }
    }

    fn add(&mut self, table: TableId, key: &[u8], clock: RowClock, first: u32) -> u32 {
        let MergedBuffer { rows, places, hasher, .. } = self;
        let row = rows.len() as u32;
        let hash = |row: &MergedRow| hasher.hash_one((row.table, row.key.as_slice()));
        rows.push(MergedRow { table, key: Key::from_slice(key), clock, first });
        places.insert_unique(hash(&rows[row as usize]), row, |row| hash(&rows[*row as usize]));
        row
    }

    /// Drops the records from `len` on, and gives their rows the clocks they had before.
    pub(crate) fn truncate(&mut self, len: usize) {
        while let Some((index, clock)) = self.undo.pop_if(|(index, _)| *index as usize >= len) {
            let row = self.records[index as usize].row;
            self.rows[row as usize].clock = clock;
        }
        while let Some(row) = self.rows.pop_if(|row| row.first as usize >= len) {
            let hash = self.hasher.hash_one((row.table, row.key.as_slice()));
            let place = self.rows.len() as u32;
            if let Ok(entry) = self.places.find_entry(hash, |known| *known == place) {
                entry.remove();
            }
        }
        self.records.truncate(len);
    }

    /// Whether some record's `seq`s lie among those of another of the same `db_version`. The
    /// log is read record by record, so there they must not.
    pub(crate) fn is_interleaved(&self) -> bool {
        let shown = self.records.iter().filter(|record| !record.mask.is_empty());
        let mut spans: Vec<(u64, u64, u32)> =
            shown.map(|record| (record.db_version, record.first_seq, record.mask.len())).collect();
        spans.sort_unstable();
        spans.windows(2).any(|pair| {
            let (before, after) = (pair[0], pair[1]);
            let is_inside = before.0 == after.0 && after.1 < before.1 + u64::from(before.2);
            // Two single columns of one `seq` are a tie.
            is_inside && (before.2 > 1 || after.2 > 1)
        })
    }

    /// The same with one record for each column; only to be written.
    pub(crate) fn apart(&self) -> MergedBuffer {
        let mut firsts = Vec::with_capacity(self.records.len());
        let mut records = Vec::new();
        for record in &self.records {
            firsts.push(records.len() as u32);
            parts(record, &mut records);
        }
        let rows = self.rows.iter().map(|row| {
            let mut clock = RowClock { groups: Default::default(), ..row.clock };
            for group in &row.clock.groups {
                match group.at.entry {
                    EntryId::PENDING => {
                        let record = group.at.index as usize;
                        put_apart(&mut clock, group, &self.records[record].mask, firsts[record]);
                    }
                    _ => clock.groups.push(group.clone()),
                }
            }
            MergedRow { table: row.table, key: row.key.clone(), clock, first: 0 }
        });
        MergedBuffer { rows: rows.collect(), records, ..MergedBuffer::default() }
    }
}

/// A record for each column of `record`; what belongs to it as a whole is the first's.
fn parts(record: &MergedRecord, parts: &mut Vec<MergedRecord>) {
    let start = parts.len();
    for (column, seq) in record.mask.iter().zip(record.first_seq..) {
        parts.push(MergedRecord {
            mask: Mask::of(column),
            first_seq: seq,
            is_birth: false,
            superseded: None,
            row: record.row,
            dot: record.dot,
            origin: record.origin,
            db_version: record.db_version,
            is_open: false,
        });
    }
    match parts.get_mut(start) {
        Some(first) => {
            (first.is_birth, first.superseded) = (record.is_birth, record.superseded.clone());
        }
        None => parts.push(record.clone()),
    }
}

/// Adds the groups that `group`, of a record of `columns`, becomes when the parts of that
/// record begin at `first`.
fn put_apart(clock: &mut RowClock, group: &Group, columns: &Mask, first: u32) {
    let at = |rank| Address { entry: EntryId::PENDING, index: first + rank };
    let holds_first = group.mask.first().is_some_and(|column| columns.rank(column) == 0);
    if group.is_birth && !holds_first {
        clock.groups.push(Group { mask: Mask::new(), version: 0, at: at(0), is_birth: true });
    }
    for column in group.mask.iter() {
        let rank = columns.rank(column);
        clock.groups.push(Group {
            mask: Mask::of(column),
            version: group.version,
            at: at(rank),
            is_birth: group.is_birth && rank == 0,
        });
    }
}
