//! The long forms of what CI runs briefly: fuzzing, histories, killing.

use anyhow::{Context, Result, bail};

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

/// `crash [--parts | --kill N] [--rows N] [--seed S]`; the program to kill is built beside it.
pub(crate) fn crash(args: &[String]) -> Result<()> {
    let programs = ["--package", "anabranch-sim", "--bin", "writer"];
    run(cargo().args(["build", "--release"]).args(programs))?;
    sim("crash", args)
}

/// `kill [--cycles N] [--seed S]`: the test that `check` runs briefly, for longer.
pub(crate) fn kill(args: &[String]) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--package", "anabranch-cli", "--test", "it", "--"]);
    command.args(["--exact", "kill::nothing_is_lost_and_nothing_returns", "--nocapture"]);
    command.env("ANABRANCH_KILL_CYCLES", "500");
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let variable = match flag.as_str() {
            "--cycles" => "ANABRANCH_KILL_CYCLES",
            "--seed" => "ANABRANCH_KILL_SEED",
            other => bail!("kill knows no flag `{other}`"),
        };
        let number: u64 = args.next().with_context(|| format!("{flag} needs a number"))?.parse()?;
        command.env(variable, number.to_string());
    }
    run(&mut command)
}

fn sim(binary: &str, args: &[String]) -> Result<()> {
    run(cargo()
        .args(["run", "--release", "--package", "anabranch-sim", "--bin", binary, "--"])
        .args(args))
}
