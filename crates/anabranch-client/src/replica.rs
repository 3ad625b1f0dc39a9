//! The store as sync sees it: a vector, two doors, and whether anything was committed.
//!
//! All of it is SQL on a connection that `anabranch-store` was installed on.

use std::collections::BTreeSet;

use anabranch_core::clock::Chain;
use anabranch_core::forest::{Difference, Reading};
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, Held, VersionVector};
use anabranch_store::error::code;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};

use crate::limits::{MAX_PART_BYTES_IN_MEMORY, MAX_TOLD_HELD};
use crate::spool::Spool;

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
    /// A branch that is not called after its first change.
    #[error("{0}")]
    FalseBranch(String),
    /// A change's time is too far ahead of this clock.
    #[error("{0}")]
    ClockAhead(String),
    /// SQLite's own, or refused by the store: the message says what and where.
    #[error("{}", words(.0))]
    Sql(#[source] rusqlite::Error),
    /// What was committed cannot be synced to the disk.
    #[error("{path}: {source}")]
    Sync {
        /// SQLite's write-ahead log.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The parts of a delta that is given do not fit into memory, nor into a temporary file.
    #[error("the temporary file of a delta: {0}")]
    Temporary(#[source] std::io::Error),
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
            StoreError::Missing(_)
            | StoreError::SiteReused(_)
            | StoreError::FalseBranch(_)
            | StoreError::ClockAhead(_) => true,
            StoreError::Sql(error) => {
                let cause = error.sqlite_error();
                let has_no_room = cause.is_some_and(|cause| cause.extended_code == code::TEMPORARY);
                let is_of_the_file = matches!(
                    cause.map(|cause| cause.code),
                    Some(
                        ErrorCode::CannotOpen
                            | ErrorCode::DatabaseCorrupt
                            | ErrorCode::DiskFull
                            | ErrorCode::NotADatabase
                            | ErrorCode::OutOfMemory
                            | ErrorCode::ReadOnly
                            | ErrorCode::SystemIoFailure
                    )
                );
                !has_no_room && !is_of_the_file
            }
            StoreError::Busy(_)
            | StoreError::Sync { .. }
            | StoreError::Temporary(_)
            | StoreError::Answer(_) => false,
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
            code::FALSE_BRANCH => StoreError::FalseBranch(text()),
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

    /// Another's vector by the names that its sites have here.
    pub(crate) fn read(&self, theirs: &VersionVector) -> Result<Reading, StoreError> {
        let ask = |function: &'static str| {
            let mut statement =
                self.connection.prepare_cached(&format!("SELECT {function}(?1)"))?;
            let vector =
                statement.query_row([theirs.to_json()], |row| Ok(vector_in(row.get_ref(0)?)))?;
            vector.ok_or(StoreError::Answer(function))
        };
        let vector = ask("ana_internal_read")?;
        let difference = |(site, held): (SiteId, Held)| {
            let Held { version, chain } = held;
            Difference { site, version, chain }
        };
        let forks = ask("ana_internal_forks")?.iter().map(difference).collect();
        Ok(Reading { vector, forks })
    }

    /// The delta above `from`, in parts.
    pub(crate) fn export(&self, from: &VersionVector) -> Result<Spool, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT bytes FROM ana_parts(?1) ORDER BY part")?;
        let mut rows = statement.query([from.to_json()])?;
        let mut parts = Spool::new(MAX_PART_BYTES_IN_MEMORY);
        while let Some(row) = rows.next()? {
            parts.push(row.get(0)?).map_err(StoreError::Temporary)?;
        }
        Ok(parts)
    }

    /// Applies a delta or a part; the number of changes newly held.
    pub(crate) fn apply(&self, delta: &[u8]) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT ana_apply(?1)")?;
        Ok(statement.query_row([delta], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// This copy's site id.
    pub(crate) fn site(&self) -> Result<SiteId, StoreError> {
        let of = |row: &rusqlite::Row<'_>| Ok(row.get_ref(0)?.as_blob().ok().and_then(SiteId::new));
        let site = self.connection.query_row("SELECT crsql_site_id()", [], of)?;
        site.ok_or(StoreError::Answer("crsql_site_id"))
    }

    /// The chain of a site at a version; `None` if it is not held.
    pub(crate) fn chain(&self, site: SiteId, version: u64) -> Result<Option<Chain>, StoreError> {
        let Ok(version) = i64::try_from(version) else { return Ok(None) };
        let sql = "SELECT ana_internal_chain(?1, ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let chain: Option<Vec<u8>> =
            statement.query_row((site.as_bytes(), version), |row| row.get(0))?;
        Ok(chain.and_then(|chain| chain.try_into().ok()).map(Chain))
    }

    /// Changes that are held here and not shown, the first of them by site and version.
    pub(crate) fn held(&self) -> Result<BTreeSet<Dot>, StoreError> {
        let sql = format!("SELECT site, version FROM main.ana_held LIMIT {MAX_TOLD_HELD}");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        let mut held = BTreeSet::new();
        while let Some(row) = rows.next()? {
            let site = row.get_ref(0)?.as_blob().ok().and_then(SiteId::new);
            let site = site.ok_or(StoreError::Answer("ana_held"))?;
            held.insert(Dot { site, version: row.get::<_, i64>(1)?.cast_unsigned() });
        }
        Ok(held)
    }

    /// A number that changes when another connection or process has committed.
    pub(crate) fn data_version(&self) -> Result<i64, StoreError> {
        let mut statement = self.connection.prepare_cached("PRAGMA main.data_version")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// A number that grows when this connection writes rows.
    pub(crate) fn total_changes(&self) -> Result<i64, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT total_changes()")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Syncs what was committed and is perhaps not on the disk yet.
    ///
    /// With a write-ahead log and `synchronous` below FULL, a commit is not synced: what a
    /// power cut takes back must not be known to anybody else, or its versions would be
    /// used twice. SQLite takes no locks on the log file, so that a second handle on it is
    /// harmless; where there is none, commits are synced by themselves.
    pub(crate) fn make_durable(&self) -> Result<(), StoreError> {
        let Some(path) = self.connection.path().filter(|path| !path.is_empty()) else {
            return Ok(());
        };
        let synced = std::fs::File::open(format!("{path}-wal")).and_then(|log| log.sync_data());
        match synced {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::Sync { path: format!("{path}-wal"), source: error })
            }
            _ => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_is_refused_for_what_it_says_only() {
        let failure = |code| {
            let cause = rusqlite::ffi::Error::new(code);
            StoreError::from(rusqlite::Error::SqliteFailure(cause, None))
        };
        for (code, is_refusal) in [
            (code::MISSING, true),
            (code::CLOCK_AHEAD, true),
            (rusqlite::ffi::SQLITE_ERROR, true),
            (rusqlite::ffi::SQLITE_CONSTRAINT_CHECK, true),
            (code::TEMPORARY, false),
            (rusqlite::ffi::SQLITE_BUSY, false),
            (rusqlite::ffi::SQLITE_FULL, false),
            (rusqlite::ffi::SQLITE_IOERR_WRITE, false),
        ] {
            assert_eq!(failure(code).is_refusal(), is_refusal, "{code}");
        }
    }
}
