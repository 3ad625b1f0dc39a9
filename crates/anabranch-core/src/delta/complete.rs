//! What a complete delta says beside an ordinary one (`changes.md`, 9).
//!
//! Its maker forgot: tombstones, and the headers at or below its floor. It tells everything
//! alive instead of what changed, so that a row it lacks is known to be gone; and it names the
//! forgotten history by salts alone, from which chains follow.

use std::collections::{BTreeMap, BTreeSet};

use super::{Delta, DeltaError};
use crate::clock::Chain;
use crate::limits::{MAX_COLUMN_VERSION, MAX_NAME_BYTES};
use crate::site::SiteId;
use crate::vector::VersionVector;

/// What the maker of a complete delta has forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complete {
    /// At or below this the past may be missing; in a join it counts as the delta's `from`.
    pub floor: VersionVector,
    /// Tables, by name.
    pub tables: Vec<TableFloor>,
}

/// What a complete delta says of a table beside its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFloor {
    /// The table's name as declared.
    pub name: String,
    /// The least causal length with which a row begins a life that is unknown or dead: odd, and
    /// above every causal length that was forgotten. 1: none was.
    pub restart_length: u64,
    /// The delta has all rows of this table: one that it lacks is gone.
    pub is_whole: bool,
}

/// A salt that holds from one version of a site on, until its next run or the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaltRun {
    /// Whose changes.
    pub site: SiteId,
    /// The first of them.
    pub version: u64,
    /// Their salt.
    pub salt: u64,
}

impl Complete {
    /// What is said of a table.
    pub fn table(&self, name: &str) -> Option<&TableFloor> {
        let place = self.tables.binary_search_by(|table| table.name.as_str().cmp(name));
        place.ok().map(|place| &self.tables[place])
    }

    /// Checks the floor against `from` and `to`, and the tables.
    pub(crate) fn check(&self, from: &VersionVector, to: &VersionVector) -> Result<(), DeltaError> {
        if let Some((site, _)) = from.iter().next() {
            return Err(DeltaError::CompleteFrom { site });
        }
        for (site, low) in self.floor.iter() {
            let is_within = to.get(site).is_some_and(|high| {
                low.version < high.version || (low.version == high.version && low == high)
            });
            if !is_within {
                return Err(DeltaError::FromAboveTo { site });
            }
        }
        let mut previous: Option<&str> = None;
        for TableFloor { name, restart_length, .. } in &self.tables {
            let at = |what| DeltaError::Table { table: name.chars().take(64).collect(), what };
            if previous.is_some_and(|previous| previous >= name.as_str()) {
                return Err(at("tables are not in the order of their names"));
            }
            if name.len() > MAX_NAME_BYTES {
                return Err(at("a name longer than 2048 bytes"));
            }
            if restart_length.is_multiple_of(2) || *restart_length > MAX_COLUMN_VERSION {
                return Err(at("its restart length is not odd, or above 2^53"));
            }
            previous = Some(name);
        }
        Ok(())
    }

    /// Takes over what a later complete delta says: restart lengths join by maximum.
    pub(super) fn join(&mut self, later: &Complete) {
        let mut tables: BTreeMap<String, TableFloor> = BTreeMap::new();
        for table in self.tables.drain(..).chain(later.tables.iter().cloned()) {
            let joined = tables.entry(table.name.clone()).or_insert_with(|| table.clone());
            joined.restart_length = joined.restart_length.max(table.restart_length);
            joined.is_whole |= table.is_whole;
        }
        self.tables = tables.into_values().collect();
    }
}

impl Delta {
    /// Above this are the changes whose headers the delta has: `from`, or the floor of a
    /// complete delta.
    pub fn start(&self) -> &VersionVector {
        self.complete.as_ref().map_or(&self.from, |complete| &complete.floor)
    }

    /// The chain of a site at a version at or below the floor, out of the salts.
    pub(super) fn chain_by_salts(&self, site: SiteId, version: u64) -> Option<Chain> {
        let first = self.salts.partition_point(|run| run.site < site);
        let mut runs = self.salts[first..].iter().take_while(|run| run.site == site).peekable();
        let origin = self.to.origin(site);
        let (mut chain, mut at) = (origin.chain, 0);
        while at < version {
            let run = runs.next().filter(|run| run.version == at + 1)?;
            let end = runs.peek().map_or(version, |next| version.min(next.version - 1));
            while at < end {
                at += 1;
                chain = origin.next(chain, at, run.salt);
            }
        }
        Some(chain)
    }
}

/// Takes runs of salts one by one: by site, then version, from version 1 up to the floor.
#[derive(Clone, Debug)]
pub(crate) struct SaltSequence {
    last: Option<(SiteId, u64)>,
    missing: BTreeSet<SiteId>,
}

impl SaltSequence {
    pub(crate) fn new(complete: Option<&Complete>) -> SaltSequence {
        let sites = complete.iter().flat_map(|complete| complete.floor.iter());
        SaltSequence { last: None, missing: sites.map(|(site, _)| site).collect() }
    }

    pub(crate) fn check(
        &mut self,
        run: &SaltRun,
        complete: Option<&Complete>,
    ) -> Result<(), DeltaError> {
        let SaltRun { site, version, .. } = *run;
        let floor = complete.map_or(0, |complete| complete.floor.version(site));
        let follows = match self.last {
            Some((last, at)) if last == site => at < version,
            Some((last, _)) => last < site && version == 1,
            None => version == 1,
        };
        if !follows || version > floor {
            return Err(DeltaError::Salt { site, version });
        }
        self.missing.remove(&site);
        self.last = Some((site, version));
        Ok(())
    }

    pub(crate) fn finish(&self) -> Result<(), DeltaError> {
        match self.missing.first() {
            Some(site) => Err(DeltaError::Salt { site: *site, version: 1 }),
            None => Ok(()),
        }
    }
}
