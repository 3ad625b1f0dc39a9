//! Tables that vanished and came back, by a process that told nobody: the twelve steps of
//! SQLite's documentation, a drop and a new table of the name, a column that was dropped and
//! added again. Other copies hold what was known of them, so the clocks go on above it.

use crate::support::Store;

const SCHEMA: &str = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)";

/// As a program without us does it.
const TWELVE_STEPS: &str = "BEGIN; \
     CREATE TABLE n(a INTEGER PRIMARY KEY NOT NULL, b, c, d DEFAULT 7); \
     INSERT INTO n(a, b, c) SELECT a, b, c FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; \
     COMMIT";

#[derive(Clone, Copy, Debug)]
enum Door {
    Deltas,
    Changes,
}

const DOORS: [Door; 2] = [Door::Deltas, Door::Changes];

fn replica() -> Store {
    Store::with(SCHEMA, &["t"])
}

/// Brings what `from` has to `to`.
fn pull(from: &Store, to: &Store, door: Door) {
    match door {
        Door::Deltas => {
            let vector = to.rows("SELECT ana_version_vector()").concat();
            let delta = from.rows(&format!("SELECT hex(ana_export('{vector}'))")).concat();
            to.run(&format!("SELECT ana_apply(x'{delta}')"));
        }
        Door::Changes => {
            let sql = "SELECT quote([table]), quote(pk), quote(cid), quote(val), col_version, \
                       db_version, quote(site_id), cl, seq FROM crsql_changes";
            to.run("BEGIN");
            for change in from.rows(sql) {
                let values = change.replace('|', ", ");
                to.run(&format!("INSERT INTO crsql_changes VALUES({values})"));
            }
            to.run("COMMIT");
        }
    }
}

/// Everything everywhere, then all are compared.
#[track_caller]
fn agree(stores: &[&Store], door: Door) {
    for _ in 0..2 {
        for from in stores {
            for to in stores.iter().filter(|to| !std::ptr::eq(**to, *from)) {
                pull(from, to, door);
            }
        }
    }
    let digest = stores[0].rows("SELECT hex(ana_digest()) || (SELECT group_concat(a) FROM t)");
    for store in stores {
        store.expect("SELECT * FROM ana_check", "");
        let other = store.rows("SELECT hex(ana_digest()) || (SELECT group_concat(a) FROM t)");
        let rows = |store: &Store| store.rows("SELECT * FROM t");
        assert_eq!(other, digest, "{:?} {:?}", rows(stores[0]), rows(store));
    }
}

#[test]
fn twelve_steps_delete_nothing_and_later_updates_win() {
    for door in DOORS {
        let (one, two) = (replica(), replica());
        one.run("INSERT INTO t VALUES(1, 'x', 'y'), (2, 'x', 'y'), (3, 'x', 'y')");
        for _ in 0..5 {
            one.run("UPDATE t SET b = b || 'x' WHERE a = 1");
        }
        one.run("DELETE FROM t WHERE a = 3");
        pull(&one, &two, door);
        one.run(TWELVE_STEPS);
        one.expect("SELECT count(*) FROM crsql_changes", "0");
        one.run("SELECT crsql_as_crr('t')");
        // A copy that does not know the column yet takes part, for nobody wrote to it.
        pull(&one, &two, door);
        two.expect("SELECT * FROM t", "1|xxxxxx|y\n2|x|y");
        one.run("UPDATE t SET b = 'later' WHERE a = 1");
        pull(&one, &two, door);
        two.expect("SELECT b FROM t WHERE a = 1", "later");
        two.run(TWELVE_STEPS);
        two.run("SELECT crsql_as_crr('t'); UPDATE t SET d = 8, c = 'two' WHERE a = 2");
        agree(&[&one, &two], door);
        one.expect("SELECT * FROM t", "1|later|y|7\n2|x|two|8");
    }
}

#[test]
fn what_was_written_meanwhile_is_told() {
    for door in DOORS {
        let (one, two, three) = (replica(), replica(), replica());
        one.run("INSERT INTO t VALUES(1, 'm', 1), (2, 'm', 1), (3, 'm', 1)");
        one.run("UPDATE t SET b = 'n'; UPDATE t SET b = 'm'");
        pull(&one, &two, door);
        // Larger and smaller values than the other copies have; a row less, one more.
        one.run(
            "CREATE TABLE kept AS SELECT * FROM t; DROP TABLE t; \
             CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c); \
             INSERT INTO t SELECT a, iif(a = 1, 'a', 'z'), c FROM kept WHERE a < 3; \
             INSERT INTO t VALUES(4, 'm', 1); DROP TABLE kept",
        );
        // While it is gone, a copy gets headers only.
        pull(&one, &three, door);
        one.run("SELECT crsql_as_crr('t')");
        agree(&[&one, &two, &three], door);
        three.expect("SELECT * FROM t", "1|a|1\n2|z|1\n4|m|1");
        three.run("UPDATE t SET b = 'three' WHERE a = 1");
        agree(&[&one, &two, &three], door);
        two.expect("SELECT b FROM t WHERE a = 1", "three");
    }
}

