//! Hosts: the `sqlite3` program, Python's `sqlite3`, Node's better-sqlite3.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::library;

/// SQL that every host runs after loading; `LOADED` is the answer.
const SQL: &str = "SELECT typeof(ana_loaded())";
const LOADED: &str = "integer";

/// Tells that a host is missing.
fn missing(host: &str) {
    assert!(std::env::var_os("ANABRANCH_REQUIRE_HOSTS").is_none(), "host missing: {host}");
    eprintln!("skipped: no {host}");
}

/// All programs of that name on the search path.
fn programs(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
    candidates.filter(|candidate| candidate.is_file()).collect()
}

/// Runs a program with a script on its standard input; its output, both kinds.
fn run(program: &Path, args: &[&OsStr], script: &str) -> (bool, String) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).trim().to_string())
}

/// A `sqlite3` program that can load extensions.
fn shell() -> Option<PathBuf> {
    let can = |program: &PathBuf| {
        let (_, help) = run(program, &[], ".help .load\n");
        help.contains(".load")
    };
    programs("sqlite3").into_iter().find(can)
}

/// A Python whose `sqlite3` can load extensions.
fn python() -> Option<PathBuf> {
    let can = |program: &PathBuf| {
        let script = "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)";
        run(program, &["-".as_ref()], script).0
    };
    programs("python3").into_iter().find(can)
}

/// `.load` twice, under each entry point, and after a refusal.
#[test]
fn the_sqlite3_program_loads_it() {
    let Some(shell) = shell() else { return missing("sqlite3") };
    let library = library::path().display().to_string();
    let entries =
        ["", "sqlite3_anabranch_init", "sqlite3_anabranchext_init", "sqlite3_crsqlite_init"];
    for entry in entries {
        let script = format!(".load {library} {entry}\n.load {library} {entry}\n{SQL};\n");
        assert_eq!(run(&shell, &[], &script), (true, LOADED.into()), "{entry}");
    }
    let nested = format!("SELECT load_extension('{library}');\n{SQL};\n");
    assert_eq!(run(&shell, &[], &nested), (true, LOADED.into()));
}

/// The names `cargo xtask dist` gives the file lead SQLite to the other entry points.
#[test]
fn it_loads_under_its_other_names() {
    let Some(shell) = shell() else { return missing("sqlite3") };
    let folder = tempfile::tempdir().unwrap();
    for name in ["libanabranch", "crsqlite"] {
        let copy = folder.path().join(format!("{name}{}", std::env::consts::DLL_SUFFIX));
        std::fs::copy(library::path(), &copy).unwrap();
        let script = format!(".load {}\n{SQL};\n", copy.display());
        assert_eq!(run(&shell, &[], &script), (true, LOADED.into()), "{name}");
    }
}

/// Two copies on one connection would each capture.
#[test]
fn a_second_copy_on_one_connection_is_refused() {
    let Some(shell) = shell() else { return missing("sqlite3") };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(format!("crsqlite{}", std::env::consts::DLL_SUFFIX));
    std::fs::copy(library::path(), &copy).unwrap();
    let first = library::path().display().to_string();
    let script = format!(".load {first}\n.load {}\n{SQL};\n", copy.display());
    let (_, output) = run(&shell, &[], &script);
    assert!(output.contains("another copy of anabranch is already loaded"), "{output}");
    assert!(output.contains(LOADED), "{output}");
}

#[test]
fn python_loads_it_on_many_connections() {
    let Some(python) = python() else { return missing("python3 with loadable extensions") };
    let script = format!(
        "import sqlite3, threading
def use():
    for i in range(5):
        c = sqlite3.connect(':memory:', check_same_thread=False)
        c.enable_load_extension(True)
        c.load_extension({library:?})
        c.load_extension({library:?})
        assert c.execute('{SQL}').fetchone() == ('{LOADED}',)
        c.close()
threads = [threading.Thread(target=use) for i in range(4)]
for t in threads: t.start()
for t in threads: t.join()
# Made in one thread, closed in another.
c = sqlite3.connect(':memory:', check_same_thread=False)
c.enable_load_extension(True)
c.load_extension({library:?})
t = threading.Thread(target=c.close)
t.start(); t.join()
print('fine')
",
        library = library::path().display().to_string()
    );
    assert_eq!(run(&python, &["-".as_ref()], &script), (true, "fine".into()));
}

#[test]
fn node_loads_it_through_better_sqlite3() {
    // `npm install --prefix target/npm better-sqlite3@12` puts it there.
    let modules = library::path().ancestors().nth(3).unwrap().join("npm/node_modules");
    let (Some(node), true) = (programs("node").into_iter().next(), modules.is_dir()) else {
        return missing("node with better-sqlite3 in target/npm");
    };
    let script = format!(
        "const Database = require({module:?});
const db = new Database(':memory:');
db.loadExtension({library:?});
db.loadExtension({library:?});
console.log(Object.values(db.prepare('{SQL}').get())[0]);
db.close();
const other = new Database(':memory:');
other.loadExtension({library:?});
",
        module = modules.join("better-sqlite3").display().to_string(),
        library = library::path().display().to_string()
    );
    assert_eq!(run(&node, &["-".as_ref()], &script), (true, LOADED.into()));
}
