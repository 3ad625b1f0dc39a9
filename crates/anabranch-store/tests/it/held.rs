//! A change that a constraint of this copy refuses is held and not shown, all of it; the rest
//! is shown, what is held travels on, and it is shown when the constraint lets it.

use crate::support::Store;

const SCHEMA: &str = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c);
                      CREATE TABLE u(a PRIMARY KEY NOT NULL, b)";
const TABLES: &[&str] = &["t", "u"];
const QUARANTINE: &str = "SELECT version, \"table\", hex(pk), reason FROM ana_quarantine";

fn store() -> Store {
    Store::with(SCHEMA, TABLES)
}

fn delta(store: &Store) -> String {
    store.rows("SELECT hex(ana_export())").concat()
}

fn above(store: &Store, other: &Store) -> String {
    let vector = other.rows("SELECT ana_version_vector()").concat();
    store.rows(&format!("SELECT hex(ana_export('{vector}'))")).concat()
}

fn apply(store: &Store, delta: &str) -> String {
    store.rows(&format!("SELECT ana_apply(x'{delta}')")).concat()
}

fn digest(store: &Store) -> String {
    store.expect("SELECT * FROM ana_check", "");
    store.rows("SELECT hex(ana_digest())").concat()
}

/// Both ways, until nothing is left to say.
fn sync(a: &Store, b: &Store) {
    apply(b, &above(a, b));
    apply(a, &above(b, a));
}

/// Three changes, the second of which breaks `constraint`, which `lift` removes.
fn check(constraint: &str, lift: &str, is_in_transaction: bool) {
    let from = store();
    from.run(
        "INSERT INTO t VALUES(1, 1, 1), (2, 2, 2);
         BEGIN; INSERT INTO t VALUES(5, 13, 5); INSERT INTO u VALUES('with', 1); COMMIT;
         UPDATE t SET c = 7 WHERE a = 1; UPDATE t SET c = 8 WHERE a = 5",
    );
    let to = store();
    to.run(constraint);
    if is_in_transaction {
        to.run("BEGIN; CREATE TABLE mine(x)");
    }
    assert_eq!(apply(&to, &delta(&from)), "4", "{constraint}");
    if is_in_transaction {
        to.run("COMMIT; INSERT INTO mine VALUES(1)");
    }
    to.expect("SELECT * FROM t", "1|1|7\n2|2|2");
    to.expect("SELECT * FROM u", "");
    let held = to.rows("SELECT version, \"table\", hex(pk) FROM ana_quarantine");
    assert_eq!(held, ["2|t|010905"], "{constraint}");
    to.expect("SELECT * FROM ana_check", "");
    // It is in the vector, and is not taken again.
    let vector = from.rows("SELECT ana_version_vector()");
    assert_eq!(to.rows("SELECT ana_version_vector()"), vector);
    assert_eq!(apply(&to, &delta(&from)), "0");
    // A third copy, without the constraint, gets all of it.
    let third = store();
    assert_eq!(apply(&third, &delta(&to)), "4");
    assert_eq!(digest(&third), digest(&from), "{constraint}");
    to.expect("SELECT ana_retry()", "0");
    to.run(lift);
    to.expect("SELECT ana_retry()", "1");
    to.expect("SELECT * FROM ana_quarantine", "");
    to.expect("SELECT count(*) FROM ana_held_cell", "0");
    assert_eq!(digest(&to), digest(&from), "{constraint}");
    let fourth = store();
    apply(&fourth, &delta(&to));
    assert_eq!(digest(&fourth), digest(&from), "{constraint}");
}

