//! `export` and `import`: files that travel.

use crate::ana::{Ana, contents};

#[test]
fn a_file_brings_what_the_other_lacks() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'x'), ('n2', 'y')"]);
    ana.ok(&["export", "a.db", "--since-db", "b.db", "--output", "for-b"]);
    assert!(ana.ok(&["import", "b.db", "for-b"]).contains("1 new change"));
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
    assert!(ana.ok(&["import", "b.db", "for-b"]).contains("0 new changes"));
    // Everything, to a copy that has nothing but the table.
    ana.ok(&["init", "c.db"]);
    ana.ok(&["sql", "c.db", "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)"]);
    ana.ok(&["crr", "c.db", "note"]);
    let all = ana.run(&["export", "a.db", "--output", "-"]);
    assert_eq!(all.status, 0, "{}", all.err);
    let taken = ana.run_with(&["import", "c.db", "-"], &all.bytes);
    assert_eq!(taken.status, 0, "{}", taken.err);
    assert_eq!(ana.words("a.db"), ana.words("c.db"));
}

/// More than a part holds: the parts stand one behind the other, and a file that lost its end
/// changes nothing.
#[test]
fn a_large_file_comes_in_parts() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
                INSERT INTO note SELECT i, hex(randomblob(4000)) FROM n";
    ana.ok(&["sql", "a.db", fill]);
    let report = ana.ok(&["--json", "export", "a.db", "-o", "f"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(report["parts"].as_u64().unwrap() >= 3, "{report}");
    let bytes = std::fs::read(ana.path("f")).unwrap();
    assert_eq!(report["bytes"], bytes.len() as u64);
    ana.write("half", &bytes[..bytes.len() / 2]);
    assert_eq!(ana.run(&["import", "b.db", "half"]).status, 4);
    assert_eq!(ana.one("b.db", "SELECT count(*) FROM ana_part"), "0");
    ana.ok(&["import", "b.db", "f"]);
    assert!(ana.ok(&["diverge", "a.db", "b.db"]).starts_with("equal"));
}

/// The file is there whole or not at all, and nobody's file is lost.
#[test]
fn no_file_is_replaced_silently() {
    let ana = Ana::with_notes();
    ana.ok(&["export", "a.db", "-o", "f"]);
    let before = contents(&ana.path(""));
    assert_eq!(ana.run(&["export", "a.db", "-o", "f"]).status, 3);
    assert!(contents(&ana.path("")) == before);
    ana.write("f", b"older");
    ana.ok(&["export", "a.db", "-o", "f", "--force"]);
    assert!(contents(&ana.path("")) == before, "beside files were left");
}

/// Damaged, cut, joined twice, or beyond what the copy holds: refused, nothing changed.
#[test]
fn bad_files_are_refused() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n1', 'x')"]);
    let vector = ana.ok(&["status", "a.db", "--json"]);
    let vector: serde_json::Value = serde_json::from_str(&vector).unwrap();
    ana.ok(&["export", "a.db", "-o", "whole"]);
    ana.ok(&["sql", "a.db", "INSERT INTO note VALUES('n2', 'y')"]);
    let since = vector["vector"].to_string();
    ana.ok(&["export", "a.db", "--since", &since, "-o", "later"]);
    let whole = std::fs::read(ana.path("whole")).unwrap();
    let words = ana.words("b.db");
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (name, bytes, error) in [
        ("cut", &whole[..whole.len() - 1], "cut off"),
        ("head", &whole[..20], ""),
        ("flipped", &flipped, ""),
        ("tail", &[&whole[..], b"and more"].concat(), ""),
        ("later", &std::fs::read(ana.path("later")).unwrap(), "missing"),
    ] {
        ana.write(name, bytes);
        let run = ana.run(&["import", "b.db", name]);
        assert_eq!(run.status, 4, "{name}: {}{}", run.out, run.err);
        assert!(run.err.contains(error) && run.err.contains("hint: "), "{name}: {}", run.err);
        assert_eq!(ana.words("b.db"), words, "{name}");
    }
    assert_eq!(ana.ok(&["check", "b.db"]), "b.db: clean\n");
}
