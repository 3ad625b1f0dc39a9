//! `fuzz [target] [--seconds N] [--seed S]`: feeds each target (or one) for N seconds.
//!
//! A panic, caught or not, ends the process with its seed; so does an allocation past the
//! target's cap. Exit code 1: a promise was broken. 2: wrong arguments.

use std::alloc::System;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anabranch_sim::fuzz::{Fuzzer, Target};
use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Flags, each with a number.
const FLAGS: [&str; 2] = ["--seconds", "--seed"];

/// The seed being tried, for the panic hook.
static SEED: AtomicU64 = AtomicU64::new(0);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(flag) = args.iter().find(|arg| arg.starts_with('-') && !FLAGS.contains(&&***arg)) {
        eprintln!("no flag {flag}: fuzz [target] [--seconds N] [--seed S]");
        std::process::exit(2);
    }
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    let seconds = number("--seconds").unwrap_or(60);
    let named = args.first().filter(|arg| !arg.starts_with("--"));
    let targets: Vec<_> = Target::ALL
        .into_iter()
        .filter(|(name, _)| named.is_none_or(|named| named == name))
        .collect();
    if targets.is_empty() {
        let names: Vec<&str> = Target::ALL.iter().map(|(name, _)| *name).collect();
        eprintln!("no such target; there are {}", names.join(", "));
        std::process::exit(2);
    }
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        eprintln!("panicked at seed {}", SEED.load(Ordering::Relaxed));
        std::process::exit(1);
    }));
    for (name, target) in targets {
        let end = run(target, Duration::from_secs(seconds), number("--seed"));
        match end {
            Ok(n) => println!("{name}: {n} inputs within {} MiB", target.cap_bytes() >> 20),
            Err(what) => {
                println!("{name}: seed {}: {what}", SEED.load(Ordering::Relaxed));
                std::process::exit(1);
            }
        }
    }
}

/// Feeds a target until the time is over, or one seed; the number of inputs.
fn run(target: Target, time: Duration, only: Option<u64>) -> Result<u64, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let fuzzer = Fuzzer::new(target, folder.path())?;
    let start = Instant::now();
    let first = only.unwrap_or(0);
    for seed in first.. {
        SEED.store(seed, Ordering::Relaxed);
        let before = ALLOCATOR.allocated();
        ALLOCATOR.set_limit(before + target.cap_bytes()).map_err(|()| "the cap cannot be set")?;
        fuzzer.try_seed(seed)?;
        ALLOCATOR.set_limit(usize::MAX).map_err(|()| "the cap cannot be lifted")?;
        if only.is_some() || start.elapsed() > time {
            return Ok(seed - first + 1);
        }
    }
    Ok(u64::MAX)
}
