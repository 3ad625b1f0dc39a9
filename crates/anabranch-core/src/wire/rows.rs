//! The rows of one table, by column.
//!
//! ```text
//! name; n_columns, names
//! n_rows; key mode; keys
//! causal lengths: run-length          (each of these columns in a stretch)
//! births of each row: run-length
//! births: sites run-length, versions run-length deltas, origins run-length
//! shapes, until n_rows: rows in a row, n_cells, columns as ascending differences
//! for each named column: its cells (`columns.rs`), rows in order
//! key mode 0: bytes shared with the key before, bytes that follow, those
//! key mode 1: keys of one INTEGER each, packed minimally: zigzag deltas
//! ```
//!
//! The first difference of a shape is the column itself, each other one the distance to
//! the column before, less 1.

use super::WireError;
use super::columns::{COLUMN_BYTES, ColumnReader, ColumnWriter, MAX_CELL_BYTES, site_index};
use super::headers::spend;
use super::runs::{RunReader, RunWriter};
use super::varint::{Reader, copied_text, put_bytes, put_varint, room, unzigzag, zigzag};
use crate::delta::{Birth, DeltaDot, RowDelta, TableDelta};
use crate::key::pack;
use crate::limits::{
    MAX_COLUMNS, MAX_NAME_BYTES, MAX_PART_BIRTHS, MAX_PART_CELLS, MAX_PART_COLUMNS, MAX_PART_ROWS,
    MAX_PART_TABLES,
};
use crate::value::{Value, ValueRef};

const KEYS_SHARED: u8 = 0;
const KEYS_INTEGER: u8 = 1;

/// Most bytes that a row adds besides its key, births and cells.
const ROW_BYTES: usize = 64;
/// Most bytes of a birth, and of a column in a shape.
const BIRTH_BYTES: usize = 40;
const SHAPE_CELL_BYTES: usize = 3;

/// Most bytes that this row adds to a section.
pub(super) fn row_bytes(row: &RowDelta) -> usize {
    let cells = row.cells.len() * (MAX_CELL_BYTES + SHAPE_CELL_BYTES);
    ROW_BYTES + row.births.len() * BIRTH_BYTES + cells + content_bytes(row)
}

/// Bytes of the key, texts and blobs.
pub(super) fn content_bytes(row: &RowDelta) -> usize {
    let values = row.cells.iter().map(|cell| match &cell.value {
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
        _ => 0,
    });
    row.key.len() + values.sum::<usize>()
}

/// Most bytes of a section without rows.
pub(super) fn table_bytes(name: &str, columns: &[String]) -> usize {
    let names: usize = columns.iter().map(|column| column.len() + 3 + COLUMN_BYTES).sum();
    256 + name.len() + names
}

/// Writes a table's name and its columns' names.
pub(super) fn put_names(out: &mut Vec<u8>, name: &str, columns: &[String]) {
    put_bytes(out, name.as_bytes());
    put_varint(out, columns.len() as u64);
    columns.iter().for_each(|column| put_bytes(out, column.as_bytes()));
}

/// Collects the rows of one table for one section.
#[derive(Clone, Debug, Default)]
pub(super) struct RowWriter {
    n_rows: usize,
    keys: KeyWriter,
    causal_lengths: RunWriter,
    birth_counts: RunWriter,
    birth_sites: RunWriter,
    birth_versions: RunWriter,
    birth_origins: RunWriter,
    n_births: usize,
    shapes: ShapeWriter,
    columns: Vec<ColumnWriter>,
    n_cells: usize,
    /// Bytes of all columns so far.
    column_bytes: usize,
}

impl RowWriter {
    /// Makes room for a table of this many columns; nothing may be pending.
    pub(super) fn open(&mut self, n_columns: usize) {
        debug_assert_eq!(self.n_rows, 0);
        self.columns.resize_with(n_columns, ColumnWriter::default);
    }

