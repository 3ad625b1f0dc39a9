//! kill -9 of real processes at random instants: a relay, two copies that sync with it, and a
//! writer on each, through `ana` alone. The long form is `cargo xtask kill --cycles 500`.
//!
//! What must hold: what a writer saw committed is there ([`ledger`]), on every copy at any
//! instant each side's rows are those of one of its transactions ([`copies`]), the relay holds
//! what it acknowledged ([`relay`]), and once all is quiet everything is equal and clean.

mod copies;
mod ledger;
mod process;
mod relay;
mod writer;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::ana::Ana;
use copies::Copy;
use ledger::{SIDES, Side};
use process::Watch;
use relay::Relay;
use writer::Writer;

/// Cycles, unless `ANABRANCH_KILL_CYCLES` says how many.
const CYCLES: u64 = 12;
/// Seed, unless `ANABRANCH_KILL_SEED` says which.
const SEED: u64 = 20_261_126;
/// Cycles between two looks at all of it.
const QUIET_EVERY: u64 = 25;
/// Transactions that each writer may commit in a cycle.
const MOST_TRANSACTIONS: u64 = 30;

/// All that runs, and the folder it runs in.
struct World {
    ana: Ana,
    relay: Relay,
    watches: [Option<Watch>; 2],
    writers: [Option<Writer>; 2],
    copies: [Copy; 2],
    seed: u64,
}

#[test]
fn nothing_is_lost_and_nothing_returns() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let cycles = number("ANABRANCH_KILL_CYCLES").unwrap_or(CYCLES);
    let seed = number("ANABRANCH_KILL_SEED").unwrap_or(SEED);
    eprintln!("kill: seed {seed}, {cycles} cycles");
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed);
    for cycle in 1..=cycles {
        world.cycle(&mut random, cycle);
        if cycle % QUIET_EVERY == 0 || cycle == cycles {
            world.quiet(cycle);
        }
    }
}

impl World {
    fn new(seed: u64) -> World {
        let ana = Ana::new();
        ana.ok(&["init", "a.db"]);
        ana.ok(&["sql", "a.db", ledger::TABLES]);
        for table in ledger::TABLE_NAMES {
            ana.ok(&["crr", "a.db", table]);
        }
        // Copied before anything is written: each gets a site of its own.
        for db in ["b.db", "empty.db"] {
            ana.copy("a.db", db);
        }
        let relay = Relay::start(&ana);
        let copies = SIDES.map(|side| Copy::new(ana.path(side.file())));
        let mut world =
            World { watches: [None, None], writers: [None, None], ana, relay, copies, seed };
        SIDES.into_iter().for_each(|side| world.start(side));
        world
    }

    /// Starts what a side lacks.
    fn start(&mut self, side: Side) {
        let at = side as usize;
        if self.watches[at].is_none() {
            self.watches[at] = Some(Watch::start(&self.ana, side.file(), &self.relay));
        }
        if self.writers[at].is_none() {
            let next = self.copies[at].progress(side) + 1;
            self.writers[at] = Some(Writer::start(&self.ana, side, self.seed, next));
        }
    }

    /// Lets the writers go on, kills something in between, looks, and starts it again.
    fn cycle(&mut self, random: &mut StdRng, cycle: u64) {
        let most = random.random_range(2..=MOST_TRANSACTIONS);
        self.writers.iter_mut().flatten().for_each(|writer| writer.may_commit(most));
        let n_seen = random.random_range(0..most);
        let victim = random.random_range(0..7);
        let watched = &self.writers[random.random_range(0..2)];
        if let Some(writer) = watched {
            writer.wait_for(n_seen);
        }
        // The kill must fall anywhere inside a transaction or a frame, not only behind one.
        (0..random.random_range(0..2_000_000)).for_each(|_| std::hint::spin_loop());
        if matches!(victim, 0 | 6) {
            self.relay.kill();
        }
        for side in SIDES {
            let at = side as usize;
            if victim == 1 + at || victim == 6 {
                self.watches[at].take().unwrap().kill();
            }
            if victim == 3 + at || victim == 6 {
                self.writers[at].take().unwrap().kill(&mut self.copies[at]);
            }
        }
        if victim == 5 {
            // A person's Ctrl-C at the same moment as a crash elsewhere.
            self.relay.terminate();
            self.watches[cycle as usize % 2].take().unwrap().kill();
        }
        self.watches.iter_mut().flatten().for_each(|watch| watch.must_run(self.seed, cycle));
        self.look(cycle);
        if matches!(victim, 0 | 5 | 6) {
            let acknowledged = self.copies.each_ref().map(Copy::acknowledged);
            self.relay.restart(&self.ana);
            self.relay.must_hold(&acknowledged, self.seed, cycle);
        }
        SIDES.into_iter().for_each(|side| self.start(side));
    }

    /// Looks at both copies, whatever runs on them.
    fn look(&mut self, cycle: u64) {
        for copy in &mut self.copies {
            copy.look(self.seed).unwrap_or_else(|what| {
                panic!("seed {}, cycle {cycle}: {}: {what}", self.seed, copy.name())
            });
        }
    }

    /// Stops writing, syncs until there is nothing left, and looks at everything.
    fn quiet(&mut self, cycle: u64) {
        for side in SIDES {
            let at = side as usize;
            self.writers[at].take().unwrap().kill(&mut self.copies[at]);
            self.watches[at].take().unwrap().kill();
        }
        let at = format!("seed {}, cycle {cycle}", self.seed);
        let (url, token) = (self.relay.url(), self.relay.token().to_string());
        for db in ["a.db", "b.db", "a.db"] {
            let run = self.ana.run(&["sync", db, &url, "--token", &token]);
            assert_eq!(run.status, 0, "{at}: sync {db}: {}{}", run.out, run.err);
        }
        self.look(cycle);
        for side in SIDES {
            let ours = self.copies[side as usize].progress(side);
            let theirs = self.copies[1 - side as usize].progress(side);
            assert_eq!(ours, theirs, "{at}: transactions of {side:?}");
        }
        for db in ["a.db", "b.db"] {
            let run = self.ana.run(&["check", db]);
            assert_eq!(run.status, 0, "{at}: check {db}: {}{}", run.out, run.err);
        }
        assert_eq!(self.ana.words("a.db"), self.ana.words("b.db"), "{at}: the copies differ");
        self.relay.must_be_whole(&self.ana, &at);
        let n = self.copies.each_ref().map(|copy| copy.n_acknowledged);
        eprintln!("kill: {cycle} cycles, {} and {} transactions, all there", n[0], n[1]);
        SIDES.into_iter().for_each(|side| self.start(side));
    }
}
