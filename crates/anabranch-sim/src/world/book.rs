//! What must be true of a world, written down as it happens: who committed what knowing what,
//! which rows that makes, and what nobody may lose.
//!
//! A change is known by its root, its number there and its chain, whatever it is called by whom.
//! Knows no store: it is told vectors and rows, and says what is wrong with them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use anabranch_core::branch::Point;
use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, VersionVector};

use super::set::Set;

/// What a transaction is about to do, until it is known whether it was committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// The row that it adds to `mark`.
    pub(super) mark: String,
    /// Rows that it adds to `grave`, each for the only time.
    pub(super) born: Vec<String>,
    /// Rows that it deletes there.
    pub(super) buried: Vec<String>,
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mark)?;
        self.buried.iter().try_for_each(|row| write!(f, " without {row}"))
    }
}

/// Who may have made a change that is new to the book.
pub(super) struct Author<'a> {
    /// What it calls itself.
    pub(super) name: SiteId,
    /// What it was about to do.
    pub(super) draft: &'a mut Option<Draft>,
    /// Its chain of a site at a version.
    pub(super) chain_at: &'a dyn Fn(SiteId, u64) -> Result<Chain, String>,
}

/// A change that some copy committed.
struct Commit {
    point: Point,
    /// It and all that come before it in its history.
    line: Set,
    /// What its author held.
    deps: Set,
}

/// A row of `grave`: made once, deleted by whoever likes.
#[derive(Default)]
struct Grave {
    born: Option<usize>,
    died: Vec<usize>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Book {
    commits: Vec<Commit>,
    numbers: HashMap<Point, usize>,
    /// After which another comes.
    followed: HashSet<Point>,
    n_forks: u64,
    graves: BTreeMap<String, Grave>,
    /// Somebody forgot: a copy that takes a complete delta may give rows new lives, in a change
    /// that no application made.
    may_rise: bool,
    /// Those changes.
    risen: Set,
    /// What was acknowledged to an application and is on some disk that was not lost.
    kept: Set,
}

impl Book {
    /// How many changes there are.
    pub(super) fn n_changes(&self) -> usize {
        self.commits.len()
    }

    /// How often a history went on in another way than before.
    pub(super) fn n_forks(&self) -> u64 {
        self.n_forks
    }

    /// The rows that a copy which holds these may delete.
    pub(super) fn alive(&self, held: &Set) -> Vec<&str> {
        let graves = self.graves.iter().filter(|(_, grave)| grave.is_alive(held));
        graves.map(|(row, _)| row.as_str()).collect()
    }

    /// All changes that a vector covers, each under one name only.
    pub(super) fn held(&self, vector: &VersionVector) -> Result<Set, String> {
        let mut held = Set::default();
        for (site, _) in vector.iter() {
            let point = vector.point(site).ok_or("an entry without an end")?;
            let number = self.numbers.get(&point);
            let number = number.ok_or_else(|| format!("{point:?} was made by nobody"))?;
            held.add(&self.commits[*number].line);
        }
        Ok(held)
    }

    /// A copy that held `before` is at `after`: each change that is new there must be known,
    /// and what its author knew be there too. A change of nobody's is the copy's own draft.
    pub(super) fn observe(
        &mut self,
        before: &Set,
        after: &VersionVector,
        author: Option<Author<'_>>,
    ) -> Result<Set, String> {
        if let Some(author) = author {
            self.enter_new(before, after, author)?;
        }
        let held = self.held(after)?;
        let n_named: u64 = after.iter().map(|(_, held)| held.version).sum();
        if n_named != held.len() {
            let after = after.to_json();
            return Err(format!("{n_named} names of {} changes in {after}", held.len()));
        }
        if !before.is_within(&held) {
            let lost = self.points(&before.without(&held));
            return Err(format!("went back to {}, without {lost:?}", after.to_json()));
        }
        for number in held.without(before).iter() {
            let Commit { point, deps, .. } = &self.commits[number];
            if !deps.is_within(&held) {
                let lacking = self.points(&deps.without(&held));
                return Err(format!("{point:?} without {lacking:?}"));
            }
        }
        Ok(held)
    }

