//! The second part: a relay, and both people connected to it, each through a process of its
//! own, one of which is killed in between.
//!
//! Invariant: a latency is measured while it happens, from the return of a commit on one side
//! to the moment at which the other file shows it; all else is asked of the two files and of
//! the relay at the end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anabranch::{SiteId, Store, VersionVector};
use serde_json::{Value, json};

use super::edits::{Edit, Person, Step};
use super::process::{Process, wait_until};
use super::relay::Relay;
use super::stage::{Pair, perform};
use crate::failure::Result;
use crate::progress::Progress;

/// What became of the live part.
pub(super) struct Live {
    /// Address of the relay's store.
    pub(super) url: String,
    /// What the relay holds at the end.
    pub(super) relay_changes: u64,
    pub(super) relay_bytes: u64,
    pub(super) ways: [Way; 2],
    pub(super) absences: Vec<Absence>,
    /// How far the changes of Ada and Ben got.
    pub(super) receipts: [Receipt; 2],
    pub(super) took: Duration,
}

/// Changes of one person on their way to the other, while both were connected.
#[derive(Default)]
pub(super) struct Way {
    /// From commit to being visible there, shortest first.
    pub(super) latencies: Vec<Duration>,
}

/// A time in which the process that syncs for somebody was dead.
pub(super) struct Absence {
    pub(super) who: Person,
    /// Changes of the other that were not here when it was started again.
    pub(super) missed: u64,
    /// Changes that were here only.
    pub(super) wrote: u64,
    /// From its new start until both files held the same.
    pub(super) caught_up: Duration,
}

/// Of one person's live changes, how many are known to be where.
pub(super) struct Receipt {
    pub(super) changes: u64,
    pub(super) on_relay: u64,
    pub(super) seen: u64,
}

impl Way {
    /// The latency that half of the changes did not exceed.
    pub(super) fn median(&self) -> Option<Duration> {
        let n = self.latencies.len();
        self.latencies.get(n.saturating_sub(1) / 2).copied()
    }

    pub(super) fn worst(&self) -> Option<Duration> {
        self.latencies.last().copied()
    }
}

/// Plays the live steps on two files that hold the same.
pub(super) fn play(pair: &Pair, folder: &Path, steps: &[Step<'_>]) -> Result<Live> {
    let progress = Progress::new("starting a relay");
    let start = Instant::now();
    let relay = Relay::start(folder)?;
    let before = own_versions(&pair.stores)?;
    let mut course = Course::new(pair, relay)?;
    for (i, step) in steps.iter().enumerate() {
        progress.step(format!("live: step {} of {}", i + 1, steps.len()));
        // Whoever is killed next is killed while it takes the change.
        let is_cut_off = matches!(steps.get(i + 1), Some(Step::Killed(_)));
        match step {
            Step::Edit(edit) => course.edit(edit, !is_cut_off)?,
            Step::Killed(person) => course.kill(*person)?,
            Step::Back(person) => course.bring_back(*person)?,
        }
    }
    progress.step("waiting for receipts");
    for person in Person::BOTH {
        course.bring_back(person)?;
    }
    course.settle()?;
    let live = course.tell(before, start)?;
    progress.done();
    Ok(live)
}

/// The two files, and what runs beside them.
struct Course<'a> {
    paths: &'a [PathBuf; 2],
    stores: &'a [Store; 2],
    /// Before the relay: dropped first, so that they end first.
    syncs: [Option<Process>; 2],
    relay: Relay,
    ways: [Way; 2],
    absences: Vec<Absence>,
}

