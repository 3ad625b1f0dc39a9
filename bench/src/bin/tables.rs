//! `cargo xtask bench tables`: the table of docs/bench-tables.md.

use anabranch_bench::options::options;
use anabranch_bench::{delta, doors, folding, local, seeks, sizes};
use anyhow::Result;

const HEAD: &str = "\
# Tables: measured

Made by `cargo xtask bench tables`: medians; ratios are taken run by run, both sides in one
process, alternating. CPU is processor time of the process.

";

fn main() -> Result<()> {
    let options = options()?;
    let mut report = environment();
    options.check()?;
    let wants = |part: &str| match &options.part {
        Some(only) => only == part,
        None => options.only.is_none() || part == "local",
    };
    if wants("local") {
        report += &local::workloads(&options)?;
    }
    if wants("doors") {
        report += &doors::doors(&options)?;
    }
    if wants("delta") {
        report += &delta::deltas(&options)?;
    }
    if wants("sizes") {
        report += &sizes::sizes(&options)?;
    }
    if wants("folding") {
        report += &folding::folding()?;
    }
    if wants("seeks") && !options.is_quick {
        report += &seeks::million()?;
    }
    println!("{report}");
    if let Some(path) = &options.write {
        std::fs::write(path, format!("{HEAD}{report}"))?;
    }
    Ok(())
}

/// What was measured, and on what.
fn environment() -> String {
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sqlite = rusqlite::version();
    format!("SQLite {sqlite}, compiled in; cores: {n_cores}.\n\n")
}
