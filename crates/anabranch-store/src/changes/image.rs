//! Rows of users' tables as a scan shows them: some at a time, in the order in which they
//! are shown, without an allocation for each value.

use std::ops::Range;

use anabranch_core::key;
use anabranch_core::value::ValueRef;
use smallvec::SmallVec;

use super::source::Chunk;
use crate::base::{RowReader, RowView};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::limits::{MAX_IMAGE_BYTES, MAX_IMAGES};
use crate::registry::TableInfo;

/// The rows of the next records of a chunk.
#[derive(Debug, Default)]
pub(super) struct RowImages {
    rows: Vec<Row>,
    /// Index into `rows` of the one last asked for.
    at: usize,
    held: Held,
    /// Rows to read next time: twice as many each time, for the first shall be shown soon.
    n_wanted: usize,
    /// Somebody looks at values; else only rows that are gone are of interest.
    has_values: bool,
    reader: RowReader,
}

/// A row that was read, or found missing.
#[derive(Debug)]
struct Row {
    /// Its record's place in the chunk.
    record: u32,
    is_there: bool,
    /// Index of its first value in the slots.
    first_slot: usize,
    /// Where its packed key as stored is; only of tables with spellings.
    pk: Range<usize>,
}

/// What the rows hold.
#[derive(Debug, Default)]
struct Held {
    slots: Vec<Slot>,
    /// Texts, blobs and keys, one after the other.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Null,
    Integer(i64),
    Real(f64),
    /// Where in `bytes` it starts and ends.
    Text(usize, usize),
    Blob(usize, usize),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowImage<'a> {
    row: &'a Row,
    held: &'a Held,
}

impl RowImages {
    /// Forgets all rows.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
        self.at = 0;
    }

    /// The row of an item of the chunk; `has_value`: its values are looked at, too.
    pub(super) fn of(
        &mut self,
        cx: &Context,
        chunk: &Chunk,
        item: usize,
        has_value: bool,
    ) -> Result<RowImage<'_>> {
        let record = chunk.items[item].record;
        let is = |row: Option<&Row>| row.is_some_and(|row| row.record == record);
        if has_value && !self.has_values {
            self.has_values = true;
            self.forget();
        }
        if !is(self.rows.get(self.at)) {
            self.at += 1;
            if !is(self.rows.get(self.at)) {
                self.load(cx, chunk, item)?;
            }
        }
        Ok(RowImage { row: &self.rows[self.at], held: &self.held })
    }

    /// Reads the row of an item and those of some items after it.
    fn load(&mut self, cx: &Context, chunk: &Chunk, item: usize) -> Result<()> {
        self.forget();
        self.held.slots.clear();
        self.held.bytes.clear();
        self.n_wanted = (self.n_wanted * 2).clamp(4, MAX_IMAGES);
        let table = &chunk.view(item).info;
        let wanted = wanted(chunk, item, self.n_wanted);
        let keys = wanted.iter().map(|record| chunk.rows[*record as usize].record.key.as_slice());
        let (rows, held, has_values) = (&mut self.rows, &mut self.held, self.has_values);
        self.reader.read(cx, table, keys, |row| {
            let (record, first_slot) = (wanted[rows.len()], held.slots.len());
            let is_there = row.is_some();
            let pk = row.map_or(Ok(0..0), |row| held.keep_row(table, row, has_values))?;
            rows.push(Row { record, is_there, first_slot, pk });
            Ok(held.bytes.len() < MAX_IMAGE_BYTES)
        })
    }
}

/// The records of an item and of those after it in the same table, of rows that are alive.
fn wanted(chunk: &Chunk, item: usize, most: usize) -> SmallVec<[u32; 8]> {
    let first = chunk.items[item].record;
    let table = chunk.rows[first as usize].record.table;
    let mut records = SmallVec::from_slice(&[first]);
    let mut last = first;
    for item in &chunk.items[item + 1..] {
        if item.record == last {
            continue;
        }
        last = item.record;
        let record = &chunk.rows[last as usize].record;
        if record.table != table || records.len() == most {
            break;
        }
        if record.causal_length % 2 == 1 {
            records.push(last);
        }
    }
    records
}

impl Held {
    /// Keeps what is asked of a row; where its packed key is.
    fn keep_row(
        &mut self,
        table: &TableInfo,
        row: &RowView<'_>,
        has_values: bool,
    ) -> Result<Range<usize>> {
        if has_values {
            for position in 0..table.columns.len() {
                let slot = self.keep(row.value(position));
                self.slots.push(slot);
            }
        }
        let start = self.bytes.len();
        if table.has_spellings {
            let values: SmallVec<[_; 4]> = (0..table.key.len()).map(|i| row.key(i)).collect();
            key::pack_into(&values, &mut self.bytes).map_err(|error| {
                StoreError::Refused(format!("a key of table {}: {error}", table.name))
            })?;
        }
        Ok(start..self.bytes.len())
    }

    fn keep(&mut self, value: ValueRef<'_>) -> Slot {
        let start = self.bytes.len();
        match value {
            ValueRef::Null => Slot::Null,
            ValueRef::Integer(integer) => Slot::Integer(integer),
            ValueRef::Real(real) => Slot::Real(real),
            ValueRef::Text(text) => {
                self.bytes.extend_from_slice(text);
                Slot::Text(start, self.bytes.len())
            }
            ValueRef::Blob(blob) => {
                self.bytes.extend_from_slice(blob);
                Slot::Blob(start, self.bytes.len())
            }
        }
    }
}

impl<'a> RowImage<'a> {
    pub(super) fn is_there(self) -> bool {
        self.row.is_there
    }

    /// The value at a position of [`TableInfo::columns`]; NULL if the row is gone.
    pub(super) fn value(self, position: usize) -> ValueRef<'a> {
        let bytes = &self.held.bytes;
        if !self.row.is_there {
            return ValueRef::Null;
        }
        match self.held.slots.get(self.row.first_slot + position) {
            None | Some(Slot::Null) => ValueRef::Null,
            Some(Slot::Integer(integer)) => ValueRef::Integer(*integer),
            Some(Slot::Real(real)) => ValueRef::Real(*real),
            Some(Slot::Text(start, end)) => ValueRef::Text(&bytes[*start..*end]),
            Some(Slot::Blob(start, end)) => ValueRef::Blob(&bytes[*start..*end]),
        }
    }

    /// The packed key as stored, of a table with spellings whose row is there.
    pub(super) fn pk(self) -> &'a [u8] {
        &self.held.bytes[self.row.pk.clone()]
    }
}
