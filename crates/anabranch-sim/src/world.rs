//! The simulated world: copies and relays with real stores, a virtual clock, and everything
//! that goes wrong between them, all from one seed.
//!
//! Copies write, sync through one or two relays and through a directory, while connections
//! are cut at any byte, disks tear and die, clocks run hours or years ahead, files are copied
//! and restored from old backups. After every step whoever was touched is compared with the
//! [`book`] of what must be: no acknowledged change lost, none visible in part, causal order
//! kept, nothing said of others that is not true, nothing back from the dead. In the end all
//! faults stop, and all copies must become equal and be found sound.
//!
//! The stores, sessions, the client's talk and directory and the relay's connections, storage
//! and fan-out are those that ship; only sockets, threads and clocks are the world's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use anabranch_client::testing::{Client, Files};
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use anabranch_core::wire::close_parts_at;
use anabranch_relay::testing::Relay;
use anabranch_sqlite::vfs::Image;
use anabranch_sync::Time;
use anabranch_sync::frame::StoreName;

mod acts;
mod book;
mod ends;
mod link;
mod rack;
mod set;
mod site;

use book::Book;
use link::{Link, Pipe};
pub use rack::Rack;
use set::Set;
use site::{Arena, Birth, Habits, Site};

use crate::shapes::SHAPES;

/// When worlds begin: 26 November 2026, in Unix milliseconds.
const START_MS: u64 = 1_795_651_200_000;

/// The store that all copies are of.
const STORE: &str = "world";

/// How large a world is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Most copies, at least 2.
    pub max_sites: usize,
    /// Things that happen before all faults stop.
    pub n_acts: usize,
    /// What the world does wrong on purpose.
    pub wrong: Wrong,
    /// Whether a failure tells everything that was seen, and not what was done last only.
    pub is_traced: bool,
}

impl Plan {
    /// Two to six copies.
    pub fn short() -> Plan {
        Plan { max_sites: 6, n_acts: 60, wrong: Wrong::Nothing, is_traced: false }
    }

    /// Up to sixteen copies.
    pub fn long() -> Plan {
        Plan { max_sites: 16, n_acts: 250, wrong: Wrong::Nothing, is_traced: false }
    }
}

/// A wrong that a world must see: proof that its checks check something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// None.
    Nothing,
    /// Commits are acknowledged and not synced.
    DiskLies,
    /// Half of what belongs together is not written.
    HalfCommits,
    /// A relay's disk goes back to an older image, and is held to what it said before.
    RelayForgets,
    /// A deleted row is written anew.
    DeadReturn,
    /// A copy whose history was forked goes on under the old name.
    ForkedName,
}

/// What happened in a world that ended well.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Changes made.
    pub n_changes: u64,
    /// Connections made.
    pub n_connections: u64,
    /// Those of them in which a ticket was taken: both ends said only what differs from it.
    pub n_resumed: u64,
    /// Frames that arrived.
    pub n_frames: u64,
    /// Deaths of disks and processes.
    pub n_crashes: u64,
    /// Refusals of changes from the future.
    pub n_clock_ahead: u64,
    /// Files copied to other copies, and old ones restored.
    pub n_copies: u64,
    /// Histories that went on in two ways under one name.
    pub n_forks: u64,
    /// Rounds with the directory.
    pub n_rounds: u64,
    /// Compactions.
    pub n_compactions: u64,
    /// Deltas that relays joined.
    pub n_joined: u64,
    /// Deltas that became part of checkpoints.
    pub n_gathered: u64,
    /// Tokens that ended or were revoked while somebody was connected by them.
    pub n_ended: u64,
}

impl Report {
    /// Sums up.
    pub fn add(&mut self, other: Report) {
        self.n_changes += other.n_changes;
        self.n_connections += other.n_connections;
        self.n_resumed += other.n_resumed;
        self.n_frames += other.n_frames;
        self.n_crashes += other.n_crashes;
        self.n_clock_ahead += other.n_clock_ahead;
        self.n_copies += other.n_copies;
        self.n_forks += other.n_forks;
        self.n_rounds += other.n_rounds;
        self.n_compactions += other.n_compactions;
        self.n_joined += other.n_joined;
        self.n_gathered += other.n_gathered;
        self.n_ended += other.n_ended;
    }
}

