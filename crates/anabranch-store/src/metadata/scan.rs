//! Scans over the log that yield only what still stands.

use hashbrown::HashMap;
use smallvec::SmallVec;

use anabranch_core::vector::VersionVector;

use super::Metadata;
use super::log::LogRow;
use super::mask::Mask;
use super::record::Record;
use super::row_clock::RowClock;
use super::sql::damaged;
use super::state::Versions;
use super::varint::Corrupt;
use crate::buffer::Superseded;
use crate::error::Result;
use crate::ids::{Address, AuthorId, ColumnId, EntryId, Key, LocalDot, Ordinal, TableId};

/// What still stands of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveRecord {
    pub(crate) table: TableId,
    /// The folded key, whole.
    pub(crate) key: Key,
    /// `__crsql_key` of the row.
    pub(crate) number: u64,
    /// Present causal length of the row.
    pub(crate) causal_length: u64,
    pub(crate) dot: LocalDot,
    pub(crate) origin: Ordinal,
    pub(crate) db_version: u64,
    /// The record gave the row its present causal length.
    pub(crate) is_birth: bool,
    /// Columns whose latest write this record is, in `seq` order.
    pub(crate) cells: SmallVec<[LiveCell; 4]>,
}

/// One column of a live record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveCell {
    /// 0: the sentinel, with the causal length as version.
    pub(crate) column: ColumnId,
    pub(crate) version: u64,
    pub(crate) seq: u64,
}

/// How a scan finds its records.
enum Mode {
    /// Along the log from a row on, all records above a `db_version`.
    Since { next: EntryId, after: u64 },
    /// Ready, in reverse.
    Ready(Vec<LiveRecord>),
}

/// A scan in progress. It reads the log piecewise, holds no borrow between batches, and
/// sees what stood when each batch was read.
pub(crate) struct Scan {
    mode: Mode,
}

impl Scan {
    /// The next batch, at most a few thousand records; empty at the end.
    ///
    /// Batches are in order of `(db_version, seq)`; inside a batch records may stand in
    /// any order: whoever shows them sorts.
    pub(crate) fn next_batch(&mut self, metadata: &mut Metadata) -> Result<Vec<LiveRecord>> {
        metadata.ensure()?;
        match &mut self.mode {
            Mode::Since { next, after } => loop {
                let rows = read_cluster(metadata, next)?;
                if rows.is_empty() {
                    return Ok(Vec::new());
                }
                let mut live = Vec::new();
                for row in &rows {
                    live_records(metadata, row, |record| record.db_version > *after, &mut live)?;
                }
                if !live.is_empty() {
                    return Ok(live);
                }
            },
            Mode::Ready(records) => {
                let rest = records.len().saturating_sub(BATCH);
                let mut batch = records.split_off(rest);
                batch.reverse();
                Ok(batch)
            }
        }
    }
}

/// Records of a batch that need not be larger.
const BATCH: usize = 4096;

/// Rows whose records may interleave in `(db_version, seq)` order.
fn read_cluster(metadata: &mut Metadata, next: &mut EntryId) -> Result<Vec<LogRow>> {
    let mut rows = Vec::new();
    let mut newest = (0, 0);
    while let Some(row) = metadata.log.next(*next)? {
        let Some((first, last)) = span(&row) else {
            *next = EntryId(row.id.0 + 1);
            continue;
        };
        if !rows.is_empty() && first > newest {
            break;
        }
        newest = newest.max(last);
        *next = EntryId(row.id.0 + 1);
        rows.push(row);
    }
    Ok(rows)
}

/// Least and greatest `(db_version, seq)` of the records of a row.
fn span(row: &LogRow) -> Option<((u64, u64), (u64, u64))> {
    let records = &row.entry.as_ref()?.records;
    let first = records.iter().map(|r| (r.db_version, r.first_seq)).min()?;
    let last =
        records.iter().map(|r| (r.db_version, r.first_seq + u64::from(r.mask.len()))).max()?;
    Some((first, last))
}

/// What still stands of the records of a row that `wanted` picks.
fn live_records(
    metadata: &mut Metadata,
    row: &LogRow,
    wanted: impl Fn(&Record) -> bool,
    live: &mut Vec<LiveRecord>,
) -> Result<()> {
    let Some(entry) = &row.entry else { return Ok(()) };
    for (index, record) in entry.records.iter().enumerate() {
        if !wanted(record) {
            continue;
        }
        let at = Address { entry: row.id, index: index as u32 };
        let Some(clock) = metadata.clock(row.table, &record.key)? else { continue };
        live.extend(live_record(row.table, record, at, &clock));
    }
    Ok(())
}

