//! What a delta adds to what is held: where its histories go on, which edges they part.

use std::collections::BTreeMap;

use super::{Branch, Chain, ChainAt, Held, Point, SiteId, Track, VersionVector, branch_site};
use crate::limits::{MAX_BRANCHES, MAX_SITES};

/// One site of a delta.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// As the delta calls it.
    pub site: SiteId,
    /// From where the receiver must hold it, and the chains that follow from its salts.
    pub track: Track,
}

/// An edge of ours that must be parted: what is after `at` gets another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Which.
    pub site: SiteId,
    /// The last version that stays, from 0.
    pub at: u64,
    /// What the rest is called from then on.
    pub name: SiteId,
    /// What the rest goes on from.
    pub branch: Branch,
}

/// What the versions of one site of a delta are called here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Up to which version, as the delta counts, it was held before.
    pub held: u64,
    /// By the last version, as the delta counts, included.
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    last: u64,
    site: SiteId,
    branch: Option<Branch>,
    /// A version here is one of the delta's plus this.
    shift: i64,
}

/// What must be done for a delta, and how it is read then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be done in this order, before anything of the delta is taken.
    pub splits: Vec<Split>,
    /// For each site that the delta's vectors name.
    pub lines: BTreeMap<SiteId, Line>,
    /// What will be held.
    pub to: VersionVector,
}

/// Why a delta has no place here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError<E> {
    /// It begins above what is held.
    #[error("missing: changes of site {site} from version {from}")]
    Missing {
        /// As the delta calls it.
        site: SiteId,
        /// The first one that is not held.
        from: u64,
    },
    /// It begins on a history that is not held here: which part is common is not known.
    #[error("SiteReused: site {site} has two histories at version {version}")]
    Forked {
        /// As the delta calls it.
        site: SiteId,
        /// Where the delta begins.
        version: u64,
        /// The chain held here, under that name or another.
        ours: Chain,
        /// The chain that came.
        theirs: Chain,
    },
    /// A branch is not called after its first change, goes on from nothing, or names overlap.
    #[error("site {site} is no branch of that name")]
    Name {
        /// Which.
        site: SiteId,
    },
    /// More branches of one root than [`MAX_BRANCHES`].
    #[error("site {root} has more than {MAX_BRANCHES} branches")]
    TooMany {
        /// Which.
        root: SiteId,
    },
    /// What the lookup answered.
    #[error(transparent)]
    Lookup(E),
}

impl Arrival {
    /// The last version, as the root counts.
    fn last(&self) -> u64 {
        self.base() + self.track.last()
    }

    /// How many versions of the root lie before those of this site.
    fn base(&self) -> u64 {
        self.track.origin().base
    }

    fn start(&self) -> Point {
        let version = self.base() + self.track.from();
        Point { root: self.track.origin().root, version, chain: self.chain(version) }
    }

    /// The chain at a version as the root counts; within `start` and `last`.
    fn chain(&self, version: u64) -> Chain {
        self.track.chain(version - self.base()).expect("a version that the delta spans")
    }
}

impl Line {
    /// A version of the delta's as it is called here, and what that branched from.
    ///
    /// # Panics
    /// For version 0 and for versions above what the delta leads to.
    pub fn place(&self, version: u64) -> (SiteId, u64, Option<Branch>) {
        assert!(version > 0, "versions begin at 1");
        let at = self.spans.partition_point(|span| span.last < version);
        let span = self.spans[at];
        (span.site, version.strict_add_signed(span.shift), span.branch)
    }

    /// For each of its names here: the last version as the delta counts, name, and what is to
    /// be added to a version of the delta's.
    pub fn names(&self) -> impl Iterator<Item = (u64, SiteId, i64)> + '_ {
        self.spans.iter().map(|span| (span.last, span.site, span.shift))
    }
}

