//! Decoding an entry into runs; a record is put together when it is asked for.

use std::rc::Rc;

use super::superseded::{put_superseded, read_superseded};
use super::*;
use crate::buffer::Superseded;
use crate::ids::AuthorId;
use crate::limits::{MAX_ENTRY_KEY_BYTES, MAX_ENTRY_RECORDS};
use crate::metadata::branches::Branches;
use crate::metadata::key_code::read_key;
use crate::metadata::mask_code::read_mask;
use crate::metadata::stream::Stream;
use crate::metadata::varint::{Corrupt, Decoded, Reader, put};

/// Equal things up to, not with, the record `end`.
#[derive(Clone, Debug, PartialEq)]
struct Run<T> {
    end: u32,
    of: T,
}

fn of_run<T>(runs: &[Run<T>], index: u32) -> Option<&T> {
    if let [only] = runs {
        return Some(&only.of);
    }
    runs.get(runs.partition_point(|run| run.end <= index)).map(|run| &run.of)
}

#[derive(Clone, Debug, PartialEq)]
struct Op {
    kind: RecordKind,
    is_birth: bool,
    mask: Mask,
    /// First record, its first `seq`, and what each further one adds to it.
    start: u32,
    first_seq: u64,
    step: u64,
}

/// What an entry knows of a record's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyOf<'a> {
    Whole(&'a [u8]),
    Prefix(&'a [u8]),
}

/// An entry, decoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    n_records: u32,
    own_version: u64,
    /// Who is meant by author 0 and by ordinal 0.
    own: (AuthorId, Ordinal),
    /// What changes are called that are named here; `None`: what is written.
    branches: Option<Rc<Branches>>,
    dbv: u64,
    ops: Vec<Run<Op>>,
    dots: Vec<Run<LocalDot>>,
    origins: Vec<Run<Ordinal>>,
    arrivals: Vec<Run<u64>>,
    keys: Vec<u8>,
    /// Where each key stands in `keys`; equal neighbours share their place.
    key_places: Vec<(u32, u32)>,
    /// Which keys are prefixes; empty: none.
    prefixes: Vec<bool>,
    /// Superseded cells by index of the record that superseded them.
    pub(crate) superseded: Vec<(u32, Superseded)>,
}

impl Entry {
    /// Says who this copy was when it wrote the entry.
    pub(crate) fn written_as(&mut self, author: AuthorId, ordinal: Ordinal) {
        self.own = (author, ordinal);
    }

    /// Says that changes which are named here have other names.
    pub(crate) fn renamed_by(&mut self, branches: Rc<Branches>) {
        self.branches = Some(branches);
    }

    /// Number of records.
    pub(crate) fn len(&self) -> u32 {
        self.n_records
    }

    /// A record without its key.
    pub(crate) fn stamp(&self, index: u32) -> Option<Stamp<'_>> {
        let op = of_run(&self.ops, index).filter(|_| index < self.n_records)?;
        let own = LocalDot { author: AuthorId(0), version: self.own_version };
        let mut dot = of_run(&self.dots, index).copied().unwrap_or(own);
        let mut origin = of_run(&self.origins, index).copied().unwrap_or(Ordinal(0));
        if dot.author == AuthorId(0) {
            dot.author = self.own.0;
        }
        if let Some(branches) = &self.branches {
            branches.rename(&mut dot);
        }
        if origin == Ordinal(0) {
            origin = self.own.1;
        }
        Some(Stamp {
            kind: op.kind,
            is_birth: op.is_birth,
            mask: &op.mask,
            first_seq: op.first_seq.wrapping_add(op.step.wrapping_mul(u64::from(index - op.start))),
            dot,
            origin,
            db_version: of_run(&self.arrivals, index).copied().unwrap_or(self.dbv),
        })
    }

    /// The key of a record, as far as the entry has it.
    ///
    /// # Panics
    /// At or beyond the number of records.
    pub(crate) fn key(&self, index: u32) -> KeyOf<'_> {
        let index = index as usize;
        let (start, end) = self.key_places[index];
        let bytes = &self.keys[start as usize..end as usize];
        match self.prefixes.get(index) {
            Some(true) => KeyOf::Prefix(bytes),
            _ => KeyOf::Whole(bytes),
        }
    }

    /// Least and greatest `(db_version, seq)` of its records.
    pub(crate) fn span(&self) -> ((u64, u64), (u64, u64)) {
        let (mut first, mut last) = ((u64::MAX, u64::MAX), (0, 0));
        // Inside an op run the seqs ascend or stand, so its ends say all; where arrivals
        // change inside a run, their own ends do.
        let ends = self.ops.iter().map(|run| run.end).chain(self.arrivals.iter().map(|r| r.end));
        let edges = ends.flat_map(|end| [end.wrapping_sub(1), end]).chain([0]);
        for stamp in edges.filter_map(|index| self.stamp(index)) {
            let n_more = u64::from(stamp.mask.len().saturating_sub(1));
            first = first.min((stamp.db_version, stamp.first_seq));
            last = last.max((stamp.db_version, stamp.first_seq.wrapping_add(n_more)));
        }
        (first, last)
    }
}

