//! Version vectors (Parker 1983): for each site the highest version held without gaps,
//! with the chain that names that history.

use std::collections::BTreeMap;

use crate::branch::{Branch, Point};
use crate::clock::Chain;
use crate::site::SiteId;

mod json;

/// The change that wrote a cell: its author and the author's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who authored the change.
    pub site: SiteId,
    /// The author's own dense counter, from 1.
    pub version: u64,
}

/// One entry of a version vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The highest version held without gaps, at least 1.
    pub version: u64,
    /// The chain at that version.
    pub chain: Chain,
}

/// For each site the highest version held without gaps; for each that is a branch, of what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionVector {
    entries: BTreeMap<SiteId, Held>,
    /// Only of sites that are branches and have an entry.
    branches: BTreeMap<SiteId, Branch>,
}

/// Why a text is not a version vector.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a version vector: {reason} at byte {at}")]
pub struct VectorSyntaxError {
    /// What was expected.
    pub reason: &'static str,
    /// Offset in bytes.
    pub at: usize,
}

impl VersionVector {
    /// The vector of a copy that holds nothing.
    pub fn new() -> VersionVector {
        VersionVector::default()
    }

    /// The highest version held of `site`; 0 if none.
    pub fn version(&self, site: SiteId) -> u64 {
        self.entries.get(&site).map_or(0, |held| held.version)
    }

    /// The entry of `site`.
    pub fn get(&self, site: SiteId) -> Option<Held> {
        self.entries.get(&site).copied()
    }

    /// Whether the change named by `dot` is held.
    pub fn covers(&self, dot: Dot) -> bool {
        self.version(dot.site) >= dot.version
    }

    /// Sets the entry of a site; a version of 0 removes it.
    pub fn set(&mut self, site: SiteId, held: Held) {
        if held.version == 0 {
            self.entries.remove(&site);
            self.branches.remove(&site);
        } else {
            self.entries.insert(site, held);
        }
    }

    /// Says what a site that has an entry branched from.
    pub fn set_branch(&mut self, site: SiteId, branch: Branch) {
        if self.entries.contains_key(&site) {
            self.branches.insert(site, branch);
        }
    }

    /// Says of all sites that have an entry what they branched from, as `of` has it.
    pub fn take_branches(&mut self, of: &VersionVector) {
        of.branches().for_each(|(site, branch)| self.set_branch(site, branch));
    }

    /// What a site branched from; `None` if it is no branch, as far as this vector knows.
    pub fn branch(&self, site: SiteId) -> Option<Branch> {
        self.branches.get(&site).copied()
    }

    /// What a site's history goes on from, its own beginning if it is no branch.
    pub fn origin(&self, site: SiteId) -> Branch {
        self.branch(site).unwrap_or_else(|| Branch::trunk(site))
    }

    /// The end of what is held of a site, by the name of its root.
    pub fn point(&self, site: SiteId) -> Option<Point> {
        let (held, Branch { root, base, .. }) = (self.get(site)?, self.origin(site));
        Some(Point { root, version: base + held.version, chain: held.chain })
    }

    /// All sites that are branches, by site.
    pub fn branches(&self) -> impl Iterator<Item = (SiteId, Branch)> + '_ {
        self.branches.iter().map(|(site, branch)| (*site, *branch))
    }

    /// Whether some site is a branch.
    pub fn has_branches(&self) -> bool {
        !self.branches.is_empty()
    }

    /// All entries, by site.
    pub fn iter(&self) -> impl Iterator<Item = (SiteId, Held)> + '_ {
        self.entries.iter().map(|(site, held)| (*site, *held))
    }

    /// Number of sites.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes for each site the entry with the higher version.
    pub fn join(&mut self, other: &VersionVector) {
        for (site, held) in other.iter() {
            if self.version(site) < held.version {
                self.set(site, held);
                if let Some(branch) = other.branch(site) {
                    self.set_branch(site, branch);
                }
            }
        }
    }

    /// What both hold: for each site the entry with the lower version.
    pub fn meet(&self, other: &VersionVector) -> VersionVector {
        let mut both = VersionVector::new();
        for (site, held) in self.iter() {
            let Some(theirs) = other.get(site) else { continue };
            both.set(site, if theirs.version < held.version { theirs } else { held });
            if let Some(branch) = self.branch(site) {
                both.set_branch(site, branch);
            }
        }
        both
    }

    /// Whether every version of `self` is held by `other` (chains are not compared).
    pub fn is_at_or_below(&self, other: &VersionVector) -> bool {
        self.iter().all(|(site, held)| other.version(site) >= held.version)
    }

    /// JSON object: site id in lower-case hex to `[version, "chain in hex"]`, by site; of a
    /// branch `[version, "chain", "root", base, "chain at base"]`.
    pub fn to_json(&self) -> String {
        let mut json = String::from("{");
        for (i, (site, held)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            json.push_str(&format!("{comma}\"{site}\":[{},\"{}\"", held.version, held.chain));
            if let Some(Branch { root, base, chain }) = self.branch(site) {
                json.push_str(&format!(",\"{root}\",{base},\"{chain}\""));
            }
            json.push(']');
        }
        json.push('}');
        json
    }

    /// Reads what [`VersionVector::to_json`] writes, with any JSON white space.
    ///
    /// # Errors
    /// [`VectorSyntaxError`] for anything else, versions of 0 or above the bound, a
    /// site named twice, and more than [`crate::limits::MAX_SITES`] sites.
    pub fn from_json(text: &str) -> Result<VersionVector, VectorSyntaxError> {
        json::read(text)
    }
}
