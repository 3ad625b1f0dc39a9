//! Long random histories: `histories [--seeds N] [--from S] [--short | --dense]`.
//!
//! Prints the seed of every history that fails and what it did last; exits 1 then.

use anabranch_sim::history::{Plan, run};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let at = args.iter().position(|arg| arg == name);
        at.and_then(|at| args.get(at + 1)).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (from, n) = (number("--from", 0), number("--seeds", 100));
    let is_given = |name: &str| args.iter().any(|arg| arg == name);
    let plan = match is_given("--short") {
        _ if is_given("--dense") => Plan::dense(anabranch_sim::model::Broken::Nothing),
        true => Plan::short(),
        false => Plan::long(),
    };
    let n_failed = (from..from + n).filter(|seed| has_failed(*seed, plan)).count();
    println!("{n} histories from seed {from}: {n_failed} failed");
    std::process::exit(i32::from(n_failed > 0));
}

fn has_failed(seed: u64, plan: Plan) -> bool {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("no temporary folder: {error}");
            std::process::exit(2);
        }
    };
    match run(seed, plan, folder.path()) {
        Ok(()) => false,
        Err(failure) => {
            println!("{failure}\n");
            true
        }
    }
}
