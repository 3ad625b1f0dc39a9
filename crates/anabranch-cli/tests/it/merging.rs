//! `merge` and `diverge`: two copies that were edited apart.

use serde_json::Value;

use crate::ana::Ana;

/// Two copies of a store, made with `cp`, each edited, also in the same cells.
fn edited() -> Ana {
    let ana = Ana::with_notes();
    let rows = "INSERT INTO note VALUES('n1', 'one'), ('n2', 'two'), ('n3', 'three'), ('n4', 'x')";
    ana.ok(&["sql", "a.db", "--author", "both", rows]);
    ana.copy("a.db", "b.db");
    for (db, author, sql) in [
        ("a.db", "Ada", "UPDATE note SET body = 'apple' WHERE id = 'n1'"),
        ("a.db", "Ada", "UPDATE note SET body = 'edited' WHERE id = 'n2'"),
        ("a.db", "Ada", "INSERT INTO note VALUES('a', 'from a')"),
        ("b.db", "Ben", "UPDATE note SET body = 'banana' WHERE id = 'n1'"),
        ("b.db", "Ben", "DELETE FROM note WHERE id = 'n2'"),
        ("b.db", "Ben", "INSERT INTO note VALUES('b', 'from b')"),
        ("b.db", "Ben", "UPDATE note SET body = 'same' WHERE id = 'n4'"),
        ("a.db", "Ada", "UPDATE note SET body = 'same' WHERE id = 'n4'"),
    ] {
        ana.ok(&["sql", db, "--author", author, sql]);
    }
    ana
}

#[test]
fn a_merge_tells_what_changed_and_what_met() {
    let ana = edited();
    let run = ana.run(&["--json", "merge", "a.db", "b.db"]);
    assert_eq!(run.status, 0, "{}", run.err);
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(report["equal"], true);
    assert_eq!(report["words"], ana.words("a.db"));
    assert_eq!(report["words"], ana.words("b.db"));
    assert_eq!((&report["a"]["changes"], &report["b"]["changes"]), (&4.into(), &4.into()));
    let of = |side: &str, what: &str| report[side]["tables"][0][what].as_u64();
    assert_eq!((of("a", "inserted"), of("a", "deleted")), (Some(1), Some(1)), "{report}");
    assert_eq!((of("b", "inserted"), of("b", "deleted")), (Some(1), Some(0)), "{report}");
    let cells = report["concurrent"].as_array().unwrap();
    let n1 = cells.iter().find(|cell| cell["key"] == "'n1'").unwrap();
    assert_eq!((&n1["stands"], &n1["lost"]), (&"'banana'".into(), &"'apple'".into()));
    assert_eq!(n1["column"], "body");
    let n2 = cells.iter().find(|cell| cell["key"] == "'n2'").unwrap();
    assert_eq!((&n2["stands"], &n2["lost"]), (&"deleted".into(), &"'edited'".into()));
    assert_eq!(cells.len(), 2, "{report}");
    for db in ["a.db", "b.db"] {
        let rows = ana.one(
            db,
            "SELECT group_concat(id || '=' || body, ' ') FROM (SELECT * FROM note ORDER BY id)",
        );
        assert_eq!(rows, "a=from a b=from b n1=banana n3=three n4=same", "{db}");
        assert_eq!(ana.ok(&["check", db]), format!("{db}: clean\n"));
    }
    let again = ana.ok(&["merge", "a.db", "b.db"]);
    assert!(again.contains("a.db had everything already"), "{again}");
    assert!(again.contains("Both now hold the same: "), "{again}");
}

#[test]
fn a_merge_reads_well() {
    let ana = edited();
    let text = ana.ok(&["merge", "a.db", "b.db"]);
    for part in [
        "a.db took 4 changes",
        "Rows that changed",
        "2 cells written on both sides",
        "banana",
        "apple",
        "deleted",
        "Both now hold the same: ",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

/// Many cells do not drive the summary out of sight; programs still get all of them.
#[test]
fn a_merge_lists_a_bounded_number_of_cells() {
    for (n_cells, n_listed, more) in
        [(20, 20, None), (21, 20, Some("… and 1 more; --json lists all"))]
    {
        let ana = Ana::with_notes();
        let numbers = format!(
            "INSERT INTO note WITH RECURSIVE n(value) AS
               (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {n_cells})
             SELECT 'n' || value, 'x' FROM n"
        );
        ana.ok(&["sql", "a.db", &numbers]);
        ana.copy("a.db", "b.db");
        ana.ok(&["sql", "a.db", "UPDATE note SET body = 'of a'"]);
        ana.ok(&["sql", "b.db", "UPDATE note SET body = 'of b'"]);
        ana.copy("a.db", "c.db");
        ana.copy("b.db", "d.db");
        let text = ana.ok(&["merge", "a.db", "b.db"]);
        let stand = text.lines().filter(|line| line.trim_end().ends_with("stands")).count();
        assert_eq!(stand, n_listed, "{text}");
        assert_eq!(text.lines().find(|line| line.starts_with('…')), more, "{text}");
        let cells = text.find(&format!("{n_cells} cells written on both sides")).unwrap();
        assert!(cells < text.find("a.db took 1 change").unwrap(), "{text}");
        assert!(text.lines().last().unwrap().starts_with("Both now hold the same: "), "{text}");
        let json: Value =
            serde_json::from_str(&ana.ok(&["--json", "merge", "c.db", "d.db"])).unwrap();
        assert_eq!(json["concurrent"].as_array().unwrap().len(), n_cells);
    }
}

#[test]
fn diverge_finds_the_first_cell_and_its_writers() {
    let ana = edited();
    let run = ana.run(&["--json", "diverge", "a.db", "b.db"]);
    assert_eq!(run.status, 1, "{}", run.err);
    let found: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&found["table"], &found["key"]), (&"note".into(), &"'a'".into()));
    assert_eq!(found["a"]["change"]["author"], "Ada");
    assert_eq!(found["b"]["change"], Value::Null);
    ana.ok(&["sql", "a.db", "DELETE FROM note WHERE id = 'a'"]);
    ana.ok(&["sql", "b.db", "DELETE FROM note WHERE id = 'b'"]);
    let run = ana.run(&["diverge", "a.db", "b.db"]);
    assert_eq!(run.status, 1, "{}", run.err);
    for part in
        ["row 'n1', column body", "'apple'", "'banana'", "Ada", "Ben", "ana merge a.db b.db"]
    {
        assert!(run.out.contains(part), "no {part:?} in\n{}", run.out);
    }
    ana.ok(&["merge", "a.db", "b.db"]);
    assert!(ana.ok(&["diverge", "a.db", "b.db"]).starts_with("equal: "));
}

