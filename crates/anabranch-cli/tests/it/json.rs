//! `--json`: every command, every line a JSON document.

use serde_json::Value;

use crate::ana::{Ana, Run};

/// Every line of standard output as JSON.
fn lines(run: &Run) -> Vec<Value> {
    run.out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn every_command_answers_in_json() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'a')"]);
    ana.ok(&["sql", "b.db", "INSERT INTO note VALUES('n1', 'b')"]);
    for (args, status, n_lines, member) in [
        (&["init", "new.db"][..], 0, 1, "site"),
        (&["crr", "a.db", "note"], 0, 1, "tables"),
        (&["sql", "a.db", "UPDATE note SET body = 'x'"], 0, 1, "changed"),
        (&["changes", "a.db"], 0, 1, "col_version"),
        (&["log", "a.db"], 0, 2, "time_ms"),
        (&["log", "a.db", "note", "n1"], 0, 2, "version"),
        (&["export", "a.db", "-o", "f"], 0, 1, "bytes"),
        (&["diverge", "a.db", "b.db"], 1, 1, "column"),
        (&["merge", "a.db", "b.db"], 0, 1, "concurrent"),
        (&["diverge", "a.db", "b.db"], 0, 1, "words"),
        (&["import", "b.db", "f"], 0, 1, "changes"),
        (&["check", "a.db"], 0, 1, "findings"),
        (&["compact", "a.db", "--dry-run", "--floor", "{}"], 0, 1, "tombstones"),
        (&["status", "a.db"], 0, 1, "forgettable_bytes"),
        (&["try", "--dir", "t"], 0, 1, "met"),
    ] {
        let run = ana.run(&[&["--json"], args].concat());
        assert_eq!(run.status, status, "{args:?}: {}", run.err);
        let documents = lines(&run);
        assert_eq!(documents.len(), n_lines, "{args:?}: {}", run.out);
        assert!(documents[0].get(member).is_some(), "{args:?}: {}", run.out);
    }
}

/// Types that JSON does not have, names that need quotes, numbers past 2^53.
#[test]
fn values_survive() {
    let ana = Ana::with_notes();
    let sql = "SELECT 9223372036854775807 AS i, -0.5 AS r, NULL AS n, x'00ff' AS b, \
               'a\"' || char(27) || '\u{1F600}' AS \"t \"\"q\" \
               UNION ALL SELECT 1, 1e300, '', '', ''";
    let run = ana.run(&["sql", "a.db", "--json", sql]);
    assert!(!run.out.contains('\x1b'));
    let rows: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(rows[0]["i"], i64::MAX);
    assert_eq!(rows[0]["r"], -0.5);
    assert_eq!(rows[0]["n"], Value::Null);
    assert_eq!(rows[0]["b"]["blob"], "00ff");
    assert_eq!(rows[0]["t \"q"], "a\"\x1b\u{1F600}");
    assert_eq!(rows[1]["r"], 1e300);
    let none = ana.run(&["sql", "a.db", "--json", "SELECT 1 WHERE 0"]);
    assert_eq!(none.out, "[]\n");
}

/// What one command writes, another reads: the vector of status is one for export, pk and
/// site_id of changes are what crsql_changes wants.
#[test]
fn answers_fit_the_other_commands() {
    let ana = Ana::with_notes();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'x')"]);
    let status: Value = serde_json::from_str(&ana.ok(&["status", "a.db", "--json"])).unwrap();
    let vector = status["vector"].to_string();
    assert_eq!(vector, ana.ok_raw("a.db", "SELECT ana_version_vector()"));
    ana.ok(&["export", "a.db", "--since", &vector, "--output", "nothing.delta"]);
    let change: Value = serde_json::from_str(&ana.ok(&["changes", "a.db", "--json"])).unwrap();
    assert_eq!(change["key"], "'n1'");
    assert_eq!(change["site_id"], status["site"]);
    assert_eq!(change["pk"], "010b026e31");
}

impl Ana {
    /// One value, unquoted.
    fn ok_raw(&self, db: &str, sql: &str) -> String {
        let line = self.ok(&["sql", db, "--output", "line", sql]);
        line.split_once(" = ").unwrap().1.trim_end().to_string()
    }
}
