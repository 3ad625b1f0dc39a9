//! What was forgotten: the floor, the restart length of each table, and what a complete delta
//! puts in the place of headers (`docs/decisions/0008-forgetting.md`).
//!
//! Invariant: whatever is missing here was written at or below the floor, and had a causal
//! length below the restart length of its table. Both only grow.

use std::collections::BTreeMap;
use std::rc::Rc;

use anabranch_core::delta::SaltRun;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::{Held, VersionVector};
use hashbrown::HashMap;

use super::Metadata;
use super::sql::{damaged, int, read_u64};
use super::state::{Other, State, Versions};
use super::varint::Corrupt;
use crate::error::Result;
use crate::ids::{AuthorId, EntryId, LocalDot, TableId};
use crate::limits::CHAIN_STEP;

/// Key in `ana_meta`: how often something was forgotten.
pub(super) const FORGOTTEN: &str = "forgotten";
/// Key in `ana_meta`: 1 once cells came through `crsql_changes`.
const UNLISTED: &str = "unlisted";

/// Restart lengths by table, as far as asked for.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// No table has one.
    is_empty: bool,
    known: HashMap<TableId, u64>,
}

impl Metadata {
    /// The floor, with chains: at or below it the past may be missing here.
    pub(crate) fn floor(&mut self) -> Result<VersionVector> {
        self.ensure()?;
        let mut floor = VersionVector::new();
        for (author, version) in self.state.floor.clone().iter() {
            let site = self.author_site(*author)?;
            let chain = self.chain_of(site, *version)?;
            let place = || format!("ana_floor, author {}", author.0);
            let chain =
                chain.ok_or_else(|| damaged(place(), Corrupt("a version that is not held")))?;
            floor.set(site, Held { version: *version, chain });
            if let Some(branch) = self.log.branches.branch(*author) {
                floor.set_branch(site, branch);
            }
        }
        Ok(floor)
    }

    /// Whether a change is at or below the floor.
    pub(crate) fn is_below_floor(&self, change: LocalDot) -> bool {
        self.state.floor.get(&change.author).is_some_and(|version| *version >= change.version)
    }

    /// Whether cells came from a peer that no list has.
    pub(crate) fn has_unlisted_peer(&self) -> bool {
        self.state.has_unlisted
    }

    /// The least causal length of a life of a row of `table` that was unknown or dead here.
    pub(crate) fn restart(&mut self, table: TableId) -> Result<u64> {
        self.ensure()?;
        self.restart_of(table)
    }

    /// Restart lengths above 1, by the names of their tables.
    pub(crate) fn restarts_by_name(&self) -> Result<BTreeMap<String, u64>> {
        let sql = "SELECT tbl, cl FROM main.ana_restart WHERE cl > 1";
        let mut restarts = BTreeMap::new();
        for row in self.db.query_rows(sql, &[])? {
            if let [Value::Text(name), Value::Integer(length)] = &row[..] {
                let name = String::from_utf8_lossy(name).into_owned();
                restarts.insert(name, length.cast_unsigned());
            }
        }
        Ok(restarts)
    }

    pub(super) fn restart_of(&mut self, table: TableId) -> Result<u64> {
        if self.restarts.is_none() {
            let some = self.db.query_value("SELECT 1 FROM main.ana_restart LIMIT 1", &[])?;
            self.restarts = Some(Restarts { is_empty: some.is_none(), known: HashMap::new() });
        }
        let Some(restarts) = &mut self.restarts else { return Ok(1) };
        if restarts.is_empty {
            return Ok(1);
        }
        if let Some(length) = restarts.known.get(&table) {
            return Ok(*length);
        }
        let params = [int(u64::from(table.0))];
        let found =
            self.sql.restart.first(&self.db, &params, |row| read_u64(row, 0, "ana_restart"))?;
        let length = found.unwrap_or(1).max(1);
        restarts.known.insert(table, length);
        Ok(length)
    }

    pub(super) fn load_floor(&mut self, state: &mut State) -> Result<()> {
        let mut floor = Versions::new();
        for row in self.db.query_rows("SELECT author, version FROM main.ana_floor", &[])? {
            let [Value::Integer(author), Value::Integer(version)] = row[..] else {
                return Err(damaged("ana_floor", Corrupt("not a number")));
            };
            let author = u32::try_from(author)
                .map_err(|_| damaged("ana_floor", Corrupt("an id beyond 32 bits")))?;
            floor.insert(AuthorId(author), version.cast_unsigned());
        }
        state.floor = Rc::new(floor);
        state.n_forgotten = self.meta_number(FORGOTTEN)?;
        state.has_unlisted = self.meta_number(UNLISTED)? != 0;
        Ok(())
    }

    pub(super) fn note_unlisted(&mut self) -> Result<()> {
        if !self.state.has_unlisted {
            self.set_meta(UNLISTED, 1)?;
            self.state.has_unlisted = true;
        }
        Ok(())
    }

