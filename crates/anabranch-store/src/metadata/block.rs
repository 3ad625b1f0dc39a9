//! A clock block: some rows of one table, sorted by key, with their clocks.
//!
//! ```text
//! [n rows][form: 1 numbers, 2 other keys]
//! keys       of all rows but the first, whose key is the block's name in ana_clock:
//!            form 1  stream of (key - first key); form 2  each key against the one before
//! [n patterns]
//! pattern    [causal length][n groups] and for each group [columns][version << 1 | is birth]
//! places     which pattern each row has; absent if there is one pattern:
//!            [0] runs of [rows - 1][pattern], or [width] and the patterns in `width` bits each
//! numbers    stream of the rows' numbers
//! addresses  for each pattern, for each of its groups: stream of (entry * 4096 + index) of
//!            the rows that have the pattern, their numbers beside
//! ```
//!
//! So rows that were written alike cost their key, and what no run describes.

use smallvec::SmallVec;

use super::key_code::{as_number, next_key, put_key, read_key, shared_len};
use super::mask_code::{put_mask, read_mask};
use super::row_clock::{Group, RowClock};
use super::stream::{Stream, packed_at, put_packed, put_stream};
use super::varint::{Corrupt, Decoded, Reader, put};
use crate::ids::{Address, EntryId, Key};
use crate::limits::{MAX_BLOCK_GROUPS, MAX_BLOCK_MASK_WORDS, MAX_BLOCK_ROWS, MAX_ENTRY_RECORDS};

/// A row of a block.
pub(crate) type BlockRow = (Key, RowClock);

/// Row counts and places of rows are kept in bytes, and places of patterns in seven bits.
const _: () = assert!(MAX_BLOCK_ROWS <= 1 << 7);

const NUMBERS: u8 = 1;
const OTHERS: u8 = 2;

/// Encodes blocks; keeps its working space.
#[derive(Default)]
pub(crate) struct Encoder {
    /// Pattern of each row.
    places: Vec<u32>,
    /// For each pattern a row that has it.
    patterns: Vec<usize>,
    numbers: Vec<u64>,
    values: Vec<u64>,
    beside: Vec<u64>,
}

impl Encoder {
    /// Writes the bytes of a block of at least one row into `out`.
    pub(crate) fn encode(&mut self, rows: &[BlockRow], out: &mut Vec<u8>) {
        debug_assert!(!rows.is_empty() && rows.len() <= MAX_BLOCK_ROWS);
        out.clear();
        put(out, rows.len() as u64);
        self.put_keys(rows, out);
        self.find_patterns(rows);
        put(out, self.patterns.len() as u64);
        for row in &self.patterns {
            put_pattern(out, &rows[*row].1);
        }
        if self.patterns.len() > 1 {
            put_places(out, &self.places, self.patterns.len());
        }
        self.numbers.clear();
        self.numbers.extend(rows.iter().map(|row| row.1.number));
        put_stream(out, &self.numbers, None);
        self.put_addresses(rows, out);
    }

    fn put_keys(&mut self, rows: &[BlockRow], out: &mut Vec<u8>) {
        let Some(first) = as_number(&rows[0].0).filter(|_| rows.iter().all(|r| r.0.len() == 8))
        else {
            out.push(OTHERS);
            for pair in rows.windows(2) {
                put_key(out, &pair[0].0, &pair[1].0);
            }
            return;
        };
        out.push(NUMBERS);
        self.values.clear();
        let beyond = rows[1..].iter().filter_map(|row| as_number(&row.0)).map(|key| key - first);
        self.values.extend(beyond);
        put_stream(out, &self.values, None);
    }

    fn find_patterns(&mut self, rows: &[BlockRow]) {
        self.places.clear();
        self.patterns.clear();
        let mut last = 0;
        for (i, (_, clock)) in rows.iter().enumerate() {
            let has = |row: &usize| is_alike(&rows[*row].1, clock);
            let place = match self.patterns.get(last) {
                Some(row) if has(row) => Some(last),
                _ => self.patterns.iter().position(has),
            };
            last = place.unwrap_or_else(|| {
                self.patterns.push(i);
                self.patterns.len() - 1
            });
            self.places.push(last as u32);
        }
    }

