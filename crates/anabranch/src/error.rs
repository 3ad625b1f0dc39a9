//! What can go wrong in a [`crate::Store`], by what the caller can do about it.

use anabranch_sqlite::SqlError;
use anabranch_store::error::code;

/// An error of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// SQLite's, or refused by a function of ours: the message says what and where.
    #[error(transparent)]
    Sql(rusqlite::Error),
    /// The file cannot be opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The path given.
        path: std::path::PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A program died while it wrote, and its transaction cannot be undone here: open the file
    /// where it, its folder and the journal beside it may be written.
    #[error(
        "{path} was left in the middle of a write, which must be undone by opening it where it \
         and the journal beside it may be written: {source}"
    )]
    HotJournal {
        /// The path given.
        path: std::path::PathBuf,
        /// Why it cannot be undone here.
        source: rusqlite::Error,
    },
    /// The database is no store and cannot become one; or a newer version wrote it.
    #[error("cannot load the store: {0}")]
    Load(SqlError),
    /// Another connection is writing, and did not finish within the busy timeout: nothing
    /// happened, try again.
    #[error("the database is busy: {0}")]
    Busy(rusqlite::Error),
    /// Two copies of one database both wrote under one site id: give one of them a new
    /// identity before merging.
    #[error("{0}")]
    SiteReused(String),
    /// A change's time lies too far ahead of this clock: set the clock, or try again later.
    #[error("{0}")]
    ClockAhead(String),
    /// The delta begins above what is held here: ask again with this copy's vector.
    #[error("{0}")]
    Missing(String),
    /// There is no room for the temporary file of a large delta: nothing happened.
    #[error("{0}")]
    Temporary(String),
    /// A text that is no address to sync with.
    #[error(transparent)]
    Address(#[from] anabranch_client::AddressError),
    /// Sync cannot begin on this side: the message says why.
    #[error("{0}")]
    Sync(String),
    /// A function of ours answered what no version of it answers.
    #[error("unexpected answer from {0}")]
    Answer(&'static str),
}

/// What fallible calls of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        let rusqlite::Error::SqliteFailure(cause, message) = &error else {
            return Error::Sql(error);
        };
        let text = || message.clone().unwrap_or_else(|| cause.to_string());
        match cause.extended_code {
            code::SITE_REUSED | code::FALSE_BRANCH => Error::SiteReused(text()),
            code::CLOCK_AHEAD => Error::ClockAhead(text()),
            code::MISSING => Error::Missing(text()),
            code::TEMPORARY => Error::Temporary(text()),
            _ if cause.code == rusqlite::ErrorCode::DatabaseBusy => Error::Busy(error),
            _ => Error::Sql(error),
        }
    }
}
