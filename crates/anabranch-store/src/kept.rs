//! A statement that is compiled once and kept, and compiled again after it was dropped.
//!
//! Invariant: no borrow is held while it runs. A nested run of the same statement compiles
//! a second one, and the last to finish is kept.

use std::cell::Cell;

use anabranch_core::value::ValueRef;
use anabranch_sqlite::{Db, SqlError, Statement};

/// A kept statement.
pub(crate) struct Kept {
    sql: &'static str,
    statement: Cell<Option<Statement>>,
}

impl Kept {
    /// Compiles at first use.
    pub(crate) const fn new(sql: &'static str) -> Kept {
        Kept { sql, statement: Cell::new(None) }
    }

    /// Compiles if it is not: a host's authorizer that comes later need not be asked.
    pub(crate) fn prepare(&self, db: &Db) -> Result<(), SqlError> {
        self.with(db, |_| Ok(()))
    }

    /// Runs to the end.
    pub(crate) fn execute(&self, db: &Db, params: &[ValueRef<'_>]) -> Result<(), SqlError> {
        self.with(db, |statement| statement.execute(params))
    }

    /// The integer in the first column of the first row; 0 without a row.
    pub(crate) fn integer(&self, db: &Db, params: &[ValueRef<'_>]) -> Result<i64, SqlError> {
        self.with(db, |statement| {
            let found = statement.query_row(params, |row| match row.column(0) {
                ValueRef::Integer(integer) => Ok(integer),
                _ => Ok(0),
            })?;
            Ok(found.unwrap_or(0))
        })
    }

    /// Drops the statement, so that the connection can close.
    pub(crate) fn clear(&self) {
        self.statement.set(None);
    }

    fn with<T>(
        &self,
        db: &Db,
        f: impl FnOnce(&mut Statement) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let mut statement = match self.statement.take() {
            Some(statement) => statement,
            None => db.prepare(self.sql)?,
        };
        let result = f(&mut statement);
        self.statement.set(Some(statement));
        result
    }
}
