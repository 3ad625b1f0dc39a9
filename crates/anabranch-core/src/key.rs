//! Packed keys: the bytes that name a row between copies, and the folded key that is
//! its identity inside one.
//!
//! Packed (as cr-sqlite packs): `[u8 count]`, then per value one byte `(n << 3) | type`
//! with type 1 INTEGER, 2 REAL, 3 TEXT, 4 BLOB, 5 NULL, then
//! INTEGER: n big-endian bytes of the value as u64, without leading zeros;
//! REAL: n = 0 and 8 bytes big-endian IEEE 754;
//! TEXT, BLOB: the length as n big-endian bytes, then the bytes; NULL: nothing.

use crate::value::{Value, ValueRef};

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

/// Packs values. Errors only for more than 255.
pub fn pack(_values: &[ValueRef<'_>]) -> Result<Vec<u8>, KeyError> {
    todo!()
}

/// Reads packed values, strictly: integers and lengths in any number of bytes up to 8
/// (what the reference packs is minimal; what it accepts is not), nothing after the last.
pub fn unpack(_bytes: &[u8]) -> Result<Vec<ValueRef<'_>>, KeyError> {
    todo!()
}

/// The value as a column of this affinity stores it.
pub fn apply_affinity(_value: ValueRef<'_>, _affinity: Affinity) -> Value {
    todo!()
}

/// The folded key of values: equal bytes if and only if the table's key index takes the
/// keys for equal. Memcmp order of folded keys is the order of clock blocks.
///
/// One rowid column: 8 bytes big-endian, sign bit flipped, so numeric order.
/// Otherwise: the packed values without the count, after affinity; integral reals within
/// i64 as integers, -0.0 as 0, NOCASE text in lower-case ASCII, RTRIM text without
/// trailing spaces.
///
/// # Errors
/// [`KeyError::WrongCount`], [`KeyError::WrongType`] (NULL anywhere; not an integer in a
/// rowid column).
pub fn fold(_values: &[ValueRef<'_>], _columns: &[KeyColumn]) -> Result<Vec<u8>, KeyError> {
    todo!()
}

/// Values of a folded key, spelled as the columns' affinity stores them.
pub fn unfold(_folded: &[u8], _columns: &[KeyColumn]) -> Result<Vec<Value>, KeyError> {
    todo!()
}

/// Whether equal folded keys imply equal stored values, so that no spelling is needed:
/// rowid columns, and columns of binary collation whose affinity leaves one spelling.
pub fn is_spelling_unique(_columns: &[KeyColumn]) -> bool {
    todo!()
}
