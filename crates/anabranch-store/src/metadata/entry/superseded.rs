//! The section of superseded cells: `[tag 2][n]` and for each `[record][column][version]
//! [causal length][causal length that stands][author][version of the author]
//! [origin's author][value]`. A value is a byte (1 INTEGER and 8 bytes, 2 REAL and 8 bytes, both
//! little-endian; 3 TEXT, 4 BLOB and length and bytes; 5 NULL).

use anabranch_core::value::Value;

use super::TAG_SUPERSEDED;
use crate::buffer::Superseded;
use crate::ids::{AuthorId, ColumnId, LocalDot};
use crate::metadata::varint::{Corrupt, Decoded, Reader, put, put_bytes};

pub(super) fn put_superseded(out: &mut Vec<u8>, cells: &[(u32, Superseded)]) {
    out.push(TAG_SUPERSEDED);
    put(out, cells.len() as u64);
    for (index, cell) in cells {
        put(out, u64::from(*index));
        put(out, u64::from(cell.column.0));
        put(out, cell.version);
        put(out, cell.causal_length);
        put(out, cell.stands);
        put(out, u64::from(cell.dot.author.0));
        put(out, cell.dot.version);
        put(out, u64::from(cell.origin.0));
        put_value(out, &cell.value);
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(5),
        Value::Integer(i) => {
            out.push(1);
            out.extend_from_slice(&i.to_le_bytes());
        }
        Value::Real(r) => {
            out.push(2);
            out.extend_from_slice(&r.to_bits().to_le_bytes());
        }
        Value::Text(text) => {
            out.push(3);
            put_bytes(out, text);
        }
        Value::Blob(blob) => {
            out.push(4);
            put_bytes(out, blob);
        }
    }
}

/// Reads what follows the tag.
pub(super) fn read_superseded(
    reader: &mut Reader<'_>,
    n_records: usize,
) -> Decoded<Vec<(u32, Superseded)>> {
    let mut cells = Vec::new();
    for _ in 0..reader.count()? {
        let index = reader.number32()?;
        if index as usize >= n_records {
            return Err(Corrupt("a superseded cell of no record"));
        }
        let column =
            u16::try_from(reader.number()?).map_err(|_| Corrupt("a column beyond 65,535"))?;
        let (version, causal_length) = (reader.number()?, reader.number()?);
        let stands = reader.number()?;
        let dot = LocalDot { author: AuthorId(reader.number32()?), version: reader.number()? };
        let origin = AuthorId(reader.number32()?);
        let (column, value) = (ColumnId(column), read_value(reader)?);
        let cell = Superseded { column, version, causal_length, stands, dot, origin, value };
        cells.push((index, cell));
    }
    Ok(cells)
}

fn read_value(reader: &mut Reader<'_>) -> Decoded<Value> {
    Ok(match reader.byte()? {
        1 => Value::Integer(i64::from_le_bytes(reader.array()?)),
        2 => Value::Real(f64::from_bits(u64::from_le_bytes(reader.array()?))),
        3 => Value::Text(reader.bytes()?.to_vec()),
        4 => Value::Blob(reader.bytes()?.to_vec()),
        5 => Value::Null,
        _ => return Err(Corrupt("a value of unknown type")),
    })
}