#[test]
fn what_was_deleted_before_stays_deleted() {
    for door in DOORS {
        let (one, two, three) = (replica(), replica(), replica());
        one.run("INSERT INTO t VALUES(1, 'x', 'y'), (2, 'x', 'y')");
        pull(&one, &two, door);
        pull(&one, &three, door);
        one.run("DELETE FROM t WHERE a = 1; INSERT INTO t VALUES(1, 'p', 'q')");
        one.run("DELETE FROM t WHERE a = 2; CREATE TABLE n AS SELECT * FROM t; DROP TABLE t");
        pull(&one, &three, door);
        one.run(SCHEMA);
        one.run("INSERT INTO t SELECT * FROM n; DROP TABLE n; SELECT crsql_as_crr('t')");
        agree(&[&one, &two, &three], door);
        three.expect("SELECT * FROM t", "1|p|q");
        two.run("INSERT INTO t VALUES(2, 'again', 1)");
        agree(&[&one, &two, &three], door);
        one.expect("SELECT * FROM t", "1|p|q\n2|again|1");
    }
}

#[test]
fn a_table_that_comes_back_empty_was_emptied() {
    for door in DOORS {
        let (one, two) = (replica(), replica());
        one.run("INSERT INTO t VALUES(1, 'x', 'y')");
        pull(&one, &two, door);
        two.run("INSERT INTO t VALUES(2, 'two', 'y')");
        one.run(&format!("DROP TABLE t; {SCHEMA}; SELECT crsql_as_crr('t')"));
        agree(&[&one, &two], door);
        one.expect("SELECT * FROM t", "2|two|y");
    }
}

/// Folded keys differ in bytes where the affinity or the index does; packed ones do not.
#[test]
fn the_key_is_declared_otherwise() {
    let cases = [
        "a INT PRIMARY KEY NOT NULL, b, c",
        "a INTEGER PRIMARY KEY NOT NULL, b, c) WITHOUT ROWID; SELECT (1",
        "a TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, b, c",
        "a PRIMARY KEY NOT NULL, b, c",
    ];
    for columns in cases {
        for door in DOORS {
            let (one, two) = (replica(), replica());
            one.run("INSERT INTO t VALUES(1, 'x', 'y'), (2, 'x', 'y')");
            one.run("UPDATE t SET b = 'z'; UPDATE t SET b = 'x'; DELETE FROM t WHERE a = 2");
            pull(&one, &two, door);
            for store in [&one, &two] {
                store.run(&format!(
                    "CREATE TABLE n AS SELECT * FROM t; DROP TABLE t; CREATE TABLE t({columns}); \
                     INSERT INTO t SELECT * FROM n; DROP TABLE n; SELECT crsql_as_crr('t')"
                ));
            }
            one.run("UPDATE t SET b = 'a'");
            agree(&[&one, &two], door);
            two.expect("SELECT b, c FROM t", "a|y");
        }
    }
}

/// Two rows become one where the new key takes them for one.
#[test]
fn keys_that_fold_into_one() {
    let schema = "CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL, b)";
    let store = Store::with(schema, &["t"]);
    store.run("INSERT INTO t VALUES('k', 1), ('K', 1); UPDATE t SET b = 2 WHERE a = 'K'");
    store.run("DELETE FROM t WHERE a = 'k'; DROP TABLE t");
    store.run("CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, b)");
    store.run("INSERT INTO t VALUES('K', 2); SELECT crsql_as_crr('t')");
    store.expect("SELECT cid, val, col_version, cl FROM crsql_changes", "-1|NULL|3|3\nb|2|3|3");
    store.expect("SELECT * FROM ana_check", "");
}

