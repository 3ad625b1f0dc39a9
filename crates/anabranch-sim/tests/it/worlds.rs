//! Simulated worlds, and proof that they would see what is wrong.

use anabranch_sim::world::{Plan, Rack, Report, Wrong, run};

/// Seeds of a run: one from `ANABRANCH_SEED`, or `n` fixed ones.
fn seeds(n: u64) -> std::ops::Range<u64> {
    match std::env::var("ANABRANCH_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..n,
    }
}

#[test]
fn worlds_come_to_rest() {
    let rack = Rack::new(Plan::short().max_sites).expect("disks");
    let mut sum = Report::default();
    let seeds = seeds(60);
    let n_seeds = seeds.clone().count();
    for seed in seeds {
        match run(seed, Plan::short(), &rack) {
            Ok(report) => sum.add(report),
            Err(failure) => panic!("\n{failure}"),
        }
    }
    println!("{sum:?}");
    // What never happens is not tested.
    let happened = [sum.n_forks, sum.n_joined, sum.n_gathered, sum.n_ended, sum.n_resumed];
    assert!(n_seeds == 1 || happened.iter().all(|n| *n > 0), "{sum:?}");
}

#[test]
fn each_wrong_is_seen() {
    const MAX_SEEDS: u64 = 60;
    let rack = Rack::new(Plan::short().max_sites).expect("disks");
    let wrongs = [
        Wrong::DiskLies,
        Wrong::HalfCommits,
        Wrong::RelayForgets,
        Wrong::DeadReturn,
        Wrong::ForkedName,
    ];
    for wrong in wrongs {
        let plan = Plan { wrong, ..Plan::short() };
        let seen = (0..MAX_SEEDS).find_map(|seed| run(seed, plan, &rack).err());
        match seen {
            Some(failure) => println!("{wrong:?}: seed {}: {}", failure.seed, failure.what),
            None => panic!("no world saw {wrong:?}"),
        }
    }
}