    pub(super) fn push(&mut self, row: &RowDelta) {
        self.n_rows += 1;
        self.keys.push(&row.key);
        self.causal_lengths.push(row.causal_length);
        self.birth_counts.push(row.births.len() as u64);
        for birth in &row.births {
            self.birth_sites.push(u64::from(birth.dot.site.0));
            self.birth_versions.push_delta(birth.dot.version);
            self.birth_origins.push(u64::from(birth.origin.0));
        }
        self.n_births += row.births.len();
        self.shapes.push(row);
        for cell in &row.cells {
            let column = &mut self.columns[cell.column as usize];
            let before = column.len();
            column.push(cell);
            self.column_bytes += column.len() - before;
        }
        self.n_cells += row.cells.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// Bytes of the section so far, without what [`table_bytes`] counts.
    pub(super) fn len(&self) -> usize {
        let births = self.birth_sites.len() + self.birth_versions.len() + self.birth_origins.len();
        let rows = self.causal_lengths.len() + self.birth_counts.len();
        self.keys.len() + births + rows + self.shapes.out.len() + self.column_bytes
    }

    /// Whether rows, births and cells stay within a part's bounds with one row more.
    pub(super) fn has_room(&self, row: &RowDelta, written: &Counts) -> bool {
        written.n_rows + self.n_rows < MAX_PART_ROWS
            && written.n_births + self.n_births + row.births.len() <= MAX_PART_BIRTHS
            && written.n_cells + self.n_cells + row.cells.len() <= MAX_PART_CELLS
    }

    /// Bytes that the keys grow to when they are read.
    pub(super) fn n_key_bytes(&self) -> usize {
        self.keys.n_full_bytes
    }

    /// The section's content; starts over.
    pub(super) fn finish(
        &mut self,
        name: &str,
        columns: &[String],
        counts: &mut Counts,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() + table_bytes(name, columns));
        put_names(&mut out, name, columns);
        put_varint(&mut out, self.n_rows as u64);
        self.keys.finish_into(&mut out);
        for runs in [
            &mut self.causal_lengths,
            &mut self.birth_counts,
            &mut self.birth_sites,
            &mut self.birth_versions,
            &mut self.birth_origins,
        ] {
            runs.finish_stretch_into(&mut out);
        }
        self.shapes.finish_into(&mut out);
        self.columns.iter_mut().for_each(|column| column.finish_into(&mut out));
        counts.add_names(columns.len());
        counts.n_rows += self.n_rows;
        counts.n_births += self.n_births;
        counts.n_cells += self.n_cells;
        (self.n_rows, self.n_births, self.n_cells, self.column_bytes) = (0, 0, 0, 0);
        out
    }
}

/// How much one part holds, to be kept within its bounds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) n_tables: usize,
    pub(super) n_columns: usize,
    pub(super) n_rows: usize,
    pub(super) n_births: usize,
    pub(super) n_cells: usize,
}

impl Counts {
    /// Whether a section of a table of this many columns may be added.
    pub(super) fn has_room(&self, n_columns: usize) -> bool {
        self.n_tables < MAX_PART_TABLES && self.n_columns + n_columns <= MAX_PART_COLUMNS
    }

    /// Counts the names that begin a section.
    pub(super) fn add_names(&mut self, n_columns: usize) {
        self.n_tables += 1;
        self.n_columns += n_columns;
    }

    /// Adds `n` to a count that must not exceed its limit.
    fn add(count: &mut usize, n: usize, limit: usize, what: &'static str) -> Result<(), WireError> {
        let found = count.saturating_add(n);
        if found > limit {
            return Err(WireError::OverLimit { what, found: found as u64, limit: limit as u64 });
        }
        *count = found;
        Ok(())
    }
}

/// Keys both ways until one is no single minimal integer.
#[derive(Clone, Debug)]
struct KeyWriter {
    is_integer: bool,
    integers: Vec<u8>,
    integer: i64,
    shared: Vec<u8>,
    previous: Vec<u8>,
    n_full_bytes: usize,
}

impl Default for KeyWriter {
    fn default() -> KeyWriter {
        KeyWriter {
            is_integer: true,
            integers: Vec::new(),
            integer: 0,
            shared: Vec::new(),
            previous: Vec::new(),
            n_full_bytes: 0,
        }
    }
}

impl KeyWriter {
    fn push(&mut self, key: &[u8]) {
        self.n_full_bytes += key.len();
        if self.is_integer {
            match single_integer(key) {
                Some(integer) => {
                    put_varint(&mut self.integers, zigzag(integer.wrapping_sub(self.integer)));
                    self.integer = integer;
                }
                None => self.is_integer = false,
            }
        }
        let n_shared = self.previous.iter().zip(key).take_while(|(a, b)| a == b).count();
        put_varint(&mut self.shared, n_shared as u64);
        put_bytes(&mut self.shared, &key[n_shared..]);
        self.previous.truncate(n_shared);
        self.previous.extend_from_slice(&key[n_shared..]);
    }

