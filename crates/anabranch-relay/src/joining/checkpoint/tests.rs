//! When a checkpoint is made, and what stands in the log then.

use std::time::Duration;

use anabranch_core::delta::{
    Birth, CellDelta, Complete, Delta, DeltaDot, RowDelta, SaltRun, SiteIdx, TableDelta, TableFloor,
};
use anabranch_core::key::pack;
use anabranch_core::value::{Value, ValueRef};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::maker::tests::read;
use super::*;
use crate::limits::BLOB_GRACE;
use crate::storage::Body;
use crate::test_relay::{TestRelay, header, held, site};

#[tokio::test]
async fn old_deltas_become_one_where_that_saves_something() {
    let world = TestRelay::new();
    let store = StoreId::new("s").unwrap();
    // One row, written over and over; then rows that nobody writes again.
    let mut now = VersionVector::new();
    for version in 1..=20 {
        world.take(&store, &overwriting(version)).await;
        now.join(&overwriting(version).to);
    }
    let terms = |before_ms| Terms { before_ms, min_bytes: 1_000, min_gain: 4 };
    let list = || async { world.relay.storage().list(&store).await.unwrap() };
    let began_ms = list().await[0].received_ms;

    // Too young, or too little.
    assert_eq!(make_checkpoints(&world.relay, &store, terms(began_ms)).await.unwrap(), 0);
    let large = Terms { min_bytes: 1 << 20, ..terms(u64::MAX) };
    assert_eq!(make_checkpoints(&world.relay, &store, large).await.unwrap(), 0);

    assert_eq!(make_checkpoints(&world.relay, &store, terms(u64::MAX)).await.unwrap(), 20);
    let listed = list().await;
    assert_eq!(listed.len(), 1);
    assert_eq!(to(&listed[0].spans), now, "it leads where they led");
    let facts = world.relay.storage().facts(&store).await.unwrap().unwrap();
    assert_eq!((facts.n_deltas, facts.n_bytes), (1, listed[0].n_bytes));
    assert_eq!(facts.n_changes, 20);
    let wanted = Wanted { held: Arc::default(), after: None, max_deltas: 9, max_bytes: 1 << 20 };
    let deltas = world.relay.storage().deltas(&store, wanted).await.unwrap();
    let joined = read(&deltas[0].body, world.relay.blobs());
    joined.verify_chains().unwrap();
    assert_eq!((joined.headers.len(), joined.tables[0].rows.len()), (20, 1));

    // Not before as much has come as there is; what only grows is left as it is.
    world.take(&store, &short(21)).await;
    let all = Terms { min_bytes: 0, ..terms(u64::MAX) };
    assert_eq!(make_checkpoints(&world.relay, &store, all).await.unwrap(), 0);
    for version in 22..=60 {
        world.take(&store, &growing(version)).await;
    }
    let n_before = list().await.len();
    assert_eq!(make_checkpoints(&world.relay, &store, all).await.unwrap(), 0);
    assert_eq!(list().await.len(), n_before);
    let first = list().await[0].id;
    let n_bytes = list().await.iter().map(|delta| delta.n_bytes).sum();
    assert!(world.relay.has_no_gain(&store, first, n_bytes), "it is not tried again at once");
    assert!(!world.relay.has_no_gain(&store, first, 2 * n_bytes));
}

/// Somebody may be in the middle of being sent what a checkpoint stands for, and files that are a
/// week old would go at once.
#[tokio::test]
async fn files_that_it_stands_for_are_kept_for_a_week_more() {
    let world = TestRelay::new();
    let store = StoreId::new("s").unwrap();
    for version in 1..=4 {
        world.take(&store, &one_row(version, (1, version), 100_000)).await;
    }
    let wanted = Wanted { held: Arc::default(), after: Some(0), max_deltas: 9, max_bytes: 1 << 20 };
    let deltas = world.relay.storage().deltas(&store, wanted).await.unwrap();
    let now_ms = anabranch_clock::now_ms();
    let day_ms = 24 * 60 * 60 * 1000;
    for delta in &deltas {
        world.age(&delta.body, Duration::from_millis(8 * day_ms));
    }
    let terms = Terms { before_ms: u64::MAX, min_bytes: 0, min_gain: 4 };
    assert_eq!(make_checkpoints(&world.relay, &store, terms).await.unwrap(), 4);
    for (days, is_here) in [(6, true), (8, false)] {
        anabranch_clock::tell(now_ms + days * day_ms, 0);
        world.relay.collect_blobs(BLOB_GRACE).await.unwrap();
        for delta in &deltas {
            let Body::Blobs(parts) = &delta.body else { panic!("small") };
            let found = world.relay.blobs().get(parts[0].0).unwrap();
            assert_eq!(found.is_some(), is_here, "after {days} days");
        }
    }
}

