//! The merge rules of the reference, case by case, and their laws on random states.

use anabranch_core::delta::{Birth, CellDelta, DeltaDot, RowDelta, SiteIdx};
use anabranch_core::merge::Incoming::{Cell, Row};
use anabranch_core::merge::RowVerdict::{Born, CompareCells, Delete, Raise, Stale};
use anabranch_core::merge::{CellState, Ties, cell_wins, merge_row};
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use rand::RngExt;
use rand::rngs::StdRng;
use std::cmp::Ordering;

use crate::random;

#[test]
fn decides_about_rows() {
    let cases = [
        // local, incoming, sentinel, cell
        (0, 1, Raise, Born),
        (0, 2, Delete, Delete),
        (0, 3, Raise, Raise),
        (1, 1, Stale, CompareCells),
        (1, 2, Delete, Delete),
        (1, 3, Raise, Raise),
        (1, 4, Delete, Delete),
        (2, 1, Stale, Stale),
        (2, 2, Stale, Stale),
        (2, 3, Raise, Raise),
        (3, 1, Stale, Stale),
        (3, 2, Stale, Stale),
        (3, 3, Stale, CompareCells),
        (3, 4, Delete, Delete),
    ];
    for (local, incoming, row, cell) in cases {
        assert_eq!(merge_row(local, incoming, Row), row, "{local} {incoming} row");
        assert_eq!(merge_row(local, incoming, Cell), cell, "{local} {incoming} cell");
    }
}

#[test]
fn decides_about_cells() {
    type Side<'a> = (u64, ValueRef<'a>, u8);
    fn state((version, value, site): Side<'_>) -> CellState<'_> {
        CellState { version, value, origin: random::site(site) }
    }
    let check = |local: Option<Side<'_>>, incoming: Side<'_>, keep: bool, larger: bool| {
        for (ties, expected) in [(Ties::KeepLocal, keep), (Ties::LargerSite, larger)] {
            let found = cell_wins(local.map(state), state(incoming), ties);
            assert_eq!(found, expected, "{local:?} {incoming:?} {ties:?}");
        }
    };
    use ValueRef::{Blob, Integer, Null, Real, Text};
    check(None, (1, Null, 1), true, true);
    check(Some((0, Integer(9), 1)), (1, Null, 1), true, true);
    check(Some((1, Integer(9), 1)), (2, Null, 1), true, true);
    check(Some((2, Null, 1)), (1, Integer(9), 9), false, false);
    check(Some((1, Integer(1), 1)), (1, Integer(2), 0), true, true);
    check(Some((1, Integer(2), 1)), (1, Integer(1), 9), false, false);
    check(Some((1, Integer(2), 1)), (1, Integer(2), 2), false, true);
    check(Some((1, Integer(2), 2)), (1, Integer(2), 1), false, false);
    check(Some((1, Integer(2), 2)), (1, Integer(2), 2), false, false);
    check(Some((1, Real(0.0), 1)), (1, Real(-0.0), 2), false, true);
    check(Some((1, Real(1e300), 9)), (1, Integer(i64::MIN), 1), true, true);
    check(Some((1, Text(b"z"), 9)), (1, Real(f64::NEG_INFINITY), 1), true, true);
    check(Some((1, Blob(b"z"), 9)), (1, Text(b""), 1), true, true);
    check(Some((1, Null, 9)), (1, Blob(b""), 1), true, true);
    check(Some((1, Text(b"a"), 9)), (1, Text(b"ab"), 1), true, true);
    check(Some((1, Text(b"\xc3"), 9)), (1, Text(b"z"), 1), false, false);
    check(Some((1, Null, 1)), (1, Real(f64::NAN), 2), false, true);
}

#[test]
fn orders_values_totally() {
    let mut rng = random::rng(8);
    for _ in 0..20_000 {
        let [a, b, c] = std::array::from_fn(|_| random::value(&mut rng));
        let order = |x: &Value, y: &Value| x.as_ref().order(y.as_ref());
        assert_eq!(order(&a, &b), order(&b, &a).reverse());
        assert_eq!(order(&a, &a), Ordering::Equal);
        if order(&a, &b).is_le() && order(&b, &c).is_le() {
            assert!(order(&a, &c).is_le(), "{a:?} {b:?} {c:?}");
        }
    }
}

const N_SITES: u32 = 3;

/// What one of a few copies could know of a row: small ranges, so that ties are common.
fn state(rng: &mut StdRng) -> RowDelta {
    let causal_length = rng.random_range(1..4);
    let dot = |rng: &mut StdRng| DeltaDot {
        site: SiteIdx(rng.random_range(0..N_SITES)),
        version: rng.random_range(1..4),
    };
    let mut births: Vec<Birth> = (0..rng.random_range(0..3))
        .map(|_| dot(rng))
        .map(|dot| Birth { dot, origin: dot.site })
        .collect();
    births.sort_by_key(|birth| birth.dot);
    births.dedup();
    let mut cells = Vec::new();
    for column in 0..3 {
        if causal_length % 2 == 1 && rng.random() {
            let (dot, version) = (dot(rng), rng.random_range(1..3));
            let value = Value::Integer(rng.random_range(0..2));
            cells.push(CellDelta { column, version, dot, origin: dot.site, value });
        }
    }
    RowDelta { key: vec![0], causal_length, births, cells }
}

#[test]
fn rows_join_like_a_lattice() {
    let sites: Vec<SiteId> = (0..N_SITES as u8).map(|n| random::site(9 - n)).collect();
    let join = |a: &RowDelta, b: &RowDelta| {
        let mut joined = a.clone();
        joined.join(b.clone(), &sites);
        joined
    };
    let mut rng = random::rng(9);
    for case in 0..50_000 {
        let [a, b, c] = std::array::from_fn(|_| state(&mut rng));
        assert_eq!(join(&a, &a), a, "case {case}");
        let ab = join(&a, &b);
        assert_eq!(ab, join(&b, &a), "case {case}");
        assert_eq!(join(&ab, &b), ab, "case {case}");
        assert_eq!(join(&ab, &c), join(&a, &join(&b, &c)), "case {case}");
    }
}
