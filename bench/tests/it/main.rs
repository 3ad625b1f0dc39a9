//! The benchmarks run at all: their smallest sizes, through the real programs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `ana`, as the build of the whole workspace leaves it beside the benchmark; a build of this
/// crate alone has none, and says so.
fn ana() -> Option<PathBuf> {
    let name = format!("ana{}", std::env::consts::EXE_SUFFIX);
    let ana = Path::new(env!("CARGO_BIN_EXE_sync")).with_file_name(name);
    if ana.is_file() {
        return Some(ana);
    }
    let what = format!("bench sync: {} is not built", ana.display());
    eprintln!("{what}");
    if let Some(file) = std::env::var_os("ANABRANCH_SKIPS") {
        let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
        writeln!(file, "{what}").unwrap();
    }
    None
}

#[test]
fn the_relay_is_measured() {
    let Some(ana) = ana() else { return };
    let mut command = Command::new(env!("CARGO_BIN_EXE_sync"));
    command.arg("--quick").arg("--ana").arg(ana);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["Durable appends", "First sync", "Delivery", "Idle connections", "Many stores"] {
        assert!(said.contains(&format!("## {part}")), "{part}: {said}");
    }
}
