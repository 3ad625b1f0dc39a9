//! Forks: whoever meets whom, in whatever order, all end with the same changes under the same
//! names. The copies here hold changes only: names, chains, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use anabranch_core::branch::{Branch, branch_site};
use anabranch_core::clock::Chain;
use anabranch_core::forest::{
    Arrival, Plan, PlanError, Reading, Track, is_closed, is_tidy, plan, read,
};
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A copy: what it holds, and the chain of each change.
#[derive(Clone)]
struct Copy {
    own: SiteId,
    vector: VersionVector,
    chains: BTreeMap<(SiteId, u64), Chain>,
    /// The salts from which the chains follow.
    salts: BTreeMap<Chain, u64>,
}

/// What one copy gives another.
struct Given {
    arrivals: Vec<Arrival>,
    salts: BTreeMap<Chain, u64>,
}

impl Copy {
    fn new(own: SiteId) -> Copy {
        Copy { own, vector: VersionVector::new(), chains: BTreeMap::new(), salts: BTreeMap::new() }
    }

    fn write(&mut self, rng: &mut StdRng) {
        if is_closed(&self.vector, self.own) {
            self.own = SiteId::from_random(rng.random());
        }
        let origin = self.vector.origin(self.own);
        let held = self.vector.get(self.own);
        let (version, chain) = held.map_or((0, origin.chain), |held| (held.version, held.chain));
        let salt = rng.random();
        let chain = origin.next(chain, version + 1, salt);
        self.salts.insert(chain, salt);
        self.vector.set(self.own, Held { version: version + 1, chain });
        self.chains.insert((self.own, version + 1), chain);
    }

    fn read(&self, theirs: &VersionVector) -> Reading {
        read::<Infallible>(&self.vector, theirs, &mut |site, version| {
            Ok(self.chains.get(&(site, version)).copied())
        })
        .unwrap()
    }

    /// All above what another holds.
    fn give(&self, theirs: &VersionVector) -> Given {
        let reading = self.read(theirs);
        let arrival = |(site, held): (SiteId, Held)| {
            let origin = self.vector.origin(site);
            let from = reading.vector.version(site).min(held.version);
            let from_chain = self.chains.get(&(site, from)).copied().unwrap_or(origin.chain);
            let mut track = Track::new(origin, from, from_chain);
            let chains = (from + 1..=held.version).map(|version| self.chains[&(site, version)]);
            chains.for_each(|chain| track.push(self.salts[&chain]));
            Arrival { site, track }
        };
        let arrivals = self.vector.iter().map(arrival).collect();
        Given { arrivals, salts: self.salts.clone() }
    }

    fn plan(&self, given: &Given) -> Result<Plan, PlanError<Infallible>> {
        plan(&self.vector, &given.arrivals, &mut |site, version| {
            Ok(self.chains.get(&(site, version)).copied())
        })
    }

    fn take(&mut self, given: &Given) -> Result<(), PlanError<Infallible>> {
        let plan = self.plan(given)?;
        for split in &plan.splits {
            let moved: Vec<_> = self
                .chains
                .range((split.site, split.at + 1)..=(split.site, u64::MAX))
                .map(|(key, chain)| (*key, *chain))
                .collect();
            for ((site, version), chain) in moved {
                self.chains.remove(&(site, version));
                self.chains.insert((split.name, version - split.at), chain);
            }
            if self.own == split.site {
                self.own = split.name;
            }
        }
        for arrival in &given.arrivals {
            let line = &plan.lines[&arrival.site];
            for version in arrival.track.from() + 1..=arrival.track.last() {
                let chain = arrival.track.chain(version).unwrap();
                let (site, here, branch) = line.place(version);
                let known = self.chains.insert((site, here), chain);
                assert_eq!(known.is_some(), version <= line.held, "held is what was known");
                assert!(known.is_none_or(|known| known == chain));
                assert_eq!(plan.to.branch(site), branch);
            }
        }
        self.salts.extend(&given.salts);
        self.vector = plan.to;
        self.check();
        Ok(())
    }

