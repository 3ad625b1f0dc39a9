//! Other programs that load the extension: where they are, and what is said without them.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Tells that a host is missing; the check reads the file and counts it.
pub(crate) fn missing(host: &str) {
    assert!(std::env::var_os("ANABRANCH_REQUIRE_HOSTS").is_none(), "host missing: {host}");
    eprintln!("skipped: no {host}");
    if let Some(file) = std::env::var_os("ANABRANCH_SKIPS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "anabranch-cli: no {host}").unwrap();
    }
}

/// The built extension, beside this test's executable.
pub(crate) fn extension() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    folder.join(format!("{prefix}anabranch_ext{suffix}"))
}

/// Repository root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn programs(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
    candidates.filter(|candidate| candidate.is_file()).collect()
}

/// A `sqlite3` program that can load extensions.
pub(crate) fn shell() -> Option<PathBuf> {
    programs("sqlite3").into_iter().find(|program| {
        let help = crate::ana::run(&mut Command::new(program), b".help .load\n");
        help.out.contains(".load")
    })
}

/// A Python whose `sqlite3` can load extensions.
pub(crate) fn python() -> Option<PathBuf> {
    let probe = b"import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)";
    programs("python3")
        .into_iter()
        .find(|program| crate::ana::run(Command::new(program).arg("-"), probe).status == 0)
}

/// Node, and a folder of modules that has better-sqlite3.
pub(crate) fn node() -> Option<(PathBuf, PathBuf)> {
    let modules = std::env::var_os("ANABRANCH_NODE_MODULES").map_or_else(
        || extension().ancestors().nth(3).unwrap().join("npm/node_modules"),
        PathBuf::from,
    );
    let node = programs("node").into_iter().next()?;
    modules.join("better-sqlite3").is_dir().then_some((node, modules))
}
