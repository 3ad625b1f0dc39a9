//! Hosts: the `sqlite3` program, Python's `sqlite3`, Node's better-sqlite3.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{library, skip};

/// SQL that every host runs after loading; `LOADED` is the answer.
const SQL: &str = "SELECT typeof(ana_loaded())";
const LOADED: &str = "integer";

/// A history that leaves the same state everywhere: all its changes are of two other copies.
/// One statement a line, for hosts that take one at a time.
const HISTORY: &str = "\
CREATE TABLE word(id TEXT PRIMARY KEY NOT NULL, n, note)
SELECT crsql_as_crr('word')
INSERT INTO crsql_changes SELECT 'word', crsql_pack_columns('tree'), 'n', 3, 1, 1, \
x'00112233445566778899aabbccddeeff', 1, 0
INSERT INTO crsql_changes SELECT 'word', crsql_pack_columns('tree'), 'note', 'ombú 🌳', 1, 1, \
x'00112233445566778899aabbccddeeff', 1, 1
INSERT INTO crsql_changes SELECT 'word', crsql_pack_columns('river'), 'n', 2.5, 4, 2, \
x'ffeeddccbbaa99887766554433221100', 1, 0
INSERT INTO crsql_changes SELECT 'word', crsql_pack_columns('gone'), '-1', NULL, 2, 3, \
x'ffeeddccbbaa99887766554433221100', 2, 0";

/// What a host prints after it: the digest, and what is wrong (nothing: 0).
const STATE: &str = "SELECT hex(ana_digest()) || ' ' || (SELECT count(*) FROM ana_check)";

/// Tells that a host is missing.
pub(crate) fn missing(host: &str) {
    skip(&format!("no {host}"));
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
pub(crate) fn python() -> Option<PathBuf> {
    let can = |program: &PathBuf| {
        let script = "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)";
        run(program, &["-".as_ref()], script).0
    };
    programs("python3").into_iter().find(can)
}

/// Node's modules: where `ANABRANCH_NODE_MODULES` says, or in the target folder.
fn modules() -> PathBuf {
    let named = std::env::var_os("ANABRANCH_NODE_MODULES").map(PathBuf::from);
    named.unwrap_or_else(|| library::path().ancestors().nth(3).unwrap().join("npm/node_modules"))
}

/// A Node that has better-sqlite3.
fn node() -> Option<PathBuf> {
    programs("node").into_iter().next().filter(|_| modules().join("better-sqlite3").is_dir())
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
pub(crate) fn python_loads_it_on_many_connections() {
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
    let Some(node) = node() else { return missing("node with better-sqlite3") };
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
        module = modules().join("better-sqlite3").display().to_string(),
        library = library::path().display().to_string()
    );
    assert_eq!(run(&node, &["-".as_ref()], &script), (true, LOADED.into()));
}

/// Every host that can be had, by name, with what it prints after [`HISTORY`].
fn states() -> Vec<(&'static str, String)> {
    let library = library::path().display().to_string();
    let mut states = Vec::new();
    let mut ask = |host, program: Option<PathBuf>, args: &[&OsStr], script: String| match program {
        None => missing(host),
        Some(program) => {
            let (is_fine, output) = run(&program, args, &script);
            assert!(is_fine, "{host}: {output}");
            states.push((host, output));
        }
    };
    let script = format!(".load {library}\n{};\n{STATE};\n", HISTORY.replace('\n', ";\n"));
    ask("sqlite3", shell(), &[], script);
    let script = format!(
        "import sqlite3
c = sqlite3.connect(':memory:', isolation_level=None)
c.enable_load_extension(True)
c.load_extension({library:?})
for sql in {HISTORY:?}.split('\\n'): c.execute(sql).fetchall()
print(c.execute({STATE:?}).fetchone()[0])
"
    );
    ask("python3", python(), &["-".as_ref()], script);
    let script = format!(
        "const Database = require({module:?});
const db = new Database(':memory:');
db.loadExtension({library:?});
for (const sql of {HISTORY:?}.split('\\n')) db.exec(sql);
console.log(Object.values(db.prepare({STATE:?}).get())[0]);
",
        module = modules().join("better-sqlite3").display().to_string(),
    );
    ask("node", node(), &["-".as_ref()], script);
    states
}

#[test]
fn hosts_agree_on_the_digest() {
    let states = states();
    for (host, state) in &states {
        let lines: Vec<&str> = state.lines().collect();
        let last = lines.last().copied().unwrap_or_default();
        let first = states[0].1.lines().last().unwrap_or_default();
        assert_eq!(last, first, "{host} and {}", states[0].0);
        assert!(last.len() == 66 && last.ends_with(" 0"), "{host}: {state}");
    }
}
