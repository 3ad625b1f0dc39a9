//! Packed keys: the bytes that name a row between copies, and the folded key that is
//! its identity inside one.
//!
//! Packed (as cr-sqlite packs): `[u8 count]`, then per value one byte `(n << 3) | type`
//! with type 1 INTEGER, 2 REAL, 3 TEXT, 4 BLOB, 5 NULL, then
//! INTEGER: n big-endian bytes of the value as u64, without leading zeros;
//! REAL: n = 0 and 8 bytes big-endian IEEE 754;
//! TEXT, BLOB: the length as n big-endian bytes, then the bytes; NULL: nothing.

use crate::limits::MAX_KEY_COLUMNS;
use crate::value::ValueRef;

mod affinity;
mod fold;

pub use affinity::apply_affinity;
pub use fold::{fold, fold_into, is_spelling_unique, pack_folded, rowid_of, unfold, unfold_bytes};

/// How a key column compares text, as declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collation {
    /// Bytes.
    Binary,
    /// ASCII letters without case.
    NoCase,
    /// Trailing spaces do not count.
    RTrim,
}

/// The affinity of a column (<https://sqlite.org/datatype3.html>, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// No conversion.
    Blob,
    /// Numbers become text.
    Text,
    /// Text that looks like a number becomes one.
    Numeric,
    /// As numeric; reals without a fraction become integers.
    Integer,
    /// As numeric; integers become reals.
    Real,
}

/// What a table's key index does with one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// Conversion of what is stored.
    pub affinity: Affinity,
    /// Comparison of text.
    pub collation: Collation,
    /// An INTEGER PRIMARY KEY: integers only.
    pub is_rowid: bool,
}

/// Why bytes are not a packed key, or values no key of a table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes end early, go on, or hold an unknown type or a length beyond them.
    #[error("malformed packed key at byte {at}: {reason}")]
    Malformed {
        /// Offset in bytes.
        at: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// More values than a packed key can count.
    #[error("a packed key holds at most 255 values")]
    TooMany,
    /// Not as many values as the table has key columns.
    #[error("the key has {found} values, the table's key has {expected} columns")]
    WrongCount {
        /// Values found.
        found: usize,
        /// Columns of the table's key.
        expected: usize,
    },
    /// A value that the key column cannot hold.
    #[error("value {index} of the key is {found}, which its column cannot hold")]
    WrongType {
        /// Position in the key, from 0.
        index: usize,
        /// Type of the value.
        found: &'static str,
    },
}

const INTEGER: u8 = 1;
const REAL: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;
const NULL: u8 = 5;

