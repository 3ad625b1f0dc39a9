//! `crash [--seed S] [--rows N]`: every fault at every k, in both journal modes, then
//! deltas in parts (`--parts`: these only); `crash --kill N`: kills a writing process N times
//! instead.

use anabranch_sim::{crash, kill};
use anabranch_sqlite::vfs::Fault;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    let seed = number("--seed").unwrap_or(1);
    let end = match number("--kill") {
        Some(n_cycles) => kill_writers(n_cycles, seed),
        None => {
            let n_rows = number("--rows").unwrap_or(2000);
            crash_all(n_rows, args.iter().any(|arg| arg == "--parts"), seed)
        }
    };
    if let Err(what) = end {
        println!("{what}");
        std::process::exit(1);
    }
}

fn crash_all(n_rows: u64, is_parts_only: bool, seed: u64) -> Result<(), String> {
    for journal in ["WAL", "DELETE"] {
        for (has_parts, n_rows) in [(false, n_rows), (true, 10)] {
            if is_parts_only && !has_parts {
                continue;
            }
            for fault in [Fault::Die, Fault::IoError, Fault::Torn, Fault::Full] {
                let report = crash::run(crash::Plan { journal, n_rows, has_parts }, fault, seed)?;
                println!("{journal}, {fault:?}, parts: {has_parts}: {report:?}");
            }
        }
    }
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
