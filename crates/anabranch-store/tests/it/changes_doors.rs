//! Both doors on one database: what came through `crsql_changes` meets deltas.

use rusqlite::types::Value;

use crate::support::Store;

const COLUMNS: &str = "[table], pk, cid, val, col_version, db_version, site_id, cl, seq";

/// Hands all changes of `from` to `to` through `crsql_changes`.
fn pull(from: &Store, to: &Store) {
    let mut select = from.conn.prepare(&format!("SELECT {COLUMNS} FROM crsql_changes")).unwrap();
    let rows = select.query_map([], |row| (0..9).map(|i| row.get::<_, Value>(i)).collect());
    let rows: Vec<Vec<Value>> = rows.unwrap().map(Result::unwrap).collect();
    for row in rows {
        to.execute("INSERT INTO crsql_changes VALUES(?,?,?,?,?,?,?,?,?)", row);
    }
}

/// Hands all that `from` holds to `to` as a delta.
fn apply(from: &Store, to: &Store) {
    let delta: Vec<u8> = from.conn.query_row("SELECT ana_export()", [], |row| row.get(0)).unwrap();
    to.execute("SELECT ana_apply(?)", vec![Value::Blob(delta)]);
}

#[test]
fn a_delta_clears_what_a_raise_left_behind() {
    let writer = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)", &["t"]);
    let wider = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, d)", &["t"]);
    writer.run("INSERT INTO t VALUES(1, 'first')");
    pull(&writer, &wider);
    wider.run("UPDATE t SET d = 7");
    writer.run("DELETE FROM t");
    writer.run("INSERT INTO t VALUES(1, 'second')");
    pull(&writer, &wider);
    wider.expect("SELECT * FROM t", "1|second|7");
    wider.expect("SELECT cid, col_version FROM crsql_changes ORDER BY cid", "-1|3\nb|1\nd|0");
    apply(&writer, &wider);
    wider.expect("SELECT * FROM t", "1|second|NULL");
    wider.expect("SELECT cid, col_version FROM crsql_changes ORDER BY cid", "-1|3\nb|1");
}

#[test]
fn the_larger_of_two_spellings_stands_everywhere() {
    let schema = "CREATE TABLE t(a TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, b)";
    let stores = ["ABC", "abc", "Abc"].map(|spelling| {
        let store = Store::with(schema, &["t"]);
        store.run(&format!("INSERT INTO t VALUES('{spelling}', '{spelling}')"));
        store
    });
    for _ in 0..2 {
        for from in &stores {
            stores.iter().for_each(|to| apply(from, to));
        }
    }
    for store in &stores {
        store.expect("SELECT * FROM t", "abc|abc");
        store.expect("SELECT count(*) FROM ana_check", "0");
    }
}

#[test]
fn mixed_doors_give_equal_rows() {
    let schema = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c DEFAULT 3)";
    let stores = [0, 1, 2].map(|_| Store::with(schema, &["t"]));
    let [x, y, z] = &stores;
    x.run("INSERT INTO t VALUES(1, 'x', 1), (2, 'x', 2)");
    y.run("INSERT INTO t(a, b) VALUES(1, 'y'), (3, 'y')");
    pull(x, y);
    apply(y, z);
    z.run("UPDATE t SET c = 'z'; DELETE FROM t WHERE a = 2");
    y.run("UPDATE t SET b = 'again' WHERE a = 2");
    pull(z, x);
    apply(x, y);
    x.run("INSERT OR REPLACE INTO t VALUES(2, 'x2', 2)");
    for _ in 0..3 {
        for from in &stores {
            stores.iter().for_each(|to| apply(from, to));
        }
    }
    let rows = x.rows("SELECT * FROM t ORDER BY a");
    for store in [y, z] {
        assert_eq!(store.rows("SELECT * FROM t ORDER BY a"), rows);
        store.expect("SELECT count(*) FROM ana_check", "0");
    }
}

/// A change of `crsql_changes` does not say what its writer had seen, and a higher version is no
/// proof: here the other side wrote twice without knowing of this one. So an overwrite there
/// is always told, also if its writer had seen the value.
#[test]
fn a_higher_version_is_no_proof_of_having_seen() {
    let schema = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)";
    let conflicts = "SELECT value, why FROM ana_conflicts";
    let copies = || {
        let (a, b) = (Store::with(schema, &["t"]), Store::with(schema, &["t"]));
        a.run("INSERT INTO t VALUES(1, 'start')");
        pull(&a, &b);
        (a, b)
    };
    let (a, b) = copies();
    a.run("UPDATE t SET b = 'a'");
    a.run("UPDATE t SET b = 'a, later'");
    b.run("UPDATE t SET b = 'b'");
    pull(&a, &b);
    b.expect("SELECT b FROM t", "a, later");
    b.expect(conflicts, "b|overwritten");
    // By deltas who meets them later is told too.
    let (a, b) = copies();
    a.run("UPDATE t SET b = 'a'");
    a.run("UPDATE t SET b = 'a, later'");
    b.run("UPDATE t SET b = 'b'");
    let between = Store::with(schema, &["t"]);
    pull(&a, &between);
    apply(&between, &b);
    b.expect(conflicts, "b|overwritten");
    let (a, b) = copies();
    b.run("UPDATE t SET b = 'seen by a'");
    pull(&b, &a);
    a.run("UPDATE t SET b = 'knowing'");
    pull(&a, &b);
    b.expect(conflicts, "seen by a|overwritten");
}
