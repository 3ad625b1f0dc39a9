//! Comparing histories: equal chains mean equal changes, and where they differ, bisection
//! finds the last version that two histories have in common.
//!
//! Who holds more of a site compares, at the version of who holds less; where both hold
//! equally many, both see it, and who opened the channel searches. Each round asks for
//! chains at up to sixteen versions, so 2^53 versions take fourteen rounds.

use std::collections::VecDeque;

use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;

use crate::limits::BISECTION_WAYS;

/// What is being found out about a channel's two vectors.
#[derive(Debug, Default)]
pub(super) struct Forks {
    /// Comparisons asked of the store and not answered; only the last one counts.
    pub(super) n_comparing: usize,
    /// The last comparison: site, version, the peer's chain.
    compared: Vec<(SiteId, u64, Chain)>,
    /// Forks found and not searched yet.
    found: VecDeque<Search>,
    /// The one being searched.
    search: Option<Search>,
    /// Forks that the driver was told of and has not answered.
    pub(super) n_splitting: usize,
}

/// A fork whose place is being narrowed down.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) site: SiteId,
    /// The highest version known to be alike.
    low: u64,
    /// The lowest version known to differ, with both chains; ours once it is known.
    high: u64,
    ours: Option<Chain>,
    theirs: Chain,
    /// What the peer has told of the versions asked in this round.
    told: Vec<(u64, Chain)>,
}

/// What a search needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The peer's chains at these versions.
    AskPeer(SiteId, Vec<u64>),
    /// This store's chains at these versions.
    AskStore(Vec<(SiteId, u64)>),
    /// Found.
    Found { site: SiteId, common: u64, ours: Chain, theirs: Chain },
}

impl Forks {
    /// Whether nothing is open.
    pub(super) fn is_clear(&self) -> bool {
        self.n_comparing == 0
            && self.found.is_empty()
            && self.search.is_none()
            && self.n_splitting == 0
    }

    /// Starts to compare two vectors: which chains the store must tell.
    pub(super) fn compare(
        &mut self,
        mine: &VersionVector,
        theirs: &VersionVector,
    ) -> Vec<(SiteId, u64)> {
        self.found.clear();
        self.search = None;
        self.n_splitting = 0;
        let known = theirs.iter().filter(|(site, held)| held.version <= mine.version(*site));
        self.compared.clear();
        for (site, held) in known {
            let ours = mine.get(site).filter(|ours| ours.version == held.version);
            if ours.is_none_or(|ours| ours.chain != held.chain) {
                self.compared.push((site, held.version, held.chain));
            }
        }
        self.compared.iter().map(|(site, version, _)| (*site, *version)).collect()
    }

    /// The store's chains; `searches`: whether this end searches where both hold equally many.
    pub(super) fn compared(
        &mut self,
        chains: &[Option<Chain>],
        mine: &VersionVector,
        searches: bool,
    ) {
        for ((site, high, theirs), ours) in self.compared.drain(..).zip(chains) {
            if *ours == Some(theirs) || (mine.version(site) == high && !searches) {
                continue;
            }
            let (ours, told) = (*ours, Vec::new());
            self.found.push_back(Search { site, low: 0, high, ours, theirs, told });
        }
    }

    /// What to do next about the forks there are.
    pub(super) fn next(&mut self) -> Option<Step> {
        if self.search.is_none() {
            self.search = self.found.pop_front();
            return self.search.as_ref().map(Search::step);
        }
        None
    }

    /// The search goes on, with what `told` says.
    pub(super) fn search(&mut self) -> Option<&mut Search> {
        self.search.as_mut()
    }

    /// Ends the search that is under way.
    pub(super) fn end_search(&mut self) -> Option<Search> {
        self.search.take()
    }

    /// The peer has found a fork itself, or nothing holds any more.
    pub(super) fn forget(&mut self, site: SiteId) {
        self.found.retain(|search| search.site != site);
        self.search.take_if(|search| search.site == site);
    }
}

impl Search {
    /// The next round: versions between, or the end.
    pub(super) fn step(&self) -> Step {
        let (site, low, high) = (self.site, self.low, self.high);
        let n_between = high - low - 1;
        if n_between == 0 {
            return match self.ours {
                Some(ours) => Step::Found { site, common: low, ours, theirs: self.theirs },
                None => Step::AskStore(vec![(site, high)]),
            };
        }
        let n = n_between.min(BISECTION_WAYS);
        // Strictly between, all different, the last just below `high`.
        let spread = (1..=n).map(|i| low + n_between * i / n);
        Step::AskPeer(site, spread.collect())
    }

    /// Notes the peer's answer; `None` if it answers another question or cannot say.
    pub(super) fn tell(&mut self, chains: &[(u64, Option<Chain>)]) -> Option<Step> {
        let Step::AskPeer(site, asked) = self.step() else { return None };
        let is_answer = chains.iter().map(|(version, _)| *version).eq(asked.iter().copied());
        if !is_answer {
            return None;
        }
        let told: Option<Vec<(u64, Chain)>> =
            chains.iter().map(|(version, chain)| Some((*version, (*chain)?))).collect();
        self.told = told?;
        Some(Step::AskStore(asked.into_iter().map(|version| (site, version)).collect()))
    }

    /// Compares with the store's chains; `None` if it cannot say.
    pub(super) fn narrow(&mut self, chains: &[Option<Chain>]) -> Option<Step> {
        if self.told.is_empty() {
            self.ours = Some((*chains.first()?)?);
            return Some(self.step());
        }
        if chains.len() != self.told.len() {
            return None;
        }
        for ((version, theirs), ours) in std::mem::take(&mut self.told).into_iter().zip(chains) {
            let ours = (*ours)?;
            if ours == theirs {
                self.low = version;
            } else {
                (self.high, self.ours, self.theirs) = (version, Some(ours), theirs);
                break;
            }
        }
        Some(self.step())
    }
}
