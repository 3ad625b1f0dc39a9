//! The file itself.

use std::path::PathBuf;
use std::process::Command;

use crate::skip;

/// Where `cargo test` leaves the library: beside the test's executable.
pub(crate) fn path() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let name =
        format!("{}anabranch_ext{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let path = folder.join(name);
    assert!(path.exists(), "{} was not built", path.display());
    path
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// One name that our side does not have would pull the whole of SQLite into the library.
#[test]
fn no_sqlite_is_inside() {
    let bytes = std::fs::read(path()).unwrap();
    assert!(holds(&bytes, "sqlite3_anabranch_init"));
    for text in ["sqlite3VdbeExec", "sqlite3BtreeOpen", "database disk image is malformed"] {
        assert!(!holds(&bytes, text), "SQLite's {text:?} is in the extension");
    }
}

#[test]
fn only_the_entry_points_are_exported() {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: knows ELF only");
        return;
    }
    let nm = Command::new("nm").args(["-D", "--defined-only"]).arg(path()).output();
    let Ok(nm) = nm else {
        return skip("no nm");
    };
    let text = String::from_utf8(nm.stdout).unwrap();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    names.sort_unstable();
    let expected = ["sqlite3_anabranch_init", "sqlite3_anabranchext_init", "sqlite3_crsqlite_init"];
    assert_eq!(names, expected);
}
