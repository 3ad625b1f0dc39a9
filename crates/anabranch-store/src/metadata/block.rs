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

mod edit;
mod edit_all;

use std::cmp::Ordering;
use std::ops::Range;

use smallvec::SmallVec;

use super::key_code::{as_number, put_key, read_key, shared_len};
use super::mask_code::{put_mask, read_mask};
use super::row_clock::{Group, RowClock};
use super::rows::{BlockRow, Rows, address, compare};
use super::stream::{Stream, packed_at, put_packed, put_stream};
use super::varint::{Corrupt, Decoded, Reader, put};
use crate::ids::Key;
use crate::limits::{MAX_BLOCK_GROUPS, MAX_BLOCK_MASK_WORDS, MAX_BLOCK_ROWS};

/// Row counts and places of rows are kept in bytes, and places of patterns in seven bits.
const _: () = assert!(MAX_BLOCK_ROWS <= 1 << 7);

const NUMBERS: u8 = 1;
const OTHERS: u8 = 2;

/// Encodes blocks; keeps its working space.
#[derive(Default)]
pub(crate) struct Encoder {
    /// The patterns of the block, as the rows call them, by first use.
    patterns: Vec<u32>,
    /// What the block calls the rows' patterns, plus one; 0: it has no such.
    names: Vec<u8>,
    /// Pattern of each row, as the block calls it.
    places: Vec<u8>,
    /// Rows by pattern.
    members: Members,
    values: Vec<u64>,
    beside: Vec<u64>,
    /// Addresses that rows had, group by group.
    former: Vec<u64>,
}

impl Encoder {
    /// Writes the bytes of a block of some rows, at least one, into `out`.
    pub(crate) fn encode(&mut self, rows: &Rows, range: Range<usize>, out: &mut Vec<u8>) {
        debug_assert!(!range.is_empty() && range.len() <= MAX_BLOCK_ROWS);
        out.clear();
        put(out, range.len() as u64);
        self.put_keys(rows, range.clone(), out);
        self.find_patterns(rows, range.clone());
        put(out, self.patterns.len() as u64);
        for pattern in &self.patterns {
            put_pattern(out, rows.patterns.get(*pattern));
        }
        if self.patterns.len() > 1 {
            put_places(out, &self.places, self.patterns.len());
        }
        put_stream(out, &rows.numbers[range.clone()], None);
        match self.patterns[..] {
            [only] => self.put_addresses_of_all(rows, range, rows.patterns.n_groups(only), out),
            _ => self.put_addresses(rows, range, out),
        }
    }

    fn put_keys(&mut self, rows: &Rows, range: Range<usize>, out: &mut Vec<u8>) {
        let others = range.start + 1..range.end;
        let first = as_number(rows.key(range.start)).filter(|_| rows.are_numbers(others.clone()));
        let Some(first) = first else {
            out.push(OTHERS);
            return others.for_each(|i| put_key(out, rows.key(i - 1), rows.key(i)));
        };
        out.push(NUMBERS);
        self.values.clear();
        let numbers = others.filter_map(|i| as_number(rows.key(i)));
        self.values.extend(numbers.map(|key| key - first));
        put_stream(out, &self.values, None);
    }

    fn find_patterns(&mut self, rows: &Rows, range: Range<usize>) {
        self.patterns.clear();
        self.places.clear();
        self.names.clear();
        self.names.resize(rows.patterns.len(), 0);
        for place in &rows.places[range] {
            let name = &mut self.names[*place as usize];
            if *name == 0 {
                self.patterns.push(*place);
                *name = self.patterns.len() as u8;
            }
            self.places.push(*name - 1);
        }
    }

    /// The addresses of rows of one pattern.
    fn put_addresses_of_all(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        n_groups: usize,
        out: &mut Vec<u8>,
    ) {
        let numbers = &rows.numbers[range.clone()];
        let at = &rows.at[rows.at_range(range)];
        if n_groups == 1 {
            return put_stream(out, at, Some(numbers));
        }
        for group in 0..n_groups {
            self.values.clear();
            self.values.extend(at.chunks_exact(n_groups).map(|of_row| of_row[group]));
            put_stream(out, &self.values, Some(numbers));
        }
    }

    fn put_addresses(&mut self, rows: &Rows, range: Range<usize>, out: &mut Vec<u8>) {
        self.members.sort(&self.places, self.patterns.len());
        for (name, pattern) in self.patterns.iter().enumerate() {
            let members = self.members.of(name);
            let row = |member: &u8| range.start + usize::from(*member);
            self.beside.clear();
            self.beside.extend(members.iter().map(|member| rows.numbers[row(member)]));
            let n_groups = rows.patterns.n_groups(*pattern);
            for group in 0..n_groups {
                self.values.clear();
                let ends = members.iter().map(|member| rows.at_ends[row(member)]);
                self.values.extend(ends.map(|end| rows.at[end - (n_groups - group)]));
                put_stream(out, &self.values, Some(&self.beside));
            }
        }
    }
}