    /// The larger of both ways, so an upper bound whichever is taken.
    fn len(&self) -> usize {
        self.shared.len().max(self.integers.len())
    }

    fn finish_into(&mut self, out: &mut Vec<u8>) {
        if self.is_integer {
            out.push(KEYS_INTEGER);
            put_bytes(out, &self.integers);
        } else {
            out.push(KEYS_SHARED);
            put_bytes(out, &self.shared);
        }
        self.integers.clear();
        self.shared.clear();
        self.previous.clear();
        (self.is_integer, self.integer, self.n_full_bytes) = (true, 0, 0);
    }
}

/// The integer that a key consists of, if its packing is the one [`pack`] gives.
fn single_integer(key: &[u8]) -> Option<i64> {
    let [1, tag, digits @ ..] = key else { return None };
    let n = usize::from(tag >> 3);
    if tag & 7 != 1 || n != digits.len() || n > 8 || digits.first() == Some(&0) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |sum, digit| sum << 8 | u64::from(*digit)) as i64)
}

/// Which columns rows have cells of.
#[derive(Clone, Debug, Default)]
struct ShapeWriter {
    out: Vec<u8>,
    columns: Vec<u32>,
    count: u64,
}

impl ShapeWriter {
    fn push(&mut self, row: &RowDelta) {
        let columns = row.cells.iter().map(|cell| cell.column);
        if self.count == 0 || !columns.clone().eq(self.columns.iter().copied()) {
            self.flush();
            self.columns.clear();
            self.columns.extend(columns);
        }
        self.count += 1;
    }

    fn flush(&mut self) {
        if self.count == 0 {
            return;
        }
        put_varint(&mut self.out, self.count);
        put_varint(&mut self.out, self.columns.len() as u64);
        let mut next = 0;
        for column in &self.columns {
            put_varint(&mut self.out, u64::from(column - next));
            next = column + 1;
        }
        self.count = 0;
    }

    fn finish_into(&mut self, out: &mut Vec<u8>) {
        self.flush();
        put_bytes(out, &self.out);
        self.out.clear();
        self.columns.clear();
    }
}

/// Reads a table's name and columns' names into a table without rows.
pub(super) fn read_names(
    section: &mut Reader<'_>,
    counts: &mut Counts,
) -> Result<TableDelta, WireError> {
    Counts::add(&mut counts.n_tables, 1, MAX_PART_TABLES, "tables")?;
    let name = read_name(section)?;
    let n_columns = section.count("columns", MAX_COLUMNS)?;
    Counts::add(&mut counts.n_columns, n_columns, MAX_PART_COLUMNS, "columns")?;
    let mut columns = room(n_columns.min(section.len()))?;
    for _ in 0..n_columns {
        columns.push(read_name(section)?);
    }
    Ok(TableDelta { name, columns, rows: Vec::new() })
}

fn read_name(section: &mut Reader<'_>) -> Result<String, WireError> {
    let name = section.text("name")?;
    if name.len() > MAX_NAME_BYTES {
        let (found, limit) = (name.len() as u64, MAX_NAME_BYTES as u64);
        return Err(WireError::OverLimit { what: "bytes of a name", found, limit });
    }
    copied_text(name)
}

/// Reads one section; `budget` is what keys may grow to.
pub(super) fn read(
    mut section: Reader<'_>,
    counts: &mut Counts,
    budget: &mut usize,
) -> Result<TableDelta, WireError> {
    let mut table = read_names(&mut section, counts)?;
    let n_rows = section.count("rows", MAX_PART_ROWS)?;
    Counts::add(&mut counts.n_rows, n_rows, MAX_PART_ROWS, "rows")?;
    table.rows = read_keys(&mut section, n_rows, budget)?;
    read_lives(&mut section, &mut table.rows, counts)?;
    let mut shapes = section.stretch("shapes of rows")?;
    let mut columns: Vec<ColumnReader<'_>> = room(table.columns.len())?;
    for _ in 0..table.columns.len() {
        columns.push(ColumnReader::open(&mut section)?);
    }
    section.finish("bytes after the rows")?;
    read_cells(&mut shapes, &mut columns, &mut table.rows, counts)?;
    columns.iter().try_for_each(ColumnReader::finish)?;
    Ok(table)
}

