//! What of another's vector is held here, by the names that it has here.

use super::{ChainAt, Families, raise};
use crate::branch::branch_site;
use crate::clock::Chain;
use crate::site::SiteId;
use crate::vector::{Held, VersionVector};

/// Another's vector in the words of this copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What the other holds: all that is known to be held on both sides has the name that it
    /// has here; what is not held here keeps the name it came with, or has a stand-in for one
    /// that means something else here.
    pub vector: VersionVector,
    /// Names under which both hold something else: nothing of these is in `vector`, under this
    /// name, beyond what is known to be common.
    pub forks: Vec<Difference>,
}

/// One name with two histories, the other's of which is not longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The name, here and there.
    pub site: SiteId,
    /// The other's version.
    pub version: u64,
    /// The other's chain there.
    pub chain: Chain,
}

/// Reads `theirs` by its chains.
///
/// A longer history under a name that is held here is taken to include what is held here, for
/// nothing here can tell: who holds more compares.
///
/// # Errors
/// Those of the lookup.
pub fn read<E>(
    ours: &VersionVector,
    theirs: &VersionVector,
    chain_at: &mut ChainAt<'_, E>,
) -> Result<Reading, E> {
    let families = Families::of(ours);
    let mut reading = Reading::default();
    for (site, held) in theirs.iter() {
        let point = theirs.point(site).expect("an entry has an end");
        let family = families.family(point.root);
        if let Some((place, version)) = family.place(point, chain_at)? {
            let held = Held { version, chain: held.chain };
            raise(&mut reading.vector, &family, place, held);
            continue;
        }
        // Where a branch begins is held, though the branch is not.
        let start = theirs.origin(site).start();
        if start.version > 0
            && let Some((place, version)) = family.place(start, chain_at)?
        {
            raise(&mut reading.vector, &family, place, Held { version, chain: start.chain });
        }
        let is_same_edge = ours.get(site).is_some() && ours.origin(site) == theirs.origin(site);
        if is_same_edge && held.version <= ours.version(site) {
            reading.forks.push(Difference { site, version: held.version, chain: held.chain });
            let stand_in = branch_site(point.root, point.version, point.chain);
            keep(&mut reading.vector, theirs, site, stand_in, held);
            continue;
        }
        let end = ours.point(site).filter(|_| is_same_edge).unwrap_or(start);
        let follows_unknown = family.is_closed(end) && (is_same_edge || !is_branch(theirs, site));
        if !follows_unknown {
            keep(&mut reading.vector, theirs, site, site, held);
            continue;
        }
        // What follows there has another name here, and it cannot be told which.
        if let Some(ours) = ours.get(site) {
            raise(&mut reading.vector, &family, site, ours);
        }
        let stand_in = branch_site(point.root, point.version, point.chain);
        keep(&mut reading.vector, theirs, site, stand_in, held);
    }
    Ok(reading)
}

fn is_branch(vector: &VersionVector, site: SiteId) -> bool {
    vector.branch(site).is_some()
}

/// Takes an entry over as it came, under `name`.
fn keep(
    vector: &mut VersionVector,
    theirs: &VersionVector,
    site: SiteId,
    name: SiteId,
    held: Held,
) {
    if vector.version(name) < held.version {
        vector.set(name, held);
        match theirs.branch(site) {
            Some(branch) => vector.set_branch(name, branch),
            None if name != site => vector.set_branch(name, theirs.origin(site)),
            None => {}
        }
    }
}
