//! Scans over the log that yield only what still stands.

use std::collections::VecDeque;
use std::rc::Rc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use anabranch_core::vector::VersionVector;

use super::Metadata;
use super::cursor::Cursor;
use super::entry::{Entry, KeyOf, Stamp};
use super::log::LogRow;
use super::row_clock::RowClock;
use super::rows::BlockRow;
use super::sorted::Sorted;
use super::sql::damaged;
use super::state::Versions;
use super::varint::Corrupt;
use crate::buffer::Superseded;
use crate::error::Result;
use crate::ids::{Address, AuthorId, ColumnId, EntryId, Key, LocalDot, Ordinal, TableId};
use crate::limits::{KEPT_ENTRY_RECORDS, MAX_KEPT_RECORDS, MAX_SORTED_RECORDS};

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
    Since(Box<Since>),
    /// Ready, in reverse.
    Ready(Vec<LiveRecord>),
    /// Ready, in runs.
    Sorted(Box<Sorted>),
    /// Along the blocks of all tables (in reverse), records that `covered` lacks.
    Walk {
        tables: Vec<TableId>,
        from: Key,
        covered: Versions,
    },
    End,
}

/// Along the log, all records above a `db_version`.
struct Since {
    next: EntryId,
    after: u64,
    /// Rows whose records may interleave, and how many records of a single one are done.
    cluster: Vec<LogRow>,
    done: u32,
    /// Rows before `next` that were read and belong to no cluster yet.
    ahead: VecDeque<LogRow>,
    /// Rows before this one are known to ascend.
    ascending: EntryId,
    /// Records to look at for the next batch.
    slice: u32,
}

/// A scan in progress. It reads the log piecewise, holds no borrow between batches, and
/// sees what stood when each batch was read.
pub(crate) struct Scan {
    mode: Mode,
}

/// Records looked at for the first batch: what is shown first is shown soon. Each further
/// batch looks at twice as many, up to a whole entry.
const FIRST_SLICE: u32 = 4;
/// Records of a batch that need not be larger.
const BATCH: usize = 4096;
/// A log of which this part is new is read from there on; else the blocks are walked.
const WALK_FROM: u64 = 4;

impl Scan {
    /// The next batch, at most a few thousand records; empty at the end.
    ///
    /// Batches are in order of `(db_version, seq)`, or of table and key; inside a batch
    /// records may stand in any order: whoever shows them sorts.
    pub(crate) fn next_batch(&mut self, metadata: &mut Metadata) -> Result<Vec<LiveRecord>> {
        metadata.ensure()?;
        loop {
            let batch = match &mut self.mode {
                Mode::Since(since) => {
                    let batch = since.next_batch(metadata)?;
                    if batch.is_empty() {
                        self.mode = Mode::End;
                    }
                    batch
                }
                Mode::Ready(records) => {
                    let rest = records.len().saturating_sub(BATCH);
                    let mut batch = records.split_off(rest);
                    batch.reverse();
                    if batch.is_empty() {
                        self.mode = Mode::End;
                    }
                    batch
                }
                Mode::Sorted(sorted) => {
                    let batch = sorted.batch(BATCH)?;
                    if batch.is_empty() {
                        self.mode = Mode::End;
                    }
                    batch
                }
                Mode::Walk { tables, from, covered } => {
                    let Some(table) = tables.last().copied() else {
                        // All of the log was looked into: hardly anything is asked for again.
                        metadata.forget_entries();
                        self.mode = Mode::End;
                        continue;
                    };
                    let (batch, next) = walk_block(metadata, table, from, covered)?;
                    match next {
                        Some(next) => *from = next,
                        None => {
                            tables.pop();
                            from.clear();
                        }
                    }
                    batch
                }
                Mode::End => {
                    metadata.blocks.forget();
                    return Ok(Vec::new());
                }
            };
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }
}

impl Since {
    fn next_batch(&mut self, metadata: &mut Metadata) -> Result<Vec<LiveRecord>> {
        let mut live = Vec::new();
        let enough = self.slice as usize / 2;
        self.slice = (self.slice * 2).min(BATCH as u32);
        while live.len() <= enough {
            if self.cluster.is_empty() {
                self.read_cluster(metadata, enough - live.len() + 1)?;
                self.done = 0;
            }
            if self.cluster.is_empty() {
                break;
            }
            self.take_slice(metadata, &mut live)?;
        }
        // What is undone before the next batch is asked for must not come in it.
        self.ahead.truncate(1);
        if let Some(peeked) = self.ahead.front() {
            self.next = EntryId(peeked.id.0 + 1);
        }
        Ok(live)
    }

