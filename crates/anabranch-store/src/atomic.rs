//! Work of several statements that stands as a whole or not at all.
//!
//! The statements that undo are compiled before the work begins. When SQLite has no memory
//! it compiles nothing until the host's statement, in which we are called, has ended; but it
//! still runs what is compiled. It may then undo the host's whole transaction, as it does
//! for its own statements.

use anabranch_sqlite::{Db, Statement};

use crate::error::Result;

/// What brackets the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bracket {
    /// A savepoint: in autocommit a transaction of its own. The work may change the schema.
    Savepoint,
    /// A transaction that begins as a writer; only in autocommit.
    Transaction,
    /// A transaction that only reads; only in autocommit. Committing it in any case ends the
    /// reading and lets other statements of the host's go on.
    Reading,
}

impl Bracket {
    fn texts(self) -> [&'static str; 3] {
        match self {
            Bracket::Savepoint => {
                ["SAVEPOINT ana_atomic", "RELEASE ana_atomic", "ROLLBACK TO ana_atomic"]
            }
            Bracket::Transaction => ["BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"],
            Bracket::Reading => ["BEGIN", "COMMIT", "COMMIT"],
        }
    }
}

/// Runs `f`; after an error or a panic nothing of it stands.
///
/// # Errors
/// The first: SQLite may have undone everything by itself before.
pub(crate) fn atomically<T>(db: &Db, bracket: Bracket, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let [begin, end, undo] = bracket.texts();
    let mut open = Open { bracket, end: db.prepare(end)?, undo: db.prepare(undo)?, is_open: false };
    db.execute(begin, &[])?;
    open.is_open = true;
    let value = f()?;
    open.end.execute(&[])?;
    open.is_open = false;
    Ok(value)
}

/// Work that goes on.
struct Open {
    bracket: Bracket,
    end: Statement,
    undo: Statement,
    is_open: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        // Errors: SQLite has undone more than this already.
        let _ = self.undo.execute(&[]);
        if self.bracket == Bracket::Savepoint {
            let _ = self.end.execute(&[]);
        }
    }
}
