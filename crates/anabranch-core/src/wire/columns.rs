//! The cells of one column, field by field.
//!
//! ```text
//! n_cells; if it is 0, nothing follows. Else nine stretches, each with its length:
//! versions       run-length            integers  zigzag deltas from the integer before
//! dot sites      run-length            reals     8 bytes each, little-endian
//! dot versions   run-length deltas     lengths   of texts and blobs, varints
//! origins        run-length            bytes     of texts and blobs
//! types          run-length: 0 NULL, 1 INTEGER, 2 REAL, 3 TEXT, 4 BLOB
//! ```

use super::WireError;
use super::runs::{RunReader, RunWriter};
use super::varint::{Reader, copied, put_bytes, put_varint, unzigzag, zigzag};
use crate::delta::{CellDelta, DeltaDot, SiteIdx};
use crate::limits::MAX_PART_CELLS;
use crate::value::{Value, ValueRef};

pub(super) const NULL: u64 = 0;
pub(super) const INTEGER: u64 = 1;
pub(super) const REAL: u64 = 2;
pub(super) const TEXT: u64 = 3;
pub(super) const BLOB: u64 = 4;

/// The tag of a value's type; a NaN is NULL, as it is to SQLite.
pub(super) fn type_code(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Null => NULL,
        ValueRef::Integer(_) => INTEGER,
        ValueRef::Real(real) if real.is_nan() => NULL,
        ValueRef::Real(_) => REAL,
        ValueRef::Text(_) => TEXT,
        ValueRef::Blob(_) => BLOB,
    }
}

/// Most bytes that one cell adds to its column besides those of a text or blob: five runs
/// of a count and a value each, and a number.
pub(super) const MAX_CELL_BYTES: usize = 48;
/// Most bytes of an empty column and of its runs under way.
pub(super) const COLUMN_BYTES: usize = 112;

/// Collects the cells of one column.
#[derive(Clone, Debug, Default)]
pub(super) struct ColumnWriter {
    n_cells: usize,
    versions: RunWriter,
    dot_sites: RunWriter,
    dot_versions: RunWriter,
    origins: RunWriter,
    types: RunWriter,
    integers: Vec<u8>,
    integer: i64,
    reals: Vec<u8>,
    lengths: Vec<u8>,
    bytes: Vec<u8>,
}

impl ColumnWriter {
    pub(super) fn push(&mut self, cell: &CellDelta) {
        self.n_cells += 1;
        self.versions.push(cell.version);
        self.dot_sites.push(u64::from(cell.dot.site.0));
        self.dot_versions.push_delta(cell.dot.version);
        self.origins.push(u64::from(cell.origin.0));
        let value = cell.value.as_ref();
        self.types.push(type_code(value));
        match value {
            ValueRef::Null => {}
            ValueRef::Integer(integer) => {
                put_varint(&mut self.integers, zigzag(integer.wrapping_sub(self.integer)));
                self.integer = integer;
            }
            ValueRef::Real(real) if real.is_nan() => {}
            ValueRef::Real(real) => self.reals.extend_from_slice(&real.to_le_bytes()),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                put_varint(&mut self.lengths, bytes.len() as u64);
                self.bytes.extend_from_slice(bytes);
            }
        }
    }

    /// Bytes so far, without [`COLUMN_BYTES`].
    pub(super) fn len(&self) -> usize {
        self.versions.len()
            + self.dot_sites.len()
            + self.dot_versions.len()
            + self.origins.len()
            + self.types.len()
            + self.integers.len()
            + self.reals.len()
            + self.lengths.len()
            + self.bytes.len()
    }

    /// Appends the column and starts over.
    pub(super) fn finish_into(&mut self, out: &mut Vec<u8>) {
        put_varint(out, self.n_cells as u64);
        if self.n_cells == 0 {
            return;
        }
        for runs in [
            &mut self.versions,
            &mut self.dot_sites,
            &mut self.dot_versions,
            &mut self.origins,
            &mut self.types,
        ] {
            runs.finish_stretch_into(out);
        }
        for column in [&mut self.integers, &mut self.reals, &mut self.lengths, &mut self.bytes] {
            put_bytes(out, column);
            column.clear();
        }
        (self.n_cells, self.integer) = (0, 0);
    }
}

