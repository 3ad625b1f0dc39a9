//! What is refused: exit status, message, a hint that says what to do, nothing changed.

use crate::ana::{Ana, contents};

/// Arguments, exit status, and what standard error must contain.
type Case = (&'static [&'static str], i32, &'static str, &'static str);

const CASES: &[Case] = &[
    // The command line.
    (&[], 2, "Usage: ana", ""),
    (&["frobnicate"], 2, "unrecognized subcommand", ""),
    (&["init"], 2, "<DB>", ""),
    (&["crr", "a.db"], 2, "<TABLES>", ""),
    (&["crr", "a.db", "--all", "note"], 2, "--all", ""),
    (&["merge", "a.db"], 2, "<B>", ""),
    (&["sql", "a.db", "--output", "xml", "SELECT 1"], 2, "xml", ""),
    (&["sql", "a.db", "-- nothing"], 2, "no statement", ""),
    (&["changes", "a.db", "--since", "-1"], 2, "-1", ""),
    (&["export", "a.db"], 2, "--output", ""),
    (&["export", "a.db", "-o", "f", "--since", "{"], 2, "--since: not a version vector", "status"),
    (&["export", "a.db", "-o", "f", "--since", "{}", "--since-db", "a.db"], 2, "--since", ""),
    (&["log", "a.db", "note", "x", "y"], 2, "1 column (id), not 2", "one word"),
    (&["merge", "a.db", "a.db"], 2, "same file", "two different"),
    (&["merge", "a.db", "./a.db"], 2, "same file", "two different"),
    (&["merge", "a.db", "link.db"], 2, "same file", "two different"),
    // Files that are not there, or something else.
    (&["sql", "missing.db", "SELECT 1"], 3, "missing.db: no such file", "ana init missing.db"),
    (&["crr", "missing.db", "t"], 3, "missing.db: no such file", "ana init"),
    (&["changes", "missing.db"], 3, "missing.db: no such file", "ana init"),
    (&["log", "missing.db"], 3, "missing.db: no such file", "ana init"),
    (&["export", "missing.db", "-o", "x"], 3, "missing.db: no such file", "ana init"),
    (&["import", "missing.db", "a.db"], 3, "missing.db: no such file", "ana init"),
    (&["merge", "a.db", "missing.db"], 3, "missing.db: no such file", "cp a.db missing.db"),
    (&["merge", "missing.db", "a.db"], 3, "missing.db: no such file", "cp a.db missing.db"),
    // Hints can be copied into a shell.
    (&["merge", "a.db", "my notes.db"], 3, "my notes.db: no such file", "cp a.db 'my notes.db'"),
    (&["merge", "it's.db", "a.db"], 3, "it's.db: no such file", r"cp a.db 'it'\''s.db'"),
    (&["log", "\"a\".db"], 3, "\"a\".db: no such file", "ana init '\"a\".db'"),
    (&["diverge", "a.db", "missing.db"], 3, "missing.db: no such file", "ana init"),
    (&["check", "missing.db"], 3, "missing.db: no such file", "ana init"),
    (&["status", "missing.db"], 3, "missing.db: no such file", "ana init"),
    (&["status", "."], 3, "is a folder", "database file"),
    (&["init", "."], 3, "is a folder", "database file"),
    (&["init", "no/such/folder/a.db"], 3, "no/such/folder: no such file", "spelling"),
    (&["status", "text.db"], 4, "text.db: not a database", "something else"),
    (&["init", "text.db"], 4, "text.db: not a database", "something else"),
    (&["merge", "a.db", "text.db"], 4, "text.db: not a database", "something else"),
    (&["status", "torn.db"], 4, "torn.db", ""),
    (&["status", "empty.db"], 4, "no store yet", "ana init empty.db"),
    (&["sql", "plain.db", "SELECT 1"], 4, "no store yet", "ana init plain.db"),
    (&["crr", "plain.db", "t"], 4, "no store yet", "ana init plain.db"),
    (&["merge", "a.db", "plain.db"], 4, "no store yet", "ana init plain.db"),
    (&["export", "a.db", "-o", "text.db"], 3, "text.db exists already", "--force"),
    (&["export", "a.db", "-o", "."], 3, "is a folder", "name a file"),
    (&["export", "a.db", "-o", "no/such/f"], 3, "no/such", "spelling"),
    (&["import", "a.db", "no-file"], 3, "no-file: no such file", "spelling"),
    (&["import", "a.db", "text.db"], 4, "text.db", "export"),
    (&["import", "a.db", "empty.db"], 4, "empty.db is empty", "at least one part"),
    (&["import", "a.db", "."], 3, "directory", "name a file"),
    (&["try", "--dir", "text.db"], 3, "text.db", ""),
    (&["try", "--dir", "taken"], 3, "exists already", "--dir"),
    (&["try", "--edits", "no-file"], 3, "no-file", "spelling"),
    (&["try", "--dir", "new1", "--edits", "early.sql"], 2, "no change has begun", "-- Ada"),
    // What SQLite or the store refuses.
    (&["sql", "a.db", "SELEC 1"], 4, "syntax error", "quotes"),
    (&["sql", "a.db", ".tables"], 4, "syntax error", "standard input"),
    (&["sql", "a.db", "SELECT * FROM nowhere"], 4, "no such table: nowhere", ".tables"),
    (&["sql", "a.db", "SELECT nowhere FROM note"], 4, "no such column", ".schema"),
    (&["sql", "a.db", "SELECT 'open"], 4, "unrecognized token", "quotes"),
    (&["sql", "a.db", "SELECT (1"], 4, "incomplete input", "too early"),
    (&["sql", "a.db", "BEGIN; INSERT INTO note VALUES('n', 'x')"], 4, "not committed", "COMMIT"),
    (&["sql", "a.db", "SELECT 1; SELEC 2"], 4, "statement 2 (SELEC 2; 1 statement before", ""),
    (&["sql", "a.db", "--read-only", "DELETE FROM note"], 3, "readonly", "write"),
    (&["sql", "a.db", "INSERT INTO note VALUES(NULL, 'x')"], 4, "NOT NULL", "rule"),
    (&["crr", "a.db", "nowhere"], 4, "no table nowhere", ".tables"),
    (&["crr", "a.db", "note", "nowhere"], 4, "nowhere (no table was changed)", ""),
    (&["crr", "a.db", ""], 4, "", ""),
    (&["log", "a.db", "nowhere"], 4, "no conflict-free table nowhere", "there are: note"),
    (&["log", "a.db", "note", "nobody"], 4, "never had a row", "whole table"),
    (&["changes", "a.db", "--table", "nowhere"], 4, "no conflict-free table", "there are: note"),
];