/// A world that failed.
#[derive(Debug)]
pub struct Failure {
    /// Replays it.
    pub seed: u64,
    /// What happened last, oldest first.
    pub trace: Vec<String>,
    /// What went wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "    {line}")?;
        }
        write!(f, "ANABRANCH_SEED={}: {}", self.seed, self.what)
    }
}

/// Something that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The next thing happens.
    Act,
    /// A frame arrives at the relay's end.
    Up(usize),
    /// A frame arrives at the copy's end.
    Down(usize),
    /// The copy's end hears that the connection is gone.
    LostByClient(usize),
    /// The relay's end hears it.
    LostByServer(usize),
    /// Both ends look at clock and store.
    Turn(usize),
    /// A relay commits what waits.
    Commit(usize),
    /// A copy connects to a relay.
    Connect(usize, usize),
    /// A relay is started again.
    Start(usize),
}

/// A relay, which may be down.
struct Node {
    relay: Option<Relay>,
    /// What was last seen on its disk, and how it says so.
    held: Set,
    seen: VersionVector,
    is_committing: bool,
    backup: Option<Image>,
}

struct World<'a> {
    rng: StdRng,
    plan: Plan,
    rack: &'a Rack,
    arena: &'a Arena,
    name: StoreName,
    /// Milliseconds since the beginning.
    now_ms: u64,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    n_dues: u64,
    n_acts_left: usize,
    sites: Vec<Site<'a>>,
    nodes: Vec<Node>,
    /// Which relays each copy talks to.
    talks_to: Vec<Vec<usize>>,
    links: BTreeMap<usize, Link<'a>>,
    n_links: usize,
    n_passes: u64,
    files: Files,
    book: Book,
    /// Names that more than one file went by: what is said of them may be said of another.
    doubtful: BTreeSet<SiteId>,
    report: Report,
    trace: Vec<String>,
}

/// Runs the world of a seed.
///
/// # Errors
/// The first thing that must not be.
pub fn run(seed: u64, plan: Plan, rack: &Rack) -> Result<Report, Box<Failure>> {
    let arena = Arena::new(6 * plan.max_sites + plan.n_acts);
    let mut world = match World::new(seed, plan, rack, &arena) {
        Ok(world) => world,
        Err(what) => return Err(Box::new(Failure { seed, trace: Vec::new(), what })),
    };
    let end = world.live().and_then(|()| world.rest());
    anabranch_store::random::set_seed(None);
    close_parts_at(None);
    match end {
        Ok(()) => Ok(Report { n_forks: world.book.n_forks(), ..world.report }),
        Err(what) => {
            let mut trace = std::mem::take(&mut world.trace);
            if !plan.is_traced {
                trace.drain(..trace.len().saturating_sub(60));
            }
            Err(Box::new(Failure { seed, trace, what }))
        }
    }
}