    /// The next row of the log; if none was read ahead, several are that hold `n_records`.
    fn row(&mut self, metadata: &mut Metadata, n_records: usize) -> Result<Option<LogRow>> {
        if self.ahead.is_empty() {
            metadata.log.read_ahead(self.next, n_records, &mut self.ahead)?;
            if let Some(last) = self.ahead.back() {
                self.next = EntryId(last.id.0 + 1);
            }
        }
        Ok(self.ahead.pop_front())
    }

    /// What stands of the next records of the cluster. Only the records of one entry alone
    /// are in order, so several entries go at once.
    fn take_slice(&mut self, metadata: &mut Metadata, live: &mut Vec<LiveRecord>) -> Result<()> {
        let after = self.after;
        let wanted = |stamp: &Stamp<'_>| stamp.db_version > after;
        if let [row] = self.cluster.as_slice() {
            let n_records = row.entry.as_ref().map_or(0, Entry::len);
            let end = n_records.min(self.done + self.slice);
            let end = row.entry.as_ref().map_or(end, |entry| after_ties(entry, end));
            live_records(metadata, row, self.done..end, wanted, live)?;
            self.done = end;
            if end == n_records {
                self.cluster.clear();
            }
            return Ok(());
        }
        for row in std::mem::take(&mut self.cluster) {
            let n_records = row.entry.as_ref().map_or(0, Entry::len);
            live_records(metadata, &row, 0..n_records, wanted, live)?;
        }
        Ok(())
    }

    /// Reads rows as long as their records may interleave in `(db_version, seq)` order.
    fn read_cluster(&mut self, metadata: &mut Metadata, n_records: usize) -> Result<()> {
        let mut newest = (0, 0);
        while let Some(row) = self.row(metadata, n_records)? {
            let Some(entry) = &row.entry else { continue };
            let (first, last) = entry.span();
            if !self.cluster.is_empty()
                && first > newest
                && self.ends_before(&row, newest, metadata)?
            {
                self.ahead.push_front(row);
                return Ok(());
            }
            newest = newest.max(last);
            self.cluster.push(row);
        }
        Ok(())
    }