/// Every command with arguments that cannot work: an error that names what is wrong, a
/// hint where there is one, and every file as it was.
#[test]
fn refusals_say_what_to_do_and_change_nothing() {
    let ana = Ana::with_notes();
    ana.write("text.db", b"this is a text, and longer than the head of a database\n");
    ana.write("torn.db", b"SQLite format 3\0and then nothing that SQLite would know\n");
    ana.write("empty.db", b"");
    ana.write("early.sql", b"DELETE FROM airport;\n-- Ada: late\n");
    rusqlite_plain(&ana);
    std::fs::hard_link(ana.path("a.db"), ana.path("link.db")).unwrap();
    std::fs::create_dir(ana.path("taken")).unwrap();
    ana.write("taken/ben.db", b"somebody's");
    let before = contents(&ana.path(""));
    for (args, status, error, hint) in CASES {
        let run = ana.run(args);
        assert_eq!(run.status, *status, "{args:?}: {}{}", run.out, run.err);
        assert!(run.err.contains(error), "{args:?}: {}", run.err);
        let has_hint = hint.is_empty() || run.err.contains("  hint: ") && run.err.contains(hint);
        assert!(has_hint, "{args:?}: {}", run.err);
        assert!(!run.err.contains("panicked"), "{args:?}: {}", run.err);
        assert!(!run.err.contains('\x1b'), "{args:?}");
        if *status != 2 {
            assert!(run.err.starts_with("error: "), "{args:?}: {}", run.err);
        }
    }
    for ((path, bytes), (path_after, bytes_after)) in before.iter().zip(contents(&ana.path(""))) {
        assert_eq!(*path, path_after);
        assert!(*bytes == bytes_after, "{} changed", path.display());
    }
}

