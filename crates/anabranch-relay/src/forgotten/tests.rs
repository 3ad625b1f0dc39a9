//! Blobs go a week after a complete delta left nothing that names them.

use std::sync::Arc;

use anabranch_core::change::ChangeHeader;
use anabranch_core::clock::Chain;
use anabranch_core::delta::{Birth, CellDelta, Delta, RowDelta, SaltRun, SiteIdx, TableFloor};
use anabranch_core::key::pack;
use anabranch_core::value::Value;
use anabranch_core::vector::{Held, VersionVector};

use super::*;
use crate::limits::BLOB_GRACE;
use crate::test_relay::{self, TestRelay, site};

const HOUR_MS: u64 = 60 * 60 * 1000;

/// The first versions of the only site.
fn held(version: u64) -> VersionVector {
    let mut held = VersionVector::new();
    if version > 0 {
        held.set(site(1), test_relay::held(1, version));
    }
    held
}

/// Versions of one site, each naming at most one blob, and the rows that are alive: number of
/// the row, its version, and what is in it.
fn delta(
    (first, last): (u64, u64),
    named: &[(u64, BlobHash)],
    rows: &[(i64, u64, Value)],
) -> Delta {
    let header = |version| {
        let blobs = named.iter().filter(|(at, _)| *at == version).map(|(_, blob)| blob.0);
        ChangeHeader { blobs: blobs.collect(), ..test_relay::header(1, version) }
    };
    let row = |(key, version, value): &(i64, u64, Value)| {
        let (dot, origin) = (DeltaDot { site: SiteIdx(0), version: *version }, SiteIdx(0));
        let key = pack(&[ValueRef::Integer(*key)]).unwrap();
        let cells = vec![CellDelta { column: 0, version: 1, dot, origin, value: value.clone() }];
        RowDelta { key, causal_length: 1, births: vec![Birth { dot, origin }], cells }
    };
    let (name, columns) = ("t".to_string(), vec!["a".to_string()]);
    let rows = rows.iter().map(row).collect();
    Delta {
        from: held(first - 1),
        to: held(last),
        sites: vec![site(1)],
        headers: (first..=last).map(header).collect(),
        tables: vec![TableDelta { name, columns, rows }],
        ..Delta::default()
    }
}

/// The same as a complete delta whose maker forgot what was up to `floor`.
fn complete(floor: u64, last: u64, named: &[(u64, BlobHash)], rows: &[(i64, u64, Value)]) -> Delta {
    let mut delta = delta((1, last), named, rows);
    delta.headers.retain(|header| header.version > floor);
    delta.salts = vec![SaltRun { site: site(1), version: 1, salt: 3 }];
    let tables = vec![TableFloor { name: "t".to_string(), restart_length: 3, is_whole: true }];
    delta.complete = Some(Complete { floor: held(floor), tables });
    delta.check_invariants().unwrap();
    delta
}

struct World {
    inner: TestRelay,
    relay: Arc<Relay>,
    began_ms: u64,
}

impl World {
    fn new() -> World {
        let inner = TestRelay::new();
        let relay = Arc::clone(&inner.relay);
        World { inner, relay, began_ms: anabranch_clock::now_ms() }
    }

    /// So much later than the beginning.
    fn at(&self, ms: u64) {
        anabranch_clock::tell(self.began_ms + ms, ms);
    }

    async fn take(&self, delta: &Delta) {
        self.inner.take(&StoreId::new("s").unwrap(), delta).await;
    }

    fn put(&self, bytes: &[u8]) -> BlobHash {
        self.relay.blobs().put(bytes).unwrap()
    }

    fn has(&self, blob: BlobHash) -> bool {
        self.relay.blobs().get(blob).unwrap().is_some()
    }
}

