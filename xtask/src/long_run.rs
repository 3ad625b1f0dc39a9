//! The long forms of what CI runs briefly: fuzzing, histories, killing.

use anyhow::Result;

use crate::run::{cargo, run};

/// `fuzz [target] [--seconds N]`.
pub(crate) fn fuzz(args: &[String]) -> Result<()> {
    sim("fuzz", args)
}

/// `histories [--seeds N] [--from S]`.
pub(crate) fn histories(args: &[String]) -> Result<()> {
    sim("histories", args)
}

/// `sim [--seeds N] [--from S | --seed S] [--long]`.
pub(crate) fn worlds(args: &[String]) -> Result<()> {
    sim("sim", args)
}

/// `crash [--cycles N]`.
pub(crate) fn crash(args: &[String]) -> Result<()> {
    sim("crash", args)
}

fn sim(binary: &str, args: &[String]) -> Result<()> {
    run(cargo()
        .args(["run", "--release", "--package", "anabranch-sim", "--bin", binary, "--"])
        .args(args))
}