/// Reads the cells of one column, one by one.
#[derive(Clone, Debug)]
pub(super) struct ColumnReader<'a> {
    n_left: usize,
    versions: RunReader<'a>,
    dot_sites: RunReader<'a>,
    dot_versions: RunReader<'a>,
    origins: RunReader<'a>,
    types: RunReader<'a>,
    integers: Reader<'a>,
    integer: i64,
    reals: Reader<'a>,
    lengths: Reader<'a>,
    bytes: Reader<'a>,
}

impl<'a> ColumnReader<'a> {
    pub(super) fn open(section: &mut Reader<'a>) -> Result<ColumnReader<'a>, WireError> {
        let n_left = section.count("cells", MAX_PART_CELLS)?;
        let mut stretches = [Reader::empty(); 9];
        if n_left > 0 {
            for stretch in &mut stretches {
                *stretch = section.stretch("a column")?;
            }
        }
        let [versions, dot_sites, dot_versions, origins, types, integers, reals, lengths, bytes] =
            stretches;
        Ok(ColumnReader {
            n_left,
            versions: RunReader::new(versions),
            dot_sites: RunReader::new(dot_sites),
            dot_versions: RunReader::new(dot_versions),
            origins: RunReader::new(origins),
            types: RunReader::new(types),
            integers,
            integer: 0,
            reals,
            lengths,
            bytes,
        })
    }

    pub(super) fn next(&mut self, column: u32) -> Result<CellDelta, WireError> {
        let Some(n_left) = self.n_left.checked_sub(1) else {
            return Err(self.bytes.malformed("number of cells"));
        };
        self.n_left = n_left;
        let version = self.versions.next("column version")?;
        let dot = DeltaDot {
            site: site_index(self.dot_sites.next("site of a dot")?),
            version: self.dot_versions.next_delta("version of a dot")?,
        };
        let origin = site_index(self.origins.next("origin")?);
        Ok(CellDelta { column, version, dot, origin, value: self.value()? })
    }

    fn value(&mut self) -> Result<Value, WireError> {
        Ok(match self.types.next("type of a value")? {
            NULL => Value::Null,
            INTEGER => {
                let delta = unzigzag(self.integers.varint("integer")?);
                self.integer = self.integer.wrapping_add(delta);
                Value::Integer(self.integer)
            }
            REAL => Value::Real(read_real(&mut self.reals)?),
            TEXT => Value::Text(self.sized()?),
            BLOB => Value::Blob(self.sized()?),
            _ => return Err(WireError::Unsupported { what: "a value of an unknown type" }),
        })
    }

    fn sized(&mut self) -> Result<Vec<u8>, WireError> {
        let len = self.lengths.varint("length of a value")?;
        let len = usize::try_from(len).map_err(|_| self.lengths.malformed("length of a value"))?;
        copied(self.bytes.take(len, "bytes of a value")?)
    }

    /// All streams must be used up.
    pub(super) fn finish(&self) -> Result<(), WireError> {
        if self.n_left > 0 {
            return Err(self.bytes.malformed("number of cells"));
        }
        self.versions.finish("column versions")?;
        self.dot_sites.finish("sites of dots")?;
        self.dot_versions.finish("versions of dots")?;
        self.origins.finish("origins")?;
        self.types.finish("types of values")?;
        self.integers.finish("integers")?;
        self.reals.finish("reals")?;
        self.lengths.finish("lengths of values")?;
        self.bytes.finish("bytes of values")
    }
}

/// A real that is a number; NaN is written as NULL.
pub(super) fn read_real(reader: &mut Reader<'_>) -> Result<f64, WireError> {
    let before = *reader;
    let real = f64::from_le_bytes(reader.array("real")?);
    if real.is_nan() { Err(before.malformed("a real that is no number")) } else { Ok(real) }
}

/// An index as read: what is too large for an index is no index of any dictionary.
pub(super) fn site_index(index: u64) -> SiteIdx {
    SiteIdx(u32::try_from(index).unwrap_or(u32::MAX))
}
