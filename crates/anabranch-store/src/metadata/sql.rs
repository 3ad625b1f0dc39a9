//! Kept statements on our own tables.

use anabranch_core::value::ValueRef;
use anabranch_sqlite::{Db, Statement};

use super::varint::Corrupt;
use crate::error::{Result, StoreError};

/// A statement that is prepared at its first use and kept.
pub(crate) struct Kept {
    sql: &'static str,
    statement: Option<Statement>,
}

impl Kept {
    pub(crate) const fn new(sql: &'static str) -> Kept {
        Kept { sql, statement: None }
    }

    /// The statement, ready to be bound.
    pub(crate) fn get(&mut self, db: &Db) -> Result<&mut Statement> {
        if self.statement.is_none() {
            self.statement = Some(db.prepare(self.sql)?);
        }
        Ok(self.statement.as_mut().expect("prepared just above"))
    }

    /// Drops the statement, so that the connection can close.
    pub(crate) fn clear(&mut self) {
        self.statement = None;
    }

    /// Binds, runs to the end.
    pub(crate) fn run(&mut self, db: &Db, params: &[ValueRef<'_>]) -> Result<()> {
        Ok(self.get(db)?.execute(params)?)
    }

    /// Binds, steps once, hands the row to `read`, resets.
    pub(crate) fn first<T>(
        &mut self,
        db: &Db,
        params: &[ValueRef<'_>],
        read: impl FnOnce(&Statement) -> Result<T>,
    ) -> Result<Option<T>> {
        let statement = self.get(db)?;
        let found = statement.query(params)?.then(|| read(statement)).transpose();
        statement.reset();
        found
    }

    /// Binds and hands every row to `read`, which says whether to go on.
    pub(crate) fn each(
        &mut self,
        db: &Db,
        params: &[ValueRef<'_>],
        mut read: impl FnMut(&Statement) -> Result<bool>,
    ) -> Result<()> {
        let statement = self.get(db)?;
        let mut more = statement.query(params)?;
        while more {
            match read(statement) {
                Ok(true) => more = statement.step()?,
                Ok(false) => break,
                Err(error) => {
                    statement.reset();
                    return Err(error);
                }
            }
        }
        statement.reset();
        Ok(())
    }
}

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