    /// Writes down what the author of `after` made.
    fn enter_new(
        &mut self,
        before: &Set,
        after: &VersionVector,
        author: Author<'_>,
    ) -> Result<(), String> {
        let Some(held) = after.get(author.name) else { return Ok(()) };
        let origin = after.origin(author.name);
        let point = |version, chain| Point { root: origin.root, version, chain };
        let (mut version, mut chain) = (held.version, held.chain);
        let mut new = Vec::new();
        while version > 0 && !self.numbers.contains_key(&point(origin.base + version, chain)) {
            new.push(point(origin.base + version, chain));
            version -= 1;
            chain = match version {
                0 => origin.chain,
                version => (author.chain_at)(author.name, version)?,
            };
        }
        let mut last = point(origin.base + version, chain);
        let earlier = self.numbers.get(&last);
        let mut line = earlier.map(|number| self.commits[*number].line.clone()).unwrap_or_default();
        if earlier.is_none() && origin.base + version > 0 {
            return Err(format!("{} goes on from nothing", author.name));
        }
        for point in new.into_iter().rev() {
            let number = self.commits.len();
            let mut deps = before.clone();
            match author.draft.take() {
                Some(draft) => self.enter_rows(number, draft),
                None if self.may_rise => {
                    self.risen.insert(number);
                    deps = self.held_of_known(after);
                }
                None => return Err(format!("{point:?} was made by nobody")),
            }
            deps.add(&line);
            line.insert(number);
            self.kept.insert(number);
            self.n_forks += u64::from(!self.followed.insert(last));
            last = point;
            self.numbers.insert(point, number);
            self.commits.push(Commit { point, line: line.clone(), deps });
        }
        Ok(())
    }

    /// What a vector covers, as far as the book has it.
    pub(super) fn held_of_known(&self, vector: &VersionVector) -> Set {
        let mut held = Set::default();
        let points = vector.iter().filter_map(|(site, _)| vector.point(site));
        for number in points.filter_map(|point| self.numbers.get(&point)) {
            held.add(&self.commits[*number].line);
        }
        held
    }

    fn enter_rows(&mut self, number: usize, draft: Draft) {
        for row in draft.born {
            self.graves.entry(row).or_default().born = Some(number);
        }
        for row in draft.buried {
            self.graves.entry(row).or_default().died.push(number);
        }
    }

    /// From here on copies forget.
    pub(super) fn may_rise(&mut self) {
        self.may_rise = true;
    }

    /// How many rows of `mark` a copy that holds these shows: one for each change that an
    /// application made.
    pub(super) fn n_marks(&self, held: &Set) -> u64 {
        held.without(&self.risen).len()
    }

    /// Whether a row may live though it was deleted: it rose where that was not known.
    fn may_live(&self, grave: &Grave, held: &Set) -> bool {
        let rose = self.risen.iter().filter(|number| held.contains(*number));
        rose.map(|number| &self.commits[number].deps).any(|deps| grave.is_alive(deps))
    }

    /// What is wrong with the rows of `grave` that a copy which holds these shows.
    pub(super) fn check_graves(&self, held: &Set, shown: &BTreeSet<String>) -> Result<(), String> {
        for (row, grave) in &self.graves {
            match (grave.is_alive(held), shown.contains(row)) {
                (true, false) => return Err(format!("row {row} is missing")),
                (false, true) if self.may_live(grave, held) => {}
                (false, true) if grave.died.iter().any(|number| held.contains(*number)) => {
                    return Err(format!("row {row} came back from the dead"));
                }
                (false, true) => return Err(format!("row {row} is there before its change")),
                _ => {}
            }
        }
        Ok(())
    }

    /// A disk was lost or went back: what none of `holders` has cannot be asked for.
    pub(super) fn forget_lost(&mut self, holders: &[&Set]) {
        let mut held = Set::default();
        holders.iter().for_each(|holder| held.add(holder));
        self.kept.keep(&held);
    }

    /// What was acknowledged and is not held.
    pub(super) fn missing(&self, held: &Set) -> Vec<Point> {
        self.points(&self.kept.without(held))
    }

    /// The newest change of each site of a vector: its name there, and its number here.
    pub(super) fn newest(&self, vector: &VersionVector) -> Vec<(Dot, usize)> {
        let newest = vector.iter().filter_map(|(site, held)| {
            let number = self.numbers.get(&vector.point(site)?)?;
            Some((Dot { site, version: held.version }, *number))
        });
        newest.collect()
    }

    fn points(&self, numbers: &Set) -> Vec<Point> {
        numbers.iter().map(|number| self.commits[number].point).collect()
    }
}

impl Grave {
    fn is_alive(&self, held: &Set) -> bool {
        self.born.is_some_and(|number| held.contains(number))
            && !self.died.iter().any(|number| held.contains(*number))
    }
}
