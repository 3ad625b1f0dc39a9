//! What can go wrong in a [`crate::Store`], by what the caller can do about it.

/// An error of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// SQLite's, or refused by a function of ours: the message says what and where.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// The file cannot be opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The path given.
        path: std::path::PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// What fallible calls of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