impl<'a> World<'a> {
    fn new(seed: u64, plan: Plan, rack: &'a Rack, arena: &'a Arena) -> Result<World<'a>, String> {
        let mut rng = StdRng::seed_from_u64(seed);
        let max_sites = plan.max_sites.min(rack.sites.len());
        let n_sites = rng.random_range(2..=max_sites);
        let n_relays = rng.random_range(1..=2);
        let shapes: u32 =
            (0..SHAPES.len()).map(|bit| u32::from(rng.random_ratio(1, 4)) << bit).sum();
        let mut world = World {
            plan,
            rack,
            arena,
            name: StoreName::new(STORE).ok_or("no name")?,
            now_ms: 0,
            due: BinaryHeap::new(),
            n_dues: 0,
            n_acts_left: plan.n_acts,
            sites: Vec::new(),
            nodes: Vec::new(),
            talks_to: Vec::new(),
            links: BTreeMap::new(),
            n_links: 0,
            n_passes: 0,
            files: Files::default(),
            book: Book::default(),
            doubtful: BTreeSet::new(),
            report: Report::default(),
            trace: vec![format!(
                "{n_sites} copies, {n_relays} relays, {} tables",
                shapes.count_ones()
            )],
            rng,
        };
        for number in 0..n_relays {
            rack.relays[number].wipe();
            let (held, seen) = (Set::default(), VersionVector::new());
            let node = Node { relay: None, held, seen, is_committing: false, backup: None };
            world.nodes.push(node);
            world.start(number)?;
        }
        for number in 0..n_sites {
            let journal = if world.rng.random() { "WAL" } else { "DELETE" };
            let has_two = world.rng.random_ratio(1, 3);
            let is_careless = plan.wrong == Wrong::DiskLies;
            let habits = Habits { journal, has_two, is_careless };
            let name = SiteId::from_random(world.rng.random());
            let birth = Birth { number, rack, arena, shapes, habits, name };
            world.sites.push(Site::new(birth)?);
            // The first knows everybody; some meet others through the directory only.
            let is_friend = |_: &usize| number == 0 || world.rng.random_ratio(2, 3);
            let talks_to: Vec<usize> = (0..n_relays).filter(is_friend).collect();
            for relay in &talks_to {
                world.after(10, Due::Connect(number, *relay));
            }
            world.talks_to.push(talks_to);
        }
        // In some, what is said travels in small parts.
        let part_bytes = world.rng.random_range(200..4_000);
        let has_parts = world.rng.random_ratio(1, 3);
        close_parts_at(has_parts.then_some(part_bytes));
        // Whether databases were at hand or had to be made is not told from here on.
        anabranch_store::random::set_seed(Some(world.rng.random()));
        world.after(50, Due::Act);
        Ok(world)
    }

    /// Something is due at about so many milliseconds from now.
    fn after(&mut self, ms: u64, due: Due) {
        let at = self.now_ms + self.rng.random_range(ms / 2..=ms);
        self.at(at, due);
    }

    fn at(&mut self, at_ms: u64, due: Due) {
        self.n_dues += 1;
        self.due.push(Reverse((at_ms, self.n_dues, due)));
    }

    /// Everything that happens, until nothing more is to happen.
    fn live(&mut self) -> Result<(), String> {
        while self.n_acts_left > 0 {
            self.step()?.ok_or("time stands still")?;
        }
        Ok(())
    }

    /// The next thing that is due; `None` if nothing is.
    fn step(&mut self) -> Result<Option<()>, String> {
        let Some(Reverse((at_ms, _, due))) = self.due.pop() else { return Ok(None) };
        self.now_ms = self.now_ms.max(at_ms);
        self.tell_time();
        self.happen(due).map_err(|what| format!("at {} ms, {due:?}: {what}", self.now_ms))?;
        Ok(Some(()))
    }

    fn tell_time(&self) {
        let true_ms = START_MS + self.now_ms;
        for site in &self.sites {
            site.wall.set(true_ms.saturating_add_signed(site.off_ms));
        }
        anabranch_clock::tell(true_ms, self.now_ms);
        self.files.tell_time(true_ms);
    }

    fn time(&self) -> Time {
        Time(self.now_ms)
    }

    fn happen(&mut self, due: Due) -> Result<(), String> {
        match due {
            Due::Act if self.n_acts_left == 0 => {}
            Due::Act => {
                self.act()?;
                self.n_acts_left -= 1;
                let pause = [5, 50, 500, 5_000][self.rng.random_range(0..4)];
                self.after(pause, Due::Act);
            }
            Due::Up(link) => self.deliver_up(link)?,
            Due::Down(link) => self.deliver_down(link)?,
            Due::LostByClient(link) => self.lost_by_client(link)?,
            Due::LostByServer(link) => self.lost_by_server(link),
            Due::Turn(link) => self.turn_if_due(link)?,
            Due::Commit(relay) => self.commit(relay)?,
            Due::Connect(site, relay) => self.connect(site, relay)?,
            Due::Start(relay) => self.start(relay)?,
        }
        Ok(())
    }

    /// Takes a note of what somebody holds.
    fn note_held(&mut self, who: &str, number: usize, held: &VersionVector) {
        if self.plan.is_traced {
            let of =
                |(site, held): (SiteId, Held)| format!("{:.4}:{}", site.to_string(), held.version);
            let held: Vec<String> = held.iter().map(of).collect();
            self.note(|| format!("{who} {number} holds {}", held.join(" ")));
        }
    }

    /// Takes a note for whoever reads the trace.
    fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{} ms: {}", self.now_ms, line());
        self.trace.push(line);
    }
}

impl Link<'_> {
    fn between<'a>(site: usize, relay: usize, latency_ms: u64, client: Client<'a>) -> Link<'a> {
        Link {
            site,
            relay,
            client: Some(client),
            server: None,
            up: Pipe::default(),
            down: Pipe::default(),
            latency_ms,
            turns_ms: None,
            is_cut: false,
            pass: None,
        }
    }
}