    /// Whether no row from `row` on belongs among records up to `newest`: a later row of
    /// the same `db_version` may, if its transaction both merged and wrote.
    fn ends_before(
        &mut self,
        row: &LogRow,
        newest: (u64, u64),
        metadata: &mut Metadata,
    ) -> Result<bool> {
        if row.dbv != newest.0 || row.id < self.ascending {
            return Ok(true);
        }
        let (is_ascending, end) = metadata.log.ascends(row.id, row.dbv, newest.1)?;
        if is_ascending {
            self.ascending = end;
        }
        Ok(is_ascending)
    }
}

/// What still stands of some records of a row that `wanted` picks, in their order.
///
/// They are looked up in the order of their keys, so that each block is come to once.
fn live_records(
    metadata: &mut Metadata,
    row: &LogRow,
    records: std::ops::Range<u32>,
    wanted: impl Fn(&Stamp<'_>) -> bool,
    live: &mut Vec<LiveRecord>,
) -> Result<()> {
    let Some(entry) = &row.entry else { return Ok(()) };
    let is_wanted = |index: &u32| entry.stamp(*index).is_some_and(|stamp| wanted(&stamp));
    let indexes: Vec<u32> = records.filter(is_wanted).collect();
    let mut cursor = Cursor::new(row.table);
    if indexes.is_sorted_by(|a, b| key_bytes(entry, *a) <= key_bytes(entry, *b)) {
        live.reserve(indexes.len());
        for index in indexes {
            live.extend(look_up(metadata, &mut cursor, row, entry, index)?);
        }
        return Ok(());
    }
    let mut found: Vec<Option<LiveRecord>> = Vec::new();
    found.resize_with(indexes.len(), || None);
    for place in places_by_key(entry, &indexes) {
        let index = indexes[place as usize];
        found[place as usize] = look_up(metadata, &mut cursor, row, entry, index)?;
    }
    live.extend(found.into_iter().flatten());
    Ok(())
}

fn key_bytes(entry: &Entry, index: u32) -> &[u8] {
    match entry.key(index) {
        KeyOf::Whole(key) | KeyOf::Prefix(key) => key,
    }
}

/// The places of some records in the order of their keys. What keys begin with alike is
/// passed over, and the eight bytes after it decide nearly always.
fn places_by_key(entry: &Entry, indexes: &[u32]) -> impl Iterator<Item = u32> + use<> {
    let first = indexes.first().map_or(&[][..], |index| key_bytes(entry, *index));
    let n_alike = indexes.iter().fold(first.len(), |n_alike, index| {
        let key = key_bytes(entry, *index);
        first[..n_alike].iter().zip(key).take_while(|(a, b)| a == b).count()
    });
    let mut places: Vec<(u64, u32)> = (0..)
        .zip(indexes)
        .map(|(place, index)| (leading(&key_bytes(entry, *index)[n_alike..]), place))
        .collect();
    places.sort_unstable();
    for alike in places.chunk_by_mut(|a, b| a.0 == b.0) {
        if alike.len() > 1 {
            alike.sort_by_key(|(_, place)| key_bytes(entry, indexes[*place as usize]));
        }
    }
    places.into_iter().map(|(_, place)| place)
}

/// The first eight bytes as a number, zeros where there are fewer.
fn leading(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let n_bytes = bytes.len().min(8);
    first[..n_bytes].copy_from_slice(&bytes[..n_bytes]);
    u64::from_be_bytes(first)
}

/// What still stands of a record of a row of the log.
fn look_up(
    metadata: &mut Metadata,
    cursor: &mut Cursor,
    row: &LogRow,
    entry: &Entry,
    index: u32,
) -> Result<Option<LiveRecord>> {
    let Some(stamp) = entry.stamp(index) else { return Ok(None) };
    let at = Address { entry: row.id, index };
    Ok(match entry.key(index) {
        KeyOf::Whole(key) => match metadata.tail.row(row.table, key) {
            Some(clock) => live_record(row.table, key, &stamp, at, clock),
            None => cursor
                .row(&mut metadata.blocks, key)?
                .and_then(|(key, clock)| live_record(row.table, key, &stamp, at, clock)),
        },
        KeyOf::Prefix(prefix) => {
            cursor.named(&mut metadata.blocks, prefix, at)?.and_then(|(key, clock)| {
                let clock = metadata.tail.row(row.table, key).unwrap_or(clock);
                live_record(row.table, key, &stamp, at, clock)
            })
        }
    })
}

/// What still stands of one record.
fn live_record(
    table: TableId,
    key: &[u8],
    stamp: &Stamp<'_>,
    at: Address,
    clock: &RowClock,
) -> Option<LiveRecord> {
    let mut cells = SmallVec::new();
    let (mut stands, mut is_birth, mut n_groups) = (false, false, 0);
    for group in clock.groups.iter().filter(|group| group.at == at) {
        stands = true;
        is_birth |= group.is_birth;
        n_groups += 1;
        let is_all = group.mask == *stamp.mask;
        for (rank, column) in group.mask.iter().enumerate() {
            let rank = if is_all { rank as u32 } else { stamp.mask.rank(column) };
            let seq = stamp.first_seq.wrapping_add(u64::from(rank));
            cells.push(LiveCell { column, version: group.version, seq });
        }
    }
    if n_groups > 1 {
        cells.sort_unstable_by_key(|cell: &LiveCell| cell.seq);
    }
    stands.then(|| LiveRecord {
        table,
        key: Key::from_slice(key),
        number: clock.number,
        causal_length: clock.causal_length,
        dot: stamp.dot,
        origin: stamp.origin,
        db_version: stamp.db_version,
        is_birth,
        cells,
    })
}

/// The first record from `end` on whose `(db_version, seq)` is not that of the one before `end`:
/// ties are shown by table and row, so those who sort a batch must have all of them.
fn after_ties(entry: &Entry, mut end: u32) -> u32 {
    let last = end.checked_sub(1).and_then(|last| entry.stamp(last));
    let Some(last) = last else { return end };
    let n_more = u64::from(last.mask.len().saturating_sub(1));
    let at = (last.db_version, last.first_seq.wrapping_add(n_more));
    while entry.stamp(end).is_some_and(|next| (next.db_version, next.first_seq) == at) {
        end += 1;
    }
    end
}

/// What stands above `covered` of the rows of one block, from the key `from` on, and of the
/// unfolded rows that belong between; the first key of the next block.
fn walk_block(
    metadata: &mut Metadata,
    table: TableId,
    from: &[u8],
    covered: &Versions,
) -> Result<(Vec<LiveRecord>, Option<Key>)> {
    let (rows, next) = metadata.rows_of_block(table, from)?;
    let mut live = Vec::new();
    for (key, clock) in &rows {
        metadata.live_groups(table, key, clock, &mut live)?;
    }
    keep_uncovered(&mut live, covered);
    Ok((live, next))
}

/// Keeps what a delta above `covered` carries.
fn keep_uncovered(records: &mut Vec<LiveRecord>, covered: &Versions) {
    records.retain_mut(|record| {
        record.cells.retain(|cell| cell.version > 0);
        let known = covered.get(&record.dot.author).copied().unwrap_or(0);
        record.dot.version > known && (record.is_birth || !record.cells.is_empty())
    });
}

/// Rows of a block with their clocks, and the first key of the next block.
type BlockRows = (Vec<BlockRow>, Option<Key>);

impl Metadata {
    pub(super) fn start_scan_since(&mut self, after: u64) -> Result<Scan> {
        let next = self.log.first_above(after)?;
        let (cluster, done, ahead, slice) = (Vec::new(), 0, VecDeque::new(), FIRST_SLICE);
        let ascending = EntryId(0);
        let since = Since { next, after, cluster, done, ahead, ascending, slice };
        Ok(Scan { mode: Mode::Since(Box::new(since)) })
    }

    pub(super) fn start_scan_above(
        &mut self,
        from: &VersionVector,
        rank: &HashMap<TableId, u32>,
    ) -> Result<Scan> {
        // Above nothing is also what no change holds yet: the open transaction's.
        let first = from.is_empty().then_some(EntryId(1));
        let Some(start) = first.map_or_else(|| self.start_above(from), |first| Ok(Some(first)))?
        else {
            return Ok(Scan { mode: Mode::End });
        };
        let covered = self.covered_versions(from)?;
        let place = |table: TableId| (rank.get(&table).copied(), table);
        let n_new = self.state.last.0 + 1 - start.0.min(self.state.last.0);
        if n_new > self.state.last.0 / WALK_FROM {
            let mut tables = self.tables_with_clocks()?;
            tables.sort_unstable_by_key(|table| std::cmp::Reverse(place(*table)));
            return Ok(Scan { mode: Mode::Walk { tables, from: Key::new(), covered } });
        }
        let mut sorted = Sorted::new(rank.clone());
        let mut records = Vec::new();
        let mut next = start;
        let is_missing = |stamp: &Stamp<'_>| {
            stamp.dot.version > covered.get(&stamp.dot.author).copied().unwrap_or(0)
        };
        while let Some(row) = self.log.next(next)? {
            next = EntryId(row.id.0 + 1);
            let n_records = row.entry.as_ref().map_or(0, Entry::len);
            live_records(self, &row, 0..n_records, is_missing, &mut records)?;
            if records.len() >= MAX_SORTED_RECORDS {
                keep_uncovered(&mut records, &covered);
                sorted.add_run(&mut records)?;
            }
        }
        keep_uncovered(&mut records, &covered);
        if sorted.is_empty() {
            sorted.sort_backwards(&mut records);
            return Ok(Scan { mode: Mode::Ready(records) });
        }
        sorted.add_run(&mut records)?;
        Ok(Scan { mode: Mode::Sorted(Box::new(sorted.merge()?)) })
    }

    /// The clocks of the block in which `from` is or would be, from there on, and of the
    /// unfolded rows that belong between; the first key of the next block.
    pub(super) fn rows_of_block(&mut self, table: TableId, from: &[u8]) -> Result<BlockRows> {
        let block = match self.blocks.load(table, from)? {
            Some(block) => Some(block),
            None => self.blocks.load_from(table, from)?,
        };
        let next = match &block {
            Some(block) => self.blocks.next_first(table, &block.first)?,
            None => None,
        };
        let mut rows = block.map_or_else(Vec::new, |block| block.rows);
        rows.retain(|row| row.0.as_slice() >= from);
        self.tail.overlay(table, from, next.as_deref(), &mut rows);
        Ok((rows, next))
    }

    /// All tables of which there are clocks.
    pub(super) fn tables_with_clocks(&mut self) -> Result<Vec<TableId>> {
        let mut tables: Vec<TableId> = self.tail.tables().collect();
        let mut next = Some(TableId(0));
        while let Some(from) = next {
            let found = self.blocks.next_table(from)?;
            tables.extend(found);
            next = found.and_then(|table| table.0.checked_add(1)).map(TableId);
        }
        tables.sort_unstable();
        tables.dedup();
        Ok(tables)
    }

    /// What `from` covers, by local author id.
    pub(super) fn covered_versions(&mut self, from: &VersionVector) -> Result<Versions> {
        let mut covered = Versions::new();
        for (site, held) in from.iter() {
            if let Some(author) = self.authors.find(&self.db, site)? {
                covered.insert(AuthorId(author), held.version);
            }
        }
        Ok(covered)
    }

    /// The change and the origin of the record at an address, and the `seq` it gave a column.
    pub(crate) fn stamp(
        &mut self,
        at: Address,
        column: ColumnId,
    ) -> Result<(LocalDot, Ordinal, u64)> {
        self.ensure()?;
        let missing = || {
            let place = format!("ana_entry {}", at.entry.0);
            damaged(place, Corrupt("a record that a clock names is missing"))
        };
        let entry = self.entry(at.entry)?.ok_or_else(missing)?;
        let stamp = entry.stamp(at.index).ok_or_else(missing)?;
        let seq = stamp.first_seq + u64::from(stamp.mask.rank(column));
        Ok((stamp.dot, stamp.origin, seq))
    }

    /// Blocks read so far.
    pub(crate) fn n_blocks_read(&self) -> u64 {
        self.blocks.n_decoded.get()
    }

    pub(super) fn records_of(&mut self, table: TableId, key: &[u8]) -> Result<Vec<LiveRecord>> {
        let Some(clock) = self.clock(table, key)? else { return Ok(Vec::new()) };
        let mut live = Vec::new();
        self.live_groups(table, key, &clock, &mut live)?;
        Ok(live)
    }

    /// The live records of a row, by the records its groups name.
    fn live_groups(
        &mut self,
        table: TableId,
        key: &[u8],
        clock: &RowClock,
        live: &mut Vec<LiveRecord>,
    ) -> Result<()> {
        let mut last = None;
        for group in &clock.groups {
            if last.replace(group.at) == Some(group.at) {
                continue;
            }
            let place = || format!("ana_entry {}", group.at.entry.0);
            let missing = Corrupt("a record that a clock names is missing");
            let entry = self.entry(group.at.entry)?;
            let stamp = entry.as_ref().and_then(|entry| entry.stamp(group.at.index));
            let stamp = stamp.ok_or_else(|| damaged(place(), missing))?;
            live.extend(live_record(table, key, &stamp, group.at, clock));
        }
        Ok(())
    }

    /// An entry of the log, kept for the next time.
    pub(super) fn entry(&mut self, id: EntryId) -> Result<Option<Rc<Entry>>> {
        if let Some(entry) = self.entries.get(&id) {
            return Ok(Some(entry.clone()));
        }
        let Some(entry) = self.log.row(id)?.and_then(|row| row.entry) else {
            return Ok(None);
        };
        let entry = Rc::new(entry);
        if id <= self.committed.last {
            let n_records = entry.len() as usize + KEPT_ENTRY_RECORDS;
            self.n_kept += n_records;
            if self.n_kept > MAX_KEPT_RECORDS {
                self.entries.clear();
                self.n_kept = n_records;
            }
            self.entries.insert(id, entry.clone());
        }
        Ok(Some(entry))
    }

    /// Keeps no entry any more.
    pub(super) fn forget_entries(&mut self) {
        self.entries = hashbrown::HashMap::new();
        self.n_kept = 0;
    }

    /// Cells written concurrently which do not stand, as the first log row after `position`
    /// that notes any has them, and the position of that row; `None` at the end.
    pub(crate) fn superseded_after(
        &mut self,
        position: EntryId,
    ) -> Result<Option<(EntryId, Vec<SupersededCell>)>> {
        self.ensure()?;
        let mut next = EntryId(position.0 + 1);
        while let Some(row) = self.log.next(next)? {
            next = EntryId(row.id.0 + 1);
            let Some(entry) = row.entry.as_ref().filter(|entry| !entry.superseded.is_empty())
            else {
                continue;
            };
            let cell = |(index, cell): &(u32, Superseded)| {
                let place = || format!("ana_entry {}", row.id.0);
                let (Some(stamp), KeyOf::Whole(key)) = (entry.stamp(*index), entry.key(*index))
                else {
                    return Err(damaged(place(), Corrupt("a superseded cell without its key")));
                };
                Ok(SupersededCell {
                    entry: row.id,
                    table: row.table,
                    key: Key::from_slice(key),
                    cell: cell.clone(),
                    by: stamp.dot,
                })
            };
            let cells = entry.superseded.iter().map(cell).collect::<Result<_>>()?;
            return Ok(Some((row.id, cells)));
        }
        Ok(None)
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
}
