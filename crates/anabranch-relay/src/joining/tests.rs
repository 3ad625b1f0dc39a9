//! Restricting changes nothing for who holds what it was restricted to.

use anabranch_core::delta::{
    Birth, CellDelta, Complete, RowDelta, SaltRun, SiteIdx, TableDelta, TableFloor,
};
use anabranch_core::key::pack;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::Held;

use anabranch_core::delta::join;

use super::*;
use crate::test_relay::{header, held, site};

/// A delta of one site's versions `first..=last`, one row each, from a vector that holds what
/// is before them.
fn delta(name: u8, first: u64, last: u64) -> Delta {
    let mut from = VersionVector::new();
    from.set(site(name), held(name, first - 1));
    let mut to = from.clone();
    to.set(site(name), held(name, last));
    let row = |version: u64| {
        let (dot, origin) = (DeltaDot { site: SiteIdx(0), version }, SiteIdx(0));
        let key = pack(&[ValueRef::Integer(i64::from(name) * 1000 + version as i64)]).unwrap();
        let value = Value::Integer(7);
        let cells = vec![CellDelta { column: 0, version: 1, dot, origin, value }];
        RowDelta { key, causal_length: 1, births: vec![Birth { dot, origin }], cells }
    };
    let rows = (first..=last).map(row).collect();
    let columns = vec!["a".to_string()];
    Delta {
        from,
        to,
        sites: vec![site(name)],
        headers: (first..=last).map(|version| header(name, version)).collect(),
        tables: vec![TableDelta { name: "t".to_string(), columns, rows }],
        ..Delta::default()
    }
}

/// All of one site's versions up to `last`, of which those up to `floor` were forgotten.
fn complete(name: u8, floor: u64, last: u64) -> Delta {
    let mut delta = delta(name, 1, last);
    let low = Held { version: floor, chain: delta.chain_at(site(name), floor).unwrap() };
    let mut complete = Complete::default();
    complete.floor.set(site(name), low);
    complete.tables = vec![TableFloor { name: "t".to_string(), restart_length: 3, is_whole: true }];
    delta.from = VersionVector::new();
    delta.headers.retain(|header| header.version > floor);
    delta.salts = vec![SaltRun { site: site(name), version: 1, salt: 3 }];
    delta.complete = Some(complete);
    delta.check_invariants().unwrap();
    delta.verify_chains().unwrap();
    delta
}

#[test]
fn a_complete_delta_begins_anew_where_its_floor_is_not_held() {
    let run = |arrivals: Vec<Delta>| {
        let (mut line, mut held) = (Line::default(), VersionVector::new());
        let all = arrivals.into_iter().all(|delta| {
            let to = delta.to.clone();
            let has_place = line.extend(&held, delta).is_none();
            held.join(&to);
            has_place
        });
        all.then(|| join_chain(line.deltas).unwrap())
    };
    // What is held up to the floor: an ordinary delta like any other.
    let plain = run(vec![delta(1, 1, 4), delta(1, 5, 6)]).unwrap();
    let over = run(vec![delta(1, 1, 4), complete(1, 3, 6)]).unwrap();
    assert_eq!((over.complete, &over.to), (None, &plain.to));
    assert_eq!(over.tables, plain.tables);
    // Not held: who lacks something takes it in the place of what was before.
    let anew = run(vec![delta(1, 1, 2), complete(1, 5, 6), delta(1, 7, 8)]).unwrap();
    anew.check_invariants().unwrap();
    anew.verify_chains().unwrap();
    assert_eq!(anew.complete, complete(1, 5, 6).complete);
    assert_eq!((anew.headers.len(), anew.tables[0].rows.len()), (3, 8));
    // Something else is before it, which it does not lead to.
    assert_eq!(run(vec![delta(2, 1, 1), complete(1, 5, 6)]), None);
}

#[test]
fn what_crosses_joins_once_restricted() {
    // As two writers deliver: neither knows the other, the second repeats a version.
    let arrivals = [delta(1, 1, 2), delta(2, 1, 1), delta(1, 2, 4), delta(2, 2, 3)];
    assert!(join(&arrivals[0], &arrivals[1]).is_ok());
    assert!(join(&arrivals[2], &arrivals[3]).is_err(), "they cross");

    let mut held = VersionVector::new();
    let mut chain = Vec::new();
    for arrival in arrivals.clone() {
        let restricted = restricted(arrival, &held);
        assert_eq!(restricted.from, held);
        held = restricted.to.clone();
        chain.push(restricted);
    }
    assert_eq!(chain[2].headers.len(), 2, "version 2 was there");

    // All of them, and the last two alone.
    let all = join_chain(chain.clone()).unwrap();
    let last = join_chain(chain[2..].to_vec()).unwrap();
    all.check_invariants().unwrap();
    all.verify_chains().unwrap();
    last.verify_chains().unwrap();
    assert_eq!((&all.from, &all.to), (&VersionVector::new(), &held));
    assert_eq!((&last.from, &last.to), (&chain[1].to, &held));

    // The same rows as joining them as they came, one after the other from the first on.
    let plain = arrivals.into_iter().reduce(|all, next| join(&all, &next).unwrap()).unwrap();
    assert_eq!(all, plain);
    // That the last two are of writers who knew nothing of each other is said.
    assert_eq!(last.seen, Some(VersionVector::new().meet(&last.from)));
}