    fn put_addresses(&mut self, rows: &[BlockRow], out: &mut Vec<u8>) {
        let is_only = self.patterns.len() == 1;
        for (pattern, exemplar) in self.patterns.iter().enumerate() {
            for group in 0..rows[*exemplar].1.groups.len() {
                self.values.clear();
                self.beside.clear();
                for (place, (_, clock)) in self.places.iter().zip(rows) {
                    if is_only || *place == pattern as u32 {
                        self.values.push(linear(clock.groups[group].at));
                        self.beside.push(clock.number);
                    }
                }
                put_stream(out, &self.values, Some(&self.beside));
            }
        }
    }
}

/// An index in an entry takes the low twelve bits of an address.
const _: () = assert!(MAX_ENTRY_RECORDS <= 1 << 12);

/// An address as one number.
fn linear(at: Address) -> u64 {
    at.entry.0 << 12 | u64::from(at.index)
}

fn address(linear: u64) -> Address {
    Address { entry: EntryId(linear >> 12), index: (linear & 0xfff) as u32 }
}

/// Whether two rows differ in nothing but key, number and addresses.
#[inline]
fn is_alike(a: &RowClock, b: &RowClock) -> bool {
    a.causal_length == b.causal_length
        && a.groups.len() == b.groups.len()
        && a.groups
            .iter()
            .zip(&b.groups)
            .all(|(a, b)| a.version == b.version && a.is_birth == b.is_birth && a.mask == b.mask)
}

fn put_pattern(out: &mut Vec<u8>, clock: &RowClock) {
    put(out, clock.causal_length);
    put(out, clock.groups.len() as u64);
    for group in &clock.groups {
        put_mask(out, &group.mask);
        put(out, group.version << 1 | u64::from(group.is_birth));
    }
}

fn put_places(out: &mut Vec<u8>, places: &[u32], n_patterns: usize) {
    let width = 32 - (n_patterns as u32 - 1).leading_zeros();
    let n_packed = 1 + (places.len() * width as usize).div_ceil(8);
    let start = out.len();
    out.push(0);
    for run in places.chunk_by(|a, b| a == b) {
        put(out, run.len() as u64 - 1);
        put(out, u64::from(run[0]));
        if out.len() - start > n_packed {
            out.truncate(start);
            out.push(width as u8);
            put_packed(out, places.iter().map(|place| u64::from(*place)), width);
            return;
        }
    }
}

/// A block whose parts are found, but whose rows are not built.
struct Parts<'a> {
    n_rows: usize,
    keys: Keys<'a>,
    patterns: SmallVec<[RowClock; 4]>,
    places: Places<'a>,
    numbers: Stream<'a>,
    /// What follows: the addresses.
    rest: Reader<'a>,
}

