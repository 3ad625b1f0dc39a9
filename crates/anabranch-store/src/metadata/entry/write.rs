//! Encoding an entry, record by record.

use smallvec::SmallVec;

use super::superseded::put_superseded;
use super::*;
use crate::buffer::Superseded;
use crate::ids::AuthorId;
use crate::metadata::key_code::{as_number, put_key};
use crate::metadata::mask_code::put_mask;
use crate::metadata::stream::put_stream;
use crate::metadata::varint::{put, put_signed};

/// Equal things in a row.
#[derive(Clone, Debug)]
struct Run<T> {
    count: u64,
    of: T,
}

/// Nearly always one: that of one row needs no memory of its own.
type Runs<T> = SmallVec<[Run<T>; 1]>;

/// Appends to runs.
fn extend<T: PartialEq>(runs: &mut Runs<T>, of: T, count: u64) {
    match runs.last_mut() {
        Some(run) if run.of == of => run.count += count,
        _ => runs.push(Run { count, of }),
    }
}

/// What an op run says of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Op {
    kind: RecordKind,
    is_birth: bool,
    mask: Mask,
}

/// An entry that is being made.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    n_records: usize,
    n_keys: usize,
    first_seq: u64,
    /// `seq` that the next record has if none is consumed between.
    next_seq: u64,
    ops: Runs<Op>,
    seqs: Runs<i64>,
    dots: Runs<LocalDot>,
    origins: Runs<Ordinal>,
    arrivals: Runs<u64>,
    /// Keys while all are whole and of eight bytes.
    numbers: Vec<u64>,
    /// Keys or prefixes, one after the other; where each stands.
    keys: Vec<u8>,
    places: Vec<(usize, usize)>,
    /// Records whose key is not cut to a prefix.
    whole: Vec<u64>,
    are_numbers: bool,
    superseded: Vec<(u32, Superseded)>,
}

impl Writer {
    /// Number of records so far.
    pub(crate) fn len(&self) -> usize {
        self.n_records
    }

    /// Adds a record; its key is kept up to `key_len` bytes.
    pub(crate) fn push(&mut self, stamp: &Stamp<'_>, key: &[u8], key_len: usize) {
        self.push_stamps(stamp, 1, 0);
        self.push_key_of(key, key_len);
    }

    /// Adds `n` records, at least one, that are all like `stamp`; before each of them but the
    /// first so many `seq`s are consumed. Their keys must follow, each by itself.
    pub(crate) fn push_stamps(&mut self, stamp: &Stamp<'_>, n: usize, skipped: u64) {
        let count = n as u64;
        if self.n_keys == 0 {
            self.first_seq = stamp.first_seq;
            self.next_seq = stamp.first_seq;
            self.are_numbers = true;
        }
        match self.ops.last_mut() {
            Some(run)
                if run.of.kind == stamp.kind
                    && run.of.is_birth == stamp.is_birth
                    && run.of.mask == *stamp.mask =>
            {
                run.count += count;
            }
            _ => {
                let (kind, is_birth, mask) = (stamp.kind, stamp.is_birth, stamp.mask.clone());
                self.ops.push(Run { count, of: Op { kind, is_birth, mask } });
            }
        }
        let n_columns = u64::from(stamp.mask.len());
        extend(&mut self.seqs, stamp.first_seq.wrapping_sub(self.next_seq) as i64, 1);
        if n > 1 {
            extend(&mut self.seqs, skipped as i64, count - 1);
        }
        let beyond = n_columns + (n_columns + skipped) * (count - 1);
        self.next_seq = stamp.first_seq.wrapping_add(beyond);
        extend(&mut self.dots, stamp.dot, count);
        extend(&mut self.origins, stamp.origin, count);
        extend(&mut self.arrivals, stamp.db_version, count);
        self.n_records += n;
    }

    /// Adds the key of the next record that has none, up to `key_len` bytes of it.
    #[inline]
    pub(crate) fn push_key_of(&mut self, key: &[u8], key_len: usize) {
        match as_number(key).filter(|_| self.are_numbers && key_len >= 8) {
            Some(number) => self.numbers.push(number),
            None => self.push_other(key, key_len),
        }
        self.n_keys += 1;
    }

    /// Adds a key that is no number, or follows one that is none.
    fn push_other(&mut self, key: &[u8], key_len: usize) {
        if self.are_numbers {
            self.are_numbers = false;
            for (i, number) in std::mem::take(&mut self.numbers).into_iter().enumerate() {
                self.whole.push(i as u64);
                self.push_key(&number.to_be_bytes());
            }
        }
        if key_len >= key.len() {
            self.whole.push(self.n_keys as u64);
        }
        self.push_key(&key[..key_len.min(key.len())]);
    }

    fn push_key(&mut self, key: &[u8]) {
        // Cells of one row come one after the other, and its key may be long.
        if let Some((start, end)) = self.places.last()
            && key.len() != 8
            && self.keys[*start..*end] == *key
        {
            return self.places.push((*start, *end));
        }
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        self.places.push((start, self.keys.len()));
    }

