//! Branches: what a site's history is called once two copies have gone on under its name.
//!
//! A database file was copied, or an old backup was written on: then one (site, version) has
//! two chains, a *fork*. Both sides of it are renamed, by whoever holds both. The name of a
//! branch follows from its first change alone, so all who hold it agree without asking. Its
//! changes are numbered from 1; their chains stay what they were, for a chain is computed with
//! the name and the number that its *root* gave it. So a point of a history is the same
//! whatever names are used to speak of it: root, version at the root, chain.

use crate::clock::Chain;
use crate::site::SiteId;

/// What a site's history goes on from. A site that is no branch begins at itself, with
/// nothing: its *trunk*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Branch {
    /// The site under whose name the history began: never a branch itself.
    pub root: SiteId,
    /// How many changes of the root come before the branch.
    pub base: u64,
    /// The chain at the last of them; zeros if there is none.
    pub chain: Chain,
}

/// A point of a history, whatever it is called here or there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// Under whose name the history began.
    pub root: SiteId,
    /// How many changes there are up to it, from the root's first on.
    pub version: u64,
    /// The chain there.
    pub chain: Chain,
}

impl Branch {
    /// The history of a site that is no branch.
    pub fn trunk(site: SiteId) -> Branch {
        Branch { root: site, base: 0, chain: Chain::default() }
    }

    /// The chain after `chain`, of the change that is number `version` of the branch.
    pub fn next(self, chain: Chain, version: u64, salt: u64) -> Chain {
        chain.next(self.root, self.base + version, salt)
    }

    /// Where the branch begins.
    pub fn start(self) -> Point {
        Point { root: self.root, version: self.base, chain: self.chain }
    }
}

/// The name of a branch, from its first change: the number of that change at the root, and
/// its chain. The first 16 bytes of BLAKE3 over the root's length (one byte), the root,
/// `version` as u64 little-endian, and the chain.
pub fn branch_site(root: SiteId, version: u64, chain: Chain) -> SiteId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[root.as_bytes().len() as u8]);
    hasher.update(root.as_bytes());
    hasher.update(&version.to_le_bytes());
    hasher.update(&chain.0);
    SiteId::new(&hasher.finalize().as_bytes()[..16]).expect("sixteen bytes are a site")
}