/// Plans to take a delta that leads to these.
///
/// # Errors
/// [`PlanError`].
pub fn plan<E>(
    ours: &VersionVector,
    arrivals: &[Arrival],
    chain_at: &mut ChainAt<'_, E>,
) -> Result<Plan, PlanError<E>> {
    let mut by_root = BTreeMap::<SiteId, Vec<&Arrival>>::new();
    for arrival in arrivals {
        let is_known = ours.get(arrival.site).is_some();
        if is_known && ours.origin(arrival.site) != arrival.track.origin() {
            return Err(PlanError::Name { site: arrival.site });
        }
        by_root.entry(arrival.track.origin().root).or_default().push(arrival);
    }
    let mut plan = Plan { to: ours.clone(), ..Plan::default() };
    let branches = super::Families::of(ours);
    for (root, mut arrivals) in by_root {
        // What others go on from comes first.
        arrivals.sort_by_key(|arrival| (arrival.start().version, arrival.base()));
        let sites = branches.family(root).sites;
        let mut tree = Tree::of(root, ours, &sites, &arrivals);
        let held: Vec<u64> =
            (0..arrivals.len()).map(|n| tree.take(n, chain_at)).collect::<Result<_, _>>()?;
        for (arrival, held) in arrivals.iter().zip(held) {
            let line = tree.line(arrival, held, chain_at)?;
            plan.lines.insert(arrival.site, line);
        }
        tree.finish(&mut plan);
    }
    Ok(plan)
}

/// The edges of one root, as they will be.
struct Tree<'a> {
    root: SiteId,
    arrivals: &'a [&'a Arrival],
    edges: Vec<Edge>,
    splits: Vec<Split>,
    /// Names that ours have lost.
    gone: Vec<SiteId>,
}