    /// Raises the floor where it is lower, and the restart lengths of tables by name. What is
    /// unfolded is folded first: it was counted with the lengths of its time.
    pub(crate) fn raise_floor(
        &mut self,
        floor: &VersionVector,
        restarts: &BTreeMap<String, u64>,
    ) -> Result<()> {
        self.ensure()?;
        let known = self.restarts_by_name()?;
        let are_known =
            restarts.iter().all(|(name, length)| *length <= known.get(name).copied().unwrap_or(1));
        if are_known && floor.is_at_or_below(&self.floor()?) {
            return Ok(());
        }
        self.or_stale(|this| {
            this.fold_tail()?;
            for (site, held) in floor.iter() {
                let author = this.author_of(site)?;
                if this.state.floor.get(&author).is_some_and(|version| *version >= held.version) {
                    continue;
                }
                this.db.execute(
                    "REPLACE INTO main.ana_floor(author, version) VALUES(?1, ?2)",
                    &[int(u64::from(author.0)), int(held.version)],
                )?;
                Rc::make_mut(&mut this.state.floor).insert(author, held.version);
            }
            this.raise_restarts(restarts)?;
            this.note_forgotten()
        })
    }

    pub(super) fn raise_restarts(&mut self, restarts: &BTreeMap<String, u64>) -> Result<()> {
        for (name, length) in restarts.iter().filter(|(_, length)| **length > 1) {
            self.db.execute(
                "INSERT INTO main.ana_restart(tbl, cl) VALUES(?1, ?2)
                 ON CONFLICT(tbl) DO UPDATE SET cl = max(cl, excluded.cl)",
                &[ValueRef::Text(name.as_bytes()), int(*length)],
            )?;
        }
        self.restarts = None;
        Ok(())
    }

    /// Tells other connections that what they keep of the log is void.
    pub(super) fn note_forgotten(&mut self) -> Result<()> {
        self.entries.clear();
        self.n_kept = 0;
        self.state.n_forgotten += 1;
        self.set_meta(FORGOTTEN, self.state.n_forgotten)
    }

    /// The salts of all versions up to the floor, by site.
    pub(crate) fn salts_to_floor(&mut self) -> Result<Vec<SaltRun>> {
        self.ensure()?;
        let mut salts = Vec::new();
        for (author, version) in self.state.floor.clone().iter() {
            let site = self.author_site(*author)?;
            let rows = self.db.query_rows(
                "SELECT version, salt FROM main.ana_salt WHERE author = ?1 AND version <= ?2
                 ORDER BY version",
                &[int(u64::from(author.0)), int(*version)],
            )?;
            for row in rows {
                let [Value::Integer(version), Value::Integer(salt)] = row[..] else {
                    return Err(damaged("ana_salt", Corrupt("not a number")));
                };
                let (version, salt) = (version.cast_unsigned(), salt.cast_unsigned());
                salts.push(SaltRun { site, version, salt });
            }
        }
        salts.sort_by_key(|run| (run.site, run.version));
        Ok(salts)
    }

    /// Holds all changes up to the floor of a complete delta, of which there are only salts.
    pub(crate) fn adopt_salts(&mut self, floor: &VersionVector, salts: &[SaltRun]) -> Result<()> {
        self.ensure()?;
        self.or_stale(|this| {
            this.fold_tail()?;
            for runs in salts.chunk_by(|a, b| a.site == b.site) {
                let site = runs[0].site;
                let author = this.author_of(site)?;
                if let Some(low) = floor.get(site)
                    && low.version > this.held_of(author).version
                {
                    this.adopt_of(author, site, low.version, runs)?;
                }
            }
            this.set_folded(this.state.last)
        })
    }

    fn adopt_of(
        &mut self,
        author: AuthorId,
        site: SiteId,
        last: u64,
        runs: &[SaltRun],
    ) -> Result<()> {
        let context = self.context_of(author)?;
        let start = EntryId(self.state.last.0 + 1);
        let origin = self.origin(author)?;
        let mut held = match self.held_of(author) {
            Held { version: 0, .. } => Held { version: 0, chain: origin.chain },
            held => held,
        };
        let mut stored = None;
        for (run, next) in runs.iter().zip(runs.iter().skip(1).map(Some).chain([None])) {
            let end = next.map_or(last, |next| last.min(next.version - 1));
            while held.version < end {
                let version = held.version + 1;
                held = Held { version, chain: origin.next(held.chain, version, run.salt) };
                if stored != Some(run.version) {
                    if self.salt_at(author, version)? != Some(run.salt) {
                        self.store_salt(author, version, run.salt)?;
                    }
                    stored = Some(run.version);
                }
                if version.is_multiple_of(CHAIN_STEP) {
                    self.store_chain(author, held, start, &context)?;
                }
            }
        }
        self.store_held(author, held, &context)?;
        if author == AuthorId(0) {
            self.state.own = held;
            self.log.pending_version = held.version + 1;
            self.state.own_salt = self.salt_at(author, held.version)?;
        } else {
            Rc::make_mut(&mut self.state.others).insert(author, Other { site, held });
        }
        Ok(())
    }
}
