//! `cargo xtask check`: everything CI runs, in one command.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{cargo, run, run_lines, target_dir};
use crate::{licences, needs, tidy};

/// Counts over all test binaries and doctests.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
}

impl Tally {
    /// Reads one line of what the test harness prints.
    fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        let words: Vec<&str> = counts.split([' ', ';', '.']).filter(|w| !w.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(count) = pair[0].parse::<u64>() else { continue };
            match pair[1] {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                _ => {}
            }
        }
    }
}

/// Runs the checks; `args` are a crate's name and flags.
pub(crate) fn check(args: &[String]) -> Result<()> {
    let is_ci = args.iter().any(|arg| arg == "--ci");
    if let Some(unknown) = args.iter().find(|arg| arg.starts_with('-') && *arg != "--ci") {
        bail!("check knows no flag `{unknown}`");
    }
    match args.iter().find(|arg| !arg.starts_with('-')) {
        Some(name) => check_crate(name),
        None => check_all(is_ci),
    }
}

/// Compiles the whole workspace, so that features resolve as everywhere, and runs the
/// tests of one crate.
fn check_crate(name: &str) -> Result<()> {
    run(cargo().args(["build", "--workspace", "--all-targets"]))?;
    let mut tally = Tally::default();
    let all_green = test(&["--package", name], &mut tally)?;
    finish(&tally, all_green, &[], false)
}

fn check_all(is_ci: bool) -> Result<()> {
    let mut skips = needs::setup()?;
    tidy::tidy()?;
    licences::licences()?;
    run(cargo().args(["fmt", "--all", "--check"]))?;
    let lints = ["clippy", "--workspace", "--all-targets", "--features", S3];
    run(cargo().args(lints).args(["--", "-D", "warnings"]))?;
    run(cargo()
        .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
        // A crate's tour names its private modules: with them documented, the links lead there.
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))?;
    let mut tally = Tally::default();
    let all_green = test(&["--workspace", "--features", S3], &mut tally)?;
    if !all_green {
        return finish(&tally, all_green, &skips, is_ci);
    }
    skips.extend(skipped_tests()?);
    fuzz(if is_ci { 60 } else { 5 })?;
    report_lock()?;
    finish(&tally, all_green, &skips, is_ci)
}

/// Each fuzz target for some seconds: the program that the tests' build left, because `cargo
/// run` of one package resolves other features, and would compile half the workspace anew.
fn fuzz(seconds: u32) -> Result<()> {
    let program = target_dir().join("debug").join(format!("fuzz{}", std::env::consts::EXE_SUFFIX));
    run(Command::new(program).arg("--seconds").arg(seconds.to_string()))
}

/// Directories in buckets: a feature, because its crates double what `ana` is built from.
const S3: &str = "anabranch-cli/s3";

/// Tests that cannot run write a line here instead of passing silently.
fn skips_file() -> PathBuf {
    target_dir().join("skipped-tests.txt")
}

fn test(what: &[&str], tally: &mut Tally) -> Result<bool> {
    std::fs::create_dir_all(target_dir())?;
    std::fs::write(skips_file(), "")?;
    run_lines(
        cargo()
            .arg("test")
            .args(what)
            .arg("--no-fail-fast")
            .env("ANABRANCH_SKIPS", skips_file())
            .env("ANABRANCH_NODE_MODULES", needs::node_modules()),
        |line| {
            println!("{line}");
            tally.read(line);
        },
    )
}

fn skipped_tests() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(skips_file())?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The number of packages we depend on: a change is to be explained, not forbidden.
fn report_lock() -> Result<()> {
    let lock = std::fs::read_to_string(crate::run::root().join("Cargo.lock"))?;
    println!("Cargo.lock names {} packages", lock.matches("[[package]]").count());
    Ok(())
}

fn finish(tally: &Tally, all_green: bool, skips: &[String], is_ci: bool) -> Result<()> {
    for skip in skips {
        println!("SKIPPED: {skip}");
    }
    for failure in &tally.failures {
        println!("FAILED: {failure}");
    }
    let failed = tally.failed + if is_ci { skips.len() as u64 } else { 0 };
    // A test binary that dies reports no result: it still counts.
    let failed = if failed == 0 && !all_green { 1 } else { failed };
    println!("{} passed, {failed} failed", tally.passed);
    if failed > 0 {
        bail!("the check failed");
    }
    Ok(())
}
