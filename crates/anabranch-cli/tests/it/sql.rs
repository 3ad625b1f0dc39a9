//! `ana sql`: formats, several statements, pipes, the shell on a terminal.

use crate::ana::{Ana, run};

#[test]
fn one_result_in_each_format() {
    let ana = Ana::with_notes();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'a, \"b\"'), ('n2', NULL)"]);
    let select = "SELECT id, body, length(id) AS len FROM note ORDER BY id";
    for (format, expected) in [
        ("table", "id  body    len\n--  ------  ---\nn1  a, \"b\"    2\nn2  NULL      2\n"),
        ("csv", "id,body,len\nn1,\"a, \"\"b\"\"\",2\nn2,,2\n"),
        (
            "json",
            "[{\"id\":\"n1\",\"body\":\"a, \\\"b\\\"\",\"len\":2},\n \
             {\"id\":\"n2\",\"body\":null,\"len\":2}]\n",
        ),
        ("line", "  id = n1\nbody = a, \"b\"\n len = 2\n\n  id = n2\nbody = NULL\n len = 2\n"),
    ] {
        assert_eq!(ana.ok(&["sql", "a.db", "--output", format, select]), expected, "{format}");
    }
}

/// Affected rows are those of the statement, not those of our own tables.
#[test]
fn affected_rows_are_shown() {
    let ana = Ana::with_notes();
    for (sql, expected) in [
        ("INSERT INTO note VALUES('n1', 'x'), ('n2', 'y')", "2 rows changed\n"),
        ("UPDATE note SET body = 'z' WHERE id = 'n1'", "1 row changed\n"),
        ("UPDATE note SET body = 'z' WHERE id = 'nobody'", "0 rows changed\n"),
        ("CREATE TABLE other(a)", ""),
        ("DELETE FROM note", "2 rows changed\n"),
        ("BEGIN; INSERT INTO note VALUES('n3', ''); COMMIT", "1 row changed\n"),
        ("WITH x(i) AS (SELECT 7) SELECT i FROM x", "i\n-\n7\n"),
        ("WITH x(i) AS (SELECT 'n3') DELETE FROM note WHERE id IN x", "1 row changed\n"),
        ("INSERT INTO note VALUES('n4', '') RETURNING id", "id\n--\nn4\n1 row changed\n"),
        ("CREATE TRIGGER tr AFTER INSERT ON other BEGIN DELETE FROM note; SELECT 1; END", ""),
    ] {
        assert_eq!(ana.ok(&["sql", "a.db", sql]), expected, "{sql}");
    }
}

/// Status 0 means committed, and what was committed before an error stands.
#[test]
fn a_run_stops_at_the_first_error() {
    let ana = Ana::with_notes();
    let text = "INSERT INTO note VALUES('n1', 'x'); INSERT INTO nowhere VALUES(1); \
                INSERT INTO note VALUES('n2', 'y')";
    let stopped = ana.run(&["sql", "a.db", text]);
    assert_eq!(stopped.status, 4);
    assert!(stopped.err.contains("statement 2"), "{}", stopped.err);
    assert_eq!(ana.one("a.db", "SELECT group_concat(id) FROM note"), "n1");
    let open = ana.run(&["sql", "a.db", "BEGIN; DELETE FROM note; SELECT * FROM nowhere"]);
    assert_eq!(open.status, 4);
    assert_eq!(ana.one("a.db", "SELECT count(*) FROM note"), "1");
}

/// Standard input: several lines a statement, comments, dot commands, no last semicolon.
#[test]
fn a_script_comes_through_a_pipe() {
    let ana = Ana::with_notes();
    let script = "-- notes; all of them\nINSERT INTO note\n  VALUES('n1', 'semi;colon');\n\n\
                  .mode csv\nSELECT body\nFROM note; SELECT 1;\n.quit\nDELETE FROM note;\n";
    let run = ana.run_with(&["sql", "a.db"], script.as_bytes());
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    assert_eq!(run.out, "1 row changed\nbody\nsemi;colon\n1\n1\n");
    let run = ana.run_with(&["sql", "a.db"], b"SELECT count(*) AS n FROM note");
    assert_eq!(run.out, "n\n-\n1\n");
    let run = ana.run_with(&["sql", "a.db"], b"SELECT '\xff';");
    assert_eq!((run.status, run.err.contains("not UTF-8")), (4, true));
    let run = ana.run_with(&["sql", "a.db"], b".tables\n.schema note\n");
    assert!(run.out.contains("*  note  table"), "{}", run.out);
    assert!(run.out.contains("CREATE TABLE note"), "{}", run.out);
    assert!(!run.out.contains("ana_") && !run.out.contains("crsql_"), "{}", run.out);
    let run = ana.run_with(&["sql", "a.db"], b".nothing\n");
    assert_eq!((run.status, run.err.contains(".help")), (2, true));
}

