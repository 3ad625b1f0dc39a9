//! What a store says of itself: its log, its state, its findings.

use std::collections::BTreeMap;

use anabranch_client::Peer;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use rusqlite::OptionalExtension;
use rusqlite::types::ValueRef;

use crate::compact::Compaction;
use crate::error::{Error, Result};
use crate::literal::identifier;
use crate::store::Store;

/// A violated invariant, from `ana_check()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `error` or `warning`.
    pub severity: String,
    /// Table and row.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// One change, from `ana_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Position in this copy's log.
    pub position: i64,
    /// Author.
    pub site: SiteId,
    /// The author's version.
    pub version: u64,
    /// Unix milliseconds.
    pub time_ms: u64,
    /// Who, as the application said.
    pub author: Option<String>,
    /// Why, as the application said.
    pub message: Option<String>,
    /// `edit`, `import`, `schema` or `restore`.
    pub kind: String,
    /// Names of the tables touched, comma-separated.
    pub tables: String,
    /// Rows touched.
    pub rows: u64,
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// This copy.
    pub site: SiteId,
    /// `crsql_db_version()`.
    pub db_version: u64,
    /// What is held.
    pub vector: VersionVector,
    /// 32 bytes.
    pub digest: [u8; 32],
    /// Six words of the digest.
    pub words: String,
    /// Conflict-free tables and their row counts, by name.
    pub tables: Vec<(String, u64)>,
    /// Changes that are not known to be on any other disk.
    pub unsynced: u64,
    /// Changes that are held and not shown: a constraint of this copy refuses them.
    pub quarantined: u64,
    /// Why the first of them is not.
    pub quarantine_reason: Option<String>,
    /// At or below it the past may be missing here.
    pub floor: VersionVector,
    /// What [`Store::compact`] would drop; `None` where it needs a floor that is named.
    pub compaction: Option<Compaction>,
    /// Those this store has synced with, and what each is known to hold.
    pub peers: Vec<Peer>,
    /// Bytes of the database file, without its journal.
    pub file_bytes: u64,
    /// Bytes of the pages that hold our own tables.
    pub metadata_bytes: u64,
}

impl Store {
    /// Every violated invariant; empty means none. Reads the whole database.
    pub fn check(&self) -> Result<Vec<Finding>> {
        let mut statement = self.sql().prepare("SELECT severity, place, what FROM ana_check")?;
        let findings = statement.query_map([], |row| {
            Ok(Finding { severity: row.get(0)?, place: row.get(1)?, what: row.get(2)? })
        })?;
        Ok(findings.collect::<rusqlite::Result<_>>()?)
    }

    /// The log after `position` (0: all of it), oldest first.
    pub fn log(&self, after: i64) -> Result<Vec<LogRecord>> {
        let mut statement = self.sql().prepare(
            "SELECT position, site, version, time, author, message, kind, tables, rows
             FROM ana_log WHERE position > ?1",
        )?;
        let mut rows = statement.query([after])?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            records.push(log_record(row)?);
        }
        Ok(records)
    }

    /// Who writes under which site id, as the log tells: the last author named.
    pub fn authors(&self) -> Result<BTreeMap<SiteId, String>> {
        let mut statement = self.sql().prepare("SELECT site, author FROM ana_internal_authors")?;
        let mut rows = statement.query([])?;
        let mut authors = BTreeMap::new();
        while let Some(row) = rows.next()? {
            authors.insert(site_id(row.get_ref(0)?)?, row.get(1)?);
        }
        Ok(authors)
    }

    /// What this store says of itself. Reads all rows of the conflict-free tables.
    pub fn status(&self) -> Result<Status> {
        let one = |sql: &str| self.sql().query_row(sql, [], |row| row.get::<_, i64>(0));
        let digest = self.digest()?;
        let words = self.sql().query_row("SELECT ana_words(?1)", [&digest[..]], |r| r.get(0))?;
        let file_bytes =
            one("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?;
        let metadata_bytes = one("SELECT coalesce(sum(pgsize), 0) FROM dbstat
             WHERE aggregate = TRUE AND (name GLOB 'ana_*' OR name GLOB 'crsql_*'
                OR name GLOB 'sqlite_autoindex_ana_*' OR name GLOB 'sqlite_autoindex_crsql_*')")?;
        let (site, vector, receipts) = (self.site()?, self.version_vector()?, self.receipts()?);
        let elsewhere = receipts.elsewhere(site, &vector);
        let missing =
            |(site, held): (SiteId, Held)| held.version.saturating_sub(elsewhere.version(site));
        Ok(Status {
            site,
            db_version: one("SELECT crsql_db_version()")?.cast_unsigned(),
            unsynced: vector.iter().map(missing).sum(),
            quarantined: self.quarantined()?,
            quarantine_reason: self.quarantine_reason()?,
            floor: self.floor()?,
            compaction: self.plan_compaction(None).ok(),
            peers: receipts.peers,
            vector,
            digest,
            words,
            tables: self.row_counts()?,
            file_bytes: file_bytes.cast_unsigned(),
            metadata_bytes: metadata_bytes.cast_unsigned(),
        })
    }

    fn quarantine_reason(&self) -> Result<Option<String>> {
        let sql = "SELECT reason FROM ana_quarantine ORDER BY time, site, version LIMIT 1";
        Ok(self.sql().query_row(sql, [], |row| row.get(0)).optional()?)
    }

    /// This copy's site id.
    pub fn site(&self) -> Result<SiteId> {
        self.sql().query_row("SELECT crsql_site_id()", [], |row| Ok(site_id(row.get_ref(0)?)))?
    }

    /// Names of the conflict-free tables, in order.
    pub fn tables(&self) -> Result<Vec<String>> {
        let mut statement = self.sql().prepare(
            "SELECT tbl_name FROM main.sqlite_schema
             WHERE type = 'trigger' AND name = tbl_name || '__crsql_itrig' ORDER BY tbl_name",
        )?;
        let names = statement.query_map([], |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    }

    fn row_counts(&self) -> Result<Vec<(String, u64)>> {
        let count = |name: String| {
            let sql = format!("SELECT count(*) FROM main.{}", identifier(&name));
            let n_rows: i64 = self.sql().query_row(&sql, [], |row| row.get(0))?;
            Ok((name, n_rows.cast_unsigned()))
        };
        self.tables()?.into_iter().map(count).collect()
    }
}

fn log_record(row: &rusqlite::Row<'_>) -> Result<LogRecord> {
    let unsigned = |index| Ok::<u64, rusqlite::Error>(row.get::<_, i64>(index)?.cast_unsigned());
    Ok(LogRecord {
        position: row.get(0)?,
        site: site_id(row.get_ref(1)?)?,
        version: unsigned(2)?,
        time_ms: unsigned(3)?,
        author: row.get(4)?,
        message: row.get(5)?,
        kind: row.get(6)?,
        tables: row.get(7)?,
        rows: unsigned(8)?,
    })
}

/// A site id of 1 to 16 bytes.
pub(crate) fn site_id(value: ValueRef<'_>) -> Result<SiteId> {
    let bytes = value.as_blob().unwrap_or_default();
    SiteId::new(bytes).ok_or(Error::Answer("a column that holds site ids"))
}
