//! A connection of our own, joined with its handle.
//!
//! Invariant: the handle cannot leave the thread without the connection, nor the connection
//! without the handle, because the pair is not `Send` and the connection cannot be taken out.

use std::ops::Deref;

use crate::db::Db;
use crate::error::Result;

/// A rusqlite connection and the [`Db`] of it. Closing it (dropping) turns the handles dead.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use anabranch_sqlite::Embedded;
/// let conn = Embedded::new(rusqlite::Connection::open_in_memory()?)?;
/// conn.db().execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1)")?;
/// let a: i64 = conn.query_row("SELECT a FROM t", [], |row| row.get(0))?;
/// assert_eq!(a, 1);
/// # Ok(()) }
/// ```
pub struct Embedded {
    // Dropped first: closing calls the destructors that use the handle.
    conn: rusqlite::Connection,
    db: Db,
}

impl Embedded {
    /// Joins a connection with its handle.
    ///
    /// # Errors
    /// SQLite's, when it refuses to register the function that marks the handle dead.
    pub fn new(conn: rusqlite::Connection) -> Result<Embedded> {
        // SAFETY: the connection is open as long as it is in the pair, nobody can take it
        // out, and at its close `attach`'s hook detaches. The pair is not `Send`, because
        // `Db` is not, and `&Connection` is not either: everything stays on this thread.
        let db = unsafe { Db::attach(conn.handle())? };
        Ok(Embedded { conn, db })
    }

    /// The handle.
    pub fn db(&self) -> &Db {
        &self.db
    }
}

impl Deref for Embedded {
    type Target = rusqlite::Connection;

    fn deref(&self) -> &rusqlite::Connection {
        &self.conn
    }
}
