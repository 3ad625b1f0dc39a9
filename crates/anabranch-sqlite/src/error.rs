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
    /// SQLITE_READONLY.
    pub const READONLY: i32 = libsqlite3_sys::SQLITE_READONLY;

    /// A plain SQLITE_ERROR.
    pub fn new(message: impl Into<String>) -> SqlError {
        SqlError { code: libsqlite3_sys::SQLITE_ERROR, message: message.into() }
    }

    /// The primary result code.
    pub fn primary(&self) -> i32 {
        self.code & 0xff
    }
}

/// What fallible calls of this crate return.
pub type Result<T> = std::result::Result<T, SqlError>;
