//! Simulated worlds: `sim [--seeds N] [--from S | --seed S] [--long] [--threads N] [--trace]`.
//!
//! Prints the seed of every world that fails and what happened last in it, with `--trace` all
//! that was seen; exits 1 then. How many have ended is said on stderr now and then.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_sim::world::{Plan, Rack, Report, run};

/// After so many worlds it is said how many have ended: some seconds of one thread.
const TELL_EVERY: u64 = 100;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let given = |name: &str| -> Option<u64> {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse().ok()
    };
    let is_given = |name: &str| args.iter().any(|arg| arg == name);
    let plan = if is_given("--long") { Plan::long() } else { Plan::short() };
    let plan = Plan { is_traced: is_given("--trace"), ..plan };
    let (from, n) = match given("--seed") {
        Some(seed) => (seed, 1),
        None => (given("--from").unwrap_or(0), given("--seeds").unwrap_or(1_000)),
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let n_threads = given("--threads").unwrap_or(cores).clamp(1, n.max(1));
    let next = AtomicU64::new(from);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| work(&next, from + n, plan, &sum));
        }
    });
    let Sum { report, n_failed, .. } = sum.into_inner().unwrap_or_default();
    println!("{n} worlds from seed {from}: {n_failed} failed; {report:?}");
    std::process::exit(i32::from(n_failed > 0));
}

/// What has come of the worlds so far.
#[derive(Default)]
struct Sum {
    report: Report,
    n_ended: u64,
    n_failed: u64,
}

/// Runs worlds until none is left.
fn work(next: &AtomicU64, end: u64, plan: Plan, sum: &Mutex<Sum>) {
    let rack = match Rack::new(plan.max_sites) {
        Ok(rack) => rack,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(2);
        }
    };
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let end = run(seed, plan, &rack);
        let Ok(mut sum) = sum.lock() else { return };
        sum.n_ended += 1;
        match end {
            Ok(report) => sum.report.add(report),
            Err(failure) => {
                sum.n_failed += 1;
                println!("{failure}\n");
            }
        }
        if sum.n_ended.is_multiple_of(TELL_EVERY) {
            eprintln!("{} worlds, the last of seed {seed}: {} failed", sum.n_ended, sum.n_failed);
        }
    }
}