enum Keys<'a> {
    /// Of all rows but the first: what they are beyond it.
    Numbers(Stream<'a>),
    Others(Reader<'a>),
}

enum Places<'a> {
    One,
    Runs(Reader<'a>),
    Packed { width: u32, bytes: &'a [u8] },
}

impl<'a> Parts<'a> {
    fn read(body: &'a [u8]) -> Decoded<Parts<'a>> {
        let mut reader = Reader::new(body);
        let n_rows = reader.number()? as usize;
        if n_rows == 0 || n_rows > MAX_BLOCK_ROWS {
            return Err(Corrupt("a block of too many rows, or none"));
        }
        let keys = match reader.byte()? {
            NUMBERS => Keys::Numbers(Stream::read(&mut reader, n_rows - 1)?),
            OTHERS => {
                let keys = Keys::Others(reader);
                // A key shares no more than the one before has, which is checked where keys
                // are built; here they are only stepped over.
                for _ in 1..n_rows {
                    read_key(&mut reader, usize::MAX)?;
                }
                keys
            }
            _ => return Err(Corrupt("keys of unknown form")),
        };
        let patterns = read_patterns(&mut reader, n_rows)?;
        let places = Places::read(&mut reader, n_rows, patterns.len())?;
        let numbers = Stream::read(&mut reader, n_rows)?;
        Ok(Parts { n_rows, keys, patterns, places, numbers, rest: reader })
    }
}

fn read_patterns(reader: &mut Reader<'_>, n_rows: usize) -> Decoded<SmallVec<[RowClock; 4]>> {
    let n_patterns = reader.count()?;
    if n_patterns == 0 || n_patterns > n_rows {
        return Err(Corrupt("more patterns than rows, or none"));
    }
    let mut patterns = SmallVec::new();
    let (mut n_words, mut n_all) = (0, 0);
    for _ in 0..n_patterns {
        let causal_length = reader.number()?;
        let n_groups = reader.count()?;
        n_all += n_groups;
        if n_all > MAX_BLOCK_GROUPS {
            return Err(Corrupt("a block of too many groups"));
        }
        let mut groups = SmallVec::new();
        for _ in 0..n_groups {
            let mask = read_mask(reader)?;
            n_words += mask.words().len();
            if n_words > MAX_BLOCK_MASK_WORDS {
                return Err(Corrupt("a block of too many columns"));
            }
            let raw = reader.number()?;
            let at = Address { entry: EntryId(0), index: 0 };
            groups.push(Group { mask, version: raw >> 1, at, is_birth: raw & 1 == 1 });
        }
        patterns.push(RowClock { number: 0, causal_length, groups });
    }
    Ok(patterns)
}

impl<'a> Places<'a> {
    fn read(reader: &mut Reader<'a>, n_rows: usize, n_patterns: usize) -> Decoded<Places<'a>> {
        if n_patterns == 1 {
            return Ok(Places::One);
        }
        let width = u32::from(reader.byte()?);
        if width > 7 {
            return Err(Corrupt("places of unknown form"));
        }
        let places = if width == 0 {
            let runs = *reader;
            let mut done = 0;
            while done < n_rows {
                let more = reader.number()?;
                if more >= (n_rows - done) as u64 {
                    return Err(Corrupt("runs of patterns longer than their rows"));
                }
                done += more as usize + 1;
                reader.number()?;
            }
            Places::Runs(runs)
        } else {
            let bytes = reader.take((n_rows * width as usize).div_ceil(8))?;
            Places::Packed { width, bytes }
        };
        Ok(places)
    }

    /// Calls `take` with the pattern of each row, in order.
    fn each(&self, n_rows: usize, n_patterns: usize, mut take: impl FnMut(usize)) -> Decoded<()> {
        let mut checked = |place: u64| {
            if place >= n_patterns as u64 {
                return Err(Corrupt("a pattern that is not there"));
            }
            take(place as usize);
            Ok(())
        };
        match self {
            Places::One => (0..n_rows).try_for_each(|_| checked(0)),
            Places::Packed { width, bytes } => {
                (0..n_rows).try_for_each(|row| checked(packed_at(bytes, *width, row)))
            }
            Places::Runs(runs) => {
                let (mut reader, mut done) = (*runs, 0);
                while done < n_rows as u64 {
                    let (more, place) = (reader.number()?, reader.number()?);
                    (0..=more).try_for_each(|_| checked(place))?;
                    done += more + 1;
                }
                Ok(())
            }
        }
    }
}

/// Reads a block whose first key is `first`.
pub(crate) fn decode(first: &[u8], body: &[u8]) -> Decoded<Vec<BlockRow>> {
    let parts = Parts::read(body)?;
    let n_rows = parts.n_rows;
    let mut rows: Vec<BlockRow> = Vec::with_capacity(n_rows);
    let mut members: SmallVec<[SmallVec<[u8; 128]>; 1]> =
        (0..parts.patterns.len()).map(|_| SmallVec::new()).collect();
    let mut n_placed = 0u8;
    parts.places.each(n_rows, parts.patterns.len(), |place| {
        members[place].push(n_placed);
        n_placed += 1;
    })?;
    check_size(&parts.patterns, &members)?;
    parts.places.each(n_rows, parts.patterns.len(), |place| {
        rows.push((Key::new(), parts.patterns[place].clone()));
    })?;
    decode_keys(first, &parts, &mut rows)?;
    parts.numbers.each(n_rows, |_| 0, |i, number| rows[i].1.number = number)?;
    let mut rest = parts.rest;
    for (pattern, members) in parts.patterns.iter().zip(&members) {
        for group in 0..pattern.groups.len() {
            let stream = Stream::read(&mut rest, members.len())?;
            let mut numbers = [0; MAX_BLOCK_ROWS];
            if matches!(stream, Stream::Beside { .. }) {
                for (number, row) in numbers.iter_mut().zip(members) {
                    *number = rows[usize::from(*row)].1.number;
                }
            }
            stream.each(
                members.len(),
                |i| numbers[i],
                |i, at| {
                    rows[usize::from(members[i])].1.groups[group].at = address(at);
                },
            )?;
        }
    }
    rest.end()?;
    Ok(rows)
}

/// Refuses patterns that would take much memory once each row has a copy.
fn check_size(patterns: &[RowClock], members: &[SmallVec<[u8; 128]>]) -> Decoded<()> {
    let (mut n_words, mut n_groups) = (0, 0);
    for (pattern, members) in patterns.iter().zip(members) {
        let words: usize = pattern.groups.iter().map(|group| group.mask.words().len()).sum();
        n_words += words * members.len();
        n_groups += pattern.groups.len() * members.len();
    }
    if n_words > MAX_BLOCK_MASK_WORDS || n_groups > MAX_BLOCK_GROUPS {
        return Err(Corrupt("a block of too many columns"));
    }
    Ok(())
}

fn decode_keys(first: &[u8], parts: &Parts<'_>, rows: &mut [BlockRow]) -> Decoded<()> {
    rows[0].0 = Key::from_slice(first);
    match &parts.keys {
        Keys::Numbers(stream) => {
            let base = as_number(first).ok_or(Corrupt("a number key that is not 8 bytes"))?;
            let (mut last, mut is_sorted) = (0, true);
            stream.each(
                parts.n_rows - 1,
                |_| 0,
                |i, beyond| {
                    is_sorted &= beyond > last && base.checked_add(beyond).is_some();
                    last = beyond;
                    rows[i + 1].0 = Key::from_slice(&base.wrapping_add(beyond).to_be_bytes());
                },
            )?;
            if !is_sorted {
                return Err(Corrupt("keys out of order"));
            }
        }
        Keys::Others(reader) => {
            let (mut reader, mut key) = (*reader, Key::from_slice(first));
            for i in 1..rows.len() {
                next_key(&mut reader, &mut key)?;
                if key <= rows[i - 1].0 {
                    return Err(Corrupt("keys out of order"));
                }
                rows[i].0 = Key::from_slice(&key);
            }
        }
    }
    Ok(())
}

/// The clock of one row of a block, without building the others.
pub(crate) fn find(first: &[u8], body: &[u8], key: &[u8]) -> Decoded<Option<RowClock>> {
    let parts = Parts::read(body)?;
    let Some(row) = find_key(first, &parts, key)? else { return Ok(None) };
    let n_patterns = parts.patterns.len();
    let mut counts: SmallVec<[usize; 4]> = SmallVec::from_elem(0, n_patterns);
    let (mut at, mut place, mut rank) = (0, 0, 0);
    parts.places.each(parts.n_rows, n_patterns, |pattern| {
        if at == row {
            (place, rank) = (pattern, counts[pattern]);
        }
        counts[pattern] += 1;
        at += 1;
    })?;
    let mut rest = parts.rest;
    for (pattern, count) in parts.patterns.iter().zip(&counts).take(place) {
        for _ in &pattern.groups {
            Stream::read(&mut rest, *count)?;
        }
    }
    let mut clock = parts.patterns[place].clone();
    clock.number = parts.numbers.at(row, 0)?;
    for group in &mut clock.groups {
        let stream = Stream::read(&mut rest, counts[place])?;
        group.at = address(stream.at(rank, clock.number)?);
    }
    Ok(Some(clock))
}

fn find_key(first: &[u8], parts: &Parts<'_>, key: &[u8]) -> Decoded<Option<usize>> {
    if first == key {
        return Ok(Some(0));
    }
    let mut found = None;
    match &parts.keys {
        Keys::Numbers(stream) => {
            let base = as_number(first).ok_or(Corrupt("a number key that is not 8 bytes"))?;
            let Some(wanted) = as_number(key).and_then(|key| key.checked_sub(base)) else {
                return Ok(None);
            };
            stream.each(
                parts.n_rows - 1,
                |_| 0,
                |i, beyond| {
                    if beyond == wanted {
                        found = Some(i + 1);
                    }
                },
            )?;
        }
        Keys::Others(reader) => {
            // The first bytes in which the wanted key and the present one agree: a key that
            // shares more with the one before than that lies on the same side of it.
            let (mut reader, mut agreed) = (*reader, shared_len(first, key));
            let mut before_len = first.len();
            for i in 1..parts.n_rows {
                let (shared, suffix) = read_key(&mut reader, before_len)?;
                before_len = shared + suffix.len();
                if shared > agreed {
                    continue;
                }
                if shared < agreed {
                    break;
                }
                agreed += shared_len(suffix, &key[agreed..]);
                if agreed == key.len() && before_len == agreed {
                    found = Some(i);
                    break;
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