#[tokio::test]
async fn a_damaged_store_keeps_no_other_from_its_checkpoint() {
    let world = TestRelay::new();
    let [damaged, sound] = ["a", "b"].map(|name| StoreId::new(name).unwrap());
    for version in 1..=4 {
        world.take(&damaged, &one_row(version, (1, version), 100_000)).await;
        world.take(&sound, &one_row(version, (1, version), 90_000)).await;
    }
    let wanted = Wanted { held: Arc::default(), after: Some(0), max_deltas: 9, max_bytes: 1 << 20 };
    let deltas = world.relay.storage().deltas(&damaged, wanted).await.unwrap();
    let Body::Blobs(parts) = &deltas[2].body else { panic!("small") };
    let later = std::time::SystemTime::now() + Duration::from_secs(60);
    world.relay.blobs().collect(parts[0].0, Duration::ZERO, later).unwrap();
    let terms = Terms { before_ms: u64::MAX, min_bytes: 0, min_gain: 4 };
    make_checkpoints(&world.relay, &damaged, terms).await.unwrap_err();
    assert_eq!(world.relay.make_checkpoints(terms).await.unwrap(), 4);
}

#[tokio::test]
async fn what_begins_anew_begins_another_checkpoint() {
    let world = TestRelay::new();
    let store = StoreId::new("s").unwrap();
    for version in 1..=3 {
        world.take(&store, &overwriting(version)).await;
    }
    // From a copy that forgot what was never here.
    let mut anew = overwriting(6);
    let mut complete = Complete::default();
    complete.floor.set(site(1), held(1, 5));
    complete.tables = vec![TableFloor { name: "t".into(), restart_length: 3, is_whole: true }];
    (anew.from, anew.complete) = (VersionVector::new(), Some(complete.clone()));
    anew.salts = vec![SaltRun { site: site(1), version: 1, salt: 3 }];
    world.take(&store, &anew).await;
    for version in 7..=10 {
        world.take(&store, &overwriting(version)).await;
    }
    let terms = Terms { before_ms: u64::MAX, min_bytes: 0, min_gain: 4 };
    assert_eq!(make_checkpoints(&world.relay, &store, terms).await.unwrap(), 8);
    let wanted = Wanted { held: Arc::default(), after: Some(0), max_deltas: 9, max_bytes: 1 << 20 };
    let deltas = world.relay.storage().deltas(&store, wanted).await.unwrap();
    let [before, after] = deltas.as_slice() else { panic!("{} deltas", deltas.len()) };
    let (before, after) =
        (read(&before.body, world.relay.blobs()), read(&after.body, world.relay.blobs()));
    assert_eq!((before.to.version(site(1)), before.complete), (3, None));
    assert_eq!((after.to.version(site(1)), after.complete), (10, Some(complete)));
    assert_eq!(after.headers.len(), 5, "from above the floor on");
}

/// A version that writes row 1 with much in it.
fn overwriting(version: u64) -> Delta {
    one_row(version, (1, version), 2_000)
}

/// A version that writes a row of its own.
fn growing(version: u64) -> Delta {
    one_row(version, (version as i64, 1), 2_000)
}

/// As [`growing`], with little in it.
fn short(version: u64) -> Delta {
    one_row(version, (version as i64, 1), 10)
}

fn one_row(version: u64, (key, column_version): (i64, u64), n_bytes: usize) -> Delta {
    let mut rng = StdRng::seed_from_u64(version);
    let noise: Vec<u8> = (0..n_bytes).map(|_| rng.random()).collect();
    let mut delta = Delta { sites: vec![site(1)], ..Delta::default() };
    if version > 1 {
        delta.from.set(site(1), held(1, version - 1));
    }
    delta.to.set(site(1), held(1, version));
    let (dot, origin) = (DeltaDot { site: SiteIdx(0), version }, SiteIdx(0));
    let cell =
        CellDelta { column: 0, version: column_version, dot, origin, value: Value::Blob(noise) };
    let births = if column_version == 1 { vec![Birth { dot, origin }] } else { Vec::new() };
    let key = pack(&[ValueRef::Integer(key)]).unwrap();
    let rows = vec![RowDelta { key, causal_length: 1, births, cells: vec![cell] }];
    delta.tables = vec![TableDelta { name: "t".into(), columns: vec!["a".into()], rows }];
    delta.headers = vec![header(1, version)];
    delta.check_invariants().unwrap();
    delta
}