/// The rows of a block by their patterns.
#[derive(Default)]
struct Members {
    rows: Vec<u8>,
    /// Where the rows of each pattern end.
    ends: Vec<usize>,
}

impl Members {
    /// Sorts rows that have these patterns; all of them are below `n_patterns`.
    fn sort(&mut self, places: &[u8], n_patterns: usize) {
        self.ends.clear();
        self.ends.resize(n_patterns + 1, 0);
        places.iter().for_each(|place| self.ends[usize::from(*place) + 1] += 1);
        for i in 1..=n_patterns {
            self.ends[i] += self.ends[i - 1];
        }
        // What says where each begins is moved to where it ends by filling it.
        self.ends.truncate(n_patterns);
        self.rows.clear();
        self.rows.resize(places.len(), 0);
        for (row, place) in places.iter().enumerate() {
            let end = &mut self.ends[usize::from(*place)];
            self.rows[*end] = row as u8;
            *end += 1;
        }
    }

    fn of(&self, pattern: usize) -> &[u8] {
        let start = if pattern == 0 { 0 } else { self.ends[pattern - 1] };
        &self.rows[start..self.ends[pattern]]
    }
}

fn put_pattern(out: &mut Vec<u8>, clock: &RowClock) {
    put(out, clock.causal_length);
    put(out, clock.groups.len() as u64);
    for group in &clock.groups {
        put_mask(out, &group.mask);
        put(out, group.version << 1 | u64::from(group.is_birth));
    }
}

fn put_places(out: &mut Vec<u8>, places: &[u8], n_patterns: usize) {
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
pub(crate) struct Parts<'a> {
    pub(crate) n_rows: usize,
    /// The bytes up to the patterns, those of the places, and those of the numbers.
    key_bytes: &'a [u8],
    place_bytes: &'a [u8],
    number_bytes: &'a [u8],
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
    pub(crate) fn read(body: &'a [u8]) -> Decoded<Parts<'a>> {
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
        let key_bytes = &body[..body.len() - reader.len()];
        let patterns = read_patterns(&mut reader, n_rows)?;
        let start = reader.rest();
        let places = Places::read(&mut reader, n_rows, patterns.len())?;
        let place_bytes = &start[..start.len() - reader.len()];
        let start = reader.rest();
        let numbers = Stream::read(&mut reader, n_rows)?;
        let number_bytes = &start[..start.len() - reader.len()];
        let rest = reader;
        Ok(Parts {
            n_rows,
            key_bytes,
            place_bytes,
            number_bytes,
            keys,
            patterns,
            places,
            numbers,
            rest,
        })
    }

    /// The pattern of each row.
    fn all_places(&self) -> Decoded<[u8; MAX_BLOCK_ROWS]> {
        let mut all = [0; MAX_BLOCK_ROWS];
        let places = &mut all[..self.n_rows];
        match &self.places {
            Places::One => return Ok(all),
            Places::Packed { width, bytes } => {
                let packed = |row: usize| packed_at(bytes, *width, row) as u8;
                places.iter_mut().enumerate().for_each(|(row, place)| *place = packed(row));
            }
            Places::Runs(runs) => {
                let (mut reader, mut done) = (*runs, 0);
                while done < places.len() {
                    let (more, place) = (reader.number()?, reader.number()?);
                    let end = done + more as usize + 1;
                    places[done..end].fill(place.min(u64::from(u8::MAX)) as u8);
                    done = end;
                }
            }
        }
        match places.iter().all(|place| usize::from(*place) < self.patterns.len()) {
            true => Ok(all),
            false => Err(Corrupt("a pattern that is not there")),
        }
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
            let at = address(0);
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
}

/// Reads a block whose first key is `first`, row by row.
pub(crate) fn decode(first: &[u8], body: &[u8]) -> Decoded<Vec<BlockRow>> {
    let mut rows = Rows::default();
    decode_into(first, body, &mut rows)?;
    Ok((0..rows.len()).map(|i| rows.row(i)).collect())
}

/// Reads a block whose first key is `first`; `rows` are empty.
pub(crate) fn decode_into(first: &[u8], body: &[u8], rows: &mut Rows) -> Decoded<()> {
    debug_assert_eq!(rows.len(), 0);
    let parts = Parts::read(body)?;
    let (n_rows, patterns) = (parts.n_rows, &parts.patterns);
    decode_keys(first, &parts, rows)?;
    parts.numbers.each(n_rows, |_| 0, |_, number| rows.numbers.push(number))?;
    if let [only] = &parts.patterns[..] {
        return decode_alike(only, &parts, rows);
    }
    let places = &parts.all_places()?[..n_rows];
    let mut members = Members::default();
    members.sort(places, patterns.len());
    check_size(patterns.iter().enumerate().map(|(name, p)| (p, members.of(name).len())))?;
    let names: SmallVec<[u32; 4]> = patterns.iter().map(|p| rows.patterns.intern(p)).collect();
    let mut end = 0;
    for place in places {
        rows.places.push(names[usize::from(*place)]);
        end += patterns[usize::from(*place)].groups.len();
        rows.at_ends.push(end);
    }
    rows.at.resize(end, 0);
    let mut rest = parts.rest;
    for (name, pattern) in patterns.iter().enumerate() {
        decode_addresses(&mut rest, members.of(name), pattern.groups.len(), rows)?;
    }
    rest.end()
}

/// Reads the addresses of the rows of one pattern.
fn decode_addresses(
    rest: &mut Reader<'_>,
    members: &[u8],
    n_groups: usize,
    rows: &mut Rows,
) -> Decoded<()> {
    let Rows { at, at_ends, numbers, .. } = rows;
    for group in 0..n_groups {
        let stream = Stream::read(rest, members.len())?;
        stream.each(
            members.len(),
            |i| numbers[usize::from(members[i])],
            |i, value| at[at_ends[usize::from(members[i])] - n_groups + group] = value,
        )?;
    }
    Ok(())
}

/// Reads patterns and addresses where all rows have one pattern.
fn decode_alike(only: &RowClock, parts: &Parts<'_>, rows: &mut Rows) -> Decoded<()> {
    let (n_rows, n_groups) = (parts.n_rows, only.groups.len());
    check_size([(only, n_rows)].into_iter())?;
    let name = rows.patterns.intern(only);
    rows.places.resize(n_rows, name);
    rows.at_ends.extend((1..=n_rows).map(|i| i * n_groups));
    rows.at.resize(n_rows * n_groups, 0);
    let Rows { at, numbers, .. } = rows;
    let mut rest = parts.rest;
    for group in 0..n_groups {
        let stream = Stream::read(&mut rest, n_rows)?;
        stream.each(n_rows, |i| numbers[i], |i, value| at[i * n_groups + group] = value)?;
    }
    rest.end()
}

/// Refuses patterns, with how many rows have each, that would take much memory once each row
/// has a copy.
fn check_size<'a>(patterns: impl Iterator<Item = (&'a RowClock, usize)>) -> Decoded<()> {
    let (mut n_words, mut n_groups) = (0, 0);
    for (pattern, n_members) in patterns {
        let words: usize = pattern.groups.iter().map(|group| group.mask.words().len()).sum();
        n_words += words * n_members;
        n_groups += pattern.groups.len() * n_members;
    }
    if n_words > MAX_BLOCK_MASK_WORDS || n_groups > MAX_BLOCK_GROUPS {
        return Err(Corrupt("a block of too many columns"));
    }
    Ok(())
}

