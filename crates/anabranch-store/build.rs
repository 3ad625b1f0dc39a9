//! Finds the commit that is built, for `crsql_sha`: git's, if this is a checkout; else the
//! variable `ANABRANCH_COMMIT`; else zeros, as git writes a commit that is not there.

use std::path::Path;
use std::process::Command;

/// A commit that is not there.
const UNKNOWN: &str = "0000000000000000000000000000000000000000";

fn main() {
    println!("cargo::rerun-if-env-changed=ANABRANCH_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let told = || std::env::var("ANABRANCH_COMMIT").ok().filter(|commit| is_commit(commit));
    let commit = checked_out().or_else(told).unwrap_or_else(|| UNKNOWN.to_string());
    println!("cargo::rustc-env=ANABRANCH_COMMIT={commit}");
}

/// The commit of the checkout whose workspace this crate is in; a checkout of something else
/// that holds an unpacked copy of it does not count.
fn checked_out() -> Option<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != workspace.canonicalize().ok()? {
        return None;
    }
    // Each commit and checkout adds a line there.
    let log = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "HEAD"]).filter(|commit| is_commit(commit))
}

fn git(arguments: &[&str]) -> Option<String> {
    let directory = env!("CARGO_MANIFEST_DIR");
    let output = Command::new("git").current_dir(directory).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}

fn is_commit(text: &str) -> bool {
    text.len() == UNKNOWN.len() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