/// Keys of another number of columns are other rows everywhere.
#[test]
fn a_key_of_more_columns_begins_anew() {
    let store = replica();
    store.run("INSERT INTO t VALUES(1, 'x', 'y'); UPDATE t SET b = 'z'; DROP TABLE t");
    store.run("CREATE TABLE t(a NOT NULL, b NOT NULL, c, PRIMARY KEY(a, b))");
    store.run("INSERT INTO t VALUES(1, 'x', 'y'); SELECT crsql_as_crr('t')");
    store.expect("SELECT pk, cid, col_version, cl FROM crsql_changes", "x'0209010b0178'|c|1|1");
    store.run(&format!("DROP TABLE t; {SCHEMA}; SELECT crsql_as_crr('t')"));
    store.expect("SELECT pk, cid, cl FROM crsql_changes", "x'010901'|-1|2");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn a_column_is_dropped_and_added_again() {
    let drop = "DROP TRIGGER t__crsql_utrig; ALTER TABLE t DROP COLUMN b";
    let add = "ALTER TABLE t ADD COLUMN b";
    for door in DOORS {
        for is_seen in [false, true] {
            let (one, two) = (replica(), replica());
            one.run("INSERT INTO t VALUES(1, 'x', 'y')");
            one.run("UPDATE t SET b = 'm'; UPDATE t SET b = 'n'");
            pull(&one, &two, door);
            one.run(drop);
            if is_seen {
                one.run("SELECT crsql_as_crr('t'); INSERT INTO t VALUES(2, 'y')");
            }
            one.run(&format!("{add}; SELECT crsql_as_crr('t'); UPDATE t SET b = 'one'"));
            agree(&[&one, &two], door);
            two.expect("SELECT b FROM t WHERE a = 1", "one");
        }
    }
}

/// The column was dropped by one rebuild, and added again by another.
#[test]
fn a_column_that_a_rebuild_dropped_goes_on() {
    let rebuild = |columns: &str, copied: &str| {
        format!(
            "CREATE TABLE n(a INTEGER PRIMARY KEY NOT NULL, {columns}); \
             INSERT INTO n({copied}) SELECT {copied} FROM t; DROP TABLE t; \
             ALTER TABLE n RENAME TO t; SELECT crsql_as_crr('t')"
        )
    };
    for door in DOORS {
        let (one, two) = (replica(), replica());
        one.run("INSERT INTO t VALUES(1, 'x', 'y'); UPDATE t SET b = 'm'; UPDATE t SET b = 'n'");
        pull(&one, &two, door);
        one.run(&rebuild("c", "a, c"));
        one.run(&rebuild("b, c", "a, c"));
        one.run("UPDATE t SET b = 'one'");
        agree(&[&one, &two], door);
        two.expect("SELECT b FROM t", "one");
    }
}

/// A rename is a drop and an add: both names go on above what was known.
#[test]
fn a_renamed_table_leaves_its_clocks_to_its_name() {
    for door in DOORS {
        let (one, two) = (replica(), replica());
        one.run("INSERT INTO t VALUES(1, 'x', 'y'); UPDATE t SET b = 'm'; UPDATE t SET b = 'n'");
        pull(&one, &two, door);
        // The steps in the order that SQLite's documentation warns of.
        one.run(&format!("ALTER TABLE t RENAME TO old; {SCHEMA}; INSERT INTO t SELECT * FROM old"));
        one.run("SELECT crsql_as_crr('t')");
        one.run("SELECT crsql_as_crr('old'); UPDATE t SET b = 'later'");
        two.run("CREATE TABLE old(a INTEGER PRIMARY KEY NOT NULL, b, c)");
        two.run("SELECT crsql_as_crr('old')");
        agree(&[&one, &two], door);
        two.expect("SELECT b FROM t", "later");
        two.expect("SELECT b FROM old", "n");
        one.expect("SELECT name FROM ana_registry ORDER BY id", "old\nt");
    }
}

/// Dropping a table that is never made again costs what it cost; `crsql_as_table` forgets it.
#[test]
fn what_vanished_can_be_forgotten() {
    let store = replica();
    store.run("INSERT INTO t VALUES(1, 'x', 'y'); UPDATE t SET b = 'z'; DROP TABLE t");
    store.expect("SELECT count(*) FROM ana_registry", "1");
    store.expect("SELECT crsql_as_table('t')", "NULL");
    store.expect("SELECT count(*) FROM ana_registry", "0");
    store.expect("SELECT count(*) FROM ana_names", "0");
    store.expect("SELECT crsql_db_version()", "2");
    store.run(&format!("{SCHEMA}; INSERT INTO t VALUES(1, 'x', 'y'); SELECT crsql_as_crr('t')"));
    store.expect("SELECT col_version, db_version FROM crsql_changes WHERE cid = 'b'", "1|3");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn a_rebuild_that_is_undone() {
    let store = replica();
    store.run("INSERT INTO t VALUES(1, 'x', 'y')");
    let before = store.dump();
    let rebuild = TWELVE_STEPS.replace("BEGIN; ", "").replace("; COMMIT", "");
    store.run(&format!("BEGIN; {rebuild}; SELECT crsql_as_crr('t'); UPDATE t SET d = 1; ROLLBACK"));
    assert_eq!(store.dump(), before);
    store.run("UPDATE t SET b = 'z'");
    store.expect("SELECT cid, col_version FROM crsql_changes", "c|1\nb|2");
    store.expect("SELECT * FROM ana_check", "");
}