#[test]
fn each_constraint() {
    let trigger = |raise: &str| {
        format!("CREATE TRIGGER x BEFORE INSERT ON t WHEN new.b = 13 BEGIN SELECT {raise}; END")
    };
    for (constraint, lift) in [
        (trigger("RAISE(ABORT, 'no')"), "DROP TRIGGER x"),
        (trigger("RAISE(FAIL, 'no')"), "DROP TRIGGER x"),
        (trigger("RAISE(IGNORE)"), "DROP TRIGGER x"),
        (trigger("abs(-9223372036854775808)"), "DROP TRIGGER x"),
        (
            "CREATE UNIQUE INDEX i ON t(CASE b WHEN 13 THEN 1 WHEN 1 THEN 1 END)".to_string(),
            "DROP INDEX i",
        ),
    ] {
        check(&constraint, lift, false);
        check(&constraint, lift, true);
    }
    check(&trigger("RAISE(ROLLBACK, 'no')"), "DROP TRIGGER x", false);
}

/// The transaction of the host's is gone, and it is told.
#[test]
fn a_trigger_that_undoes_the_transaction_of_the_hosts() {
    let from = store();
    from.run("INSERT INTO t VALUES(1, 1, 1); INSERT INTO t VALUES(5, 13, 5)");
    let to = store();
    to.run(
        "CREATE TRIGGER x BEFORE INSERT ON t WHEN new.b = 13 BEGIN
         SELECT RAISE(ROLLBACK, 'no'); END",
    );
    to.run("BEGIN; CREATE TABLE mine(x)");
    let message = to.refuse(&format!("SELECT ana_apply(x'{}')", delta(&from)), vec![]);
    assert!(message.starts_with("no (table t, row 5)"), "{message}");
    to.expect("SELECT count(*) FROM t", "0");
    to.run("BEGIN; ROLLBACK");
    assert_eq!(apply(&to, &delta(&from)), "2");
    to.expect("SELECT version FROM ana_quarantine", "2");
    // In a transaction of the host's it is not tried again.
    from.run("INSERT INTO t VALUES(2, 2, 2)");
    to.run(&format!("BEGIN; CREATE TABLE mine(x); SELECT ana_apply(x'{}'); COMMIT", delta(&from)));
    to.expect("SELECT a FROM t", "1\n2");
    to.expect("SELECT * FROM ana_check", "");
}

/// A column of the table is declared otherwise here.
#[test]
fn a_table_that_is_declared_otherwise() {
    for (schema, what) in [
        ("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b CHECK(b <> 13), c)", "CHECK constraint"),
        ("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b NOT NULL DEFAULT 0, c)", "NOT NULL"),
        (
            "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b INT, c ANY) STRICT",
            "cannot store TEXT",
        ),
        ("CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL CHECK(a < '5'), b, c)", "CHECK constraint"),
    ] {
        let from = store();
        from.run("INSERT INTO t VALUES(1, 1, 1); INSERT INTO t VALUES(2, 2, 2)");
        let bad = match what {
            "NOT NULL" => "NULL",
            "cannot store TEXT" => "'x'",
            _ => "13",
        };
        from.run(&format!("INSERT INTO t VALUES(7, {bad}, 3); INSERT INTO t VALUES(3, 3, 3)"));
        let to = Store::with(schema, &["t"]);
        assert_eq!(apply(&to, &delta(&from)), "4", "{schema}");
        to.expect("SELECT a FROM t", "1\n2\n3");
        let reason = to.rows("SELECT reason FROM ana_quarantine").concat();
        assert!(reason.contains(what), "{reason}");
        to.expect("SELECT * FROM ana_check", "");
        let third = store();
        apply(&third, &delta(&to));
        assert_eq!(digest(&third), digest(&from));
    }
}

/// A key that the table cannot have: nothing can be compared with it, and it travels on.
#[test]
fn a_key_that_the_table_cannot_have() {
    let schema = "CREATE TABLE t(a PRIMARY KEY NOT NULL, b, c)";
    let from = Store::with(schema, &["t"]);
    from.run("INSERT INTO t VALUES('x', 1, 1); INSERT INTO t VALUES(2, 2, 2)");
    from.run("UPDATE t SET b = 3");
    let to = store();
    assert_eq!(apply(&to, &delta(&from)), "3");
    // The update wrote both rows: with one of them it is held, and the other waits for nothing.
    to.expect("SELECT * FROM t", "2|NULL|2");
    to.expect("SELECT version FROM ana_quarantine", "1\n3");
    let third = Store::with(schema, &["t"]);
    apply(&third, &delta(&to));
    assert_eq!(digest(&third), digest(&from));
}

