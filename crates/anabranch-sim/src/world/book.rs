//! What must be true of a world, written down as it happens: who committed what knowing what,
//! which rows that makes, and what nobody may lose.
//!
//! Knows no store: it is told vectors and rows, and says what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, Held, VersionVector};

/// What a transaction is about to do, until it is known whether it was committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// The row that it adds to `mark`.
    pub(super) mark: String,
    /// Rows that it adds to `grave`, each for the only time.
    pub(super) born: Vec<String>,
    /// Rows that it deletes there.
    pub(super) buried: Vec<String>,
}

/// A change that some copy committed.
struct Commit {
    /// What its author held.
    deps: VersionVector,
    chain: Chain,
}

/// A row of `grave`: made once, deleted by whoever likes.
#[derive(Default)]
struct Grave {
    born: Option<Dot>,
    died: Vec<Dot>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Book {
    commits: BTreeMap<Dot, Commit>,
    graves: BTreeMap<String, Grave>,
    /// Somebody forgot: a copy that takes a complete delta may give rows new lives, in a change
    /// that no application made.
    may_rise: bool,
    /// Those changes.
    risen: BTreeSet<Dot>,
    /// What was acknowledged to an application and is on some disk that was not lost.
    kept: BTreeSet<Dot>,
}

impl Book {
    /// How many changes there are.
    pub(super) fn n_changes(&self) -> usize {
        self.commits.len()
    }

    /// The rows that a copy of this vector may delete.
    pub(super) fn alive(&self, vector: &VersionVector) -> Vec<&str> {
        let graves = self.graves.iter().filter(|(_, grave)| grave.is_alive(vector));
        graves.map(|(row, _)| row.as_str()).collect()
    }

    /// A copy that was at `before` is at `after`: each change that is new there must be known,
    /// and what its author knew be there too. A change of nobody's is the copy's own draft.
    pub(super) fn observe(
        &mut self,
        before: &VersionVector,
        after: &VersionVector,
        draft: &mut Option<Draft>,
    ) -> Result<(), String> {
        if !before.is_at_or_below(after) {
            return Err(format!("went back from {} to {}", before.to_json(), after.to_json()));
        }
        for (site, held) in after.iter() {
            for version in before.version(site) + 1..=held.version {
                let dot = Dot { site, version };
                if !self.commits.contains_key(&dot) {
                    match draft.take() {
                        Some(draft) => self.add(dot, before, held.chain, draft),
                        None if self.may_rise => self.add_risen(dot, after, held.chain),
                        None => return Err(format!("{dot:?} was made by nobody")),
                    }
                }
                let commit = &self.commits[&dot];
                if !commit.deps.is_at_or_below(after) {
                    let deps = commit.deps.to_json();
                    return Err(format!("{dot:?} without {deps} in {}", after.to_json()));
                }
                if version == held.version && commit.chain != held.chain {
                    return Err(format!("{dot:?} has two histories"));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, dot: Dot, deps: &VersionVector, chain: Chain, draft: Draft) {
        self.commits.insert(dot, Commit { deps: deps.clone(), chain });
        self.kept.insert(dot);
        for row in draft.born {
            self.graves.entry(row).or_default().born = Some(dot);
        }
        for row in draft.buried {
            self.graves.entry(row).or_default().died.push(dot);
        }
    }

    /// From here on copies forget.
    pub(super) fn may_rise(&mut self) {
        self.may_rise = true;
    }

    /// A change with which the copy that is at `after` gave rows new lives.
    fn add_risen(&mut self, dot: Dot, after: &VersionVector, chain: Chain) {
        let mut deps = after.clone();
        if let Some(held) = after.get(dot.site) {
            deps.set(dot.site, Held { version: dot.version - 1, ..held });
        }
        self.commits.insert(dot, Commit { deps, chain });
        self.kept.insert(dot);
        self.risen.insert(dot);
    }

    /// How many rows of `mark` a copy of this vector shows: one for each change that an
    /// application made.
    pub(super) fn n_marks(&self, vector: &VersionVector) -> u64 {
        let n_changes: u64 = vector.iter().map(|(_, held)| held.version).sum();
        n_changes - self.risen.iter().filter(|dot| vector.covers(**dot)).count() as u64
    }

    /// Whether a row may live though it was deleted: it rose where that was not known.
    fn may_live(&self, grave: &Grave, vector: &VersionVector) -> bool {
        let rose = self.risen.iter().filter(|dot| vector.covers(**dot));
        rose.map(|dot| &self.commits[dot].deps).any(|deps| grave.is_alive(deps))
    }

    /// What is wrong with the rows of `grave` that a copy of this vector shows.
    pub(super) fn check_graves(
        &self,
        vector: &VersionVector,
        shown: &BTreeSet<String>,
    ) -> Result<(), String> {
        for (row, grave) in &self.graves {
            match (grave.is_alive(vector), shown.contains(row)) {
                (true, false) => return Err(format!("row {row} is missing")),
                (false, true) if self.may_live(grave, vector) => {}
                (false, true) if grave.died.iter().any(|dot| vector.covers(*dot)) => {
                    return Err(format!("row {row} came back from the dead"));
                }
                (false, true) => return Err(format!("row {row} is there before its change")),
                _ => {}
            }
        }
        Ok(())
    }

    /// A disk was lost or went back: what none of `holders` has cannot be asked for.
    pub(super) fn forget_lost(&mut self, holders: &[&VersionVector]) {
        self.kept.retain(|dot| holders.iter().any(|vector| vector.covers(*dot)));
    }

    /// What was acknowledged and is not in `vector`.
    pub(super) fn missing(&self, vector: &VersionVector) -> Vec<Dot> {
        self.kept.iter().filter(|dot| !vector.covers(**dot)).copied().collect()
    }

    /// Up to `n` changes, the newest of each site.
    pub(super) fn newest(&self, n: usize) -> Vec<Dot> {
        let mut newest: BTreeMap<SiteId, Dot> = BTreeMap::new();
        for dot in self.commits.keys() {
            newest.insert(dot.site, *dot);
        }
        newest.into_values().take(n).collect()
    }
}

impl Grave {
    fn is_alive(&self, vector: &VersionVector) -> bool {
        self.born.is_some_and(|dot| vector.covers(dot))
            && !self.died.iter().any(|dot| vector.covers(*dot))
    }
}
