//! The benchmark itself, at sizes that take seconds: does it still run, and say what it should?
//!
//! `ana` is another package's program: what the workspace's tests are run with leaves it beside
//! this one. Where it is missing that is said in the file that `ANABRANCH_SKIPS` names.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// All that needs no other program than ours, in one run.
#[test]
fn the_sync_benchmark_runs() {
    let sync = Path::new(env!("CARGO_BIN_EXE_sync"));
    let ana = sync.with_file_name(format!("ana{}", std::env::consts::EXE_SUFFIX));
    if !ana.is_file() {
        return skip("the sync benchmark: `ana` is not built");
    }
    let parts = ["appends", "delivery", "idle"];
    let output = Command::new(sync)
        .arg("--quick")
        .args(parts.iter().flat_map(|part| ["--part", part]))
        .output()
        .expect("it was built");
    let (report, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    for said in ["## Durable appends", "relay, 64 writers, 8 on their way", "## Delivery", "KiB"] {
        assert!(report.contains(said), "no `{said}` in\n{report}");
    }
}

fn skip(what: &str) {
    if let Some(file) = std::env::var_os("ANABRANCH_SKIPS") {
        let file = std::fs::OpenOptions::new().append(true).open(file);
        writeln!(file.expect("made by who named it"), "{what}").expect("it can be written");
    }
}
