//! A statement that is compiled at its first use and kept, and compiled again after it was
//! dropped.

use anabranch_core::value::ValueRef;
use anabranch_sqlite::{Db, Statement};

use crate::error::Result;

/// A kept statement.
pub(crate) struct Kept {
    sql: &'static str,
    statement: Option<Statement>,
}

impl Kept {
    /// Compiles at first use.
    pub(crate) const fn new(sql: &'static str) -> Kept {
        Kept { sql, statement: None }
    }

    /// Compiles if it is not: a host's authorizer that comes later need not be asked.
    pub(crate) fn prepare(&mut self, db: &Db) -> Result<()> {
        self.get(db).map(|_| ())
    }

    /// The statement, ready to be bound.
    fn get(&mut self, db: &Db) -> Result<&mut Statement> {
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
        self.get(db)?.query_row(params, |row| Ok(read(row)))?.transpose()
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
