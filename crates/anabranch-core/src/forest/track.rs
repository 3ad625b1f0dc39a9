//! The chains of one site's versions from one that is known on, out of their salts.
//!
//! A history may have millions of versions, and a plan asks for the chains of a few: every
//! 64th is kept, and those between are computed anew. Salts are kept as runs, for a copy draws
//! one for each time it begins to write. So a track takes a quarter of a byte for each version
//! and 16 bytes for each run.

use super::{Branch, Chain};

/// Versions between chains that are kept.
const STEP: u64 = 64;

/// The chains of a site's versions after `from`.
#[derive(Clone, Debug)]
pub struct Track {
    origin: Branch,
    from: u64,
    last: u64,
    end: Chain,
    /// The chains at `from`, `from + STEP` and so on.
    kept: Vec<Chain>,
    /// Each salt with the first version it is of.
    salts: Vec<(u64, u64)>,
}

impl Track {
    /// No version yet: a site's history, branched from `origin`, is known up to `from`, where
    /// its chain is `chain`.
    pub fn new(origin: Branch, from: u64, chain: Chain) -> Track {
        Track { origin, from, last: from, end: chain, kept: vec![chain], salts: Vec::new() }
    }

    /// Appends the next version by its salt.
    pub fn push(&mut self, salt: u64) {
        self.last += 1;
        self.end = self.origin.next(self.end, self.last, salt);
        if self.salts.last().is_none_or(|(_, last)| *last != salt) {
            self.salts.push((self.last, salt));
        }
        if (self.last - self.from).is_multiple_of(STEP) {
            self.kept.push(self.end);
        }
    }

    /// What the site branched from.
    pub fn origin(&self) -> Branch {
        self.origin
    }

    /// The version after which the track begins.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// The last version.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The chain at the last version.
    pub fn end(&self) -> Chain {
        self.end
    }

    /// The chain at a version; `None` outside of `from` and the last. Costs up to 63 hashes.
    pub fn chain(&self, version: u64) -> Option<Chain> {
        if version == self.last {
            return Some(self.end);
        }
        if !(self.from..self.last).contains(&version) {
            return None;
        }
        let step = (version - self.from) / STEP;
        let (start, mut chain) = (self.from + step * STEP, *self.kept.get(step as usize)?);
        let mut run = self.salts.partition_point(|(first, _)| *first <= start + 1);
        for at in start + 1..=version {
            if self.salts.get(run).is_some_and(|(first, _)| *first == at) {
                run += 1;
            }
            let (_, salt) = self.salts.get(run.checked_sub(1)?)?;
            chain = self.origin.next(chain, at, *salt);
        }
        Some(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::SiteId;

    #[test]
    fn any_version_is_found_again() {
        let origin = Branch::trunk(SiteId::from_random([7; 16]));
        for (from, n, salts) in [(0, 0, 1), (0, 1, 1), (5, 64, 1), (9, 400, 3), (1, 300, 300)] {
            let start = Chain([from as u8; 16]);
            let mut track = Track::new(origin, from, start);
            let mut chains = vec![start];
            for version in from + 1..=from + n {
                let salt = version * salts / (n + 1);
                track.push(salt);
                chains.push(origin.next(chains[chains.len() - 1], version, salt));
            }
            assert_eq!((track.from(), track.last()), (from, from + n));
            assert_eq!(track.end(), chains[n as usize]);
            for (version, chain) in (from..).zip(&chains) {
                assert_eq!(track.chain(version), Some(*chain), "{version}");
            }
            assert_eq!(track.chain(from + n + 1), None);
            assert_eq!(from.checked_sub(1).and_then(|before| track.chain(before)), None);
            assert!(track.salts.len() as u64 <= salts + 1);
        }
    }
}