/// Packs values. Errors only for more than 255.
///
/// # Errors
/// [`KeyError::TooMany`].
pub fn pack(values: &[ValueRef<'_>]) -> Result<Vec<u8>, KeyError> {
    let mut out = Vec::with_capacity(1 + values.iter().map(packed_len).sum::<usize>());
    pack_into(values, &mut out)?;
    Ok(out)
}

/// Appends packed values to `out`.
///
/// # Errors
/// [`KeyError::TooMany`]; nothing is appended then.
pub fn pack_into(values: &[ValueRef<'_>], out: &mut Vec<u8>) -> Result<(), KeyError> {
    if values.len() > MAX_KEY_COLUMNS {
        return Err(KeyError::TooMany);
    }
    out.push(values.len() as u8);
    values.iter().for_each(|value| pack_value(out, *value));
    Ok(())
}

/// Reads packed values, strictly: integers and lengths in any number of bytes up to 8
/// (what the reference packs is minimal; what it accepts is not), nothing after the last.
///
/// # Errors
/// [`KeyError::Malformed`].
pub fn unpack(bytes: &[u8]) -> Result<Vec<ValueRef<'_>>, KeyError> {
    let mut values = Vec::with_capacity(bytes.first().map_or(0, |count| usize::from(*count)));
    walk_packed(bytes, |value| values.push(value))?;
    Ok(values)
}

/// Whether [`unpack`] reads these bytes, without keeping the values; their number.
///
/// # Errors
/// [`KeyError::Malformed`].
pub fn check_packed(bytes: &[u8]) -> Result<usize, KeyError> {
    let mut count = 0;
    walk_packed(bytes, |_| count += 1)?;
    Ok(count)
}

/// Hands the values that [`unpack`] reads to `visit`, as far as the bytes are a packed key.
///
/// # Errors
/// [`KeyError::Malformed`].
pub fn walk_packed<'a>(
    bytes: &'a [u8],
    mut visit: impl FnMut(ValueRef<'a>),
) -> Result<(), KeyError> {
    let Some((&count, body)) = bytes.split_first() else {
        return Err(KeyError::Malformed { at: 0, reason: "no count of values" });
    };
    let mut rest = body;
    for _ in 0..count {
        let at = bytes.len() - rest.len();
        let (value, after) =
            unpack_value(rest).map_err(|reason| KeyError::Malformed { at, reason })?;
        visit(value);
        rest = after;
    }
    if !rest.is_empty() {
        let at = bytes.len() - rest.len();
        return Err(KeyError::Malformed { at, reason: "bytes after the last value" });
    }
    Ok(())
}

fn packed_len(value: &ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null => 1,
        ValueRef::Integer(_) | ValueRef::Real(_) => 9,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => 9 + bytes.len(),
    }
}

fn pack_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.push(NULL),
        ValueRef::Integer(integer) => pack_tagged(out, INTEGER, integer as u64),
        ValueRef::Real(real) => {
            out.push(REAL);
            out.extend_from_slice(&real.to_be_bytes());
        }
        ValueRef::Text(bytes) => pack_bytes(out, TEXT, bytes),
        ValueRef::Blob(bytes) => pack_bytes(out, BLOB, bytes),
    }
}

fn pack_bytes(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    pack_tagged(out, kind, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// One byte `(n << 3) | kind`, then `number` in its n significant bytes, big-endian.
fn pack_tagged(out: &mut Vec<u8>, kind: u8, number: u64) {
    let n = 8 - number.leading_zeros() as usize / 8;
    out.push((n as u8) << 3 | kind);
    out.extend_from_slice(&number.to_be_bytes()[8 - n..]);
}

fn unpack_value(bytes: &[u8]) -> Result<(ValueRef<'_>, &[u8]), &'static str> {
    let (&tag, rest) = bytes.split_first().ok_or("a value is missing")?;
    let (n, kind) = (usize::from(tag >> 3), tag & 7);
    match kind {
        INTEGER => {
            let (number, rest) = unpack_number(rest, n)?;
            Ok((ValueRef::Integer(number as i64), rest))
        }
        TEXT | BLOB => {
            let (len, rest) = unpack_number(rest, n)?;
            let len = usize::try_from(len).map_err(|_| "a length beyond the end")?;
            let (bytes, rest) = rest.split_at_checked(len).ok_or("a length beyond the end")?;
            let value = if kind == TEXT { ValueRef::Text(bytes) } else { ValueRef::Blob(bytes) };
            Ok((value, rest))
        }
        REAL | NULL if n != 0 => Err("a size where none belongs"),
        REAL => {
            let (bytes, rest) = rest.split_first_chunk().ok_or("a real ends early")?;
            Ok((ValueRef::Real(f64::from_be_bytes(*bytes)), rest))
        }
        NULL => Ok((ValueRef::Null, rest)),
        _ => Err("an unknown type"),
    }
}

fn unpack_number(bytes: &[u8], n: usize) -> Result<(u64, &[u8]), &'static str> {
    if n > 8 {
        return Err("a number of more than 8 bytes");
    }
    let (number, rest) = bytes.split_at_checked(n).ok_or("a number ends early")?;
    Ok((number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), rest))
}
