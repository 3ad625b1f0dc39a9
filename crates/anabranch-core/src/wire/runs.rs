//! Run-length columns: `(count, value)*`, both varints, the counts at least 1 and their
//! sum known from elsewhere.
//!
//! With deltas, a value is the zigzag difference from the value before (0 at first), so
//! that a rising counter is one run as well.

use super::WireError;
use super::varint::{Reader, put_varint, unzigzag, zigzag};

/// Writes a run-length column.
#[derive(Clone, Debug, Default)]
pub(super) struct RunWriter {
    out: Vec<u8>,
    value: u64,
    count: u64,
    /// What a delta starts from.
    previous: u64,
}

impl RunWriter {
    pub(super) fn push(&mut self, value: u64) {
        if value != self.value || self.count == 0 {
            self.flush();
            self.value = value;
        }
        self.count += 1;
    }

    pub(super) fn push_delta(&mut self, value: u64) {
        let delta = value.wrapping_sub(self.previous);
        self.previous = value;
        self.push(zigzag(delta as i64));
    }

    fn flush(&mut self) {
        if self.count > 0 {
            put_varint(&mut self.out, self.count);
            put_varint(&mut self.out, self.value);
            self.count = 0;
        }
    }

    /// Bytes written so far; the run under way, at most 15 more, is not among them.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Appends the column and starts over.
    pub(super) fn finish_into(&mut self, out: &mut Vec<u8>) {
        self.flush();
        out.extend_from_slice(&self.out);
        self.clear();
    }

    /// Appends the column with its length before it and starts over.
    pub(super) fn finish_stretch_into(&mut self, out: &mut Vec<u8>) {
        self.flush();
        put_varint(out, self.out.len() as u64);
        self.finish_into(out);
    }

    fn clear(&mut self) {
        self.out.clear();
        (self.value, self.count, self.previous) = (0, 0, 0);
    }
}

/// Reads a run-length column of a stretch of its own, value by value.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunReader<'a> {
    input: Reader<'a>,
    value: u64,
    count: u64,
    previous: u64,
}

impl<'a> RunReader<'a> {
    pub(super) fn new(input: Reader<'a>) -> RunReader<'a> {
        RunReader { input, value: 0, count: 0, previous: 0 }
    }

    pub(super) fn next(&mut self, what: &'static str) -> Result<u64, WireError> {
        if self.count == 0 {
            self.count = self.input.varint(what)?;
            self.value = self.input.varint(what)?;
            if self.count == 0 {
                return Err(self.input.malformed(what));
            }
        }
        self.count -= 1;
        Ok(self.value)
    }

    pub(super) fn next_delta(&mut self, what: &'static str) -> Result<u64, WireError> {
        let delta = unzigzag(self.next(what)?);
        self.previous = self.previous.wrapping_add(delta as u64);
        Ok(self.previous)
    }

    /// The last run must be used up, and nothing may follow; the reader after it.
    pub(super) fn finish(&self, what: &'static str) -> Result<(), WireError> {
        if self.count > 0 {
            return Err(self.input.malformed(what));
        }
        self.input.finish(what)
    }
}
