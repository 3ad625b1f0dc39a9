//! The ten-line examples run as printed and agree, also with `ana`; and one database
//! written by the `sqlite3` program merges with one written by `ana`.

use std::process::Command;

use crate::ana::{Ana, run};
use crate::hosts;
use crate::relay::Relay;

#[path = "../../../anabranch/examples/sync.rs"]
#[expect(dead_code, reason = "its main function reads arguments")]
mod sync_example;

/// The six words of the examples' data, by `ana`.
fn words() -> String {
    let ana = Ana::new();
    ana.ok(&["init", "a.db"]);
    ana.ok(&["sql", "a.db", "CREATE TABLE todo(id TEXT PRIMARY KEY NOT NULL, what TEXT)"]);
    ana.ok(&["crr", "a.db", "todo"]);
    ana.ok(&["sql", "a.db", "INSERT INTO todo VALUES('1', 'buy milk'), ('2', 'call mum')"]);
    ana.words("a.db")
}

/// Both lines of an example's output name two rows and the same words.
fn must_agree(command: &mut Command) {
    let ran = run(command, b"");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    let words = words();
    assert_eq!(ran.out.lines().count(), 2, "{}", ran.out);
    for line in ran.out.lines() {
        assert!(line.contains('2') && line.contains(&words), "{line}: not {words}");
    }
}

#[test]
fn python_example() {
    let Some(python) = hosts::python() else {
        return hosts::missing("python3 with loadable extensions");
    };
    let example = hosts::root().join("examples/merge.py");
    must_agree(Command::new(python).arg(example).arg(hosts::extension()));
}

#[test]
fn node_example() {
    let Some((node, modules)) = hosts::node() else {
        return hosts::missing("node with better-sqlite3");
    };
    let example = hosts::root().join("examples/merge.mjs");
    let mut command = Command::new(node);
    must_agree(command.arg(example).arg(hosts::extension()).env("NODE_MODULES", modules));
}

#[test]
fn shell_example() {
    if hosts::shell().is_none() {
        return hosts::missing("sqlite3 with .load");
    }
    let example = hosts::root().join("examples/merge.sh");
    must_agree(Command::new("sh").arg(example).arg(hosts::extension()));
}

/// Through a relay and through a folder, from the shell and in Rust.
#[cfg(unix)]
#[test]
fn sync_examples() {
    let ana = Ana::new();
    let relay = Relay::start(&ana);
    for folder in ["stick", "other"] {
        std::fs::create_dir(ana.path(folder)).unwrap();
    }
    let folder = |name: &str| format!("dir:{}", ana.path(name).display());
    let example = hosts::root().join("examples/sync.sh");
    for url in [relay.store("shell"), folder("stick")] {
        let mut command = Command::new("sh");
        command.arg(&example).arg(env!("CARGO_BIN_EXE_ana")).arg(url);
        must_agree(command.env("ANABRANCH_TOKEN", &relay.token));
    }
    for url in [relay.store("rust"), folder("other")] {
        let expected = format!("2 {}", words());
        assert_eq!(sync_example::meet(&url, &relay.token).unwrap(), [&expected[..], &expected]);
    }
}

/// a.db is written by the `sqlite3` program through the extension, b.db by `ana`.
#[test]
fn a_database_of_the_sqlite3_program_merges_with_one_of_ana() {
    let Some(shell) = hosts::shell() else { return hosts::missing("sqlite3 with .load") };
    let ana = Ana::new();
    let table = "CREATE TABLE todo(id TEXT PRIMARY KEY NOT NULL, what TEXT, n INTEGER);";
    let script = format!(
        ".bail on\n.load {}\n{table}\nSELECT crsql_as_crr('todo');\n\
         INSERT INTO todo VALUES('1', 'buy milk', 1), ('2', 'call mum', 2);\n\
         BEGIN; UPDATE todo SET n = n + 1; SAVEPOINT s; DELETE FROM todo; ROLLBACK TO s; COMMIT;\n\
         DELETE FROM todo WHERE id = '2';\n",
        hosts::extension().display()
    );
    let mut command = Command::new(&shell);
    let ran = run(command.arg(ana.path("a.db")), script.as_bytes());
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    ana.ok(&["init", "b.db"]);
    ana.ok(&["sql", "b.db", table]);
    ana.ok(&["crr", "b.db", "todo"]);
    ana.ok(&["sql", "b.db", "INSERT INTO todo VALUES('1', 'buy bread', 7), ('3', 'read', 0)"]);
    let merged = ana.ok(&["merge", "a.db", "b.db"]);
    assert!(merged.contains("Both now hold the same: "), "{merged}");
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
    assert_eq!(ana.run(&["diverge", "a.db", "b.db"]).status, 0);
    for db in ["a.db", "b.db"] {
        assert_eq!(ana.ok(&["check", db]), format!("{db}: clean\n"));
        let rows = ana
            .one(db, "SELECT group_concat(id || what || n) FROM (SELECT * FROM todo ORDER BY id)");
        assert_eq!(rows, "\"1buy milk2,3read0\"", "{db}");
    }
    // And the program reads what the merge left.
    let script =
        format!(".load {}\nSELECT ana_words(ana_digest());\n", hosts::extension().display());
    let ran = run(Command::new(&shell).arg(ana.path("b.db")), script.as_bytes());
    assert_eq!(ran.out.trim(), ana.words("b.db"));
}
