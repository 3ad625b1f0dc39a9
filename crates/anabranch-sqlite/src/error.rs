//! What goes wrong in SQLite, and what we tell SQLite went wrong.

/// A result code of SQLite and the message that goes with it.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct SqlError {
    /// Extended result code.
    pub code: i32,
    /// For people.
    pub message: String,
}

impl SqlError {
    /// SQLITE_MISUSE.
    pub const MISUSE: i32 = libsqlite3_sys::SQLITE_MISUSE;
    /// SQLITE_BUSY: another connection writes.
    pub const BUSY: i32 = libsqlite3_sys::SQLITE_BUSY;
    /// SQLITE_LOCKED: another statement or connection holds the table.
    pub const LOCKED: i32 = libsqlite3_sys::SQLITE_LOCKED;
    /// SQLITE_READONLY.
    pub const READONLY: i32 = libsqlite3_sys::SQLITE_READONLY;

    /// A plain SQLITE_ERROR.
    pub fn new(message: impl Into<String>) -> SqlError {
        SqlError { code: libsqlite3_sys::SQLITE_ERROR, message: message.into() }
    }

    /// SQLITE_NOMEM: SQLite undoes what it undoes for allocations of its own that fail.
    pub fn out_of_memory() -> SqlError {
        SqlError { code: libsqlite3_sys::SQLITE_NOMEM, message: "out of memory".into() }
    }

    /// The primary result code.
    pub fn primary(&self) -> i32 {
        self.code & 0xff
    }
}

/// What fallible calls of this crate return.
pub type Result<T> = std::result::Result<T, SqlError>;
