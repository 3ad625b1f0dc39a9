//! The merge rule on millions of (local, incoming) pairs: model against `anabranch-core`,
//! and some thousands through SQL.

use anabranch::Store;
use anabranch::rusqlite::Connection;
use anabranch_core::merge::{CellState, Incoming, RowVerdict, Ties, cell_wins, merge_row};
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use anabranch_sim::model::{Broken, Change, Copy, Fold, Table, Value};
use anabranch_sim::replica::{query, scalar, text};
use anabranch_sim::shapes::{Pool, Taste};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const ANY: Taste = Taste { has_spellings: true, is_dense: false };

fn core(value: &Value) -> ValueRef<'_> {
    match value {
        Value::Null => ValueRef::Null,
        Value::Integer(integer) => ValueRef::Integer(*integer),
        Value::Real(real) => ValueRef::Real(*real),
        Value::Text(bytes) => ValueRef::Text(bytes),
        Value::Blob(bytes) => ValueRef::Blob(bytes),
    }
}

fn random_value(rng: &mut StdRng) -> Value {
    Pool::Any.value(rng, ANY)
}

#[test]
fn cells_win_as_in_the_model() {
    let mut rng = StdRng::seed_from_u64(7);
    let values: Vec<Value> = (0..400).map(|_| random_value(&mut rng)).collect();
    let sites: Vec<Vec<u8>> = vec![vec![1; 16], vec![2; 16], vec![1, 2], vec![255]];
    let mut copy = Copy::new(vec![9; 16], vec![], Broken::Nothing);
    for n in 0..2_000_000 {
        let mut side = || {
            let value = &values[rng.random_range(0..values.len())];
            (rng.random_range(0..4), value, &sites[rng.random_range(0..sites.len())])
        };
        let (local, incoming) = (side(), side());
        copy.merges_equal_values = n % 2 == 1;
        let ties = if copy.merges_equal_values { Ties::LargerSite } else { Ties::KeepLocal };
        let cell = |side: (u64, &Value, &Vec<u8>)| -> (u64, SiteId) {
            (side.0, SiteId::new(side.2).expect("1 to 16 bytes"))
        };
        let (a, b) = (cell(local), cell(incoming));
        let is_absent = n % 16 == 0;
        let held = CellState { version: a.0, value: core(local.1), origin: a.1 };
        let new = CellState { version: b.0, value: core(incoming.1), origin: b.1 };
        let found = cell_wins((!is_absent).then_some(held), new, ties);
        let model = copy.is_winner((!is_absent).then_some(local), incoming);
        assert_eq!(found, model, "{local:?} <- {incoming:?}, {ties:?}");
    }
}

/// A copy of the model whose row 1 has a causal length, made as honest copies make it.
fn at_length(length: u64) -> Copy {
    let table = Table::new("t", &[Fold::Binary], &[("b", Value::Null)]);
    let mut copy = Copy::new(vec![9; 16], vec![table], Broken::Nothing);
    for n in 0..length {
        match n % 2 {
            0 => copy.insert(0, &[Value::Integer(1)], &[Value::Integer(5)]),
            _ => copy.delete(0, &[Value::Integer(1)]),
        }
        copy.commit();
    }
    copy
}

fn incoming(rng: &mut StdRng) -> Change {
    let is_row = rng.random_ratio(1, 4);
    Change {
        table: "t".into(),
        key: vec![Value::Integer(1)],
        column: (!is_row).then_some(0),
        value: if is_row { Value::Null } else { random_value(rng) },
        version: rng.random_range(1..5),
        db_version: rng.random_range(1..20),
        site: [vec![1; 16], vec![255; 16], vec![3, 4], vec![]][rng.random_range(0..4)].clone(),
        causal_length: rng.random_range(1..8),
        seq: Some(rng.random_range(0..4)),
    }
}

