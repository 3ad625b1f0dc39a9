//! One row of a user's table as a scan shows it, without an allocation for each value.

use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::value::ValueRef;
use smallvec::SmallVec;

use crate::base::{self, RowView};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::registry::TableInfo;

/// The values of a row, or that it is gone.
#[derive(Debug, Default)]
pub(super) struct RowImage {
    is_there: bool,
    /// Texts and blobs, one after the other.
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// The packed key as stored; filled in only for tables with spellings.
    pk: Vec<u8>,
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

impl RowImage {
    /// Reads the row with a folded key into this image, whatever was in it.
    pub(super) fn load(&mut self, cx: &Context, table: &Rc<TableInfo>, key: &[u8]) -> Result<()> {
        self.bytes.clear();
        self.slots.clear();
        self.pk.clear();
        let found = base::read_with(cx, table, key, |row| self.fill(table, row))?;
        self.is_there = found.is_some();
        found.unwrap_or(Ok(()))
    }

    fn fill(&mut self, table: &TableInfo, row: &RowView<'_>) -> Result<()> {
        for position in 0..table.columns.len() {
            let slot = self.keep(row.value(position));
            self.slots.push(slot);
        }
        if table.has_spellings {
            let values: SmallVec<[_; 4]> = (0..table.key.len()).map(|i| row.key(i)).collect();
            self.pk = pack(table, &values)?;
        }
        Ok(())
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

    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    /// The value at a position of [`TableInfo::columns`]; NULL if the row is gone.
    pub(super) fn value(&self, position: usize) -> ValueRef<'_> {
        match self.slots.get(position) {
            None | Some(Slot::Null) => ValueRef::Null,
            Some(Slot::Integer(integer)) => ValueRef::Integer(*integer),
            Some(Slot::Real(real)) => ValueRef::Real(*real),
            Some(Slot::Text(start, end)) => ValueRef::Text(&self.bytes[*start..*end]),
            Some(Slot::Blob(start, end)) => ValueRef::Blob(&self.bytes[*start..*end]),
        }
    }

    /// The packed key as stored, of a table with spellings whose row is there.
    pub(super) fn pk(&self) -> &[u8] {
        &self.pk
    }
}

fn pack(table: &TableInfo, values: &[ValueRef<'_>]) -> Result<Vec<u8>> {
    key::pack(values)
        .map_err(|error| StoreError::Refused(format!("a key of table {}: {error}", table.name)))
}
