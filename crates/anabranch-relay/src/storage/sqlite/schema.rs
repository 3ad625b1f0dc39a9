//! The tables of a relay's database, and how a connection to it is set up.
//!
//! ```text
//! store(id, name, created_ms, n_bytes, n_deltas, n_changes, forgot_ms)
//!                                                  forgot_ms: since then a complete delta is
//!                                                  here whose blobs were not looked through
//! site(id, store, site, version, chain, owner, root, base, start)
//!                                                  the vector of a store; owner: a subject; of
//!                                                  a branch its root, base and chain there
//! subject(id, name)                                who delivers
//! delta(id, store, name, subject, received_ms, n_bytes, spans, part)
//!     id      the order of arrival; the next one is above all, those of this process too
//!     spans   what was new: for each site length (1), bytes, first (8), last (8), chain (16)
//!     part    the only part, or NULL: then its parts are in `blob`
//! blob(delta, part, hash, n_bytes)                 parts in files
//! span(site, last, first, delta, subject, before, salts)
//!     versions first to last of a site, in the order they came; before: chain at first - 1,
//!     salts: 8 bytes each; subject: who delivered them first; delta: an id at or below that
//!     of the delta that holds them now
//! staged(store, delta, part, of, hash, n_bytes, at_ms)  parts of deltas that are not complete;
//!                                                  `store` is the name, for it may not exist yet
//! loose(store, hash, n_bytes, at_ms)               files that a store sent and no stored delta
//!                                                  of it names; `store` is the name
//! named(store, hash, n_bytes, state, at_ms)        blobs; `store` is the name. state 0: coming,
//!                                                  no change names it yet; 1: named and here;
//!                                                  2: named, and never came; 3: here, and
//!                                                  named no more since at_ms
//! known(store, site, bytes, at_ms)                 where changes got: what `ReceiptBook` keeps
//!                                                  of a place; `store` is the name
//! revoked(kind, name, until_s)                     tokens (0) and subjects (1)
//! ```
//!
//! Numbers in blobs are little-endian.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::storage::StorageError;

/// What `PRAGMA user_version` says of this schema.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE store(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL,
    n_bytes INTEGER NOT NULL DEFAULT 0, n_deltas INTEGER NOT NULL DEFAULT 0,
    n_changes INTEGER NOT NULL DEFAULT 0, forgot_ms INTEGER);
CREATE TABLE subject(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE site(
    id INTEGER PRIMARY KEY, store INTEGER NOT NULL, site BLOB NOT NULL,
    version INTEGER NOT NULL, chain BLOB NOT NULL, owner INTEGER,
    root BLOB, base INTEGER, start BLOB, UNIQUE(store, site));
CREATE TABLE delta(
    id INTEGER PRIMARY KEY, store INTEGER NOT NULL, name BLOB NOT NULL,
    subject INTEGER NOT NULL, received_ms INTEGER NOT NULL, n_bytes INTEGER NOT NULL,
    spans BLOB NOT NULL, part BLOB);
CREATE INDEX delta_store ON delta(store, id);
CREATE TABLE blob(
    delta INTEGER NOT NULL, part INTEGER NOT NULL, hash BLOB NOT NULL,
    n_bytes INTEGER NOT NULL, PRIMARY KEY(delta, part)) WITHOUT ROWID;
CREATE INDEX blob_hash ON blob(hash);
CREATE TABLE span(
    site INTEGER NOT NULL, last INTEGER NOT NULL, first INTEGER NOT NULL,
    delta INTEGER NOT NULL, subject INTEGER NOT NULL, before BLOB NOT NULL,
    salts BLOB NOT NULL, PRIMARY KEY(site, last)) WITHOUT ROWID;
CREATE TABLE staged(
    store TEXT NOT NULL, delta BLOB NOT NULL, part INTEGER NOT NULL, of INTEGER NOT NULL,
    hash BLOB NOT NULL, n_bytes INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY(store, delta, part)) WITHOUT ROWID;
CREATE INDEX staged_hash ON staged(hash);
CREATE TABLE loose(
    store TEXT NOT NULL, hash BLOB NOT NULL, n_bytes INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, PRIMARY KEY(store, hash)) WITHOUT ROWID;
CREATE TABLE named(
    store TEXT NOT NULL, hash BLOB NOT NULL, n_bytes INTEGER NOT NULL, state INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, PRIMARY KEY(store, hash)) WITHOUT ROWID;
CREATE INDEX named_hash ON named(hash);
CREATE TABLE known(
    store TEXT NOT NULL, site BLOB NOT NULL, bytes BLOB NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY(store, site)) WITHOUT ROWID;
CREATE TABLE revoked(
    kind INTEGER NOT NULL, name TEXT NOT NULL, until_s INTEGER NOT NULL,
    PRIMARY KEY(kind, name)) WITHOUT ROWID;
";

/// Which file, and on what kind of disk.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The file.
    pub(crate) path: PathBuf,
    /// SQLite's name for the disk; `None`: the system's.
    pub(crate) vfs: Option<String>,
}

impl Place {
    fn open(&self, flags: OpenFlags) -> Result<Connection, StorageError> {
        let db = match &self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs.as_str())?,
            None => Connection::open_with_flags(&self.path, flags)?,
        };
        // Without it a statement is compiled anew whenever it is bound to another version.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(db)
    }
}

/// Opens the connection that writes, making the tables in a new file.
///
/// # Errors
/// [`StorageError`]; a file of a later version is refused.
pub(super) fn open_writer(place: &Place) -> Result<Connection, StorageError> {
    let db = place.open(OpenFlags::default())?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "journal_mode", "wal")?;
    // An answer means that the log's last page is on disk: WAL alone would let a power cut
    // take the last commits back.
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "cache_size", -8192)?;
    // 16 MiB of log between two moves into the database: commits in between wait for less.
    db.pragma_update(None, "wal_autocheckpoint", 4096)?;
    db.set_prepared_statement_cache_capacity(32);
    let format: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match format {
        FORMAT => {}
        0 => {
            db.execute_batch(&format!(
                "BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;"
            ))?;
        }
        _ => return Err(StorageError::Damaged { what: "relay.db is of a later version" }),
    }
    Ok(db)
}

/// Opens a connection that reads.
///
/// # Errors
/// [`StorageError`].
pub(super) fn open_reader(place: &Place) -> Result<Connection, StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = place.open(flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "cache_size", -2048)?;
    Ok(db)
}

/// A relay's database is its own; a backup tool may hold it for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
