//! `cargo xtask bench`: builds a benchmark for speed and runs it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::needs;
use crate::run::{cargo, run, target_dir};

/// `bench [tables|sync] [arguments of the benchmark]`.
pub(crate) fn bench(args: &[String]) -> Result<()> {
    let (name, rest) = match args.split_first() {
        None => ("tables", args),
        Some((name, rest)) if !name.starts_with('-') => (name.as_str(), rest),
        Some(_) => ("tables", args),
    };
    match name {
        "tables" => tables(rest),
        "sync" => sync(rest),
        _ => bail!("there is no benchmark `{name}`; there are `tables` and `sync`"),
    }
}

fn tables(args: &[String]) -> Result<()> {
    run(cargo()
        .args(["run", "--release", "--package", "anabranch-bench", "--bin", "tables", "--"])
        .args(args))
}

/// The relay that is measured is a process of its own: `ana`, built beside the benchmark.
fn sync(args: &[String]) -> Result<()> {
    let packages = ["--package", "anabranch-bench", "--package", "anabranch-cli", "--bins"];
    run(cargo().args(["build", "--release"]).args(packages))?;
    let program =
        target_dir().join("release").join(format!("sync{}", std::env::consts::EXE_SUFFIX));
    let mut command = Command::new(program);
    match needs::hocuspocus() {
        Ok(modules) => drop(command.arg("--node-modules").arg(modules)),
        Err(error) => eprintln!("HOCUSPOCUS IS NOT MEASURED: {error:#}"),
    }
    run(command.args(args))
}