#[tokio::test]
async fn what_nothing_names_goes_after_a_week() {
    let week_ms = BLOB_GRACE.as_millis() as u64;
    for is_named_again in [false, true] {
        let world = World::new();
        world.at(0);
        let [dead, cell, text] = [&b"dead"[..], b"cell", b"text"].map(|bytes| world.put(bytes));
        let named = [(1, dead), (2, cell), (3, text)];
        let alive = [
            (2, 2, Value::Blob(cell.0.to_vec())),
            (3, 3, Value::Text(format!("{{\"photo\":\"{text}\"}}").into_bytes())),
        ];
        let all = [&[(1, 1, Value::Blob(dead.0.to_vec()))][..], &alive].concat();
        world.take(&delta((1, 3), &named, &all)).await;
        world.at(2 * week_ms);
        world.relay.tend().await;
        assert!([dead, cell, text].iter().all(|blob| world.has(*blob)), "all are named");
        let above = world.put(b"above");
        world.take(&complete(3, 5, &[(4, above)], &alive)).await;
        world.at(2 * week_ms + HOUR_MS);
        world.relay.tend().await;
        if is_named_again {
            world.at(2 * week_ms + 2 * HOUR_MS);
            world.take(&delta((6, 6), &[(6, dead)], &[])).await;
        }
        world.at(3 * week_ms);
        world.relay.tend().await;
        let store = StoreId::new("s").unwrap();
        assert!(world.has(dead), "for a week");
        assert!(world.relay.storage().names(&store, dead).await.unwrap(), "and is given");
        world.at(3 * week_ms + 2 * HOUR_MS);
        world.relay.tend().await;
        assert_eq!(world.has(dead), is_named_again);
        assert_eq!(world.relay.storage().names(&store, dead).await.unwrap(), is_named_again);
        assert!([cell, text, above].iter().all(|blob| world.has(*blob)), "still named");
    }
}

/// A relay that is given only what is left of a store knows the blobs that it has by its cells.
#[tokio::test]
async fn a_complete_delta_names_what_its_cells_hold() {
    let world = World::new();
    world.at(0);
    let [cell, other] = [&b"cell"[..], b"other"].map(|bytes| world.put(bytes));
    world.take(&complete(3, 5, &[], &[(2, 2, Value::Blob(cell.0.to_vec()))])).await;
    let store = StoreId::new("s").unwrap();
    assert!(world.relay.storage().names(&store, cell).await.unwrap());
    world.at(3 * BLOB_GRACE.as_millis() as u64);
    world.relay.tend().await;
    assert_eq!((world.has(cell), world.has(other)), (true, false));
}

/// A row of a table that the maker of the complete delta does not have is alive without being
/// in it.
#[tokio::test]
async fn rows_of_other_tables_count() {
    let world = World::new();
    world.at(0);
    let cell = world.put(b"cell");
    let mut old = delta((1, 3), &[(2, cell)], &[(2, 2, Value::Blob(cell.0.to_vec()))]);
    old.tables[0].name = "only here".to_string();
    world.take(&old).await;
    world.take(&complete(3, 5, &[], &[])).await;
    for weeks in 1..4 {
        world.at(weeks * BLOB_GRACE.as_millis() as u64 + HOUR_MS);
        world.relay.tend().await;
    }
    assert!(world.has(cell));
}

/// The first change of another site, with this salt, that names a blob.
fn other(salt: u64, named: BlobHash) -> Delta {
    let site = site(2);
    let mut delta = delta((1, 1), &[(1, named)], &[]);
    (delta.headers[0].site, delta.headers[0].salt) = (site, salt);
    (delta.from, delta.to, delta.sites) = (held(0), held(0), vec![site]);
    delta.to.set(site, Held { version: 1, chain: Chain::default().next(site, 1, salt) });
    delta
}

/// Where histories have forked what others forgot goes as ever; what those named stays.
#[tokio::test]
async fn forks_keep_what_they_named() {
    let world = World::new();
    world.at(0);
    let [dead, left, right] = [&b"dead"[..], b"left", b"right"].map(|bytes| world.put(bytes));
    world.take(&delta((1, 3), &[(1, dead)], &[])).await;
    world.take(&other(3, left)).await;
    world.take(&other(4, right)).await;
    let store = StoreId::new("s").unwrap();
    assert!(world.relay.storage().vector(&store).await.unwrap().has_branches());
    world.take(&complete(3, 5, &[], &[])).await;
    for weeks in 1..4 {
        world.at(weeks * BLOB_GRACE.as_millis() as u64 + HOUR_MS);
        world.relay.tend().await;
    }
    assert_eq!([dead, left, right].map(|blob| world.has(blob)), [false, true, true]);
}
