//! What parameters and columns of our own tables are made of.

use anabranch_core::value::ValueRef;
use anabranch_sqlite::Statement;

use super::varint::Corrupt;
use crate::error::{Result, StoreError};

/// An id or a version as SQLite stores it.
pub(crate) fn int(value: u64) -> ValueRef<'static> {
    ValueRef::Integer(value as i64)
}

/// A column that must be a number from 0 (NULL: 0).
pub(crate) fn read_u64(statement: &Statement, column: usize, place: &str) -> Result<u64> {
    match statement.column(column) {
        ValueRef::Integer(value) if value >= 0 => Ok(value as u64),
        ValueRef::Null => Ok(0),
        _ => Err(damaged(place, Corrupt("not a number from 0"))),
    }
}

/// A column that must be an id of 32 bits (NULL: 0).
pub(crate) fn read_u32(statement: &Statement, column: usize, place: &str) -> Result<u32> {
    let id = read_u64(statement, column, place)?;
    u32::try_from(id).map_err(|_| damaged(place, Corrupt("an id beyond 32 bits")))
}

/// A column that must be a blob (NULL: empty).
pub(crate) fn read_blob<'a>(
    statement: &'a Statement,
    column: usize,
    place: &str,
) -> Result<&'a [u8]> {
    match statement.column(column) {
        ValueRef::Blob(bytes) => Ok(bytes),
        ValueRef::Null => Ok(&[]),
        _ => Err(damaged(place, Corrupt("not a blob"))),
    }
}

/// The error for bytes in `place`.
pub(crate) fn damaged(place: impl Into<String>, what: Corrupt) -> StoreError {
    StoreError::Damaged { place: place.into(), what: what.0 }
}
