//! The merge rule on millions of (local, incoming) pairs: model against `anabranch-core`,
//! and some thousands through SQL.

use anabranch_core::merge::{CellState, Incoming, RowVerdict, Ties, cell_wins, merge_row};
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use anabranch_sim::model::{Broken, Change, Copy, Fold, Table, Value};
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
