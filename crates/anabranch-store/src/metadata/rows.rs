//! Rows of one table by ascending key, column by column: what clock blocks are while they
//! are read, changed and written.
//!
//! A row is its key, its number, which [`Patterns`] pattern it has, and one address for each
//! group of that. So a row costs no memory of its own, and what rows have in common is there
//! once. Who reads clocks one by one asks for a [`BlockRow`].

use std::cmp::Ordering::{self, Equal, Greater, Less};
use std::ops::Range;

use super::key_code::as_number;
use super::patterns::{Patterns, UNKNOWN};
use super::row_clock::RowClock;
use crate::ids::{Address, EntryId, Key};
use crate::limits::MAX_ENTRY_RECORDS;

/// A row by itself.
pub(crate) type BlockRow = (Key, RowClock);

/// A row that is being changed: all but its key.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Its pattern.
    pub(super) place: u32,
    pub(super) number: u64,
    /// An address for each group, as one number.
    pub(super) at: Vec<u64>,
    /// Those before the last change: their room is used again.
    pub(super) former: Vec<u64>,
}

/// Rows by ascending key.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(super) patterns: Patterns,
    /// The keys, one behind the other, and where each ends.
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    pub(super) numbers: Vec<u64>,
    /// The pattern of each.
    pub(super) places: Vec<u32>,
    /// The addresses, row by row, and where those of each end.
    pub(super) at: Vec<u64>,
    pub(super) at_ends: Vec<usize>,
}

/// An index in an entry takes the low twelve bits of an address.
const _: () = assert!(MAX_ENTRY_RECORDS <= 1 << 12);

/// An address as one number.
#[inline]
pub(super) fn linear(at: Address) -> u64 {
    at.entry.0 << 12 | u64::from(at.index)
}

/// The address that is this number.
#[inline]
pub(super) fn address(linear: u64) -> Address {
    Address { entry: EntryId(linear >> 12), index: (linear & 0xfff) as u32 }
}

/// Where the i-th of things begins that end so.
#[inline]
fn start(ends: &[usize], i: usize) -> usize {
    if i == 0 { 0 } else { ends[i - 1] }
}

/// Compares keys; those of eight bytes as numbers.
#[inline]
pub(super) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    match (as_number(a), as_number(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.cmp(b),
    }
}