/// Reads a body: `head_version` is that of the row's head if it is this copy's, `dbv` the
/// row's.
pub(crate) fn decode(body: &[u8], head_version: u64, dbv: u64) -> Decoded<Entry> {
    let mut reader = Reader::new(body);
    let mut entry = read_records(&mut reader, head_version, dbv)?;
    while reader.len() > 0 {
        check_tag(reader.byte()?, TAG_SUPERSEDED)?;
        entry.superseded.extend(read_superseded(&mut reader, entry.n_records as usize)?);
    }
    Ok(entry)
}

/// The body of an entry whose row loses its head, with `own_version`, which the head said, and
/// without the superseded cells that `is_kept` does not choose by their place.
pub(crate) fn strip(
    body: &[u8],
    own_version: Option<u64>,
    is_kept: impl Fn(usize) -> bool,
) -> Decoded<Vec<u8>> {
    let mut reader = Reader::new(body);
    let entry = read_records(&mut reader, 0, u64::MAX)?;
    let records = &body[..body.len() - reader.len()];
    let mut out = Vec::with_capacity(body.len() + 10);
    let mut start = Reader::new(records);
    let form = read_form(&mut start)?;
    match own_version.filter(|_| form & HAS_VERSION == 0) {
        None => out.extend_from_slice(records),
        Some(version) => {
            if form & IS_SINGLE == 0 {
                start.number32()?;
                start.number()?;
            }
            let before = records.len() - start.len();
            let at_form = usize::from(form & IS_SINGLE == 0);
            out.extend_from_slice(&records[..before]);
            out[at_form] |= HAS_VERSION;
            put(&mut out, version);
            out.extend_from_slice(&records[before..]);
        }
    }
    let mut cells = Vec::new();
    while reader.len() > 0 {
        check_tag(reader.byte()?, TAG_SUPERSEDED)?;
        cells.extend(read_superseded(&mut reader, entry.n_records as usize)?);
    }
    let mut place = 0;
    cells.retain(|_| {
        place += 1;
        is_kept(place - 1)
    });
    if !cells.is_empty() {
        put_superseded(&mut out, &cells);
    }
    Ok(out)
}

