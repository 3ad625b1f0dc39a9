//! Live records by table and key, more of them than memory should hold: sorted in runs, which
//! are merged while they are read (external sorting; Knuth, TAOCP 3, 5.4).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

use super::scan::{LiveCell, LiveRecord};
use super::sql::damaged;
use super::varint::{Decoded, Reader, put, put_bytes};
use crate::error::Result;
use crate::ids::{AuthorId, ColumnId, Key, LocalDot, Ordinal, TableId};
use crate::spool::{Cursor, Spool};

/// Where a table stands among those of a delta; tables without a place come first.
type Place = (Option<u32>, TableId);

/// Runs of records.
pub(super) struct Sorted {
    /// Places of tables.
    rank: HashMap<TableId, u32>,
    /// A run is a stream.
    runs: Spool,
    cursors: Vec<Cursor>,
    /// The next record of each run.
    next: Vec<Option<LiveRecord>>,
    first: BinaryHeap<Reverse<(Place, Key, usize)>>,
}

impl Sorted {
    pub(super) fn new(rank: HashMap<TableId, u32>) -> Sorted {
        let (cursors, next, first) = (Vec::new(), Vec::new(), BinaryHeap::new());
        Sorted { rank, runs: Spool::new(0), cursors, next, first }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.len() == 0
    }

    fn place(&self, table: TableId) -> Place {
        (self.rank.get(&table).copied(), table)
    }

    /// Sorts records, the last one first: batches are taken off the end.
    pub(super) fn sort_backwards(&self, records: &mut [LiveRecord]) {
        let place = |record: &LiveRecord| self.place(record.table);
        records.sort_by(|a, b| (place(b), &b.key).cmp(&(place(a), &a.key)));
    }

    /// Puts records away as a run of their own.
    pub(super) fn add_run(&mut self, records: &mut Vec<LiveRecord>) -> Result<()> {
        self.sort_backwards(records);
        let run = self.runs.add_stream();
        while let Some(record) = records.pop() {
            self.runs.push(run, |to| encode(to, &record))?;
        }
        Ok(())
    }

    /// Begins to read; no run may be added any more.
    pub(super) fn merge(mut self) -> Result<Sorted> {
        for run in 0..self.runs.n_streams() {
            self.cursors.push(self.runs.read(run, 0)?);
            self.next.push(None);
            self.advance(run)?;
        }
        Ok(self)
    }

    fn advance(&mut self, run: usize) -> Result<()> {
        let Some(bytes) = self.runs.next(&mut self.cursors[run])? else { return Ok(()) };
        let record = decode(bytes).map_err(|what| damaged("the temporary file of a scan", what))?;
        self.first.push(Reverse((self.place(record.table), record.key.clone(), run)));
        self.next[run] = Some(record);
        Ok(())
    }

    /// The next records, at most `n`.
    pub(super) fn batch(&mut self, n: usize) -> Result<Vec<LiveRecord>> {
        let mut batch = Vec::new();
        while batch.len() < n {
            let Some(Reverse((.., run))) = self.first.pop() else { break };
            batch.extend(self.next[run].take());
            self.advance(run)?;
        }
        Ok(batch)
    }
}

fn encode(to: &mut Vec<u8>, record: &LiveRecord) {
    put(to, u64::from(record.table.0));
    put_bytes(to, &record.key);
    for number in [record.number, record.causal_length, record.dot.version, record.db_version] {
        put(to, number);
    }
    put(to, u64::from(record.dot.author.0));
    put(to, u64::from(record.origin.0));
    put(to, u64::from(record.is_birth));
    for LiveCell { column, version, seq } in &record.cells {
        put(to, u64::from(column.0));
        put(to, *version);
        put(to, *seq);
    }
}

fn decode(bytes: &[u8]) -> Decoded<LiveRecord> {
    let mut reader = Reader::new(bytes);
    let table = TableId(reader.number32()?);
    let key = Key::from_slice(reader.bytes()?);
    let (number, causal_length) = (reader.number()?, reader.number()?);
    let (version, db_version) = (reader.number()?, reader.number()?);
    let dot = LocalDot { author: AuthorId(reader.number32()?), version };
    let origin = Ordinal(reader.number32()?);
    let is_birth = reader.number()? != 0;
    let mut record = LiveRecord {
        table,
        key,
        number,
        causal_length,
        dot,
        origin,
        db_version,
        is_birth,
        cells: Default::default(),
    };
    while reader.len() > 0 {
        let column = ColumnId(reader.number32()? as u16);
        record.cells.push(LiveCell { column, version: reader.number()?, seq: reader.number()? });
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn record(rng: &mut StdRng) -> LiveRecord {
        let n_cells = rng.random_range(0..6);
        let cell = |n| LiveCell { column: ColumnId(n), version: 1 << (10 * n), seq: n.into() };
        LiveRecord {
            table: TableId(rng.random_range(1..4)),
            key: Key::from_slice(&rng.random::<u16>().to_be_bytes()),
            number: rng.random(),
            causal_length: rng.random_range(1..5),
            dot: LocalDot { author: AuthorId(rng.random()), version: rng.random() },
            origin: Ordinal(rng.random()),
            db_version: rng.random(),
            is_birth: rng.random(),
            cells: (0..n_cells).map(cell).collect(),
        }
    }

    #[test]
    fn runs_are_merged_by_table_and_key() {
        let mut rng = StdRng::seed_from_u64(1);
        // The third table has no place.
        let rank = HashMap::from_iter([(TableId(1), 1), (TableId(2), 0)]);
        let mut sorted = Sorted::new(rank);
        let mut all = Vec::new();
        for n in [700, 1, 0, 5000, 300] {
            let mut records: Vec<LiveRecord> = (0..n).map(|_| record(&mut rng)).collect();
            all.extend(records.iter().cloned());
            sorted.add_run(&mut records).unwrap();
        }
        assert!(!sorted.is_empty());
        let mut sorted = sorted.merge().unwrap();
        let (mut found, mut places) = (Vec::new(), Vec::new());
        loop {
            let batch = sorted.batch(97).unwrap();
            if batch.is_empty() {
                break;
            }
            places.extend(
                batch.iter().map(|record| (sorted.place(record.table), record.key.clone())),
            );
            found.extend(batch);
        }
        assert!(places.is_sorted());
        let number = |record: &LiveRecord| (record.number, record.dot);
        all.sort_by_key(number);
        found.sort_by_key(number);
        assert_eq!(found, all);
    }
}
