//! Joining a chain of deltas that are too many to be held at once.
//!
//! Each is read once, piece by piece ([`Gather::open`], [`Gather::rows`], [`Gather::is_new`]):
//! its rows come out in the words of dictionaries that all of them share, without what the
//! deltas before it told. Rows of one key are then joined in order ([`super::RowDelta::join`]), by
//! whoever has the room to sort them. What comes of it is what [`join()`](super::join()) makes
//! of two deltas at a time.

use std::collections::BTreeMap;

use super::words::Words;
use super::{Complete, JoinError, TableDelta};
use crate::change::ChangeHeader;
use crate::forest::is_tidy;
use crate::site::SiteId;
use crate::vector::{Held, VersionVector};
use crate::wire::Bounds;

/// What a name takes in memory beside its bytes.
const NAME_BYTES: usize = 128;

/// What the deltas read so far have in common.
#[derive(Clone, Debug)]
pub struct Gather {
    sites: Words<SiteId>,
    tables: BTreeMap<String, Words<String>>,
    /// Of the names of tables and columns.
    n_name_bytes: usize,
    from: VersionVector,
    /// What whoever took all of them holds.
    held: VersionVector,
    /// Of a chain that begins with a complete delta what that one's maker forgot.
    complete: Option<Complete>,
    /// As [`super::Delta::seen`].
    seen: Option<VersionVector>,
    is_begun: bool,
    /// What is held before the delta under way.
    before: VersionVector,
    /// Of each place of its dictionary of sites: ours, and the version held before it.
    places: Vec<u32>,
    covered: Vec<u64>,
}

impl Gather {
    /// Begins with deltas that follow `from`.
    pub fn new(from: VersionVector) -> Gather {
        Gather {
            sites: Words::new(Vec::new()),
            tables: BTreeMap::new(),
            n_name_bytes: 0,
            held: from.clone(),
            before: from.clone(),
            from,
            complete: None,
            seen: None,
            is_begun: false,
            places: Vec::new(),
            covered: Vec::new(),
        }
    }

    /// Begins the next delta of the chain. One that is complete and whose floor is not held
    /// stands in the place of all before it, not behind them: it can be the first only, and must
    /// lead to all that was before it.
    ///
    /// # Errors
    /// [`JoinError::NotChained`] if it begins above what was gathered, its makers had not seen all
    /// that the first one forgot, or it does not know of a fork; then no more can be gathered.
    pub fn open(&mut self, bounds: &Bounds) -> Result<(), JoinError> {
        let is_gap = |(site, low): &(SiteId, Held)| self.held.version(*site) < low.version;
        self.before.clone_from(&self.held);
        let seen = bounds.seen.as_ref().unwrap_or_else(|| bounds.start());
        if let Some((site, _)) = bounds.start().iter().find(is_gap) {
            let begins_anew = !self.is_begun && self.held.is_at_or_below(&bounds.to);
            self.complete = bounds.complete.clone().filter(|_| begins_anew);
            if self.complete.is_none() {
                return Err(JoinError::NotChained { site });
            }
            self.from = VersionVector::new();
            self.before = VersionVector::new();
        } else if let Some(complete) = &self.complete {
            let mut floor = complete.floor.iter();
            if let Some((site, _)) = floor.find(|(site, low)| seen.version(*site) < low.version) {
                return Err(JoinError::NotChained { site });
            }
        } else if !self.from.is_at_or_below(seen) {
            let all = self.seen.as_ref().unwrap_or(&self.from);
            self.seen = Some(all.meet(seen));
        }
        self.is_begun = true;
        self.held.join(&bounds.to);
        if let Some((site, _)) = self.held.branches().next().filter(|_| !is_tidy(&self.held)) {
            // One knows of a fork that another does not: they have two names for one change.
            return Err(JoinError::NotChained { site });
        }
        self.places = self.sites.places(bounds.sites.iter().copied());
        self.covered = bounds.sites.iter().map(|site| self.before.version(*site)).collect();
        Ok(())
    }

    /// Whether a header of the delta under way was in none before it.
    pub fn is_new(&self, header: &ChangeHeader) -> bool {
        header.version > self.before.version(header.site)
    }

    /// Rows of the delta under way, in the words of all, without what those before it told.
    /// `columns` of the result are those known of the table so far; more may follow them.
    pub fn rows(&mut self, table: TableDelta) -> TableDelta {
        let TableDelta { name, columns, mut rows } = table;
        let words = match self.tables.get_mut(&name) {
            Some(words) => words,
            None => {
                self.n_name_bytes += NAME_BYTES + name.len();
                self.tables.entry(name.clone()).or_default()
            }
        };
        let n_columns = words.list().len();
        let column_map = words.places(columns);
        let new = &words.list()[n_columns..];
        self.n_name_bytes += new.iter().map(|column| NAME_BYTES + column.len()).sum::<usize>();
        rows.retain_mut(|row| row.keep_above(&self.covered));
        let translate = |row: super::RowDelta| row.translated(&self.places, &column_map);
        let rows = rows.into_iter().map(translate).collect();
        TableDelta { name, columns: words.list().to_vec(), rows }
    }

    /// What whoever takes what comes of them must hold; nothing where they are complete.
    pub fn from(&self) -> &VersionVector {
        &self.from
    }

    /// What the makers of all had seen of `from` at least; `None`: all of it.
    pub fn seen(&self) -> Option<&VersionVector> {
        self.seen.as_ref()
    }

    /// Of deltas that begin with a complete one what its maker forgot; so did who made all.
    pub fn complete(&self) -> Option<&Complete> {
        self.complete.as_ref()
    }

    /// What whoever took all of them holds.
    pub fn to(&self) -> &VersionVector {
        &self.held
    }

    /// The dictionary of sites.
    pub fn sites(&self) -> &[SiteId] {
        self.sites.list()
    }

    /// What the names of tables and columns take in memory, in bytes: small deltas may have many
    /// of them, and all are kept.
    pub fn n_name_bytes(&self) -> usize {
        self.n_name_bytes
    }

    /// The columns of a table, by place; none of one that no delta names.
    pub fn columns(&self, table: &str) -> &[String] {
        self.tables.get(table).map_or(&[], |words| words.list())
    }
}