/// Of a row that several changes wrote only what breaks it is held.
#[test]
fn the_change_at_fault_is_found() {
    for (second, shown, held) in [
        ("UPDATE t SET b = 13 WHERE a = 1", "1|NULL|1|NULL", "2"),
        ("UPDATE t SET b = 13, c = 4 WHERE a = 1", "1|NULL|NULL|NULL", "2"),
        ("UPDATE t SET c = 13 WHERE a = 1", "1|1|13|NULL", ""),
    ] {
        let schema = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c, d)";
        let from = Store::with(schema, &["t"]);
        from.run(&format!("INSERT INTO t VALUES(1, 1, 1, NULL); {second}"));
        let to = Store::with(&schema.replace("b,", "b CHECK(b <> 13),"), &["t"]);
        apply(&to, &delta(&from));
        to.expect("SELECT * FROM t", shown);
        to.expect("SELECT version FROM ana_quarantine", held);
        from.run("UPDATE t SET b = 14");
        apply(&to, &above(&from, &to));
        to.expect("SELECT * FROM ana_quarantine", "");
        assert_eq!(digest(&to), digest(&from), "{second}");
    }
}

/// What holds only together is held together; a row that another's absence breaks is found by
/// the next pass.
#[test]
fn rows_that_depend_on_each_other() {
    let from = store();
    from.run("INSERT INTO u VALUES('p', 13); INSERT INTO t VALUES(1, 'p', 1)");
    from.run("INSERT INTO t VALUES(2, NULL, 1)");
    let to = store();
    to.run(
        "CREATE TRIGGER x BEFORE INSERT ON u WHEN new.b = 13 BEGIN SELECT RAISE(ABORT, 'no'); END;
         CREATE TABLE trace(n); 
         CREATE TRIGGER y AFTER INSERT ON t WHEN new.b NOT NULL BEGIN
            INSERT INTO trace VALUES(1);
            SELECT RAISE(ABORT, 'no parent') WHERE NOT EXISTS(SELECT 1 FROM u); END",
    );
    apply(&to, &delta(&from));
    to.expect("SELECT a FROM t", "2");
    to.expect(
        QUARANTINE,
        "1|u|010B0170|no (table u, row 'p')\n2|t|010901|no parent (table t, row 1)",
    );
    to.expect("SELECT count(*) FROM trace", "0");
    to.run("DROP TRIGGER x; SELECT crsql_as_crr('u')");
    to.expect("SELECT * FROM ana_quarantine", "");
    to.expect("SELECT a FROM t", "1\n2");
    to.expect("SELECT count(*) FROM trace", "1");
    assert_eq!(digest(&to), digest(&from));
}