/// Where nobody gave an author, the databases stand for people; programs get the ids.
#[test]
fn databases_stand_for_people_who_gave_no_name() {
    let ana = Ana::with_notes();
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'one')"]);
    ana.copy("a.db", "b.db");
    ana.ok(&["sql", "b.db", "UPDATE note SET body = 'banana'"]);
    ana.ok(&["sql", "a.db", "UPDATE note SET body = 'apple'"]);
    let site = |db: &str| ana.one(db, "SELECT lower(hex(crsql_site_id()))");
    let sites = ["a.db", "b.db"].map(site);
    let has_ids = |text: &str| sites.iter().any(|site| text.contains(&site[..8]));

    let text = ana.run(&["diverge", "a.db", "b.db"]).out;
    for (db, value) in [("a.db", "'apple'"), ("b.db", "'banana'")] {
        let line = text.lines().find(|line| line.contains(value)).unwrap();
        assert_eq!(line.matches(db).count(), 2, "{text}");
    }
    ana.copy("b.db", "my b.db");
    let spaced = ana.run(&["diverge", "a.db", "my b.db"]).out;
    assert!(spaced.contains("`ana merge a.db 'my b.db'`"), "{spaced}");
    assert!(!has_ids(&text), "{text}");
    assert!(has_ids(&ana.run(&["--json", "diverge", "a.db", "b.db"]).out));

    ana.copy("a.db", "c.db");
    ana.copy("b.db", "d.db");
    let text = ana.ok(&["merge", "a.db", "b.db"]);
    for (db, value) in [("a.db", "apple"), ("b.db", "banana")] {
        let line = text.lines().find(|line| line.contains(value)).unwrap();
        assert!(line.contains(db), "{text}");
    }
    assert!(!has_ids(&text), "{text}");
    assert!(has_ids(&ana.ok(&["--json", "merge", "c.db", "d.db"])));
}

/// Copies with other tables, or other columns, are told apart.
#[test]
fn diverge_names_tables_and_columns() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    ana.ok(&["sql", "a.db", "CREATE TABLE more(id INTEGER PRIMARY KEY NOT NULL)"]);
    ana.ok(&["crr", "a.db", "more"]);
    // No change tells the copies apart yet, so merging cannot help and says so.
    assert_eq!(ana.run(&["merge", "a.db", "b.db"]).status, 1);
    let run = ana.run(&["diverge", "a.db", "b.db"]);
    assert!(run.out.contains("not the same tables and columns"), "{}", run.out);
    ana.ok(&["sql", "a.db", "INSERT INTO more VALUES(1)"]);
    let run = ana.run(&["diverge", "a.db", "b.db"]);
    assert_eq!(run.status, 1, "{}{}", run.out, run.err);
    assert!(run.out.contains("table \"more\""), "{}", run.out);
    assert!(run.out.contains("not a conflict-free table here"), "{}", run.out);
}

/// A rule of one copy: what breaks it is held there, told of, and shown when the rule goes.
#[test]
fn a_rule_that_one_copy_has_alone() {
    let ana = edited();
    let rule = "CREATE TRIGGER rule BEFORE INSERT ON note WHEN new.id = 'a' BEGIN \
                SELECT RAISE(ABORT, 'no a'); END";
    ana.ok(&["sql", "b.db", rule]);
    let run = ana.run(&["merge", "a.db", "b.db"]);
    assert_eq!(run.status, 1, "{}", run.err);
    assert!(run.out.contains("b.db holds 1 change that it cannot show"), "{}", run.out);
    assert!(run.err.contains("not all of them are shown"), "{}", run.err);
    let status = ana.ok(&["status", "b.db"]);
    assert!(
        status.contains("held, not shown       1 change: no a (table note, row 'a')"),
        "{status}"
    );
    assert_eq!(ana.ok(&["check", "b.db"]), "b.db: clean\n");
    ana.ok(&["sql", "b.db", "DROP TRIGGER rule; SELECT ana_retry()"]);
    let again = ana.ok(&["merge", "a.db", "b.db"]);
    assert!(again.contains("Both now hold the same: "), "{again}");
    assert!(!ana.ok(&["status", "b.db"]).contains("held, not shown"));
}
