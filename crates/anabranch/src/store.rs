//! One database: open, edit, export, apply, look.

use std::path::Path;

use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;

use crate::error::Result;

/// A database whose conflict-free tables merge with those of any other copy.
pub struct Store {
    connection: rusqlite::Connection,
}

/// A running transaction of [`Store::transact`]: a rusqlite connection, plus what a change
/// can say of itself.
pub struct Transaction<'a> {
    connection: &'a rusqlite::Connection,
}

/// A violated invariant, from `ana_check()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `error` or `warning`.
    pub severity: String,
    /// Table and row.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// One change, from `ana_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Position in this copy's log.
    pub position: i64,
    /// Author.
    pub site: SiteId,
    /// The author's version.
    pub version: u64,
    /// Unix milliseconds.
    pub time_ms: u64,
    /// Who, as the application said.
    pub author: Option<String>,
    /// Why, as the application said.
    pub message: Option<String>,
    /// `edit`, `import`, `schema` or `restore`.
    pub kind: String,
    /// Names of the tables touched, comma-separated.
    pub tables: String,
    /// Rows touched.
    pub rows: u64,
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// This copy.
    pub site: SiteId,
    /// `crsql_db_version()`.
    pub db_version: u64,
    /// What is held.
    pub vector: VersionVector,
    /// 32 bytes.
    pub digest: [u8; 32],
    /// Six words of the digest.
    pub words: String,
    /// Conflict-free tables and their row counts.
    pub tables: Vec<(String, u64)>,
    /// Bytes of the database file, and of our metadata in it.
    pub file_bytes: u64,
    /// Bytes of our own tables.
    pub metadata_bytes: u64,
}

impl Store {
    /// Opens or makes a database.
    pub fn open(_path: impl AsRef<Path>) -> Result<Store> {
        todo!()
    }

    /// Opens a database that exists, read-only.
    pub fn open_read_only(_path: impl AsRef<Path>) -> Result<Store> {
        todo!()
    }

    /// Takes over a rusqlite connection (any VFS, any flags).
    pub fn from_connection(_connection: rusqlite::Connection) -> Result<Store> {
        todo!()
    }

    /// The connection, with all functions of ours.
    pub fn sql(&self) -> &rusqlite::Connection {
        &self.connection
    }

    /// Runs `f` in one transaction, which becomes one change: committed if `f` returns
    /// `Ok`, rolled back otherwise.
    pub fn transact<T>(&self, _f: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        todo!()
    }

    /// Makes a table conflict-free (`crsql_as_crr`).
    pub fn make_conflict_free(&self, _table: &str) -> Result<()> {
        todo!()
    }

    /// What this copy holds.
    pub fn version_vector(&self) -> Result<VersionVector> {
        todo!()
    }

    /// The delta above `from`, in parts of at most 4 MiB.
    pub fn export(&self, _from: &VersionVector) -> Result<Vec<Vec<u8>>> {
        todo!()
    }

    /// Applies a delta or a part; the number of changes newly held (0: staged, or known).
    pub fn apply(&self, _delta: &[u8]) -> Result<u64> {
        todo!()
    }

    /// Hash of all rows of the conflict-free tables: equal copies, equal digests.
    pub fn digest(&self) -> Result<[u8; 32]> {
        todo!()
    }

    /// Every violated invariant; empty means none.
    pub fn check(&self) -> Result<Vec<Finding>> {
        todo!()
    }

    /// The log after `position`, oldest first.
    pub fn log(&self, _after: i64) -> Result<Vec<LogRecord>> {
        todo!()
    }

    /// What this store says of itself.
    pub fn status(&self) -> Result<Status> {
        todo!()
    }
}

impl Transaction<'_> {
    /// The connection, inside the transaction.
    pub fn sql(&self) -> &rusqlite::Connection {
        self.connection
    }

    /// Says why (`ana_message`).
    pub fn message(&self, _text: &str) -> Result<()> {
        todo!()
    }

    /// Says who (`ana_author`).
    pub fn author(&self, _text: &str) -> Result<()> {
        todo!()
    }
}