#[derive(Clone)]
struct Edge {
    site: SiteId,
    origin: Branch,
    is_branch: bool,
    end: Point,
    /// By the last version, as the root counts, included: who knows the chains.
    pieces: Vec<(u64, Source)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Source {
    /// The store, under this name and counting from here.
    Held(SiteId, u64),
    /// The delta.
    Arrives(usize),
}

impl Edge {
    /// Who knows the chain at a version on this edge, as the root counts.
    fn source(&self, version: u64) -> Source {
        let at = self.pieces.partition_point(|(last, _)| *last < version);
        self.pieces[at].1
    }
}

impl<'a> Tree<'a> {
    fn of(
        root: SiteId,
        ours: &VersionVector,
        sites: &[SiteId],
        arrivals: &'a [&'a Arrival],
    ) -> Tree<'a> {
        let edge = |site: &SiteId| {
            let (origin, end) = (ours.origin(*site), ours.point(*site)?);
            let pieces = vec![(end.version, Source::Held(*site, origin.base))];
            let is_branch = ours.branch(*site).is_some();
            Some(Edge { site: *site, origin, is_branch, end, pieces })
        };
        let edges = sites.iter().filter_map(edge).collect();
        Tree { root, arrivals, edges, splits: Vec::new(), gone: Vec::new() }
    }

    fn chain<E>(
        &self,
        edge: &Edge,
        version: u64,
        chain_at: &mut ChainAt<'_, E>,
    ) -> Result<Option<Chain>, PlanError<E>> {
        if version == edge.end.version {
            return Ok(Some(edge.end.chain));
        }
        if version == edge.origin.base {
            return Ok(Some(edge.origin.chain));
        }
        match edge.source(version) {
            Source::Held(site, base) => chain_at(site, version - base).map_err(PlanError::Lookup),
            Source::Arrives(n) => Ok(Some(self.arrivals[n].chain(version))),
        }
    }

    /// The edge on which a point lies.
    fn place<E>(
        &self,
        point: Point,
        chain_at: &mut ChainAt<'_, E>,
    ) -> Result<Option<usize>, PlanError<E>> {
        for (n, edge) in self.edges.iter().enumerate() {
            let reaches = edge.origin.base < point.version && point.version <= edge.end.version;
            if reaches && self.chain(edge, point.version, chain_at)? == Some(point.chain) {
                return Ok(Some(n));
            }
        }
        Ok(None)
    }

    /// Walks along what is known, and puts what is not where it belongs; up to which version,
    /// as the root counts, all was held.
    fn take<E>(
        &mut self,
        arrival: usize,
        chain_at: &mut ChainAt<'_, E>,
    ) -> Result<u64, PlanError<E>> {
        let (arrives, source) = (self.arrivals[arrival], Source::Arrives(arrival));
        let start = arrives.start();
        let mut on = match start.version {
            0 if start.chain == Chain::default() => None,
            _ => match self.place(start, chain_at)? {
                Some(edge) => Some(edge),
                None => return Err(self.misses(arrives, chain_at)?),
            },
        };
        let (mut at, last) = (start, arrives.last());
        while at.version < last {
            let next = self.next_edge(on, at, arrives, chain_at)?;
            let Some(n) = next else { break };
            let until = self.edges[n].end.version.min(last);
            let common = self.last_common(n, at.version, until, arrives, chain_at)?;
            if common > at.version && !is_held(self.edges[n].source(common)) {
                // Two names for one change.
                return Err(PlanError::Name { site: arrives.site });
            }
            (on, at) = (Some(n), Point { version: common, chain: arrives.chain(common), ..at });
            if common < until {
                self.part(n, at, chain_at)?;
                break;
            }
        }
        let held = at.version;
        if held == last {
            return Ok(held);
        }
        let end = Point { root: self.root, version: last, chain: arrives.chain(last) };
        let is_closed = self.edges.iter().any(|edge| edge.is_branch && edge.origin.start() == at);
        let goes_on = on.filter(|_| !is_closed && arrives.base() < held);
        match goes_on {
            Some(n) if self.edges[n].end == at => {
                self.edges[n].end = end;
                self.edges[n].pieces.push((last, source));
            }
            _ => self.begin(arrives, at, end, is_closed, source)?,
        }
        Ok(held)
    }

    /// The edge along which the arrival may go on after `at`, on whose edge it is.
    fn next_edge<E>(
        &self,
        on: Option<usize>,
        at: Point,
        arrives: &Arrival,
        chain_at: &mut ChainAt<'_, E>,
    ) -> Result<Option<usize>, PlanError<E>> {
        if on.is_some_and(|n| at.version < self.edges[n].end.version) {
            return Ok(on);
        }
        let first = arrives.chain(at.version + 1);
        for (n, edge) in self.edges.iter().enumerate() {
            let follows = edge.origin.start() == at && on != Some(n);
            // The trunk is walked along to find out; a branch is known by its first change.
            if follows
                && (!edge.is_branch || self.chain(edge, at.version + 1, chain_at)? == Some(first))
            {
                return Ok(Some(n));
            }
        }
        Ok(None)
    }

    /// The last version within `low`, which is common, and `high` at which an edge and the
    /// arrival are alike: equal chains mean equal histories, so it is found by bisection.
    fn last_common<E>(
        &self,
        edge: usize,
        low: u64,
        high: u64,
        arrives: &Arrival,
        chain_at: &mut ChainAt<'_, E>,
    ) -> Result<u64, PlanError<E>> {
        let edge = &self.edges[edge];
        let mut is_common =
            |version: u64| Ok(self.chain(edge, version, chain_at)? == Some(arrives.chain(version)));
        if is_common(high)? {
            return Ok(high);
        }
        let (mut low, mut high) = (low, high);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if is_common(middle)? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Parts an edge after `at`: what follows gets a name of its own.
    fn part<E>(
        &mut self,
        n: usize,
        at: Point,
        chain_at: &mut ChainAt<'_, E>,
    ) -> Result<(), PlanError<E>> {
        let edge = self.edges[n].clone();
        let first = self.chain(&edge, at.version + 1, chain_at)?;
        let missing = PlanError::Missing { site: edge.site, from: at.version + 1 };
        let name = branch_site(self.root, at.version + 1, first.ok_or(missing)?);
        let branch = Branch { root: self.root, base: at.version, chain: at.chain };
        let cut = edge.pieces.partition_point(|(last, _)| *last <= at.version);
        let (before, after) = edge.pieces.split_at(cut);
        let mut before = before.to_vec();
        if before.last().is_none_or(|(last, _)| *last < at.version) && at.version > edge.origin.base
        {
            before.push((at.version, after[0].1));
        }
        if is_held(after[0].1) {
            let version = at.version - edge.origin.base;
            self.splits.push(Split { site: edge.site, at: version, name, branch });
        }
        let rest = Edge {
            site: name,
            origin: branch,
            is_branch: true,
            end: edge.end,
            pieces: after.to_vec(),
        };
        if before.is_empty() {
            self.gone.push(edge.site);
            self.edges[n] = rest;
        } else {
            (self.edges[n].end, self.edges[n].pieces) = (at, before);
            self.edges.push(rest);
        }
        self.check_number()
    }

    fn check_number<E>(&self) -> Result<(), PlanError<E>> {
        match self.edges.len() > MAX_BRANCHES {
            true => Err(PlanError::TooMany { root: self.root }),
            false => Ok(()),
        }
    }

    /// A new edge after `at`: the root's own, or a branch.
    fn begin<E>(
        &mut self,
        arrives: &Arrival,
        at: Point,
        end: Point,
        is_closed: bool,
        source: Source,
    ) -> Result<(), PlanError<E>> {
        let is_first = at.version == 0 && arrives.site == self.root && !is_closed;
        let origin = Branch { root: self.root, base: at.version, chain: at.chain };
        let name = branch_site(self.root, at.version + 1, arrives.chain(at.version + 1));
        let is_own_start = arrives.track.from() == 0 && arrives.base() == at.version;
        if is_own_start && !is_first && arrives.site != name && arrives.site != self.root {
            return Err(PlanError::Name { site: arrives.site });
        }
        let site = if is_first { self.root } else { name };
        let pieces = vec![(end.version, source)];
        self.edges.push(Edge { site, origin, is_branch: !is_first, end, pieces });
        self.check_number()
    }

    /// Why an arrival cannot begin here.
    fn misses<E>(
        &self,
        arrives: &Arrival,
        chain_at: &mut ChainAt<'_, E>,
    ) -> Result<PlanError<E>, PlanError<E>> {
        let start = arrives.start();
        for edge in &self.edges {
            if edge.origin.base < start.version && start.version <= edge.end.version {
                let ours = self.chain(edge, start.version, chain_at)?.unwrap_or_default();
                let (site, version, theirs) = (arrives.site, arrives.track.from(), start.chain);
                return Ok(PlanError::Forked { site, version, ours, theirs });
            }
        }
        if start.version == 0 || arrives.track.from() == 0 {
            return Ok(PlanError::Name { site: arrives.site });
        }
        let longest = self.edges.iter().map(|edge| edge.end.version).max().unwrap_or(0);
        let from = (longest + 1).saturating_sub(arrives.base()).max(1);
        Ok(PlanError::Missing { site: arrives.site, from })
    }

    /// How an arrival is read, once everything has its place.
    fn line<E>(
        &self,
        arrives: &Arrival,
        held: u64,
        chain_at: &mut ChainAt<'_, E>,
    ) -> Result<Line, PlanError<E>> {
        let base = arrives.base();
        let last = arrives.last();
        let end = Point { root: self.root, version: last, chain: arrives.chain(last) };
        let mut on = if last > 0 { self.place(end, chain_at)? } else { None };
        let mut spans = Vec::new();
        while let Some(n) = on {
            let edge = &self.edges[n];
            let until = edge.end.version.min(last);
            if until <= base {
                break;
            }
            let shift = base.cast_signed() - edge.origin.base.cast_signed();
            let branch = edge.is_branch.then_some(edge.origin);
            spans.push(Span { last: until - base, site: edge.site, branch, shift });
            let start = edge.origin.start();
            on = self.edges.iter().position(|edge| edge.end == start);
        }
        spans.reverse();
        Ok(Line { held: held.saturating_sub(base).max(arrives.track.from()), spans })
    }

    fn finish(self, plan: &mut Plan) {
        let nothing = Held { version: 0, chain: Chain::default() };
        self.gone.into_iter().for_each(|site| plan.to.set(site, nothing));
        for Edge { site, origin, is_branch, end, .. } in self.edges {
            let version = end.version - origin.base;
            plan.to.set(site, Held { version, chain: end.chain });
            if is_branch {
                plan.to.set_branch(site, origin);
            }
        }
        plan.splits.extend(self.splits);
    }
}

fn is_held(source: Source) -> bool {
    matches!(source, Source::Held(..))
}

const _: () = assert!(MAX_BRANCHES <= MAX_SITES);
