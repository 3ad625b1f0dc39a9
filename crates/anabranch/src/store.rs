//! One database: open, edit, export, apply.

use std::path::Path;

use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_sqlite::{Embedded, SqlError};
use rusqlite::OpenFlags;
use rusqlite::ffi::SQLITE_READONLY_ROLLBACK;

use crate::error::{Error, Result};
use crate::identity;

/// A database whose conflict-free tables merge with those of any other copy.
///
/// A store is one connection, for one thread. Other connections and processes may have
/// the same file open, also through the loadable extension.
pub struct Store {
    connection: Embedded,
}

impl Store {
    /// Opens or makes a database.
    ///
    /// A file that was copied since it was last written through this library takes a new
    /// site id at its next write, so that both copies may go on and merge.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Load`].
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        Store::open_with(path.as_ref(), OpenFlags::default())
    }

    /// Opens a database that exists, read-only.
    ///
    /// If a program died while it wrote, its transaction is undone first, for which the file is
    /// opened for writing.
    ///
    /// # Errors
    /// [`Error::Open`]; [`Error::Load`], also for a database that is no store yet;
    /// [`Error::HotJournal`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Store> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let path = path.as_ref();
        match Store::open_with(path, flags) {
            Err(Error::Load(SqlError { code, .. })) if code == SQLITE_READONLY_ROLLBACK => {
                undo_unfinished(path)?;
                Store::open_with(path, flags)
            }
            opened => opened,
        }
    }

    /// Takes over a rusqlite connection (any VFS, any flags). The site id stays, whatever
    /// became of the file.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn from_connection(connection: rusqlite::Connection) -> Result<Store> {
        let connection = Embedded::new(connection).map_err(Error::Load)?;
        anabranch_store::install(connection.db()).map_err(Error::Load)?;
        Ok(Store { connection })
    }

    fn open_with(path: &Path, flags: OpenFlags) -> Result<Store> {
        let connection = rusqlite::Connection::open_with_flags(path, flags)
            .map_err(|source| Error::Open { path: path.to_owned(), source })?;
        let store = Store::from_connection(connection)?;
        identity::notice_copy(&store)?;
        Ok(store)
    }

    /// The connection, with all functions of ours.
    pub fn sql(&self) -> &rusqlite::Connection {
        &self.connection
    }

    /// Makes a table conflict-free (`crsql_as_crr`). Its rows become a change.
    ///
    /// # Errors
    /// [`Error::Sql`] for a table that cannot be: the message says why.
    pub fn make_conflict_free(&self, table: &str) -> Result<()> {
        Ok(self.sql().query_row("SELECT crsql_as_crr(?1)", [table], |_| Ok(()))?)
    }

    /// What this copy holds.
    pub fn version_vector(&self) -> Result<VersionVector> {
        let json: String =
            self.sql().query_row("SELECT ana_version_vector()", [], |row| row.get(0))?;
        VersionVector::from_json(&json).map_err(|_| Error::Answer("ana_version_vector"))
    }

    /// The delta above `from`, in parts of at most 4 MiB.
    ///
    /// # Errors
    /// [`Error::SiteReused`] when `from` names another history of a site than this copy
    /// holds.
    pub fn export(&self, from: &VersionVector) -> Result<Vec<Vec<u8>>> {
        let mut parts = Vec::new();
        self.for_each_part(from, |part, _| {
            parts.push(part.to_vec());
            Ok(())
        })?;
        Ok(parts)
    }

    /// Hands the parts of the delta above `from` to `take`, one after the other, each with
    /// whether it is the last: a delta of any size passes through little memory.
    ///
    /// # Errors
    /// As [`Store::export`]; what `take` answers, which ends it.
    pub fn for_each_part(
        &self,
        from: &VersionVector,
        mut take: impl FnMut(&[u8], bool) -> Result<()>,
    ) -> Result<()> {
        let sql = "SELECT bytes, part + 1 = of FROM ana_parts(?1) ORDER BY part";
        let mut statement = self.sql().prepare(sql)?;
        let mut rows = statement.query([from.to_json()])?;
        while let Some(row) = rows.next()? {
            let part = row.get_ref(0)?.as_blob().map_err(|_| Error::Answer("ana_parts"))?;
            take(part, row.get(1)?)?;
        }
        Ok(())
    }

    /// Applies a delta or a part; the number of changes newly held (0: staged, or known).
    /// All of it or nothing; repeating it changes nothing. A change that breaks a constraint of
    /// this copy is held and not shown: `ana_quarantine` lists it, [`Store::retry`] tries again.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::ClockAhead`], [`Error::SiteReused`]; [`Error::Sql`] for
    /// what is malformed or names what this copy lacks.
    pub fn apply(&self, delta: &[u8]) -> Result<u64> {
        let n_changes: i64 =
            self.sql().query_row("SELECT ana_apply(?1)", [delta], |row| row.get(0))?;
        Ok(n_changes.cast_unsigned())
    }

    /// Entries of another copy's vector whose histories are others here, and not longer.
    pub(crate) fn forks(&self, theirs: &VersionVector) -> Result<VersionVector> {
        let json: String =
            self.sql()
                .query_row("SELECT ana_internal_forks(?1)", [theirs.to_json()], |row| row.get(0))?;
        VersionVector::from_json(&json).map_err(|_| Error::Answer("ana_internal_forks"))
    }

    /// The chain of a site at a version that is held.
    pub(crate) fn chain(&self, site: SiteId, version: u64) -> Result<Option<[u8; 16]>> {
        let chain: Option<Vec<u8>> = self.sql().query_row(
            "SELECT ana_internal_chain(?1, ?2)",
            (site.as_bytes(), version.cast_signed()),
            |row| row.get(0),
        )?;
        Ok(chain.and_then(|chain| chain.try_into().ok()))
    }

    /// How many changes are held and not shown.
    pub fn quarantined(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM ana_quarantine";
        Ok(self.sql().query_row(sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// Tries again to show what is held; the number of changes newly shown.
    pub fn retry(&self) -> Result<u64> {
        let n_shown: i64 = self.sql().query_row("SELECT ana_retry()", [], |row| row.get(0))?;
        Ok(n_shown.cast_unsigned())
    }

    /// Hash of all rows of the conflict-free tables: equal copies, equal digests.
    pub fn digest(&self) -> Result<[u8; 32]> {
        let digest: Vec<u8> = self.sql().query_row("SELECT ana_digest()", [], |row| row.get(0))?;
        digest.try_into().map_err(|_| Error::Answer("ana_digest"))
    }
}

/// Lets SQLite undo the transaction of a program that died: it does so at the first reading of
/// a connection that may write.
fn undo_unfinished(path: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let read = |connection: rusqlite::Connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    };
    rusqlite::Connection::open_with_flags(path, flags)
        .and_then(read)
        .map_err(|source| Error::HotJournal { path: path.to_owned(), source })
}
