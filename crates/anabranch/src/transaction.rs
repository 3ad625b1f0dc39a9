//! One transaction, one change.

use crate::error::{Error, Result};
use crate::store::Store;

/// How often a COMMIT that met a reader is tried again. Each try waits for the busy
/// timeout of the connection; a reader that stays longer than this many is not waited for.
const MAX_COMMIT_TRIES: u32 = 3;

/// A running transaction of [`Store::transact`]: a rusqlite connection, plus what a change
/// can say of itself.
pub struct Transaction<'a> {
    connection: &'a rusqlite::Connection,
}

impl Transaction<'_> {
    /// The connection, inside the transaction.
    pub fn sql(&self) -> &rusqlite::Connection {
        self.connection
    }

    /// Says why: the message of this transaction's change (`ana_message`).
    pub fn message(&self, text: &str) -> Result<()> {
        Ok(self.connection.query_row("SELECT ana_message(?1)", [text], |_| Ok(()))?)
    }

    /// Says who: the author of this connection's changes from now on (`ana_author`).
    pub fn author(&self, text: &str) -> Result<()> {
        Ok(self.connection.query_row("SELECT ana_author(?1)", [text], |_| Ok(()))?)
    }
}

impl Store {
    /// Runs `f` in one transaction, which becomes one change: committed if `f` returns
    /// `Ok`, rolled back otherwise, also when it panics.
    ///
    /// The write lock is taken at the start, so that no statement inside meets another
    /// writer. Called inside a transaction, this is a savepoint of that: what `f` did is
    /// undone if it fails, and becomes part of the outer change if not.
    ///
    /// # Errors
    /// What `f` returns. [`Error::Busy`] when another connection held the lock for longer
    /// than the busy timeout (5 s unless set otherwise on [`Store::sql`]), at the start or,
    /// with a rollback journal and a reader that stays, at the end: nothing happened then.
    ///
    /// ```
    /// # fn main() -> anabranch::Result<()> {
    /// # let store = anabranch::Store::from_connection(
    /// #     anabranch::rusqlite::Connection::open_in_memory()?)?;
    /// # store.sql().execute_batch("CREATE TABLE note(id INTEGER PRIMARY KEY NOT NULL, body)")?;
    /// # store.make_conflict_free("note")?;
    /// store.transact(|tx| {
    ///     tx.message("first notes")?;
    ///     tx.sql().execute("INSERT INTO note VALUES(1, 'one')", [])?;
    ///     tx.sql().execute("INSERT INTO note VALUES(2, 'two')", [])?;
    ///     Ok(())
    /// })?;
    /// let last = store.log(0)?.pop().unwrap();
    /// assert_eq!((last.message.as_deref(), last.rows), (Some("first notes"), 2));
    /// # Ok(()) }
    /// ```
    pub fn transact<T>(&self, f: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let scope = Scope::begin(self.sql())?;
        let value = f(&Transaction { connection: self.sql() })?;
        scope.commit()?;
        Ok(value)
    }
}

/// A transaction or savepoint; undone when dropped unless committed.
struct Scope<'a> {
    connection: &'a rusqlite::Connection,
    is_nested: bool,
    is_open: bool,
}

impl Scope<'_> {
    fn begin(connection: &rusqlite::Connection) -> Result<Scope<'_>> {
        let is_nested = !connection.is_autocommit();
        connection.execute_batch(if is_nested {
            "SAVEPOINT anabranch_transact"
        } else {
            "BEGIN IMMEDIATE"
        })?;
        Ok(Scope { connection, is_nested, is_open: true })
    }

    fn commit(mut self) -> Result<()> {
        let sql = if self.is_nested { "RELEASE anabranch_transact" } else { "COMMIT" };
        let mut tries = 1;
        loop {
            match self.connection.execute_batch(sql).map_err(Error::from) {
                Err(Error::Busy(_)) if tries < MAX_COMMIT_TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        self.is_open = false;
        Ok(())
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        // An error may have ended the transaction already: then there is nothing to undo.
        if !self.is_open || self.connection.is_autocommit() {
            return;
        }
        let sql = if self.is_nested {
            "ROLLBACK TO anabranch_transact; RELEASE anabranch_transact"
        } else {
            "ROLLBACK"
        };
        // Nobody to tell in a drop; the error that led here is on its way to the caller,
        // and SQLite rolls back at the latest when the connection closes.
        let _ = self.connection.execute_batch(sql);
    }
}
