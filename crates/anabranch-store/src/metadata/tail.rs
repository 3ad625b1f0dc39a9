//! The clocks of rows written by log rows that are not folded into blocks yet.

use std::rc::Rc;

use anabranch_core::vector::Held;
use hashbrown::HashMap;

use super::row_clock::RowClock;
use super::state::Versions;
use crate::ids::{EntryId, Key, TableId};

/// Unfolded rows, by table and key.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    tables: HashMap<TableId, HashMap<Key, RowClock>>,
    n_rows: usize,
    /// Log rows not folded.
    pub(crate) n_entries: usize,
    /// The unfolded changes of this copy.
    pub(crate) heads: Vec<TailHead>,
}

/// An unfolded change of this copy.
#[derive(Clone, Debug)]
pub(crate) struct TailHead {
    /// The vector entry of this copy after it.
    pub(crate) held: Held,
    /// Where it begins.
    pub(crate) entry: EntryId,
    /// Its context.
    pub(crate) context: Rc<Versions>,
}

impl Tail {
    /// The clock of a row that is unfolded.
    pub(crate) fn row(&self, table: TableId, key: &[u8]) -> Option<&RowClock> {
        self.tables.get(&table)?.get(key)
    }

    /// Sets the clock of a row.
    pub(crate) fn insert(&mut self, table: TableId, key: &[u8], clock: RowClock) {
        let rows = self.tables.entry(table).or_default();
        self.n_rows += usize::from(rows.insert(Key::from_slice(key), clock).is_none());
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.n_rows
    }

    /// The tables of which rows are unfolded, in no order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = TableId> + '_ {
        self.tables.keys().copied()
    }

    /// The rows of a table that are unfolded, in no order.
    pub(crate) fn rows(&self, table: TableId) -> Vec<(Key, RowClock)> {
        let rows = self.tables.get(&table).into_iter().flatten();
        rows.map(|(key, clock)| (key.clone(), clock.clone())).collect()
    }

    /// Puts the unfolded rows of a range of keys over the folded ones.
    pub(crate) fn overlay(
        &self,
        table: TableId,
        from: &[u8],
        end: Option<&[u8]>,
        rows: &mut Vec<(Key, RowClock)>,
    ) {
        let Some(unfolded) = self.tables.get(&table) else { return };
        let is_in = |key: &[u8]| key >= from && end.is_none_or(|end| key < end);
        let mut is_sorted = true;
        for (key, clock) in unfolded.iter().filter(|(key, _)| is_in(key)) {
            match rows.iter_mut().find(|row| row.0 == *key) {
                Some(row) => row.1 = clock.clone(),
                None => {
                    rows.push((key.clone(), clock.clone()));
                    is_sorted = false;
                }
            }
        }
        if !is_sorted {
            rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        }
    }

    /// Takes all rows: tables in order, keys ascending.
    pub(crate) fn take_sorted(&mut self) -> Vec<(TableId, Vec<(Key, RowClock)>)> {
        self.n_rows = 0;
        let mut tables: Vec<_> = self
            .tables
            .drain()
            .map(|(table, rows)| {
                let mut rows: Vec<_> = rows.into_iter().collect();
                rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                (table, rows)
            })
            .collect();
        tables.sort_unstable_by_key(|(table, _)| *table);
        tables
    }
}
