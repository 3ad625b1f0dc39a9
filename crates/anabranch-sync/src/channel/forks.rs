//! Comparing histories: equal chains mean equal changes, and where they differ, bisection
//! finds the last version that two histories have in common.
//!
//! The store reads the peer's vector by its chains (`anabranch_core::forest::read`). Where both
//! hold something else under one name, who holds more of it searches, at the version of who
//! holds less; where both hold equally many, who opened the channel. Each round asks for
//! chains at up to sixteen versions, so 2^53 versions take fourteen rounds. What is found is
//! only from where on to send: names change when a delta shows a second history, not before.

use std::collections::{BTreeSet, VecDeque};

use anabranch_core::clock::Chain;
use anabranch_core::forest::Difference;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;

use crate::limits::BISECTION_WAYS;

/// What is being found out about a channel's two vectors.
#[derive(Debug, Default)]
pub(super) struct Forks {
    /// Readings asked of the store and not answered; only the last one counts.
    pub(super) n_reading: usize,
    /// Forks found and not searched yet.
    found: VecDeque<Search>,
    /// The one being searched.
    search: Option<Search>,
    /// Forks that the peer searches.
    awaited: BTreeSet<SiteId>,
    /// Whether some history cannot be compared: nothing is sent until a new Have.
    pub(super) is_unclear: bool,
    /// Whether names have changed, at either end: then what crossed it may use the old ones.
    pub(super) has_renamed: bool,
}

/// A fork whose place is being narrowed down.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) site: SiteId,
    /// The highest version known to be alike, and the chain there.
    low: (u64, Chain),
    /// The lowest version known to differ.
    high: u64,
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
    /// Found: the last common version, from 0, and the chain there.
    Found { site: SiteId, common: u64, chain: Chain },
}

impl Forks {
    /// Whether nothing is open.
    pub(super) fn is_clear(&self) -> bool {
        self.n_reading == 0
            && self.found.is_empty()
            && self.search.is_none()
            && self.awaited.is_empty()
            && !self.is_unclear
    }

    /// Begins anew; whether the store must read the peer's vector: whether some chain or some
    /// name is to be compared.
    pub(super) fn begin(&mut self, mine: &VersionVector, theirs: &VersionVector) -> bool {
        self.found.clear();
        self.search = None;
        self.awaited.clear();
        self.is_unclear = false;
        self.has_renamed |= mine.has_branches() || theirs.has_branches();
        mine.has_branches()
            || theirs.has_branches()
            || theirs.iter().any(|(site, held)| {
                mine.get(site).is_some_and(|ours| {
                    held.version < ours.version
                        || held.version == ours.version && held.chain != ours.chain
                })
            })
    }

    /// The store has read; `searches`: whether this end searches where both hold equally many.
    pub(super) fn read(&mut self, forks: &[Difference], mine: &VersionVector, searches: bool) {
        for Difference { site, version, .. } in forks {
            self.has_renamed = true;
            if mine.version(*site) > *version || searches {
                let (low, told) = ((0, Chain::default()), Vec::new());
                self.found.push_back(Search { site: *site, low, high: *version, told });
            } else {
                self.awaited.insert(*site);
            }
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
        self.awaited.remove(&site);
        self.found.retain(|search| search.site != site);
        self.search.take_if(|search| search.site == site);
    }
}

impl Search {
    /// The next round: versions between, or the end.
    pub(super) fn step(&self) -> Step {
        let (site, (low, chain), high) = (self.site, self.low, self.high);
        let n_between = high - low - 1;
        if n_between == 0 {
            return Step::Found { site, common: low, chain };
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
        if chains.len() != self.told.len() {
            return None;
        }
        for ((version, theirs), ours) in std::mem::take(&mut self.told).into_iter().zip(chains) {
            if (*ours)? == theirs {
                self.low = (version, theirs);
            } else {
                self.high = version;
                break;
            }
        }
        Some(self.step())
    }
}
