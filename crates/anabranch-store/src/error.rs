//! What can be wrong with what a caller hands to the store.

use anabranch_sqlite::SqlError;

use crate::ids::{ColumnId, TableId};
use crate::limits::MAX_COLUMN_VERSION;

/// Extended result codes of ours: SQLITE_ERROR with a number of our own above it, so that a
/// program need not read messages.
pub mod code {
    /// Two histories under one site id met.
    pub const SITE_REUSED: i32 = 1 | 0xa1 << 8;
    /// A change lies too far ahead of this clock.
    pub const CLOCK_AHEAD: i32 = 1 | 0xa2 << 8;
    /// A delta begins above what is held here.
    pub const MISSING: i32 = 1 | 0xa3 << 8;
    /// A delta names branches that are not called after their first changes.
    pub const FALSE_BRANCH: i32 = 1 | 0xa4 << 8;
    /// There is no room for a temporary file: nothing is wrong with what was given.
    pub const TEMPORARY: i32 = 1 | 0xa5 << 8;
}

/// Errors of the store, by what the caller can do about them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite's own.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// A constraint or a trigger of a user's table, about one row: another row may be written.
    #[error(transparent)]
    Constraint(SqlError),
    /// Bytes in our own tables that no version of ours writes.
    #[error("damaged metadata in {place}: {what}; run SELECT * FROM ana_check")]
    Damaged {
        /// Table and row.
        place: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A delta that is not taken.
    #[error(transparent)]
    Delta(#[from] crate::delta::DeltaError),
    /// A write to what has reached the largest version.
    #[error("a row that is written has reached the largest version, {MAX_COLUMN_VERSION}")]
    VersionSpent(Box<SpentVersion>),
    /// A large delta could not be put together: the folder for temporary files is full, or none.
    #[error("a temporary file, in which a large delta is put together: {0}")]
    Temporary(#[source] std::io::Error),
    /// A refused argument or state; the message says what to do.
    #[error("{0}")]
    Refused(String),
}

/// What has reached the largest version.
#[derive(Debug)]
pub struct SpentVersion {
    pub(crate) table: TableId,
    /// Folded.
    pub(crate) key: Vec<u8>,
    /// The sentinel: the row's causal length.
    pub(crate) column: ColumnId,
}

impl From<StoreError> for SqlError {
    fn from(error: StoreError) -> SqlError {
        match error {
            StoreError::Sql(sql) | StoreError::Constraint(sql) => sql,
            StoreError::Delta(delta) => SqlError { code: delta.code(), message: delta.to_string() },
            StoreError::Temporary(_) => {
                SqlError { code: code::TEMPORARY, message: error.to_string() }
            }
            other => SqlError::new(other.to_string()),
        }
    }
}

/// What fallible calls of this crate return.
pub type Result<T> = std::result::Result<T, StoreError>;