impl Rows {
    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.key_ends.len()
    }

    /// The key of the i-th.
    #[inline]
    pub(crate) fn key(&self, i: usize) -> &[u8] {
        &self.keys[start(&self.key_ends, i)..self.key_ends[i]]
    }

    /// The last key.
    pub(super) fn last_key(&self) -> Option<&[u8]> {
        self.len().checked_sub(1).map(|last| self.key(last))
    }

    /// Whether the keys of a range are all of eight bytes.
    pub(super) fn are_numbers(&self, range: Range<usize>) -> bool {
        let mut before = start(&self.key_ends, range.start);
        self.key_ends[range].iter().all(|end| {
            let len = *end - before;
            before = *end;
            len == 8
        })
    }

    /// Where the addresses of a range stand in `at`.
    #[inline]
    pub(super) fn at_range(&self, range: Range<usize>) -> Range<usize> {
        start(&self.at_ends, range.start)..start(&self.at_ends, range.end)
    }

    /// The first row from `from` on whose key is not below `key`: galloping, for changes
    /// mostly meet row after row, or few.
    fn seek(&self, from: usize, key: &[u8]) -> usize {
        let is_below = |i: usize| compare(self.key(i), key) == Less;
        first_not(from, self.len(), is_below)
    }

    /// As [`Rows::seek`], and whether the row has that key.
    #[inline]
    pub(super) fn find(&self, from: usize, key: &[u8]) -> (usize, bool) {
        let order = |i: usize| if i < self.len() { compare(self.key(i), key) } else { Greater };
        match order(from) {
            Less => {
                let i = self.seek(from + 1, key);
                (i, order(i) == Equal)
            }
            order => (from, order == Equal),
        }
    }

    /// Drops all rows. Patterns stay as long as they are few, and with them what is known
    /// of how they change.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.key_ends.clear();
        self.numbers.clear();
        self.places.clear();
        self.at.clear();
        self.at_ends.clear();
        self.patterns.shrink();
    }

    /// Adds a key; who does so adds all else of the row.
    #[inline]
    pub(super) fn push_key(&mut self, key: &[u8]) {
        self.keys.extend_from_slice(key);
        self.key_ends.push(self.keys.len());
    }

    /// Adds a key that shares its first bytes with the one before it.
    pub(super) fn push_key_after(&mut self, shared: usize, suffix: &[u8]) {
        let before = self.len() - 1;
        let from = start(&self.key_ends, before);
        self.keys.extend_from_within(from..from + shared);
        self.push_key(suffix);
    }

    /// Adds all of a row but its key.
    #[inline]
    pub(super) fn push(&mut self, row: &Slot) {
        self.numbers.push(row.number);
        self.places.push(row.place);
        row.at.iter().for_each(|at| self.at.push(*at));
        self.at_ends.push(self.at.len());
    }

    /// Adds a row of one group.
    #[inline]
    pub(super) fn push_new(&mut self, key: &[u8], place: u32, number: u64, at: u64) {
        self.push_key(key);
        self.numbers.push(number);
        self.places.push(place);
        self.at.push(at);
        self.at_ends.push(self.at.len());
    }

    /// Adds rows of other ones, whose patterns are called `names` here.
    pub(super) fn extend(&mut self, other: &Rows, range: Range<usize>, names: &[u32]) {
        let (keys, at) = (start(&other.key_ends, range.start), start(&other.at_ends, range.start));
        let moved = self.keys.len();
        let ends = other.key_ends[range.clone()].iter().map(|end| end - keys + moved);
        self.key_ends.extend(ends);
        self.keys.extend_from_slice(&other.keys[keys..start(&other.key_ends, range.end)]);
        let moved = self.at.len();
        self.at_ends.extend(other.at_ends[range.clone()].iter().map(|end| end - at + moved));
        self.at.extend_from_slice(&other.at[other.at_range(range.clone())]);
        self.numbers.extend_from_slice(&other.numbers[range.clone()]);
        self.places.extend(other.places[range].iter().map(|place| names[*place as usize]));
    }

    /// These rows.
    pub(crate) fn of(all: &[BlockRow]) -> Rows {
        let (mut rows, mut slot) = (Rows::default(), Slot::default());
        for (key, clock) in all {
            rows.patterns.set(&mut slot, clock);
            rows.push_key(key);
            rows.push(&slot);
        }
        rows
    }

    /// Only the rows from `from` on, and the patterns that they have.
    pub(super) fn split_off(&mut self, from: usize) -> Rows {
        let mut rest = Rows::default();
        let mut names = vec![UNKNOWN; self.patterns.len()];
        for place in &self.places[from..] {
            let name = &mut names[*place as usize];
            if *name == UNKNOWN {
                *name = rest.patterns.intern(self.patterns.get(*place));
            }
        }
        rest.extend(self, from..self.len(), &names);
        rest
    }

    /// Makes `row` the i-th, whose pattern is called `place` where it goes.
    #[inline]
    pub(super) fn read(&self, i: usize, place: u32, row: &mut Slot) {
        row.place = place;
        row.number = self.numbers[i];
        row.at.clear();
        self.at[self.at_range(i..i + 1)].iter().for_each(|at| row.at.push(*at));
    }

    /// The i-th by itself.
    pub(super) fn row(&self, i: usize) -> BlockRow {
        let mut clock = self.patterns.get(self.places[i]).clone();
        clock.number = self.numbers[i];
        for (group, at) in clock.groups.iter_mut().zip(&self.at[self.at_range(i..i + 1)]) {
            group.at = address(*at);
        }
        (Key::from_slice(self.key(i)), clock)
    }
}

/// The first index in the range for which `holds` is false; it holds up to there. Galloping,
/// for it is mostly near: a block takes few of many changes.
pub(super) fn first_not(mut start: usize, mut end: usize, holds: impl Fn(usize) -> bool) -> usize {
    let mut step = 0;
    while start + step < end {
        if !holds(start + step) {
            end = start + step;
            break;
        }
        start += step + 1;
        step = step * 2 + 1;
    }
    while start < end {
        let middle = start + (end - start) / 2;
        if holds(middle) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    start
}
