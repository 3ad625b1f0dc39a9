//! Notices that the schema changed, at the price of a statement that yields no row.
//!
//! SQLite compiles a statement anew when the schema it was compiled for is not the one it
//! finds, and counts that. Seen are: a change of `main`, committed or not, by whatever
//! connection; its rollback; and a change of `temp`, which makes SQLite compile everything
//! anew. Whatever else does so is a false alarm. An ATTACH is not seen.
//!
//! Half the price of `PRAGMA schema_version`, which proves less: it comes back to a former
//! number when a change is undone.

use std::cell::Cell;
use std::ffi::c_int;

use crate::db::Db;
use crate::error::Result;
use crate::statement::Statement;

/// Reads the schema's version, as each statement does, and none of its rows.
const SQL: &str = "SELECT 1 FROM main.sqlite_master WHERE 0";

/// Watches the schemas of a connection.
#[derive(Default)]
pub struct SchemaWatch {
    /// `None`: not compiled, so nothing is known. Boxed: it is taken out and put back each time.
    statement: Cell<Option<Box<Statement>>>,
    /// How often SQLite had compiled it anew when last asked.
    n_recompiled: Cell<c_int>,
}

impl SchemaWatch {
    /// Compiles if it is not: a host's authorizer that comes later need not be asked.
    ///
    /// # Errors
    /// SQLite's.
    pub fn prepare(&self, db: &Db) -> Result<()> {
        let statement = match self.statement.take() {
            Some(statement) => statement,
            None => self.compile(db)?,
        };
        self.statement.set(Some(statement));
        Ok(())
    }

    fn compile(&self, db: &Db) -> Result<Box<Statement>> {
        self.n_recompiled.set(NEVER_ASKED);
        db.prepare(SQL).map(Box::new)
    }

    /// Whether a schema may have changed since this was last asked; `true` the first time.
    ///
    /// # Errors
    /// SQLite's; nothing counts as asked then.
    pub fn has_changed(&self, db: &Db) -> Result<bool> {
        let mut statement = match self.statement.take() {
            Some(statement) => statement,
            None => self.compile(db)?,
        };
        let stepped = statement.step();
        let n_recompiled = statement.n_recompiled();
        self.statement.set(Some(statement));
        stepped?;
        Ok(self.n_recompiled.replace(n_recompiled) != n_recompiled)
    }

    /// Drops the statement, so that the connection can close.
    pub fn clear(&self) {
        self.statement.set(None);
    }
}

/// A count that SQLite never answers.
const NEVER_ASKED: c_int = -1;
