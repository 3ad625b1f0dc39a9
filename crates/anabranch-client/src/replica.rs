//! The store as sync sees it: a vector, two doors, and whether anything was committed.
//!
//! All of it is SQL on a connection that `anabranch-store` was installed on.

use anabranch_core::vector::VersionVector;
use anabranch_store::error::code;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};

/// A store, through its connection.
#[derive(Clone, Copy)]
pub(crate) struct Replica<'a> {
    connection: &'a Connection,
}

/// Why a store does not take a delta, or does not give one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another connection is writing, and did not finish within the busy timeout.
    #[error("the database is busy: {0}")]
    Busy(#[source] rusqlite::Error),
    /// It begins above what is held here.
    #[error("{0}")]
    Missing(String),
    /// Two histories under one site id.
    #[error("{0}")]
    SiteReused(String),
    /// A change's time is too far ahead of this clock.
    #[error("{0}")]
    ClockAhead(String),
    /// SQLite's own, or refused by the store: the message says what and where.
    #[error("{}", words(.0))]
    Sql(#[source] rusqlite::Error),
    /// A function of ours answered what no version of it answers.
    #[error("unexpected answer from {0}")]
    Answer(&'static str),
}

/// SQLite's words alone: rusqlite adds the statement and offsets.
fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

impl StoreError {
    /// Whether the delta was refused for what it says, and not for the state of the file.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            StoreError::Missing(_) | StoreError::SiteReused(_) | StoreError::ClockAhead(_) => true,
            StoreError::Sql(error) => !matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::CannotOpen
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::DiskFull
                        | ErrorCode::NotADatabase
                        | ErrorCode::OutOfMemory
                        | ErrorCode::ReadOnly
                        | ErrorCode::SystemIoFailure
                )
            ),
            StoreError::Busy(_) | StoreError::Answer(_) => false,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        let rusqlite::Error::SqliteFailure(cause, message) = &error else {
            return StoreError::Sql(error);
        };
        let text = || message.clone().unwrap_or_else(|| cause.to_string());
        match cause.extended_code {
            code::SITE_REUSED => StoreError::SiteReused(text()),
            code::CLOCK_AHEAD => StoreError::ClockAhead(text()),
            code::MISSING => StoreError::Missing(text()),
            _ if cause.code == ErrorCode::DatabaseBusy => StoreError::Busy(error),
            _ => StoreError::Sql(error),
        }
    }
}

impl<'a> Replica<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Replica<'a> {
        Replica { connection }
    }

    /// The connection.
    pub(crate) fn sql(&self) -> &'a Connection {
        self.connection
    }

    /// What is held here.
    pub(crate) fn vector(&self) -> Result<VersionVector, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT ana_version_vector()")?;
        let vector = statement.query_row([], |row| Ok(vector_in(row.get_ref(0)?)))?;
        vector.ok_or(StoreError::Answer("ana_version_vector"))
    }

    /// The delta above `from`, in parts.
    pub(crate) fn export(&self, from: &VersionVector) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT bytes FROM ana_parts(?1) ORDER BY part")?;
        let parts = statement.query_map([from.to_json()], |row| row.get(0))?;
        Ok(parts.collect::<rusqlite::Result<_>>()?)
    }

    /// Applies a delta or a part; the number of changes newly held.
    pub(crate) fn apply(&self, delta: &[u8]) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT ana_apply(?1)")?;
        Ok(statement.query_row([delta], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// Runs `work` in one transaction, unless one is open already.
    pub(crate) fn atomically<T>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction = match self.connection.is_autocommit() {
            true => Some(rusqlite::Transaction::new_unchecked(
                self.connection,
                rusqlite::TransactionBehavior::Immediate,
            )?),
            false => None,
        };
        let value = work()?;
        if let Some(transaction) = transaction {
            transaction.commit()?;
        }
        Ok(value)
    }
}

/// A vector in a column; `None` for what is none.
pub(crate) fn vector_in(value: ValueRef<'_>) -> Option<VersionVector> {
    value.as_str().ok().and_then(|json| VersionVector::from_json(json).ok())
}

/// How many changes `to` holds that `from` lacks.
pub(crate) fn n_changes_above(from: &VersionVector, to: &VersionVector) -> u64 {
    to.iter().map(|(site, held)| held.version.saturating_sub(from.version(site))).sum()
}