/// The same errors as JSON objects, for programs.
#[test]
fn errors_are_objects_with_json() {
    let ana = Ana::with_notes();
    for (args, status) in [
        (&["--json", "status", "missing.db"][..], 3),
        (&["--json", "sql", "a.db", "SELEC 1"], 4),
        (&["--json", "merge", "a.db", "a.db"], 2),
        (&["--json", "merge", "a.db"], 2),
        (&["--json", "frobnicate"], 2),
        (&["--json"], 2),
    ] {
        let run = ana.run(args);
        let error: serde_json::Value = serde_json::from_str(&run.err).unwrap();
        assert_eq!(error["exit"], status, "{args:?}");
        assert!(error["error"].is_string() && error["hint"].is_string(), "{error}");
        assert_eq!((run.status, run.out.as_str()), (status, ""));
    }
}

/// A folder in which nobody may write: reading works, writing says so.
#[cfg(unix)]
#[test]
fn a_read_only_folder_can_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let ana = Ana::with_notes();
    let folder = ana.path("locked");
    std::fs::create_dir(&folder).unwrap();
    ana.copy("a.db", "locked/a.db");
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&folder.join("a.db"), 0o444);
    set(&folder, 0o555);
    for command in ["status", "check", "log", "changes"] {
        assert_eq!(ana.run(&[command, "locked/a.db"]).status, 0, "{command}");
    }
    // The superuser may write anywhere.
    if std::fs::write(folder.join("probe"), "").is_err() {
        for args in [
            &["sql", "locked/a.db", "INSERT INTO note VALUES('n', 'x')"][..],
            &["init", "locked/new.db"],
            &["export", "a.db", "-o", "locked/f"],
        ] {
            let run = ana.run(args);
            assert_eq!(run.status, 3, "{args:?}: {}", run.err);
            assert!(run.err.contains("hint: "), "{args:?}: {}", run.err);
        }
    }
    set(&folder, 0o755);
}

/// Somebody else writes: waited for, then said, and nothing happened.
#[test]
fn a_held_database_is_busy() {
    let ana = Ana::with_notes();
    let holder = anabranch::rusqlite::Connection::open(ana.path("a.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let run = ana.run(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'x')"]);
    assert_eq!(run.status, 5, "{}", run.err);
    assert!(run.err.contains("locked") && run.err.contains("again"), "{}", run.err);
    holder.execute_batch("ROLLBACK").unwrap();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'x')"]);
}

/// Tables that only one of two copies has: both as before, and what to do.
#[test]
fn a_merge_needs_the_same_tables() {
    let ana = Ana::with_notes();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'x')"]);
    ana.ok(&["init", "b.db"]);
    let run = ana.run(&["merge", "a.db", "b.db"]);
    assert_eq!(run.status, 4, "{}", run.err);
    assert!(run.err.contains("note") && run.err.contains("`ana crr`"), "{}", run.err);
    assert_eq!(ana.one("b.db", "SELECT count(*) FROM ana_log"), "0");
    ana.ok(&["sql", "b.db", "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)"]);
    ana.ok(&["crr", "b.db", "note"]);
    ana.ok(&["merge", "a.db", "b.db"]);
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
}

/// A plain SQLite database, made by SQLite alone.
fn rusqlite_plain(ana: &Ana) {
    let plain = anabranch::rusqlite::Connection::open(ana.path("plain.db")).unwrap();
    plain.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY NOT NULL, x)").unwrap();
}

/// A program that died in a transaction leaves a journal that SQLite must play back first.
#[test]
fn what_a_killed_program_left_is_undone() {
    let ana = Ana::with_notes();
    let expected = ana.ok(&["sql", "a.db", "SELECT * FROM note"]);
    let dying = anabranch::rusqlite::Connection::open(ana.path("a.db")).unwrap();
    // With so small a cache pages reach the file before the commit.
    dying
        .execute_batch(
            "PRAGMA cache_size = 1; BEGIN; CREATE TABLE half(x);
             INSERT INTO half SELECT zeroblob(5000) FROM pragma_function_list LIMIT 50;",
        )
        .unwrap();
    let leave = |name: &str| {
        std::fs::copy(ana.path("a.db"), ana.path(name)).unwrap();
        let journal = format!("{name}-journal");
        std::fs::copy(ana.path("a.db-journal"), ana.path(&journal)).unwrap();
    };
    for command in ["status", "check", "log", "changes"] {
        leave("b.db");
        ana.ok(&[command, "b.db"]);
    }
    leave("b.db");
    assert_eq!(ana.ok(&["sql", "b.db", "SELECT * FROM note"]), expected);
}