#[test]
fn rows_fare_as_in_the_model() {
    let mut rng = StdRng::seed_from_u64(8);
    for local in 0..8 {
        let before = at_length(local);
        for _ in 0..20_000 {
            let mut copy = before.clone();
            let change = incoming(&mut rng);
            let what = if change.column.is_some() { Incoming::Cell } else { Incoming::Row };
            let verdict = merge_row(local, change.causal_length, what);
            let impacted = copy.merge(&change);
            copy.commit();
            let (is_alive, has_cell) = {
                let row = copy.tables[0].rows.values().next();
                let is_alive = row.is_some_and(|row| row.causal_length % 2 == 1);
                (is_alive, row.is_some_and(|row| row.cells.contains_key(&0)))
            };
            let context = format!("{local} <- {change:?}: {verdict:?}");
            match verdict {
                RowVerdict::Stale => assert_eq!(impacted, 0, "{context}"),
                RowVerdict::Delete => assert!(!is_alive && !has_cell && impacted == 1, "{context}"),
                RowVerdict::Raise => {
                    assert!(is_alive, "{context}");
                    assert_eq!(impacted, 1 + u64::from(what == Incoming::Cell), "{context}");
                }
                RowVerdict::Born => assert!(is_alive && has_cell && impacted == 1, "{context}"),
                RowVerdict::CompareCells => assert!(impacted <= 1 && is_alive, "{context}"),
            }
        }
    }
}

/// Pairs through `INSERT INTO crsql_changes`, each undone by a savepoint.
/// `ANABRANCH_PAIRS` sets how many for each local state.
#[test]
fn changes_fare_in_sql_as_in_the_model() {
    let n = std::env::var("ANABRANCH_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(250);
    let mut rng = StdRng::seed_from_u64(9);
    for local in 0..8 {
        let (store, model) = store_at_length(local);
        let db = store.sql();
        for _ in 0..n {
            let change = incoming(&mut rng);
            let mut model = model.clone();
            query(db, "SAVEPOINT pair", &[]).expect("a savepoint");
            insert(db, &change).unwrap_or_else(|error| panic!("{local} <- {change:?}: {error}"));
            let impacted = model.merge(&change);
            let found = scalar(db, "SELECT crsql_rows_impacted()", &[]).expect("impacted");
            assert_eq!(found, Value::Integer(impacted as i64), "{local} <- {change:?}");
            let sql = "SELECT nullif(cid, '-1'), val, col_version, db_version,
                         site_id, cl, seq FROM crsql_changes";
            let shown: Vec<Vec<Value>> = model.changes().iter().map(row_of).collect();
            assert_eq!(query(db, sql, &[]), Ok(shown), "{local} <- {change:?}");
            let rows: Vec<Vec<Value>> = model
                .live_rows(0)
                .into_iter()
                .map(|(key, values)| [key, values].concat())
                .collect();
            assert_eq!(query(db, "SELECT * FROM t", &[]), Ok(rows), "{local} <- {change:?}");
            query(db, "ROLLBACK TO pair", &[]).expect("undone");
            query(db, "RELEASE pair", &[]).expect("released");
        }
        let findings = query(db, "SELECT * FROM ana_check", &[]);
        assert_eq!(findings, Ok(Vec::new()));
    }
}

fn row_of(change: &Change) -> Vec<Value> {
    let number = |number: u64| Value::Integer(number as i64);
    vec![
        change.column.map_or(Value::Null, |_| text("b")),
        change.value.clone(),
        number(change.version),
        number(change.db_version),
        Value::Blob(change.site.clone()),
        number(change.causal_length),
        number(change.seq.unwrap_or(0)),
    ]
}

fn insert(db: &Connection, change: &Change) -> Result<(), String> {
    let sql = "INSERT INTO crsql_changes VALUES('t', x'010901', ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let mut params = row_of(change);
    params[0] = text(if change.column.is_some() { "b" } else { "-1" });
    query(db, sql, &params).map(|_| ())
}

/// A store and its model whose row 1 has a causal length.
fn store_at_length(length: u64) -> (Store, Copy) {
    let db = Connection::open_in_memory().expect("memory");
    let store = Store::from_connection(db).expect("a fresh store");
    let db = store.sql();
    query(db, "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)", &[]).expect("a table");
    query(db, "SELECT crsql_as_crr('t')", &[]).expect("conflict-free");
    for n in 0..length {
        let sql = if n % 2 == 0 { "INSERT INTO t VALUES(1, 5)" } else { "DELETE FROM t" };
        query(db, sql, &[]).expect(sql);
    }
    let Ok(Value::Blob(site)) = scalar(db, "SELECT crsql_site_id()", &[]) else {
        panic!("a site id is a blob");
    };
    let mut model = at_length(length);
    // The model's own id stands in its stamps: it is made anew under the store's.
    model.site.clone_from(&site);
    for row in model.tables[0].rows.values_mut() {
        let stamps = row.sentinel.iter_mut().chain(row.cells.values_mut().map(|c| &mut c.stamp));
        stamps.for_each(|stamp| stamp.origin.clone_from(&site));
    }
    (store, model)
}