    /// Vector and chains agree, names are those of their first changes, no edge is passed.
    fn check(&self) {
        assert!(is_tidy(&self.vector), "{:?}", self.vector);
        for (site, held) in self.vector.iter() {
            assert_eq!(self.chains[&(site, held.version)], held.chain);
            if let Some(Branch { root, base, chain }) = self.vector.branch(site) {
                assert_eq!(branch_site(root, base + 1, self.chains[&(site, 1)]), site);
                let is_held = base == 0
                    || self.vector.iter().any(|(of, held)| {
                        let origin = self.vector.origin(of);
                        origin.root == root
                            && (origin.base + held.version, held.chain) == (base, chain)
                    });
                assert!(is_held, "what a branch goes on from is an end");
            }
        }
        let n: u64 = self.vector.iter().map(|(_, held)| held.version).sum();
        assert_eq!(n, self.chains.len() as u64);
    }

    fn changes(&self) -> BTreeSet<Chain> {
        self.chains.values().copied().collect()
    }
}

/// As two copies that meet do it: where a delta begins on another history, the next one begins
/// below what is known to differ.
fn meet(a: &mut Copy, b: &mut Copy) {
    give(a, b);
    give(b, a);
}

fn give(from: &Copy, to: &mut Copy) {
    let mut above = to.vector.clone();
    for _ in 0..100 {
        match to.take(&from.give(&above)) {
            Ok(()) => return,
            Err(PlanError::Forked { site, version, .. }) => {
                // The search of the session, in short.
                let common = (1..version)
                    .rev()
                    .find(|v| {
                        let theirs = from.chains.get(&(site, *v));
                        let origin = from.vector.origin(site);
                        to.chains.iter().any(|((own, at), chain)| {
                            let ours = to.vector.origin(*own);
                            Some(chain) == theirs && ours.base + at == origin.base + v
                        })
                    })
                    .unwrap_or(0);
                let chain = from.chains.get(&(site, common)).copied().unwrap_or_default();
                above = from.read(&above).vector;
                above.set(site, Held { version: common, chain });
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("they never agree where to begin");
}

#[test]
fn all_orders_of_meeting_lead_to_the_same_names() {
    for seed in 0..25 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut copies = vec![Copy::new(SiteId::from_random(rng.random()))];
        let mut all = BTreeSet::new();
        let mut backups = Vec::new();
        for _ in 0..rng.random_range(5..60) {
            let n = rng.random_range(0..copies.len());
            match rng.random_range(0..10) {
                0 if copies.len() < 6 => copies.push(copies[n].clone()),
                1 if copies.len() < 6 => copies.push(Copy::new(SiteId::from_random(rng.random()))),
                2 => backups.push((n, copies[n].clone())),
                3 => {
                    if let Some((n, backup)) = backups.pop() {
                        // What only the lost copy had is lost with it, or on some other.
                        copies[n] = backup;
                    }
                }
                4 | 5 => {
                    let m = rng.random_range(0..copies.len());
                    if n != m {
                        let (low, high) = copies.split_at_mut(n.max(m));
                        meet(&mut low[n.min(m)], &mut high[0]);
                    }
                }
                _ => copies[n].write(&mut rng),
            }
        }
        for copy in &copies {
            all.extend(copy.changes());
        }
        for _ in 0..6 {
            for _ in 0..3 * copies.len() {
                let n = rng.random_range(0..copies.len());
                let m = rng.random_range(0..copies.len());
                if n != m {
                    let (low, high) = copies.split_at_mut(n.max(m));
                    meet(&mut low[n.min(m)], &mut high[0]);
                }
            }
        }
        for n in 1..copies.len() {
            let (low, high) = copies.split_at_mut(n);
            meet(&mut low[0], &mut high[0]);
        }
        for n in 1..copies.len() {
            let (low, high) = copies.split_at_mut(n);
            meet(&mut low[0], &mut high[0]);
        }
        for copy in &copies {
            assert_eq!(copy.changes(), all, "seed {seed}: a change is lost");
            assert_eq!(copy.vector, copies[0].vector, "seed {seed}: names differ");
        }
    }
}
