//! Which columns the rows of a section have cells of.
//!
//! ```text
//! until all rows have a shape: how many rows; n_cells; columns
//! columns: the first, then each one's distance from the one before, less 1
//! ```

use super::WireError;
use super::varint::{Reader, put_bytes, put_varint};
use crate::delta::RowDelta;

/// Which columns rows have cells of.
#[derive(Clone, Debug, Default)]
pub(super) struct ShapeWriter {
    out: Vec<u8>,
    columns: Vec<u32>,
    count: u64,
}

impl ShapeWriter {
    pub(super) fn push(&mut self, row: &RowDelta) {
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

    /// Bytes so far, without the shape under way.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Appends the stretch and starts over.
    pub(super) fn finish_into(&mut self, out: &mut Vec<u8>) {
        self.flush();
        put_bytes(out, &self.out);
        self.out.clear();
        self.columns.clear();
    }
}

/// Reads the columns of the next shape.
pub(super) fn read_shape(
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
