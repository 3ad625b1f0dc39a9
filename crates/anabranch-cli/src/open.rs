//! Opening databases that must exist, and saying well what is wrong when they do not.
//!
//! Invariant: no command but `init` makes a file, or adds our tables to a database.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch::Store;
use anabranch::rusqlite::{self, Connection, OpenFlags};

use crate::failure::{Exit, Failure, Result, io_at};
use crate::hint::word;

/// How long to wait for another program that writes; five seconds outlast any merge of
/// ordinary size and are short enough for a person.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The first bytes of every SQLite database (sqlite.org/fileformat2.html, 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Missing,
    /// A file without a byte: SQLite takes it for an empty database.
    Empty,
    /// A SQLite database without our tables.
    Plain,
    /// A store.
    Store,
}

/// A store that exists, for reading and writing.
pub(crate) fn writable(path: &Path) -> Result<Store> {
    must_be_store(path)?;
    let store =
        Store::open(literal(path)).map_err(|error| Failure::from(error).at(path.display()))?;
    store.sql().busy_timeout(BUSY_TIMEOUT)?;
    Ok(store)
}

/// A store that exists, for reading.
pub(crate) fn readable(path: &Path) -> Result<Store> {
    must_be_store(path)?;
    let store = Store::open_read_only(literal(path))
        .map_err(|error| Failure::from(error).at(path.display()))?;
    store.sql().busy_timeout(BUSY_TIMEOUT)?;
    Ok(store)
}

/// The path as SQLite takes it for a file: `:memory:` and `file:…` are names like others.
pub(crate) fn literal(path: &Path) -> PathBuf {
    if path.is_relative() { Path::new(".").join(path) } else { path.to_owned() }
}

/// Refuses two names of one file.
pub(crate) fn must_differ(a: &Path, b: &Path) -> Result<()> {
    let real = |path: &Path| path.canonicalize().map_err(|error| io_at(path.display(), error));
    if real(a)? == real(b)? || is_same_inode(a, b) {
        let what = format!("{} and {} are the same file", a.display(), b.display());
        return Err(Failure::new(Exit::Usage, what).hint("name two different databases"));
    }
    Ok(())
}

/// Looks at a path without opening it as a store.
pub(crate) fn look(path: &Path) -> Result<Found> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(io_at(path.display(), error)),
    };
    if metadata.is_dir() {
        let failure = Failure::new(Exit::Io, format!("{} is a folder", path.display()));
        return Err(failure.hint("name the database file in it"));
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(16).read_to_end(&mut head));
    read.map_err(|error| io_at(path.display(), error))?;
    if head.is_empty() {
        return Ok(Found::Empty);
    }
    if head != MAGIC {
        let failure = Failure::new(Exit::Refused, format!("{}: not a database", path.display()));
        return Err(failure.hint("the file is something else, or encrypted, or damaged"));
    }
    if has_our_tables(path)? { Ok(Found::Store) } else { Ok(Found::Plain) }
}

fn must_be_store(path: &Path) -> Result<()> {
    let shown = path.display().to_string();
    let word = word(&shown);
    match look(path)? {
        Found::Store => Ok(()),
        Found::Missing => Err(Failure::new(Exit::Io, format!("{shown}: no such file"))
            .hint(format!("`ana init {word}` makes a new store there"))),
        Found::Empty | Found::Plain => {
            let what = format!("{shown} is a SQLite database, but no store yet");
            Err(Failure::new(Exit::Refused, what)
                .hint(format!("`ana init {word}` makes it one and leaves its tables as they are")))
        }
    }
}

fn has_our_tables(path: &Path) -> Result<bool> {
    let look = |access: OpenFlags| {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(literal(path), flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.query_row(
            "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ana_meta')",
            [],
            |row| row.get(0),
        )
    };
    look(OpenFlags::SQLITE_OPEN_READ_ONLY)
        .or_else(|error| match needs_rollback(&error) {
            true => look(OpenFlags::SQLITE_OPEN_READ_WRITE),
            false => Err(error),
        })
        .map_err(|error| Failure::from(error).at(path.display()))
}

/// Whether a program died while it wrote: SQLite undoes its transaction when somebody opens
/// the file for writing, and lets nobody read before.
fn needs_rollback(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(rusqlite::ffi::SQLITE_READONLY_ROLLBACK)
}

/// Whether hard links make two paths one file.
#[cfg(unix)]
fn is_same_inode(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_inode(_a: &Path, _b: &Path) -> bool {
    false
}
