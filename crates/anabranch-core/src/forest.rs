//! All histories that are held, as a forest: a tree for each root, an edge for each name.
//!
//! **Invariant:** an edge ends where two different changes follow one another's place, and
//! nowhere else. So the names of what is held are a function of what is held: copies that
//! hold the same changes call them by the same names, in whatever order they met
//! ([`crate::branch`] has how an edge is named). Edges that have followers never grow.
//!
//! Two questions are answered here. [`read`]: which of a peer's vector is held here, under
//! which names, wherever the peer's names come from. [`plan()`]: what a delta adds, which edges
//! must be parted for it, and what its names mean here. Both believe chains alone: what is
//! held is compared with the chains of the store, what a delta brings with those that follow
//! from its salts. Nobody's word parts an edge, only a change that was shown to follow it.
//!
//! Works on vectors and on chains that the caller looks up; after path-compressed tries
//! (Morrison, PATRICIA, 1968).

use std::collections::BTreeMap;

use crate::branch::{Branch, Point, branch_site};
use crate::clock::Chain;
use crate::site::SiteId;
use crate::vector::{Held, VersionVector};

mod plan;
mod reading;
mod track;

pub use plan::{Arrival, Line, Plan, PlanError, Split, plan};
pub use reading::{Difference, Reading, read};
pub use track::Track;

/// Looks up the chain of a site of ours at a version that is held: what the store says.
pub type ChainAt<'a, E> = dyn FnMut(SiteId, u64) -> Result<Option<Chain>, E> + 'a;

/// All edges of one root that a vector has.
struct Family<'v> {
    vector: &'v VersionVector,
    /// The root's own edge, if it has one, and its branches by site.
    sites: Vec<SiteId>,
}

/// Who belongs together, by root.
struct Families<'v> {
    vector: &'v VersionVector,
    branches: BTreeMap<SiteId, Vec<SiteId>>,
}

impl<'v> Families<'v> {
    fn of(vector: &'v VersionVector) -> Families<'v> {
        let mut branches = BTreeMap::<SiteId, Vec<SiteId>>::new();
        for (site, branch) in vector.branches() {
            branches.entry(branch.root).or_default().push(site);
        }
        Families { vector, branches }
    }

    fn family(&self, root: SiteId) -> Family<'v> {
        let is_trunk = self.vector.get(root).is_some() && self.vector.branch(root).is_none();
        let branches = self.branches.get(&root).into_iter().flatten().copied();
        let sites = is_trunk.then_some(root).into_iter().chain(branches).collect();
        Family { vector: self.vector, sites }
    }
}

impl Family<'_> {
    /// The first and the last version of an edge, as its root counts, the first excluded.
    fn span(&self, site: SiteId) -> (u64, u64) {
        let base = self.vector.origin(site).base;
        (base, base + self.vector.version(site))
    }

    /// The edge on which a point lies, and its number there; the chains of all edges that
    /// reach there are asked for.
    fn place<E>(
        &self,
        point: Point,
        chain_at: &mut ChainAt<'_, E>,
    ) -> Result<Option<(SiteId, u64)>, E> {
        for site in &self.sites {
            let (base, top) = self.span(*site);
            if point.version <= base || point.version > top {
                continue;
            }
            let held = self.vector.get(*site).filter(|_| point.version == top);
            let chain = match held {
                Some(held) => Some(held.chain),
                None => chain_at(*site, point.version - base)?,
            };
            if chain == Some(point.chain) {
                return Ok(Some((*site, point.version - base)));
            }
        }
        Ok(None)
    }

    /// The edge that an edge goes on from; `None`: it begins with the root's first change.
    fn parent(&self, site: SiteId) -> Option<SiteId> {
        let start = self.vector.origin(site).start();
        let ends_there = |of: &&SiteId| {
            **of != site && start.version > 0 && self.vector.point(**of) == Some(start)
        };
        self.sites.iter().find(ends_there).copied()
    }

    /// Whether an edge's end has followers.
    fn is_closed(&self, end: Point) -> bool {
        let follows =
            |site: &SiteId| self.vector.branch(*site).is_some_and(|branch| branch.start() == end);
        self.sites.iter().any(follows)
    }
}

/// Whether nothing of `site` can follow what is held of it: others have gone on there.
pub fn is_closed(vector: &VersionVector, site: SiteId) -> bool {
    let start = vector.origin(site).start();
    let end = vector.point(site).unwrap_or(start);
    Families::of(vector).family(end.root).is_closed(end)
}

/// Whether each branch of a vector goes on from the end of an edge, so that no change has two
/// names.
pub fn is_tidy(vector: &VersionVector) -> bool {
    let families = Families::of(vector);
    vector.branches().all(|(site, branch)| {
        let family = families.family(branch.root);
        match branch.base {
            0 => vector.branch(branch.root).is_some() || vector.get(branch.root).is_none(),
            _ => family.parent(site).is_some(),
        }
    })
}

/// Joins a place and all before it into a vector.
fn raise(vector: &mut VersionVector, family: &Family<'_>, site: SiteId, held: Held) {
    let mut at = Some((site, held));
    while let Some((site, held)) = at {
        if vector.version(site) < held.version {
            vector.set(site, held);
            if let Some(branch) = family.vector.branch(site) {
                vector.set_branch(site, branch);
            }
        }
        at = family.parent(site).and_then(|site| Some((site, family.vector.get(site)?)));
    }
}
