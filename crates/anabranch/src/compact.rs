//! Forgetting: what a compaction drops, or would.

use anabranch_core::vector::VersionVector;
use rusqlite::types::ValueRef;

use crate::error::{Error, Result};
use crate::store::Store;

/// What a compaction dropped, or would drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// At or below it the past may be missing; of this compaction.
    pub floor: VersionVector,
    /// Peers for whose sake nothing newer is forgotten, each with the reason.
    pub waits_for: Vec<String>,
    /// Clocks of deleted rows.
    pub tombstones: u64,
    /// Headers of changes: author, message, time.
    pub headers: u64,
    /// Records of the log that nothing named any more.
    pub records: u64,
    /// Values that had given way: what `ana_conflicts` listed.
    pub values: u64,
    /// Bytes of log and clocks. The file has as many more free pages; `VACUUM` gives them back.
    pub bytes: u64,
}

impl Store {
    /// Forgets what is at or below `floor`: tombstones, headers of changes, values that gave way
    /// and overwritten entries of the log. `None`: what every listed peer has acknowledged. Rows
    /// and cells that are there stay as they are.
    ///
    /// A copy that does not hold the floor is made whole by a complete delta at its next sync:
    /// rows that were deleted meanwhile go there too, what it had not sent yet stays.
    ///
    /// One transaction, which reads all clocks and the log; nobody else writes meanwhile.
    ///
    /// # Errors
    /// [`Error::Sql`] where it cannot be known who all the peers are, and for a floor above what
    /// is held here; [`Error::SiteReused`] for one of another history.
    pub fn compact(&self, floor: Option<&VersionVector>) -> Result<Compaction> {
        self.run_compaction(floor, false)
    }

    /// What [`Store::compact`] would do. Reads the whole log.
    ///
    /// # Errors
    /// As [`Store::compact`].
    pub fn plan_compaction(&self, floor: Option<&VersionVector>) -> Result<Compaction> {
        self.run_compaction(floor, true)
    }

    fn run_compaction(&self, floor: Option<&VersionVector>, is_dry: bool) -> Result<Compaction> {
        let damaged = || Error::Answer("ana_internal_compact");
        let sql = "WITH done(json) AS MATERIALIZED (SELECT ana_internal_compact(?1, ?2))
                   SELECT json -> 'floor', json ->> 'tombstones', json ->> 'headers',
                          json ->> 'records', json ->> 'values', json ->> 'bytes',
                          json -> 'waits_for'
                   FROM done";
        let floor = floor.map(VersionVector::to_json);
        let mut statement = self.sql().prepare(sql)?;
        let mut rows = statement.query((floor, is_dry))?;
        let row = rows.next()?.ok_or_else(damaged)?;
        let number = |at| Ok::<u64, Error>(row.get::<_, i64>(at)?.cast_unsigned());
        let vector: String = row.get(0)?;
        let compaction = Compaction {
            floor: VersionVector::from_json(&vector).map_err(|_| damaged())?,
            waits_for: self.texts(row.get_ref(6)?)?,
            tombstones: number(1)?,
            headers: number(2)?,
            records: number(3)?,
            values: number(4)?,
            bytes: number(5)?,
        };
        Ok(compaction)
    }

    /// The texts of a JSON array.
    fn texts(&self, json: ValueRef<'_>) -> Result<Vec<String>> {
        let json = json.as_str().unwrap_or("[]").to_owned();
        let mut statement = self.sql().prepare("SELECT value FROM json_each(?1)")?;
        let texts = statement.query_map([json], |row| row.get(0))?;
        Ok(texts.collect::<rusqlite::Result<_>>()?)
    }

    /// At or below it the past may be missing here.
    pub fn floor(&self) -> Result<VersionVector> {
        let json: String = self.sql().query_row("SELECT ana_internal_floor()", [], |r| r.get(0))?;
        VersionVector::from_json(&json).map_err(|_| Error::Answer("ana_internal_floor"))
    }
}
