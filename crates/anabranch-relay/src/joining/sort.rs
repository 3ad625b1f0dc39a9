//! Rows of many deltas in the order of table and key, in bounded memory: when there are enough
//! they are sorted and put aside as a run, and in the end all runs are merged (Knuth 1998,
//! *The Art of Computer Programming* 3, 5.4.1).
//!
//! **Invariant:** rows of one key meet in the order in which they came, and are joined then.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use anabranch_core::delta::{Gather, RowDelta, TableDelta};
use anabranch_core::site::SiteId;
use anabranch_core::value::Value;
use anabranch_core::wire::aside;

use super::maker::Room;
use super::scratch::{Place, Scratch};
use crate::storage::StorageError;

type Result<T> = std::result::Result<T, StorageError>;

/// What a row takes in memory beside its values, and each cell of it.
const ROW_BYTES: usize = 128;
const CELL_BYTES: usize = 72;

/// Takes rows in any order.
#[derive(Debug)]
pub(super) struct RowSort {
    room: Room,
    tables: BTreeMap<Arc<str>, Vec<RowDelta>>,
    n_bytes: usize,
    runs: Vec<Chunks>,
}

/// The rest of a run: sorted rows of one table each, in order.
type Chunks = VecDeque<(Arc<str>, Place)>;

impl RowSort {
    /// Nothing yet.
    pub(super) fn new(room: Room) -> RowSort {
        RowSort { room, tables: BTreeMap::new(), n_bytes: 0, runs: Vec::new() }
    }

    /// How many runs were put aside.
    pub(super) fn n_runs(&self) -> usize {
        self.runs.len()
    }

    /// Takes rows as [`Gather::rows`] gives them.
    ///
    /// # Errors
    /// Of the scratch file.
    pub(super) fn push(
        &mut self,
        table: TableDelta,
        gather: &Gather,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.n_bytes += table.rows.iter().map(row_bytes).sum::<usize>();
        match self.tables.get_mut(table.name.as_str()) {
            Some(rows) => rows.extend(table.rows),
            None => drop(self.tables.insert(table.name.into(), table.rows)),
        }
        if self.n_bytes > self.room.sorted_bytes { self.end_run(gather, scratch) } else { Ok(()) }
    }

    /// All rows, once all were pushed.
    ///
    /// # Errors
    /// Of the scratch file.
    pub(super) fn finish(mut self, gather: &Gather, scratch: &mut Scratch) -> Result<SortedRows> {
        if !self.tables.is_empty() {
            self.end_run(gather, scratch)?;
        }
        let runs = self.runs.into_iter().map(|chunks| Run { chunks, rows: VecDeque::new() });
        let mut sorted = SortedRows { runs: runs.collect(), heads: BinaryHeap::new() };
        for run in 0..sorted.runs.len() {
            sorted.advance(run, scratch)?;
        }
        Ok(sorted)
    }

    fn end_run(&mut self, gather: &Gather, scratch: &mut Scratch) -> Result<()> {
        let mut chunks = Chunks::new();
        self.n_bytes = 0;
        for (name, mut rows) in std::mem::take(&mut self.tables) {
            // Stable: rows of one key stay in the order in which they came.
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            let mut chunk = TableDelta {
                name: name.to_string(),
                columns: gather.columns(&name).to_vec(),
                rows: Vec::new(),
            };
            let mut n_bytes = 0;
            for row in joined(rows, gather.sites()) {
                n_bytes += row_bytes(&row);
                chunk.rows.push(row);
                if n_bytes > self.room.chunk_bytes {
                    chunks.push_back((Arc::clone(&name), scratch.put(&aside::put_rows(&chunk))?));
                    chunk.rows.clear();
                    n_bytes = 0;
                }
            }
            if !chunk.rows.is_empty() {
                chunks.push_back((name, scratch.put(&aside::put_rows(&chunk))?));
            }
        }
        self.runs.push(chunks);
        Ok(())
    }
}

/// Sorted rows, those of one key joined.
fn joined(rows: Vec<RowDelta>, sites: &[SiteId]) -> Vec<RowDelta> {
    let mut joined: Vec<RowDelta> = Vec::with_capacity(rows.len());
    for row in rows {
        match joined.last_mut().filter(|last| last.key == row.key) {
            Some(last) => last.join(row, sites),
            None => joined.push(row),
        }
    }
    joined
}

fn row_bytes(row: &RowDelta) -> usize {
    let values = row.cells.iter().map(|cell| match &cell.value {
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len() + CELL_BYTES,
        _ => CELL_BYTES,
    });
    ROW_BYTES + row.key.len() + row.births.len() * 24 + values.sum::<usize>()
}

/// Gives rows by table and key, each key once.
#[derive(Debug)]
pub(super) struct SortedRows {
    runs: Vec<Run>,
    /// The next row of each run that has one.
    heads: BinaryHeap<Reverse<Head>>,
}

#[derive(Debug)]
struct Run {
    chunks: Chunks,
    /// Of the chunk under way.
    rows: VecDeque<(Arc<str>, RowDelta)>,
}

#[derive(Debug)]
struct Head {
    table: Arc<str>,
    row: RowDelta,
    run: usize,
}

impl Head {
    fn order(&self) -> (&str, &[u8], usize) {
        (&self.table, &self.row.key, self.run)
    }

    fn is_same_row(&self, other: &Head) -> bool {
        (&self.table, &self.row.key) == (&other.table, &other.row.key)
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Head {}

impl SortedRows {
    /// The next row; `sites` is the dictionary of all.
    ///
    /// # Errors
    /// Of the scratch file.
    pub(super) fn next(
        &mut self,
        sites: &[SiteId],
        scratch: &mut Scratch,
    ) -> Result<Option<(Arc<str>, RowDelta)>> {
        let Some(Reverse(mut head)) = self.heads.pop() else { return Ok(None) };
        self.advance(head.run, scratch)?;
        while let Some(Reverse(later)) = self.heads.peek()
            && later.is_same_row(&head)
        {
            let Some(Reverse(later)) = self.heads.pop() else { break };
            self.advance(later.run, scratch)?;
            head.row.join(later.row, sites);
        }
        Ok(Some((head.table, head.row)))
    }

    /// Puts the next row of a run among the heads.
    fn advance(&mut self, index: usize, scratch: &mut Scratch) -> Result<()> {
        let run = &mut self.runs[index];
        if run.rows.is_empty()
            && let Some((table, place)) = run.chunks.pop_front()
        {
            let rows = aside::take_rows(&scratch.get(place)?)?.rows;
            run.rows.extend(rows.into_iter().map(|row| (Arc::clone(&table), row)));
        }
        if let Some((table, row)) = run.rows.pop_front() {
            self.heads.push(Reverse(Head { table, row, run: index }));
        }
        Ok(())
    }
}