fn read_keys(
    section: &mut Reader<'_>,
    n_rows: usize,
    budget: &mut usize,
) -> Result<Vec<RowDelta>, WireError> {
    let mode = section.byte("key mode")?;
    let mut keys = section.stretch("keys")?;
    // A key takes a byte at least, so a false number of rows costs no memory.
    let mut rows: Vec<RowDelta> = room(n_rows.min(keys.len()))?;
    let mut integer = 0_i64;
    for row in 0..n_rows {
        let key = match mode {
            KEYS_INTEGER => {
                integer = integer.wrapping_add(unzigzag(keys.varint("key")?));
                pack(&[ValueRef::Integer(integer)]).expect("one value is not too many")
            }
            KEYS_SHARED => {
                let previous = row.checked_sub(1).map_or(&[][..], |last| &rows[last].key);
                read_shared(&mut keys, previous, budget)?
            }
            _ => return Err(section.malformed("key mode")),
        };
        rows.push(RowDelta { key, causal_length: 0, births: Vec::new(), cells: Vec::new() });
    }
    keys.finish("bytes after the keys")?;
    Ok(rows)
}

fn read_shared(
    keys: &mut Reader<'_>,
    previous: &[u8],
    budget: &mut usize,
) -> Result<Vec<u8>, WireError> {
    let n_shared = keys.index("bytes shared with the key before", previous.len() + 1)? as usize;
    let suffix = keys.stretch("key")?.remainder();
    spend(budget, n_shared + suffix.len())?;
    let mut key = room(n_shared + suffix.len())?;
    key.extend_from_slice(&previous[..n_shared]);
    key.extend_from_slice(suffix);
    Ok(key)
}

fn read_lives(
    section: &mut Reader<'_>,
    rows: &mut [RowDelta],
    counts: &mut Counts,
) -> Result<(), WireError> {
    let mut lengths = RunReader::new(section.stretch("causal lengths")?);
    let mut n_births = RunReader::new(section.stretch("numbers of births")?);
    let mut sites = RunReader::new(section.stretch("sites of births")?);
    let mut versions = RunReader::new(section.stretch("versions of births")?);
    let mut origins = RunReader::new(section.stretch("origins of births")?);
    for row in rows {
        row.causal_length = lengths.next("causal length")?;
        let n = n_births.next("number of births")?.min(u64::from(u32::MAX)) as usize;
        Counts::add(&mut counts.n_births, n, MAX_PART_BIRTHS, "births")?;
        row.births = room(n)?;
        for _ in 0..n {
            let site = site_index(sites.next("site of a birth")?);
            let version = versions.next_delta("version of a birth")?;
            let origin = site_index(origins.next("origin of a birth")?);
            row.births.push(Birth { dot: DeltaDot { site, version }, origin });
        }
    }
    lengths.finish("causal lengths")?;
    n_births.finish("numbers of births")?;
    sites.finish("sites of births")?;
    versions.finish("versions of births")?;
    origins.finish("origins of births")
}

fn read_cells(
    shapes: &mut Reader<'_>,
    columns: &mut [ColumnReader<'_>],
    rows: &mut [RowDelta],
    counts: &mut Counts,
) -> Result<(), WireError> {
    let mut rows = rows.iter_mut();
    let mut shape: Vec<u32> = Vec::new();
    while rows.len() > 0 {
        let n_rows = shapes.count("rows of a shape", rows.len())?;
        if n_rows == 0 {
            return Err(shapes.malformed("rows of a shape"));
        }
        read_shape(shapes, &mut shape, columns.len())?;
        let n_cells = n_rows.saturating_mul(shape.len());
        Counts::add(&mut counts.n_cells, n_cells, MAX_PART_CELLS, "cells")?;
        for row in rows.by_ref().take(n_rows) {
            row.cells = room(shape.len())?;
            for column in &shape {
                row.cells.push(columns[*column as usize].next(*column)?);
            }
        }
    }
    shapes.finish("shapes of rows")
}

fn read_shape(
    shapes: &mut Reader<'_>,
    shape: &mut Vec<u32>,
    n_columns: usize,
) -> Result<(), WireError> {
    shape.clear();
    let n_cells = shapes.count("cells of a row", n_columns)?;
    let mut next = 0;
    for _ in 0..n_cells {
        let column = next + shapes.index("column of a cell", n_columns - next as usize)?;
        shape.push(column);
        next = column + 1;
    }
    Ok(())
}
