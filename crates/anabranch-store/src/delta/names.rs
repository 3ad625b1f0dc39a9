//! What a delta's names mean here: forks are found and healed while it is taken.
//!
//! A delta names sites as its maker called them. Where a history has two continuations, or
//! its maker knew of fewer or of more forks than this copy, the names differ; what is meant
//! follows from the chains (`anabranch_core::forest`). Edges of this copy that turn out to be
//! parted are renamed first, in the transaction that takes the delta.

use std::collections::BTreeMap;

use anabranch_core::change::{ChangeHeader, Dep};
use anabranch_core::clock::Chain;
use anabranch_core::delta::SaltRun;
use anabranch_core::forest::{self, Arrival, Plan, PlanError, Reading};
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, Held, VersionVector};

use super::DeltaError;
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::identity;

/// A delta's names, read.
pub(super) struct Names {
    plan: Plan,
}

/// Plans to take a delta, of which headers and bounds are known and checked: its sites.
///
/// # Errors
/// [`DeltaError::Missing`], [`DeltaError::SiteReused`], [`DeltaError::Branch`].
pub(super) fn of(cx: &Context, arrivals: &[Arrival], ours: &VersionVector) -> Result<Names> {
    let planned = forest::plan(ours, arrivals, &mut |site, version| chain(cx, site, version));
    let plan = planned.map_err(|error| match error {
        PlanError::Missing { site, from } => DeltaError::Missing { site, from }.into(),
        PlanError::Forked { site, version, ours, theirs } => {
            DeltaError::SiteReused { site, version, ours, theirs }.into()
        }
        PlanError::Lookup(error) => error,
        other => StoreError::from(DeltaError::Branch(other.to_string())),
    })?;
    Ok(Names { plan })
}

/// Reads a vector of somebody else's.
///
/// # Errors
/// SQLite's, and a damaged file.
pub(super) fn read(cx: &Context, ours: &VersionVector, theirs: &VersionVector) -> Result<Reading> {
    forest::read(ours, theirs, &mut |site, version| chain(cx, site, version))
}

fn chain(cx: &Context, site: SiteId, version: u64) -> Result<Option<Chain>> {
    cx.metadata.borrow_mut().chain_at(site, version)
}

impl Names {
    /// Renames here what must be renamed before the delta is taken.
    ///
    /// # Errors
    /// [`DeltaError::Uncommitted`] if this transaction has writes that are no change yet.
    pub(super) fn heal(&self, cx: &Context) -> Result<()> {
        let own = cx.metadata.borrow().own_site();
        let is_left = |site: SiteId| {
            let to = &self.plan.to;
            let parts = self.plan.splits.iter().any(|split| split.site == own);
            !parts && forest::is_closed(to, site)
        };
        let leaves_self = is_left(own);
        if self.plan.splits.is_empty() && !leaves_self {
            return Ok(());
        }
        if cx.transaction.borrow().has_writes() {
            return Err(DeltaError::Uncommitted { function: "ana_apply" }.into());
        }
        for split in &self.plan.splits {
            let mut metadata = cx.metadata.borrow_mut();
            if split.site == metadata.own_site() && metadata.is_known(split.name)? {
                // Somebody has spoken of this branch: then it is his as much as this copy's.
                metadata.take_site(identity::random_site()?)?;
            }
            metadata.split(split)?;
        }
        if leaves_self {
            cx.metadata.borrow_mut().take_site(identity::random_site()?)?;
        }
        Ok(())
    }

    /// Makes authors of the branches that the delta brings.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn begin_branches(&self, cx: &Context, ours: &VersionVector) -> Result<()> {
        let to = &self.plan.to;
        let parted = |site| self.plan.splits.iter().any(|split| split.name == site);
        for (site, branch) in to.branches() {
            if ours.branch(site).is_some() || parted(site) {
                continue;
            }
            let ends = |(of, _): &(SiteId, _)| to.point(*of) == Some(branch.start());
            let parent = to.iter().find(ends).filter(|_| branch.base > 0);
            let parent = parent.map(|(site, held)| Dot { site, version: held.version });
            cx.metadata.borrow_mut().begin_branch(site, branch, parent)?;
        }
        Ok(())
    }

    /// A vector of the delta's by the names that its sites have here; without chains.
    pub(super) fn vector(&self, theirs: &VersionVector) -> VersionVector {
        let mut vector = VersionVector::new();
        for (site, held) in theirs.iter() {
            for (last, name, shift) in self.names(site) {
                let version = last.min(held.version).saturating_add_signed(shift);
                if version > vector.version(name) {
                    vector.set(name, Held { version, chain: Chain::default() });
                }
            }
        }
        vector
    }

    /// The salts of a complete delta up to its floor, by the names that its sites have here;
    /// each run goes to the next or to the floor.
    pub(super) fn salts(&self, salts: &[SaltRun], floor: &VersionVector) -> Vec<SaltRun> {
        let mut here = Vec::new();
        for (run, next) in salts.iter().zip(salts.iter().skip(1).map(Some).chain([None])) {
            let next = next.filter(|next| next.site == run.site);
            let end = next.map_or(floor.version(run.site), |next| next.version - 1);
            let mut first = run.version;
            for (last, site, shift) in self.names(run.site) {
                if first > end {
                    break;
                }
                if first <= last {
                    let version = first.strict_add_signed(shift);
                    here.push(SaltRun { site, version, salt: run.salt });
                    first = last + 1;
                }
            }
        }
        here.sort_by_key(|run| (run.site, run.version));
        here
    }

    /// Whether a change was held before, by its name in the delta.
    pub(super) fn is_held(&self, site: SiteId, version: u64) -> bool {
        self.held(site) >= version
    }

    /// Up to which version a site of the delta was held before.
    pub(super) fn held(&self, site: SiteId) -> u64 {
        self.plan.lines.get(&site).map_or(0, |line| line.held)
    }

    /// For each name that a site of the delta has here: its last version as the delta counts,
    /// the name, and what is to be added to a version.
    pub(super) fn names(&self, site: SiteId) -> Vec<(u64, SiteId, i64)> {
        self.plan.lines.get(&site).map_or_else(Vec::new, |line| line.names().collect())
    }

    /// A header as it is kept here.
    pub(super) fn header(&self, mut header: ChangeHeader) -> ChangeHeader {
        (header.site, header.version) = self.place(header.site, header.version);
        if header.deps.is_empty() {
            return header;
        }
        let mut deps = BTreeMap::<SiteId, Dep>::new();
        for Dep { site, version, chain } in header.deps {
            let (site, version) = self.place(site, version);
            let is_later = deps.get(&site).is_none_or(|dep| dep.version < version);
            // Who branched from a site depends on it here without saying so.
            if is_later && site != header.site {
                deps.insert(site, Dep { site, version, chain });
            }
        }
        header.deps = deps.into_values().collect();
        header
    }

    fn place(&self, site: SiteId, version: u64) -> (SiteId, u64) {
        match self.plan.lines.get(&site) {
            Some(line) if version > 0 => {
                let (site, version, _) = line.place(version);
                (site, version)
            }
            _ => (site, version),
        }
    }
}
