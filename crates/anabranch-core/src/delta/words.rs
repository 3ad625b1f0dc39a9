//! The dictionaries of a delta, and rows that change from one delta's to another's.

use std::collections::BTreeMap;

use super::{Birth, DeltaDot, RowDelta, SiteIdx};

/// A dictionary that grows: a word keeps the place it got.
#[derive(Clone, Debug, Default)]
pub(super) struct Words<T> {
    list: Vec<T>,
    places: BTreeMap<T, u32>,
}

impl<T: Clone + Ord> Words<T> {
    /// The words of `list`, at their places.
    pub(super) fn new(list: Vec<T>) -> Words<T> {
        let places = list.iter().cloned().zip(0..).collect();
        Words { list, places }
    }

    /// The places of `words`; new ones are added.
    pub(super) fn places(&mut self, words: impl IntoIterator<Item = T>) -> Vec<u32> {
        let mut place = |word: T| {
            let list = &mut self.list;
            *self.places.entry(word).or_insert_with_key(|word| {
                list.push(word.clone());
                list.len() as u32 - 1
            })
        };
        words.into_iter().map(&mut place).collect()
    }

    /// All words by place.
    pub(super) fn list(&self) -> &[T] {
        &self.list
    }

    /// All words by place.
    pub(super) fn into_list(self) -> Vec<T> {
        self.list
    }
}

impl RowDelta {
    /// The row in the words of other dictionaries: for each place of its own theirs.
    pub(super) fn translated(mut self, sites: &[u32], columns: &[u32]) -> RowDelta {
        let site = |idx: SiteIdx| SiteIdx(sites[idx.0 as usize]);
        let dot = |dot: DeltaDot| DeltaDot { site: site(dot.site), version: dot.version };
        for birth in &mut self.births {
            *birth = Birth { dot: dot(birth.dot), origin: site(birth.origin) };
        }
        self.births.sort_by_key(|birth| birth.dot);
        for cell in &mut self.cells {
            cell.column = columns[cell.column as usize];
            cell.dot = dot(cell.dot);
            cell.origin = site(cell.origin);
        }
        self.cells.sort_by_key(|cell| cell.column);
        self
    }

    /// Leaves out what was written at or below a version, given for each place of the
    /// dictionary of sites; whether anything is left.
    pub(super) fn keep_above(&mut self, covered: &[u64]) -> bool {
        let is_new = |dot: DeltaDot| dot.version > covered[dot.site.0 as usize];
        self.births.retain(|birth| is_new(birth.dot));
        self.cells.retain(|cell| is_new(cell.dot));
        !self.births.is_empty() || !self.cells.is_empty()
    }
}
