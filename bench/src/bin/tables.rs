//! `cargo xtask bench tables`: the table of docs/bench-tables.md.

use anabranch_bench::options::options;
use anabranch_bench::{doors, folding, local, seeks, sizes};
use anyhow::Result;

const HEAD: &str = "\
# Tables: measured

Made by `cargo xtask bench tables`: medians; ratios are taken run by run, both sides in one
process, alternating. CPU is processor time of the process.

";

fn main() -> Result<()> {
    let options = options()?;
    let mut report = String::new();
    report += &local::workloads(&options)?;
    if options.only.is_none() {
        report += &doors::doors(&options)?;
        report += &sizes::sizes(&options)?;
        report += &folding::folding()?;
    }
    if !options.is_quick && options.only.is_none() {
        report += &seeks::million()?;
    }
    println!("{report}");
    if let Some(path) = &options.write {
        std::fs::write(path, format!("{HEAD}{report}"))?;
    }
    Ok(())
}