/// Reads the records, up to the first section that follows them.
fn read_records(reader: &mut Reader<'_>, head_version: u64, dbv: u64) -> Decoded<Entry> {
    let form = read_form(reader)?;
    let (n_records, first_seq) = match form & IS_SINGLE {
        0 => (reader.number32()?, reader.number()?),
        _ => (1, 0),
    };
    if n_records == 0 || n_records as usize > MAX_ENTRY_RECORDS {
        return Err(Corrupt("an entry of too many records, or none"));
    }
    let own_version = if form & HAS_VERSION != 0 { reader.number()? } else { head_version };
    let ops = read_runs(reader, n_records, 3, |reader, bits| {
        Ok((kind_of(bits), bits & 4 != 0, read_mask(reader)?))
    })?;
    let seqs = if form & HAS_SEQS != 0 { read_seqs(reader)? } else { Vec::new() };
    let ops = place_ops(ops, &seqs, first_seq, n_records)?;
    let mut entry = Entry {
        n_records,
        own_version,
        own: (AuthorId(0), Ordinal(0)),
        branches: None,
        dbv,
        ops,
        dots: Vec::new(),
        origins: Vec::new(),
        arrivals: Vec::new(),
        keys: Vec::new(),
        key_places: Vec::new(),
        prefixes: Vec::new(),
        superseded: Vec::new(),
    };
    if form & HAS_DOTS != 0 {
        entry.dots = read_runs(reader, n_records, 0, |reader, _| {
            Ok(LocalDot { author: AuthorId(reader.number32()?), version: reader.number()? })
        })?;
    }
    if form & HAS_ORIGINS != 0 {
        entry.origins =
            read_runs(reader, n_records, 0, |reader, _| Ok(Ordinal(reader.number32()?)))?;
    }
    if form & HAS_ARRIVALS != 0 {
        entry.arrivals = read_runs(reader, n_records, 0, |reader, _| {
            let below = reader.number()?;
            dbv.checked_sub(below).ok_or(Corrupt("a db_version below zero"))
        })?;
    }
    entry.read_keys(reader, form & KEYS)?;
    Ok(entry)
}

/// The `seq` of the first record, from the first 32 bytes of a body; `None` if its records
/// have several `db_version`s, or do not follow each other in `seq`.
pub(crate) fn first_seq(body: &[u8]) -> Decoded<Option<u64>> {
    let mut reader = Reader::new(body);
    let form = read_form(&mut reader)?;
    let first_seq = match form & IS_SINGLE {
        0 => {
            reader.number32()?;
            reader.number()?
        }
        _ => 0,
    };
    Ok((form & (HAS_ARRIVALS | HAS_SEQS) == 0).then_some(first_seq))
}

/// The tag, unless the form says that there is none, and the form.
fn read_form(reader: &mut Reader<'_>) -> Decoded<u8> {
    let first = reader.byte()?;
    if first & IS_SINGLE != 0 {
        return Ok(first);
    }
    check_tag(first, TAG_RECORDS)?;
    let form = reader.byte()?;
    if form & IS_SINGLE != 0 || form & KEYS == KEYS_REST {
        return Err(Corrupt("an entry of unknown form"));
    }
    Ok(form)
}

fn check_tag(tag: u8, expected: u8) -> Decoded<()> {
    if tag == expected {
        return Ok(());
    }
    let reserved = RESERVED.iter().find(|(reserved, _)| *reserved == tag);
    Err(Corrupt(reserved.map_or("a section of unknown tag", |(_, name)| name)))
}

fn kind_of(bits: u64) -> RecordKind {
    match bits & 3 {
        0 => RecordKind::Insert,
        1 => RecordKind::Update,
        2 => RecordKind::Delete,
        _ => RecordKind::Merged,
    }
}

/// Reads runs until they cover `n` records: a number whose low `n_bits` bits are handed to
/// `read`, the rest is the count less one.
fn read_runs<'a, T>(
    reader: &mut Reader<'a>,
    n: u32,
    n_bits: u32,
    mut read: impl FnMut(&mut Reader<'a>, u64) -> Decoded<T>,
) -> Decoded<Vec<Run<T>>> {
    let (mut runs, mut end) = (Vec::new(), 0);
    while end < n {
        let head = reader.number()?;
        let more = head >> n_bits;
        if more >= u64::from(n - end) {
            return Err(Corrupt("runs longer than their records"));
        }
        end += more as u32 + 1;
        runs.push(Run { end, of: read(reader, head & ((1 << n_bits) - 1))? });
    }
    Ok(runs)
}

/// Where the `seq`s deviate: `(first record, records, extra)`.
fn read_seqs(reader: &mut Reader<'_>) -> Decoded<Vec<(u64, u64, i64)>> {
    let mut seqs = Vec::new();
    let mut at = 0u64;
    for _ in 0..reader.count()? {
        let (skipped, more, extra) = (reader.number()?, reader.number()?, reader.signed()?);
        if skipped > MAX_ENTRY_RECORDS as u64 || more > MAX_ENTRY_RECORDS as u64 {
            return Err(Corrupt("runs longer than their records"));
        }
        at += skipped;
        seqs.push((at, more + 1, extra));
        at += more + 1;
    }
    Ok(seqs)
}

