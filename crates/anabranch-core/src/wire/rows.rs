//! The rows of one table, by column.
//!
//! ```text
//! name; n_columns, names
//! n_rows; keys (`keys.rs`)
//! causal lengths: run-length          (each of these columns in a stretch)
//! births of each row: run-length
//! births: sites run-length, versions run-length deltas, origins run-length
//! shapes (`shapes.rs`)
//! for each named column: its cells (`columns.rs`), rows in order
//! ```

use super::WireError;
use super::columns::{COLUMN_BYTES, ColumnReader, ColumnWriter, MAX_CELL_BYTES, site_index};
use super::keys::{self, KeyWriter};
use super::runs::{RunReader, RunWriter};
use super::shapes::{ShapeWriter, read_shape};
use super::varint::{Reader, copied_text, put_bytes, put_varint, room};
use crate::delta::{Birth, DeltaDot, RowDelta, TableDelta};
use crate::limits::{
    MAX_COLUMNS, MAX_NAME_BYTES, MAX_PART_BIRTHS, MAX_PART_CELLS, MAX_PART_COLUMNS, MAX_PART_ROWS,
    MAX_PART_TABLES,
};
use crate::value::Value;

/// Most bytes that a row adds besides its key, births and cells.
const ROW_BYTES: usize = 64;
/// Most bytes of a birth, and of a column in a shape.
const BIRTH_BYTES: usize = 40;
const SHAPE_CELL_BYTES: usize = 3;

/// Rows and cells at which a writer closes a part, below what readers take: small ones take
/// ten times as much memory as bytes, and whoever reads holds a part decoded.
const FULL_ROWS: usize = 1 << 16;
const FULL_CELLS: usize = 1 << 18;
const _: () = assert!(FULL_ROWS <= MAX_PART_ROWS && FULL_CELLS <= MAX_PART_CELLS);

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
        self.keys.len() + births + rows + self.shapes.len() + self.column_bytes
    }

    /// Whether there is room in a part for one row more.
    pub(super) fn has_room(&self, row: &RowDelta, written: &Counts) -> bool {
        let n_cells = written.n_cells + self.n_cells;
        written.n_rows + self.n_rows < FULL_ROWS
            && written.n_births + self.n_births + row.births.len() <= MAX_PART_BIRTHS
            && (n_cells < FULL_CELLS || n_cells == 0)
            && n_cells + row.cells.len() <= MAX_PART_CELLS
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
    table.rows = keys::read(&mut section, n_rows, budget)?;
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
