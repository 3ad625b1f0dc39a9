//! Scans of `crsql_changes`: whatever is pushed down, the rows are those of a plain table
//! with the same content.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::Store;

/// Three tables with local writes, merges of two sites, deletes and new lives.
fn busy(seed: u64) -> Store {
    let store = Store::with(
        "CREATE TABLE z(a PRIMARY KEY NOT NULL, x, b);
         CREATE TABLE k(a INTEGER PRIMARY KEY NOT NULL, x, b);
         CREATE TABLE p(a NOT NULL, b NOT NULL, PRIMARY KEY(b, a)) WITHOUT ROWID",
        &["z", "k", "p"],
    );
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..60 {
        store.run("BEGIN");
        for _ in 0..random.random_range(1..5) {
            let (table, key) = (["z", "k"][random.random_range(0..2)], random.random_range(1..9));
            let (column, value) =
                (["x", "b"][random.random_range(0..2)], random.random_range(0..4));
            let (site, cl) = (["a0", "b0"][random.random_range(0..2)], random.random_range(1..4));
            store.run(&match random.random_range(0..7) {
                0 => format!("INSERT OR IGNORE INTO {table} VALUES({key}, {value}, 'v')"),
                1 => format!("INSERT OR REPLACE INTO {table} VALUES({key}, 'r', {value})"),
                2 => format!("UPDATE {table} SET {column} = {value} WHERE a = {key}"),
                3 => format!("DELETE FROM {table} WHERE a = {key}"),
                4 => format!("INSERT OR IGNORE INTO p VALUES({key}, {value})"),
                5 => format!("DELETE FROM p WHERE a = {key}"),
                _ => format!(
                    "INSERT INTO crsql_changes VALUES('{table}', crsql_pack_columns({key}),
                     '{column}', {value}, {cl}, {key}, x'{site}', {cl}, {value})"
                ),
            });
        }
        store.run("COMMIT");
    }
    store.run("CREATE TEMP TABLE plain AS SELECT * FROM crsql_changes");
    store
}

const CONDITIONS: [&str; 40] = [
    "1",
    "db_version > 5",
    "db_version >= 5 AND db_version < 20",
    "db_version = 9",
    "db_version IS 9",
    "db_version > '5'",
    "db_version > 5.5",
    "db_version < 5.5",
    "db_version = 9.0",
    "db_version > NULL",
    "db_version > -1",
    "db_version > 9223372036854775807",
    "db_version BETWEEN 3 AND 7 OR db_version = 30",
    "db_version = 4 OR db_version = 5",
    "db_version = 4 OR cid = 'x'",
    "db_version IN (3, 5, 9, NULL)",
    "db_version != 9",
    "db_version IS NULL",
    "db_version IS NOT NULL",
    "site_id IS crsql_site_id()",
    "site_id IS NOT crsql_site_id()",
    "site_id = x'a0'",
    "site_id = 'a0'",
    "site_id IS NOT NULL",
    "site_id IS NOT NULL AND site_id != x'b0'",
    "\"table\" = 'k'",
    "\"table\" = 'K'",
    "\"table\" = 'k' COLLATE NOCASE",
    "\"table\" = 'k' AND pk = x'010903'",
    "\"table\" IN ('k', 'z') AND pk IN (x'010903', x'010904')",
    "\"table\" = 'k' AND pk = x'010903' AND cid = 'x' OR \"table\" = 'k' AND pk = x'010903' AND cid = 'b'",
    "pk = x'010903'",
    "pk = 3",
    "pk = x'11010003'",
    "cid = 'x'",
    "cid IN ('x', '-1')",
    "cid LIKE 'X' OR cid GLOB '-*'",
    "val = 2 AND cl = 1",
    "cl > 1 AND seq = 0 AND col_version != 1",
    "cl = 2 OR cl = 3",
];

const ORDERS: [&str; 12] = [
    "db_version, seq",
    "db_version DESC, seq DESC",
    "db_version DESC, seq",
    "db_version",
    "db_version DESC",
    "seq, db_version DESC",
    "pk, cid",
    "\"table\" DESC, pk, cid DESC",
    "site_id, cl DESC",
    "val, cid",
    "cid COLLATE NOCASE",
    "rowid",
];

#[test]
fn a_scan_finds_what_a_plain_table_holds() {
    for seed in 0..3 {
        let store = busy(seed);
        for condition in CONDITIONS {
            let rest = format!("WHERE {condition} ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9");
            let expected = store.rows(&format!("SELECT * FROM plain {rest}"));
            let found = store.rows(&format!("SELECT * FROM crsql_changes {rest}"));
            assert_eq!(found, expected, "seed {seed}: {condition}");
            let mut unordered =
                store.rows(&format!("SELECT * FROM crsql_changes WHERE {condition}"));
            let mut all = expected.clone();
            unordered.sort();
            all.sort();
            assert_eq!(unordered, all, "seed {seed}: {condition}, unordered");
            let count =
                store.rows(&format!("SELECT count(*) FROM crsql_changes WHERE {condition}"));
            assert_eq!(count, [expected.len().to_string()], "seed {seed}: {condition}");
        }
    }
}