fn decode_keys(first: &[u8], parts: &Parts<'_>, rows: &mut Rows) -> Decoded<()> {
    rows.push_key(first);
    match &parts.keys {
        Keys::Numbers(stream) => {
            let base = as_number(first).ok_or(Corrupt("a number key that is not 8 bytes"))?;
            let (mut last, mut is_sorted) = (0, true);
            stream.each(
                parts.n_rows - 1,
                |_| 0,
                |_, beyond| {
                    is_sorted &= beyond > last && base.checked_add(beyond).is_some();
                    last = beyond;
                    rows.push_key(&base.wrapping_add(beyond).to_be_bytes());
                },
            )?;
            if !is_sorted {
                return Err(Corrupt("keys out of order"));
            }
        }
        Keys::Others(reader) => {
            let mut reader = *reader;
            for i in 1..parts.n_rows {
                let (shared, suffix) = read_key(&mut reader, rows.key(i - 1).len())?;
                rows.push_key_after(shared, suffix);
                if compare(rows.key(i), rows.key(i - 1)) != Ordering::Greater {
                    return Err(Corrupt("keys out of order"));
                }
            }
        }
    }
    Ok(())
}

/// The clock of one row of a block, without building the others.
pub(crate) fn find(first: &[u8], body: &[u8], key: &[u8]) -> Decoded<Option<RowClock>> {
    let parts = Parts::read(body)?;
    let Some(row) = find_key(first, &parts, key)? else { return Ok(None) };
    let places = &parts.all_places()?[..parts.n_rows];
    let place = usize::from(places[row]);
    let rank = places[..row].iter().filter(|other| usize::from(**other) == place).count();
    let mut counts: SmallVec<[usize; 4]> = SmallVec::from_elem(0, parts.patterns.len());
    places.iter().for_each(|place| counts[usize::from(*place)] += 1);
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

/// The last key of a block of number keys, if it is below `key`.
pub(crate) fn last_number_below(first: &[u8], body: &[u8], key: &[u8]) -> Decoded<Option<Key>> {
    if as_number(key).is_none() || as_number(first).is_none() {
        return Ok(None);
    }
    let parts = Parts::read(body)?;
    match parts.keys {
        Keys::Numbers(_) => Ok(Some(parts.last_key(first)?).filter(|last| last.as_slice() < key)),
        Keys::Others(_) => Ok(None),
    }
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
            found = stream.find_ascending(parts.n_rows - 1, wanted)?.map(|i| i + 1);
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