/// Later changes, here and there, meet what is held.
#[test]
fn what_happens_meanwhile() {
    let trigger = "CREATE TRIGGER x BEFORE INSERT ON t WHEN new.b = 13 BEGIN
        SELECT RAISE(ABORT, 'no'); END;
        CREATE TRIGGER y BEFORE UPDATE ON t WHEN new.b = 13 BEGIN SELECT RAISE(ABORT, 'no'); END;
        CREATE TRIGGER z BEFORE DELETE ON t WHEN old.b = 9 BEGIN SELECT RAISE(ABORT, 'no'); END";
    let steps = [
        // At the source, at the copy with the constraint.
        ("UPDATE t SET c = 4 WHERE a = 1", ""),
        ("UPDATE t SET b = 14 WHERE a = 1", ""),
        ("DELETE FROM t WHERE a = 1", ""),
        ("DELETE FROM t WHERE a = 1; INSERT INTO t VALUES(1, 15, 2)", ""),
        ("DELETE FROM t WHERE a = 1; INSERT INTO t VALUES(1, 13, 2)", ""),
        ("", "INSERT INTO t VALUES(1, 20, 20)"),
        ("", "INSERT INTO t VALUES(1, 20, 20); DELETE FROM t WHERE a = 1"),
        ("UPDATE t SET c = 5 WHERE a = 1", "INSERT INTO t VALUES(1, 20, 20); UPDATE t SET b = 21"),
        ("DELETE FROM t WHERE a = 1", "INSERT INTO t VALUES(1, 20, 20)"),
        ("UPDATE t SET b = 13 WHERE a = 2", "UPDATE t SET b = 30, c = 30 WHERE a = 2"),
        ("UPDATE t SET b = 13 WHERE a = 2; UPDATE t SET c = 1 WHERE a = 2", ""),
        ("DELETE FROM t WHERE a = 3", "UPDATE t SET c = 31 WHERE a = 3"),
        (
            "DELETE FROM t WHERE a = 3; INSERT INTO t VALUES(3, 1, 1)",
            "UPDATE t SET c = 31 WHERE a = 3",
        ),
        ("DELETE FROM t WHERE a = 3", "DELETE FROM t WHERE a = 2"),
    ];
    for (there, here) in steps {
        for early in [true, false] {
            let (from, to, third) = (store(), store(), store());
            from.run("INSERT INTO t VALUES(2, 2, 2), (3, 9, 9)");
            sync(&from, &to);
            sync(&from, &third);
            to.run(trigger);
            from.run("INSERT INTO t VALUES(1, 13, 1)");
            if early {
                apply(&to, &above(&from, &to));
                to.expect("SELECT version FROM ana_quarantine", "2");
            }
            from.run(there);
            to.run(here);
            apply(&to, &above(&from, &to));
            to.expect("SELECT * FROM ana_check", "");
            // A copy without the constraint is equal to the source whichever way it hears.
            sync(&to, &third);
            sync(&to, &from);
            assert_eq!(digest(&third), digest(&from), "{there} / {here} / {early}");
            to.run("DROP TRIGGER x; DROP TRIGGER y; DROP TRIGGER z; SELECT ana_retry()");
            to.expect("SELECT * FROM ana_quarantine", "");
            to.expect("SELECT * FROM ana_held_cell", "");
            assert_eq!(digest(&to), digest(&from), "{there} / {here} / {early}");
            let fourth = store();
            apply(&fourth, &delta(&to));
            assert_eq!(digest(&fourth), digest(&from), "{there} / {here} / {early}");
        }
    }
}

/// A foreign key of a table that is not conflict-free, looked at at once or at the commit.
#[test]
fn foreign_keys() {
    for (deferred, shown) in [("", "1\n3"), ("DEFERRABLE INITIALLY DEFERRED", "1\n2")] {
        let from = store();
        from.run("INSERT INTO t VALUES(1, 1, 1), (2, 2, 2)");
        let to = store();
        apply(&to, &delta(&from));
        to.run(&format!(
            "PRAGMA foreign_keys = ON; CREATE TABLE child(t REFERENCES t(a) {deferred});
             INSERT INTO child VALUES(1)"
        ));
        from.run(
            "DELETE FROM t WHERE a = 1; DELETE FROM t WHERE a = 2; INSERT INTO t VALUES(3, 3, 3)",
        );
        assert_eq!(apply(&to, &above(&from, &to)), "3");
        // Whose fault it is cannot be known at the commit: all of the delta is held.
        to.expect("SELECT a FROM t", shown);
        let reason = to.rows("SELECT DISTINCT reason FROM ana_quarantine").concat();
        assert!(reason.starts_with("FOREIGN KEY constraint failed"), "{reason}");
        to.run("DELETE FROM child; SELECT ana_retry()");
        assert_eq!(digest(&to), digest(&from));
    }
}