/// What still stands of one record of a row of a table.
fn live_record(
    table: TableId,
    record: &Record,
    at: Address,
    clock: &RowClock,
) -> Option<LiveRecord> {
    let mut cells = SmallVec::new();
    let mut stands = false;
    let mut is_birth = false;
    for group in clock.groups.iter().filter(|group| group.at == at) {
        stands = true;
        is_birth |= group.is_birth;
        for column in group.mask.iter() {
            let seq = record.first_seq + u64::from(record.mask.rank(column));
            cells.push(LiveCell { column, version: group.version, seq });
        }
    }
    cells.sort_unstable_by_key(|cell: &LiveCell| cell.seq);
    stands.then(|| LiveRecord {
        table,
        key: record.key.clone(),
        number: clock.number,
        causal_length: clock.causal_length,
        dot: record.dot,
        origin: record.origin,
        db_version: record.db_version,
        is_birth,
        cells,
    })
}

impl Metadata {
    pub(super) fn start_scan_since(&mut self, after: u64) -> Result<Scan> {
        let next = self.log.first_above(after)?;
        Ok(Scan { mode: Mode::Since { next, after } })
    }

    pub(super) fn start_scan_above(
        &mut self,
        from: &VersionVector,
        rank: &HashMap<TableId, u32>,
    ) -> Result<Scan> {
        let mut records = Vec::new();
        if let Some(start) = self.start_above(from)? {
            let covered = self.covered_versions(from)?;
            let is_missing = |record: &Record| {
                let covered = covered.get(&record.dot.author).copied().unwrap_or(0);
                record.dot.version > covered
            };
            let mut next = start;
            while let Some(row) = self.log.next(next)? {
                next = EntryId(row.id.0 + 1);
                live_records(self, &row, is_missing, &mut records)?;
            }
        }
        for record in &mut records {
            record.cells.retain(|cell| cell.version > 0);
        }
        records.retain(|record| record.is_birth || !record.cells.is_empty());
        // Backwards, for batches are taken off the end.
        let place = |record: &LiveRecord| (rank.get(&record.table).copied(), record.table);
        records.sort_by(|a, b| (place(b), &b.key).cmp(&(place(a), &a.key)));
        Ok(Scan { mode: Mode::Ready(records) })
    }

    /// What `from` covers, by local author id.
    fn covered_versions(&mut self, from: &VersionVector) -> Result<Versions> {
        let mut covered = Versions::new();
        for (site, held) in from.iter() {
            if let Some(author) = self.authors.find(&self.db, site)? {
                covered.insert(AuthorId(author), held.version);
            }
        }
        Ok(covered)
    }

    pub(super) fn records_of(&mut self, table: TableId, key: &[u8]) -> Result<Vec<LiveRecord>> {
        let Some(clock) = self.clock(table, key)? else { return Ok(Vec::new()) };
        let mut live = Vec::new();
        let mut last = None;
        for group in &clock.groups {
            if last.replace(group.at) == Some(group.at) {
                continue;
            }
            let place = || format!("ana_entry {}", group.at.entry.0);
            let row = self.log.row(group.at.entry)?;
            let record = row
                .as_ref()
                .and_then(|row| row.entry.as_ref()?.records.get(group.at.index as usize))
                .ok_or_else(|| {
                    damaged(place(), Corrupt("a record that a clock names is missing"))
                })?;
            live.extend(live_record(table, record, group.at, &clock));
        }
        Ok(live)
    }

    /// Records after a position of the log that note a cell written concurrently which does
    /// not stand.
    pub(crate) fn superseded_after(&mut self, position: EntryId) -> Result<Vec<SupersededCell>> {
        self.ensure()?;
        let mut cells = Vec::new();
        let mut next = EntryId(position.0 + 1);
        while let Some(row) = self.log.next(next)? {
            next = EntryId(row.id.0 + 1);
            let Some(entry) = row.entry else { continue };
            for (index, cell) in entry.superseded {
                let place = || format!("ana_entry {}", row.id.0);
                let record = entry
                    .records
                    .get(index as usize)
                    .ok_or_else(|| damaged(place(), Corrupt("a superseded cell of no record")))?;
                cells.push(SupersededCell {
                    entry: row.id,
                    table: row.table,
                    key: record.key.clone(),
                    cell,
                    by: record.dot,
                    by_origin: record.origin,
                    stamped: record.mask.clone(),
                });
            }
        }
        Ok(cells)
    }
}

/// A cell that was written concurrently and does not stand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SupersededCell {
    pub(crate) entry: EntryId,
    pub(crate) table: TableId,
    pub(crate) key: Key,
    pub(crate) cell: Superseded,
    /// The change whose record noted it.
    pub(crate) by: LocalDot,
    pub(crate) by_origin: Ordinal,
    /// Columns that record stamped; without the cell's column, the cell that came in lost to
    /// one that stands.
    pub(crate) stamped: Mask,
}
