//! How output looks: 80 columns on a terminal, plain text in a pipe, help that teaches.

use crate::ana::{Ana, run};

const COMMANDS: [&str; 17] = [
    "try", "init", "sql", "crr", "merge", "diverge", "status", "log", "changes", "export",
    "import", "check", "sync", "receipts", "serve", "token", "blob",
];

/// Every command's help has an example; the general help lists exit statuses.
#[test]
fn help_teaches() {
    let ana = Ana::new();
    let help = ana.ok(&["--help"]);
    for text in ["Exit status:", "ana try", "ana merge a.db b.db"] {
        assert!(help.contains(text), "{help}");
    }
    for command in COMMANDS {
        assert!(help.contains(&format!("  {command} ")), "{command} is not in the help");
        let text = ana.ok(&[command, "--help"]);
        assert!(text.contains("Example"), "{command}");
        assert!(text.contains(&format!("  ana {command}")), "{command}");
    }
    assert!(ana.ok(&["--version"]).starts_with("ana "));
}

/// Help fits 80 columns, and what we wrapped by hand is not wrapped a second time: it is the
/// same where there is more room.
#[test]
fn help_fits_80_columns() {
    let ana = Ana::new();
    let help = |words: &[&str], columns: &str| {
        run(ana.command(words).arg("--help").env("COLUMNS", columns), b"").out
    };
    let commands = COMMANDS.map(|command| (vec![command], "\nExample"));
    for (words, start) in commands.into_iter().chain([(vec![], "\nTry it")]) {
        let (narrow, wide) = (help(&words, "80"), help(&words, "100"));
        for line in narrow.lines() {
            assert!(line.chars().count() <= 80, "{words:?}: {line}");
        }
        let by_hand = |text: &str| text[text.find(start).unwrap()..].to_string();
        assert_eq!(by_hand(&narrow), by_hand(&wide), "{words:?}");
    }
}

/// Nothing but text in a pipe: no colours, no box drawing, no cut cells, no controls that
/// the data hold.
#[test]
fn a_pipe_gets_plain_text() {
    let ana = Ana::with_notes();
    let long = "x".repeat(200);
    let sql =
        format!("INSERT INTO note VALUES('n1', '{long}'), ('n2', char(27) || '[31m' || char(10))");
    ana.ok(&["sql", "a.db", &sql]);
    let table = ana.ok(&["sql", "a.db", "SELECT * FROM note ORDER BY id"]);
    assert!(table.contains(&long));
    assert!(table.contains("\\u{1b}[31m\\n"), "{table}");
    for args in [
        &["sql", "a.db", "SELECT * FROM note"][..],
        &["sql", "a.db", "--output", "line", "SELECT * FROM note"],
        &["log", "a.db"],
        &["changes", "a.db"],
        &["status", "a.db"],
        &["check", "a.db"],
    ] {
        let out = ana.ok(args);
        let is_plain = |c: char| c == '\n' || !c.is_control();
        assert!(out.chars().all(is_plain), "{args:?}: {out:?}");
        assert!(!out.contains('─') && !out.contains('…'), "{args:?}: {out}");
    }
}

/// On a terminal of 80 columns no line is longer, colours are there, and NO_COLOR ends them.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_of_80_columns_is_kept() {
    let ana = Ana::with_notes();
    let long = "wörter ".repeat(40);
    let many: Vec<String> = (0..40).map(|i| format!("{i} AS column_{i}")).collect();
    ana.ok(&["sql", "a.db", &format!("INSERT INTO note VALUES('n1', '{long}')")]);
    let on_terminal = |args: &str, no_colour: bool| {
        let mut command = std::process::Command::new("script");
        let line = format!("stty cols 80; '{}' {args}", env!("CARGO_BIN_EXE_ana"));
        command.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(ana.path(""));
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        if no_colour {
            command.env("NO_COLOR", "1");
        }
        run(&mut command, b"").out
    };
    if std::process::Command::new("script").arg("--version").output().is_err() {
        return crate::hosts::missing("script");
    }
    let wide = format!("sql a.db 'SELECT {} FROM note'", many.join(", "));
    for args in ["sql a.db 'SELECT * FROM note'", &wide, "log a.db", "changes a.db", "status a.db"]
    {
        let plain = on_terminal(args, true);
        assert!(!plain.contains('\x1b'), "{args}: {plain:?}");
        for line in plain.lines() {
            assert!(line.trim_end().chars().count() <= 80, "{args}: {line}");
        }
        assert!(plain.lines().count() >= 2, "{args}: {plain}");
    }
    assert!(on_terminal("sql a.db 'SELECT * FROM note'", false).contains("\x1b[1m"));
    assert!(on_terminal(&wide, true).contains("more: a wider terminal or --output line"));
}