/// Cuts op runs where the `seq`s change their pace, and numbers them.
fn place_ops(
    ops: Vec<Run<(RecordKind, bool, Mask)>>,
    seqs: &[(u64, u64, i64)],
    first_seq: u64,
    n_records: u32,
) -> Decoded<Vec<Run<Op>>> {
    if seqs.last().is_some_and(|(at, count, _)| at + count > u64::from(n_records)) {
        return Err(Corrupt("runs longer than their records"));
    }
    let mut placed = Vec::with_capacity(ops.len());
    let (mut start, mut next_seq, mut seqs) = (0u32, first_seq, seqs.iter().peekable());
    for Run { end, of: (kind, is_birth, mask) } in ops {
        let n_columns = u64::from(mask.len());
        while start < end {
            while seqs.next_if(|(at, count, _)| at + count <= u64::from(start)).is_some() {}
            let (cut, extra) = match seqs.peek() {
                Some((at, count, extra)) if *at <= u64::from(start) => (at + count, *extra as u64),
                Some((at, ..)) => (*at, 0),
                None => (u64::from(end), 0),
            };
            let cut = cut.min(u64::from(end)) as u32;
            let first_seq = next_seq.wrapping_add(extra);
            let step = n_columns.wrapping_add(extra);
            let op = Op { kind, is_birth, mask: mask.clone(), start, first_seq, step };
            placed.push(Run { end: cut, of: op });
            next_seq = next_seq.wrapping_add(step.wrapping_mul(u64::from(cut - start)));
            start = cut;
        }
    }
    Ok(placed)
}

impl Entry {
    fn read_keys(&mut self, reader: &mut Reader<'_>, form: u8) -> Decoded<()> {
        let n = self.n_records as usize;
        if form == KEYS_NUMBERS {
            let stream = Stream::read(reader, n)?;
            self.keys.reserve(n * 8);
            stream.each(
                n,
                |_| 0,
                |_, number| {
                    self.keys.extend_from_slice(&(number ^ 1 << 63).to_be_bytes());
                },
            )?;
            self.key_places.extend((0..n as u32).map(|i| (i * 8, i * 8 + 8)));
            return Ok(());
        }
        if form == KEYS_REST {
            let len = reader.len();
            let end = u32::try_from(len).map_err(|_| Corrupt("keys beyond 4 GiB"))?;
            self.keys.extend_from_slice(reader.take(len)?);
            self.key_places.push((0, end));
            return Ok(());
        }
        let (mut start, mut end) = (0, 0);
        for _ in 0..n {
            let (shared, suffix) = read_key(reader, end - start)?;
            if shared < end - start || !suffix.is_empty() || end == 0 {
                if self.keys.len() > MAX_ENTRY_KEY_BYTES {
                    return Err(Corrupt("an entry of too many bytes of keys"));
                }
                let needed = shared + suffix.len();
                self.keys.try_reserve(needed).map_err(|_| Corrupt("keys beyond memory"))?;
                let from = start;
                start = self.keys.len();
                self.keys.extend_from_within(from..from + shared);
                self.keys.extend_from_slice(suffix);
                end = self.keys.len();
            }
            let place = (u32::try_from(start), u32::try_from(end));
            let (Ok(start), Ok(end)) = place else {
                return Err(Corrupt("keys beyond 4 GiB"));
            };
            self.key_places.push((start, end));
        }
        if form == KEYS_PREFIXES {
            self.prefixes = vec![true; n];
            let mut next = 0usize;
            for _ in 0..reader.count()? {
                let index = next.saturating_add(reader.number()? as usize);
                let prefix = self.prefixes.get_mut(index);
                *prefix.ok_or(Corrupt("a whole key of no record"))? = false;
                next = index + 1;
            }
        }
        Ok(())
    }
}
