//! `cargo xtask bench`: builds the benchmark for speed and runs it.

use anyhow::{Result, bail};

use crate::run::{cargo, run};

/// `bench [tables] [arguments of the benchmark]`.
pub(crate) fn bench(args: &[String]) -> Result<()> {
    let (name, rest) = match args.split_first() {
        None => ("tables", args),
        Some((name, rest)) if !name.starts_with('-') => (name.as_str(), rest),
        Some(_) => ("tables", args),
    };
    if name != "tables" {
        bail!("there is no benchmark `{name}`; there is `tables`");
    }
    run(cargo()
        .args(["run", "--release", "--package", "anabranch-bench", "--bin", name, "--"])
        .args(rest))
}
