//! What can be wrong with what a caller hands to the store.

use anabranch_sqlite::SqlError;

/// Errors of the store, by what the caller can do about them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite's own.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Bytes in our own tables that no version of ours writes.
    #[error("damaged metadata in {place}: {what}; run SELECT * FROM ana_check")]
    Damaged {
        /// Table and row.
        place: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A refused argument or state; the message says what to do.
    #[error("{0}")]
    Refused(String),
}

impl From<StoreError> for SqlError {
    fn from(error: StoreError) -> SqlError {
        match error {
            StoreError::Sql(sql) => sql,
            other => SqlError::new(other.to_string()),
        }
    }
}

/// What fallible calls of this crate return.
pub type Result<T> = std::result::Result<T, StoreError>;