    /// Notes a cell that does not stand, beside the record added last, whose key is whole.
    pub(crate) fn supersede(&mut self, cell: Superseded) {
        debug_assert_eq!(self.n_keys, self.n_records);
        debug_assert!(self.are_numbers || self.whole.last() == Some(&(self.n_records as u64 - 1)));
        self.superseded.push((self.n_records as u32 - 1, cell));
    }

    /// Largest `db_version` of a record.
    pub(crate) fn newest(&self) -> u64 {
        self.arrivals.iter().map(|run| run.of).max().unwrap_or(0)
    }

    /// The bytes, and back to empty. `own_version`: of this copy's change that writes it;
    /// `states_version`: the row has no head that says so.
    pub(crate) fn finish(&mut self, own_version: u64, states_version: bool, dbv: u64) -> Vec<u8> {
        debug_assert_eq!(self.n_keys, self.n_records);
        let own = LocalDot { author: AuthorId(0), version: own_version };
        let are_whole = self.whole.len() == self.n_records;
        let is_single = self.n_records == 1 && self.first_seq == 0;
        let keys = match (self.are_numbers, are_whole) {
            (true, _) => KEYS_NUMBERS,
            (false, true) if is_single && self.superseded.is_empty() => KEYS_REST,
            (false, true) => KEYS_WHOLE,
            (false, false) => KEYS_PREFIXES,
        };
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let form = keys
            | bit(states_version, HAS_VERSION)
            | bit(self.seqs.iter().any(|run| run.of != 0), HAS_SEQS)
            | bit(self.dots.iter().any(|run| run.of != own), HAS_DOTS)
            | bit(self.origins.iter().any(|run| run.of.0 != 0), HAS_ORIGINS)
            | bit(self.arrivals.iter().any(|run| run.of != dbv), HAS_ARRIVALS)
            | bit(is_single, IS_SINGLE);
        let mut out = Vec::with_capacity(self.keys.len() + 64);
        if is_single {
            out.push(form);
        } else {
            out.extend([TAG_RECORDS, form]);
            put(&mut out, self.n_records as u64);
            put(&mut out, self.first_seq);
        }
        if states_version {
            put(&mut out, own_version);
        }
        self.put_runs(&mut out, form, dbv);
        self.put_keys(&mut out, keys);
        if !self.superseded.is_empty() {
            put_superseded(&mut out, &self.superseded);
        }
        *self = Writer::default();
        out
    }

    fn put_runs(&self, out: &mut Vec<u8>, form: u8, dbv: u64) {
        for Run { count, of } in &self.ops {
            let birth = u64::from(of.is_birth) << 2;
            put(out, (count - 1) << 3 | birth | kind_bits(of.kind));
            put_mask(out, &of.mask);
        }
        if form & HAS_SEQS != 0 {
            self.put_seqs(out);
        }
        if form & HAS_DOTS != 0 {
            for Run { count, of } in &self.dots {
                put(out, count - 1);
                put(out, u64::from(of.author.0));
                put(out, of.version);
            }
        }
        if form & HAS_ORIGINS != 0 {
            for Run { count, of } in &self.origins {
                put(out, count - 1);
                put(out, u64::from(of.0));
            }
        }
        if form & HAS_ARRIVALS != 0 {
            for Run { count, of } in &self.arrivals {
                put(out, count - 1);
                put(out, dbv - of);
            }
        }
    }

    fn put_seqs(&self, out: &mut Vec<u8>) {
        put(out, self.seqs.iter().filter(|run| run.of != 0).count() as u64);
        let mut skipped = 0;
        for Run { count, of } in &self.seqs {
            if *of == 0 {
                skipped = *count;
                continue;
            }
            put(out, skipped);
            put(out, count - 1);
            put_signed(out, *of);
            skipped = 0;
        }
    }

    fn put_keys(&self, out: &mut Vec<u8>, form: u8) {
        if form == KEYS_NUMBERS {
            let numbers: Vec<u64> = self.numbers.iter().map(|number| number ^ 1 << 63).collect();
            return put_stream(out, &numbers, None);
        }
        if form == KEYS_REST {
            return out.extend_from_slice(&self.keys);
        }
        let mut before: &[u8] = &[];
        for (start, end) in &self.places {
            let key = &self.keys[*start..*end];
            put_key(out, before, key);
            before = key;
        }
        if form == KEYS_PREFIXES {
            put(out, self.whole.len() as u64);
            let mut next = 0;
            for index in &self.whole {
                put(out, index - next);
                next = index + 1;
            }
        }
    }
}

fn kind_bits(kind: RecordKind) -> u64 {
    match kind {
        RecordKind::Insert => 0,
        RecordKind::Update => 1,
        RecordKind::Delete => 2,
        RecordKind::Merged => 3,
    }
}
