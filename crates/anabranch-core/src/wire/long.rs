//! A row too large for a part: its description first, then its bytes in chunks.
//!
//! ```text
//! name; n_columns, names; causal length; key length
//! n_births, each: site, version, origin
//! n_cells, each: column, version, dot site, dot version, origin, type, then
//!     INTEGER zigzag; REAL 8 bytes; TEXT, BLOB length
//! chunks: the bytes of the key, then of each text and blob, in order, cut anywhere
//! ```

use std::collections::VecDeque;

use super::WireError;
use super::columns::{BLOB, INTEGER, NULL, REAL, TEXT, read_real, site_index, type_code};
use super::rows::{Counts, put_names, read_names};
use super::varint::{Reader, put_varint, room, unzigzag, zigzag};
use crate::delta::{Birth, CellDelta, DeltaDot, RowDelta, TableDelta};
use crate::limits::{MAX_PART_BIRTHS, MAX_ROW_BYTES};
use crate::value::{Value, ValueRef};

/// The description of a row.
pub(super) fn describe(name: &str, columns: &[String], row: &RowDelta) -> Vec<u8> {
    let mut out = Vec::new();
    put_names(&mut out, name, columns);
    put_varint(&mut out, row.causal_length);
    put_varint(&mut out, row.key.len() as u64);
    put_varint(&mut out, row.births.len() as u64);
    for birth in &row.births {
        put_varint(&mut out, u64::from(birth.dot.site.0));
        put_varint(&mut out, birth.dot.version);
        put_varint(&mut out, u64::from(birth.origin.0));
    }
    put_varint(&mut out, row.cells.len() as u64);
    for cell in &row.cells {
        describe_cell(&mut out, cell);
    }
    out
}

fn describe_cell(out: &mut Vec<u8>, cell: &CellDelta) {
    put_varint(out, u64::from(cell.column));
    put_varint(out, cell.version);
    put_varint(out, u64::from(cell.dot.site.0));
    put_varint(out, cell.dot.version);
    put_varint(out, u64::from(cell.origin.0));
    let value = cell.value.as_ref();
    let code = type_code(value);
    put_varint(out, code);
    match value {
        ValueRef::Integer(integer) => put_varint(out, zigzag(integer)),
        ValueRef::Real(real) if code == REAL => out.extend_from_slice(&real.to_le_bytes()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => put_varint(out, bytes.len() as u64),
        ValueRef::Null | ValueRef::Real(_) => {}
    }
}

/// The stretches of bytes that follow a description, in order.
pub(super) fn contents(row: &RowDelta) -> impl Iterator<Item = &[u8]> {
    let values = row.cells.iter().filter_map(|cell| match &cell.value {
        Value::Text(bytes) | Value::Blob(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    std::iter::once(row.key.as_slice()).chain(values)
}

/// A long row that is being read: described, its bytes still coming.
#[derive(Clone, Debug)]
pub(super) struct LongRow {
    table: TableDelta,
    row: RowDelta,
    /// What is still empty or half full, in order: the key or a cell, and bytes missing.
    missing: VecDeque<(Place, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Key,
    Cell(usize),
}

impl LongRow {
    pub(super) fn read(mut section: Reader<'_>, counts: &mut Counts) -> Result<LongRow, WireError> {
        let table = read_names(&mut section, counts)?;
        let causal_length = section.varint("causal length")?;
        let mut n_left = MAX_ROW_BYTES;
        let n_key_bytes = read_length(&mut section, &mut n_left)?;
        let mut missing = VecDeque::from([(Place::Key, n_key_bytes)]);
        let n_births = section.count("births", MAX_PART_BIRTHS)?;
        let mut births = room(n_births.min(section.len()))?;
        for _ in 0..n_births {
            let dot = read_dot(&mut section)?;
            births.push(Birth { dot, origin: site_index(section.varint("origin of a birth")?) });
        }
        let n_cells = section.count("cells", table.columns.len())?;
        let mut cells: Vec<CellDelta> = room(n_cells.min(section.len()))?;
        for index in 0..n_cells {
            let (cell, n_bytes) = read_cell(&mut section, &mut n_left)?;
            cells.push(cell);
            missing.extend(n_bytes.map(|n_bytes| (Place::Cell(index), n_bytes)));
        }
        section.finish("bytes after a long row")?;
        let row = RowDelta { key: Vec::new(), causal_length, births, cells };
        Ok(LongRow { table, row, missing })
    }

    /// Takes the next bytes of the row.
    pub(super) fn fill(&mut self, section: Reader<'_>) -> Result<(), WireError> {
        let mut bytes = section;
        while let Some((place, n_missing)) = self.missing.front_mut() {
            let len = usize::try_from(*n_missing).unwrap_or(usize::MAX).min(bytes.len());
            let taken = bytes.take(len, "chunk")?;
            let target = match place {
                Place::Key => &mut self.row.key,
                Place::Cell(index) => match &mut self.row.cells[*index].value {
                    Value::Text(target) | Value::Blob(target) => target,
                    _ => unreachable!("only texts and blobs have bytes to come"),
                },
            };
            target.try_reserve(len).map_err(|_| WireError::OutOfMemory)?;
            target.extend_from_slice(taken);
            *n_missing -= len as u64;
            if *n_missing > 0 {
                break;
            }
            self.missing.pop_front();
        }
        bytes.finish("bytes of a chunk beyond its row")
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// The row in a table of its own.
    pub(super) fn finish(mut self) -> TableDelta {
        assert!(self.is_complete(), "the caller waits for the last chunk");
        self.table.rows.push(self.row);
        self.table
    }
}

fn read_length(section: &mut Reader<'_>, n_left: &mut u64) -> Result<u64, WireError> {
    let found = section.varint("length of a value")?;
    let Some(rest) = n_left.checked_sub(found) else {
        return Err(WireError::OverLimit { what: "bytes of a row", found, limit: MAX_ROW_BYTES });
    };
    *n_left = rest;
    Ok(found)
}

fn read_dot(section: &mut Reader<'_>) -> Result<DeltaDot, WireError> {
    let site = site_index(section.varint("site of a dot")?);
    Ok(DeltaDot { site, version: section.varint("version of a dot")? })
}

/// A cell without its bytes, and how many of them are to come if it has such.
fn read_cell(
    section: &mut Reader<'_>,
    n_left: &mut u64,
) -> Result<(CellDelta, Option<u64>), WireError> {
    let column = section.index("column of a cell", crate::limits::MAX_COLUMNS)?;
    let version = section.varint("column version")?;
    let dot = read_dot(section)?;
    let origin = site_index(section.varint("origin")?);
    let mut n_bytes = None;
    let value = match section.varint("type of a value")? {
        NULL => Value::Null,
        INTEGER => Value::Integer(unzigzag(section.varint("integer")?)),
        REAL => Value::Real(read_real(section)?),
        code @ (TEXT | BLOB) => {
            n_bytes = Some(read_length(section, n_left)?);
            if code == TEXT { Value::Text(Vec::new()) } else { Value::Blob(Vec::new()) }
        }
        _ => return Err(WireError::Unsupported { what: "a value of an unknown type" }),
    };
    Ok((CellDelta { column, version, dot, origin, value }, n_bytes))
}