/// Parts that are staged, and a delta in which everything is refused.
#[test]
fn parts_and_many_rows() {
    let from = store();
    from.run(
        "WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 9000)
         INSERT INTO t SELECT i, hex(randomblob(400)), randomblob(400) FROM i;
         INSERT INTO t VALUES(-1, 1, 1); UPDATE t SET c = 2 WHERE a = 7",
    );
    let parts = from.rows("SELECT hex(bytes) FROM ana_parts(NULL)");
    assert!(parts.len() > 1, "{}", parts.len());
    let to = store();
    to.run(
        "CREATE TRIGGER x BEFORE INSERT ON t WHEN new.a = 8999 BEGIN
         SELECT RAISE(ABORT, 'no'); END",
    );
    for part in &parts {
        apply(&to, part);
    }
    to.expect("SELECT * FROM t", "-1|1|1");
    to.expect("SELECT version FROM ana_quarantine", "1");
    to.expect("SELECT count(*) FROM ana_part", "0");
    to.expect("SELECT * FROM ana_check", "");
    let third = store();
    for part in to.rows("SELECT hex(bytes) FROM ana_parts(NULL)") {
        apply(&third, &part);
    }
    assert_eq!(digest(&third), digest(&from));
    to.run("DROP TRIGGER x; SELECT ana_retry()");
    assert_eq!(digest(&to), digest(&from));
}

/// More changes than are told apart.
#[test]
fn a_delta_in_which_every_change_is_refused() {
    let from = store();
    for i in 0..300 {
        from.run(&format!("INSERT INTO t VALUES({i}, 13, 1)"));
    }
    let to = store();
    to.run(
        "CREATE TRIGGER x BEFORE INSERT ON t WHEN new.b = 13 BEGIN SELECT RAISE(ABORT, 'no'); END",
    );
    assert_eq!(apply(&to, &delta(&from)), "300");
    to.expect("SELECT count(*) FROM t", "0");
    to.expect("SELECT count(*), min(time) > 0 FROM ana_quarantine", "300|1");
    to.run(
        "DROP TRIGGER x; CREATE TRIGGER x BEFORE INSERT ON t WHEN new.a < 100 BEGIN
            SELECT RAISE(ABORT, 'less'); END",
    );
    to.expect("SELECT ana_retry()", "200");
    to.expect(
        "SELECT DISTINCT reason FROM ana_quarantine WHERE version = 5",
        "less (table t, row 4)",
    );
    to.run("DROP TRIGGER x; SELECT crsql_as_crr('t')");
    assert_eq!(digest(&to), digest(&from));
}

/// A table or column that goes while something of it is held.
#[test]
fn names_that_go() {
    for (go, back) in [
        ("DROP TABLE u", "CREATE TABLE u(a PRIMARY KEY NOT NULL, b); SELECT crsql_as_crr('u')"),
        (
            "ALTER TABLE u RENAME COLUMN b TO d; SELECT crsql_as_crr('u')",
            "ALTER TABLE u RENAME COLUMN d TO b; SELECT crsql_as_crr('u')",
        ),
    ] {
        let from = store();
        from.run("INSERT INTO t VALUES(1, 1, 1); INSERT INTO u VALUES(5, 13)");
        from.run("INSERT INTO t VALUES(2, 2, 2)");
        let to = store();
        to.run("CREATE TRIGGER x BEFORE INSERT ON u BEGIN SELECT RAISE(ABORT, 'no'); END");
        apply(&to, &delta(&from));
        to.run(&format!("DROP TRIGGER x; {go}"));
        to.expect("SELECT ana_retry()", "0");
        to.expect("SELECT count(*) FROM ana_quarantine", "1");
        let third = store();
        apply(&third, &delta(&to));
        assert_eq!(digest(&third), digest(&from));
        to.run(back);
        to.expect("SELECT count(*) FROM ana_quarantine", "0");
        to.expect("SELECT * FROM u", "5|13");
        to.expect("SELECT * FROM ana_check", "");
    }
}
