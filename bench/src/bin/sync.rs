//! `cargo xtask bench sync`: the table of docs/bench-sync.md.

use anabranch_bench::sync::options::{Options, options};
use anabranch_bench::sync::{appends, delivery, first_sync, idle, stores};
use anyhow::Result;

/// A part of the report, by name.
type Part = (&'static str, fn(&Options) -> Result<String>);

const PARTS: [Part; 5] = [
    ("appends", appends::appends),
    ("first-sync", first_sync::first_sync),
    ("delivery", delivery::delivery),
    ("idle", idle::idle),
    ("stores", stores::stores),
];

const HEAD: &str = include_str!("../sync/method.md");

fn main() -> Result<()> {
    let options = options()?;
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut report = format!("Runs: {}; cores: {n_cores}.\n\n", options.runs);
    for (name, part) in PARTS {
        if options.wants(name) {
            report += &part(&options)?;
        }
    }
    let report = report.trim_end();
    println!("{report}");
    if let Some(path) = &options.write {
        std::fs::write(path, format!("{HEAD}\n{report}\n"))?;
    }
    Ok(())
}