/// A program that asks one statement after the other gets each answer when it is there.
#[test]
fn a_program_can_converse() {
    let ana = Ana::with_notes();
    let mut command = ana.command(&["sql", "a.db", "--json"]);
    talk(
        &mut command,
        &[
            ("", "INSERT INTO note VALUES('n1', 'x');\n"),
            ("{\"changed\":1}\n", "SELECT id FROM note;\n"),
            ("[{\"id\":\"n1\"}]\n", ".quit\n"),
        ],
    );
}

/// A reader that goes away is no reason to complain.
#[cfg(unix)]
#[test]
fn a_closed_pipe_is_quiet() {
    let ana = Ana::with_notes();
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) \
               SELECT i, 'text' FROM n";
    for format in ["table", "csv", "json", "line"] {
        let ana_sql = format!("\"$0\" sql a.db --output {format} \"$1\" | head -1 > /dev/null");
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", &ana_sql, env!("CARGO_BIN_EXE_ana"), sql]);
        let run = run(shell.current_dir(ana.path("")), b"");
        assert_eq!(run.err, "", "{format}");
    }
}

/// Who and why go into the change.
#[test]
fn author_and_message_are_kept() {
    let ana = Ana::with_notes();
    let insert = "INSERT INTO note VALUES('n1', 'x')";
    ana.ok(&["sql", "a.db", "--author", "Ada", "--message", "first note", insert]);
    let log = ana.ok(&["log", "a.db"]);
    let line = log.lines().last().unwrap();
    assert!(line.contains("Ada") && line.contains("first note"), "{log}");
    assert_eq!(ana.one("a.db", "SELECT count(*) FROM note"), "1");
}

/// The shell on a real terminal, through `script`: a prompt, several lines a statement, an
/// error that does not end it, history in the file that is asked for.
#[cfg(target_os = "linux")]
#[test]
fn the_shell_talks() {
    let ana = Ana::with_notes();
    let mut command = std::process::Command::new("script");
    let line = format!("'{}' sql a.db", env!("CARGO_BIN_EXE_ana"));
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(ana.path(""));
    command.env("ANA_HISTORY", ana.path("state/history")).env("TERM", "xterm");
    if std::process::Command::new("script").arg("--version").output().is_err() {
        return crate::hosts::missing("script");
    }
    let said = talk(
        &mut command,
        &[
            ("ana> ", "INSERT INTO note\r"),
            ("...> ", "VALUES('n1', 'typed');\r"),
            ("1 row changed", ""),
            ("ana> ", "SELEC;\r"),
            ("syntax error", ""),
            ("hint: ", ""),
            ("ana> ", "BEGIN;\r"),
            ("ana*> ", "ROLLBACK;\r"),
            ("ana> ", "SELECT body FROM note;\r"),
            ("typed", ""),
            ("ana> ", ".quit\r"),
        ],
    );
    let history = std::fs::read_to_string(ana.path("state/history")).expect(&said);
    assert!(history.contains("INSERT INTO note\\nVALUES('n1', 'typed');"), "{history}");
}

/// Waits for each text in turn and answers it; all that was said.
fn talk(command: &mut std::process::Command, turns: &[(&str, &str)]) -> String {
    use std::io::{Read, Write};
    use std::process::Stdio;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut read_to = 0;
    for (wait, answer) in turns {
        loop {
            let text = String::from_utf8_lossy(&said[read_to..]);
            if let Some(found) = text.find(wait) {
                read_to += found + wait.len();
                break;
            }
            let mut byte = [0];
            let n_read = output.read(&mut byte).unwrap();
            assert_eq!(n_read, 1, "no {wait:?} in {}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        input.write_all(answer.as_bytes()).unwrap();
        input.flush().unwrap();
    }
    output.read_to_end(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    String::from_utf8_lossy(&said).into_owned()
}
