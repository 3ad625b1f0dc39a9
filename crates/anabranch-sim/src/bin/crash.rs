//! `crash [--parts] [--rows N] [--seed S]`: every fault at every k, in both journal modes, then
//! deltas in parts (`--parts`: these only); `crash --kill N [--seed S]`: kills a writing process
//! N times instead.

use std::sync::{Mutex, PoisonError};
use std::thread;

use anabranch_sim::{crash, kill};
use anabranch_sqlite::vfs::Fault;

fn main() {
    let end = options().and_then(|options| match options.n_kills {
        Some(n_cycles) => kill_writers(n_cycles, options.seed),
        None => crash_all(options.n_rows, options.is_parts_only, options.seed),
    });
    if let Err(what) = end {
        println!("{what}");
        std::process::exit(1);
    }
}

struct Options {
    seed: u64,
    n_rows: u64,
    n_kills: Option<u64>,
    is_parts_only: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { seed: 1, n_rows: 2000, n_kills: None, is_parts_only: false };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let mut number = || {
            let value = args.next().ok_or(format!("{flag} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{flag} needs a number, not `{value}`"))
        };
        match flag.as_str() {
            "--seed" => options.seed = number()?,
            "--rows" => options.n_rows = number()?,
            "--kill" => options.n_kills = Some(number()?),
            "--parts" => options.is_parts_only = true,
            _ => return Err(format!("crash knows no flag `{flag}`")),
        }
    }
    Ok(options)
}

/// Every plan with every fault, on all cores: none knows of another.
fn crash_all(n_rows: u64, is_parts_only: bool, seed: u64) -> Result<(), String> {
    let faults = [Fault::Torn, Fault::Full, Fault::Die, Fault::IoError];
    let mut runs = Vec::new();
    for (has_parts, n_rows) in [(true, 10), (false, n_rows)] {
        for journal in ["DELETE", "WAL"] {
            let plan = crash::Plan { journal, n_rows, has_parts };
            runs.extend(faults.map(|fault| (plan, fault)));
        }
    }
    runs.retain(|(plan, _)| plan.has_parts || !is_parts_only);
    let runs = Mutex::new(runs.into_iter());
    let next = || runs.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        while let Some((plan, fault)) = next() {
            crash_one(plan, fault, seed)?;
        }
        Ok(())
    };
    let n_workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..n_workers).map(|_| scope.spawn(worker)).collect();
        let ends = workers.into_iter().map(|worker| worker.join().expect("no worker panics"));
        // All ends are heard before the first error is told.
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}

fn crash_one(plan: crash::Plan, fault: Fault, seed: u64) -> Result<(), String> {
    let name = format!("{}, {fault:?}, parts: {}", plan.journal, plan.has_parts);
    let report = crash::run(plan, fault, seed, |step, n_faults| {
        println!("{name}: {step}: {n_faults}");
    });
    let report = report.map_err(|what| format!("{name}: {what}"))?;
    println!("{name}: {report:?}");
    Ok(())
}

fn kill_writers(n_cycles: u64, seed: u64) -> Result<(), String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let writer = here.with_file_name(format!("writer{}", std::env::consts::EXE_SUFFIX));
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let n = kill::run(&writer, folder.path(), n_cycles, seed)?;
    println!("{n_cycles} kills, {n} transactions acknowledged, none lost");
    Ok(())
}