#[test]
fn each_term_of_order_by_keeps_its_own_direction() {
    for seed in 0..4 {
        let store = busy(seed);
        for order in ORDERS {
            // Only the terms are compared: ties are those of cr-sqlite.
            let terms = order.replace(" DESC", "").replace(" COLLATE NOCASE", "");
            if terms == "rowid" {
                let found = store.rows("SELECT rowid FROM crsql_changes ORDER BY rowid");
                let numbers: Vec<i64> = found.iter().map(|row| row.parse().unwrap()).collect();
                assert!(numbers.is_sorted(), "{numbers:?}");
                continue;
            }
            let select =
                |from: &str| store.rows(&format!("SELECT {terms} FROM {from} ORDER BY {order}"));
            assert_eq!(select("crsql_changes"), select("plain"), "seed {seed}: {order}");
        }
    }
}

#[test]
fn the_default_order_is_version_then_seq() {
    for seed in 0..4 {
        let store = busy(seed);
        let natural = store.rows("SELECT db_version, seq, rowid, cid FROM crsql_changes");
        let sorted =
            store.rows("SELECT db_version, seq, rowid, cid FROM crsql_changes ORDER BY 1, 2, 3, 4");
        assert_eq!(natural, sorted, "seed {seed}");
    }
}

#[test]
fn joins_and_subqueries_find_rows() {
    let store = busy(7);
    for (sql, plain) in [
        (
            "SELECT count(*) FROM plain p CROSS JOIN crsql_changes c ON c.\"table\" = p.\"table\" AND c.pk = p.pk",
            "SELECT count(*) FROM plain p JOIN plain c ON c.\"table\" = p.\"table\" AND c.pk = p.pk",
        ),
        (
            "SELECT count(*) FROM crsql_changes a JOIN crsql_changes b USING(db_version, cid)",
            "SELECT count(*) FROM plain a JOIN plain b USING(db_version, cid)",
        ),
        (
            "SELECT max(db_version), min(seq), count(DISTINCT site_id) FROM crsql_changes",
            "SELECT max(db_version), min(seq), count(DISTINCT site_id) FROM plain",
        ),
        (
            "SELECT \"table\", count(*) FROM crsql_changes GROUP BY \"table\" ORDER BY 1",
            "SELECT \"table\", count(*) FROM plain GROUP BY \"table\" ORDER BY 1",
        ),
        (
            "SELECT DISTINCT cid, cl FROM crsql_changes ORDER BY 1, 2 LIMIT 3 OFFSET 1",
            "SELECT DISTINCT cid, cl FROM plain ORDER BY 1, 2 LIMIT 3 OFFSET 1",
        ),
    ] {
        assert_eq!(store.rows(sql), store.rows(plain), "{sql}");
    }
}

#[test]
fn a_scan_goes_on_while_its_connection_writes() {
    let store = busy(1);
    let count = store.rows("SELECT count(*) FROM crsql_changes");
    // Every change merged into the store it came from is known there.
    store.run("INSERT INTO crsql_changes SELECT * FROM crsql_changes");
    assert_eq!(store.rows("SELECT count(*) FROM crsql_changes"), count);
    // Each change read makes another one.
    store.run(
        "INSERT INTO crsql_changes SELECT 'z', crsql_pack_columns(100 + seq), 'x', 1, 1,
             db_version + 100, x'c0', 1, seq FROM crsql_changes",
    );
    store.expect("SELECT count(*) > 0 FROM crsql_changes WHERE site_id = x'c0'", "1");
}

#[test]
fn a_transaction_sees_its_own_changes() {
    let store = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)", &["t"]);
    store.run("INSERT INTO t VALUES(1, 1)");
    store.run("BEGIN");
    store.run("INSERT INTO t VALUES(2, 2)");
    store.expect("SELECT pk, db_version FROM crsql_changes", "x'010901'|1\nx'010902'|2");
    store.run("SAVEPOINT s; DELETE FROM t");
    store.expect("SELECT pk, cl FROM crsql_changes", "x'010901'|2\nx'010902'|2");
    store.run("ROLLBACK TO s");
    store.expect("SELECT pk, db_version FROM crsql_changes", "x'010901'|1\nx'010902'|2");
    store.run("ROLLBACK");
    store.expect("SELECT pk, db_version FROM crsql_changes", "x'010901'|1");
    store.expect("SELECT crsql_db_version()", "1");
}

#[test]
fn a_cell_without_a_base_row_shows_as_the_row() {
    let store = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)", &["t"]);
    store.run("INSERT INTO t VALUES(1, 1)");
    store
        .run("SELECT crsql_internal_sync_bit(1); DELETE FROM t; SELECT crsql_internal_sync_bit(0)");
    store.expect("SELECT cid, val, col_version FROM crsql_changes", "-1|NULL|1");
}