impl<'a> Course<'a> {
    fn new(pair: &'a Pair, relay: Relay) -> Result<Course<'a>> {
        let mut course = Course {
            paths: &pair.paths,
            stores: &pair.stores,
            syncs: [None, None],
            relay,
            ways: Default::default(),
            absences: Vec::new(),
        };
        for person in Person::BOTH {
            course.start(person)?;
        }
        Ok(course)
    }

    /// Starts the sync of a person, and waits until it says that all is equal.
    fn start(&mut self, person: Person) -> Result<()> {
        let db = &self.paths[person as usize];
        let mut words = ["sync", "--watch"].map(OsString::from).to_vec();
        words.extend([db.into(), self.relay.url().into()]);
        let mut sync =
            Process::start(&format!("{}'s sync", person.name()), &words, self.relay.token())?;
        sync.wait_for(|line| line["event"] == "converged")?;
        self.syncs[person as usize] = Some(sync);
        Ok(())
    }

    fn edit(&mut self, edit: &Edit<'_>, waits: bool) -> Result<()> {
        let (here, there) = (edit.by as usize, edit.by.other() as usize);
        let before = self.stores[here].version_vector()?;
        perform(&self.stores[here], edit)?;
        let committed = Instant::now();
        let is_live = self.syncs.iter().all(Option::is_some);
        let (site, version) = own_version(&self.stores[here])?;
        if !waits || !is_live || version == before.version(site) {
            return Ok(());
        }
        let other = &self.stores[there];
        let what = format!("{}'s change at {}'s", edit.by.name(), edit.by.other().name());
        wait_until(&what, &mut running(&mut self.syncs, &mut self.relay), || {
            Ok(other.version_vector()?.version(site) >= version)
        })?;
        self.ways[here].latencies.push(committed.elapsed());
        Ok(())
    }

    fn kill(&mut self, person: Person) -> Result<()> {
        self.syncs[person as usize].take().map_or(Ok(()), Process::kill)
    }

    /// Starts the sync of a person who has none, and waits until both files hold the same.
    fn bring_back(&mut self, who: Person) -> Result<()> {
        if self.syncs[who as usize].is_some() {
            return Ok(());
        }
        let [here, there] = [who, who.other()].map(|person| &self.stores[person as usize]);
        let (here, there) = (here.version_vector()?, there.version_vector()?);
        let (missed, wrote) = (n_above(&there, &here), n_above(&here, &there));
        let start = Instant::now();
        self.start(who)?;
        self.wait_until_equal()?;
        self.absences.push(Absence { who, missed, wrote, caught_up: start.elapsed() });
        Ok(())
    }

    fn wait_until_equal(&mut self) -> Result<()> {
        let [a, b] = self.stores;
        wait_until("both equal", &mut running(&mut self.syncs, &mut self.relay), || {
            Ok(a.version_vector()? == b.version_vector()?)
        })
    }

    /// Waits until both files hold the same, and both know that the relay has it on disk.
    fn settle(&mut self) -> Result<()> {
        self.wait_until_equal()?;
        let [a, b] = self.stores;
        wait_until("receipts", &mut running(&mut self.syncs, &mut self.relay), || {
            Ok(is_on_peers(a)? && is_on_peers(b)?)
        })
    }

    /// Ends the syncs, asks the relay and the files, and ends the relay.
    fn tell(mut self, before: [VersionVector; 2], start: Instant) -> Result<Live> {
        self.syncs = [None, None];
        let facts = self.relay.facts()?;
        for way in &mut self.ways {
            way.latencies.sort_unstable();
        }
        let [a, b] = self.stores;
        let number = |name: &str| facts[name].as_u64().unwrap_or(0);
        Ok(Live {
            url: self.relay.url().to_string(),
            relay_changes: number("changes"),
            relay_bytes: number("bytes"),
            ways: self.ways,
            absences: self.absences,
            receipts: [receipt(a, &before[0])?, receipt(b, &before[1])?],
            took: start.elapsed(),
        })
    }
}

/// The processes that should be running.
fn running<'p>(syncs: &'p mut [Option<Process>; 2], relay: &'p mut Relay) -> Vec<&'p mut Process> {
    syncs.iter_mut().flatten().chain([relay.process()]).collect()
}

fn own_versions(stores: &[Store; 2]) -> Result<[VersionVector; 2]> {
    Ok([stores[0].version_vector()?, stores[1].version_vector()?])
}

fn own_version(store: &Store) -> Result<(SiteId, u64)> {
    let site = store.site()?;
    Ok((site, store.version_vector()?.version(site)))
}

/// Changes of `a` that are not in `b`.
fn n_above(a: &VersionVector, b: &VersionVector) -> u64 {
    a.iter().map(|(site, held)| held.version.saturating_sub(b.version(site))).sum()
}

/// Whether a store knows each of its changes to be on a peer's disk.
fn is_on_peers(store: &Store) -> Result<bool> {
    let held = store.version_vector()?;
    Ok(store.peers()?.iter().any(|peer| n_above(&held, &peer.held) == 0))
}

/// How far the store's own changes above `before` are known to have got.
fn receipt(store: &Store, before: &VersionVector) -> Result<Receipt> {
    let receipts = store.receipts()?;
    let (site, last) = own_version(store)?;
    let mut told = Receipt { changes: 0, on_relay: 0, seen: 0 };
    for version in before.version(site) + 1..=last {
        told.changes += 1;
        told.on_relay += u64::from(receipts.on_disk_of(site, version).next().is_some());
        told.seen += u64::from(receipts.seen_by(site, version).next().is_some());
    }
    Ok(told)
}

impl Live {
    /// For programs: the same facts.
    pub(super) fn as_json(&self) -> Value {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let ways = Person::BOTH.map(|person| {
            let way = &self.ways[person as usize];
            json!({
                "from": person.name(), "to": person.other().name(),
                "changes": way.latencies.len(),
                "p50_ms": way.median().map(ms), "worst_ms": way.worst().map(ms),
            })
        });
        let absences: Vec<_> = self
            .absences
            .iter()
            .map(|absence| {
                json!({
                    "who": absence.who.name(), "missed": absence.missed, "wrote": absence.wrote,
                    "caught_up_ms": ms(absence.caught_up),
                })
            })
            .collect();
        let receipts = Person::BOTH.map(|person| {
            let receipt = &self.receipts[person as usize];
            json!({
                "who": person.name(), "changes": receipt.changes,
                "on_relay": receipt.on_relay, "seen": receipt.seen,
            })
        });
        json!({
            "url": self.url, "ways": ways, "killed": absences, "receipts": receipts,
            "relay": { "changes": self.relay_changes, "bytes": self.relay_bytes },
            "live_ms": self.took.as_millis() as u64,
        })
    }
}
