//! What is made is the join of all in memory, whatever the room.

use anabranch_core::delta::{
    Birth, CellDelta, Complete, Delta, DeltaDot, RowDelta, SiteIdx, TableDelta, TableFloor,
};
use anabranch_core::key::pack;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::Held;
use anabranch_core::wire::{decode, encode};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::{Line, join_chain};
use super::*;
use crate::storage::{Span, to};
use crate::test_relay::{header, held, site};

/// What comes of stored deltas, if they join: `Some(None)` if it is larger than it may be.
fn make(
    from: &VersionVector,
    deltas: &[StoredDelta],
    blobs: &BlobDir,
    room: Room,
    max_bytes: u64,
) -> Option<Option<Delta>> {
    let mut after = from.clone();
    deltas.iter().for_each(|delta| after.join(&to(&delta.spans)));
    let scratch = Scratch::new(blobs.scratch().unwrap());
    let mut maker = Maker::new(from.clone(), after, scratch, room);
    if maker.read(deltas, blobs).unwrap().is_some() {
        return None;
    }
    let made = maker.finish(max_bytes, blobs).unwrap();
    Some(made.map(|(_, body)| read(&body, blobs)))
}

/// What a random site adds to what is held, on rows that others write too; with what it told
/// before once more, some of the time.
fn addition(rng: &mut StdRng, held_before: &VersionVector) -> Delta {
    let name = rng.random_range(1..4);
    let known = held_before.version(site(name));
    let first = known.saturating_sub(rng.random_range(0..2)) + 1;
    let last = known + rng.random_range(1..5);
    let mut from = VersionVector::new();
    if first > 1 {
        from.set(site(name), held(name, first - 1));
    }
    let mut to = VersionVector::new();
    to.set(site(name), held(name, last));
    let mut headers: Vec<ChangeHeader> = (first..=last).map(|v| header(name, v)).collect();
    headers.last_mut().unwrap().blobs = vec![[name; 32]];
    let mut tables = Vec::new();
    for table in ["a", "b"] {
        if rng.random_range(0..4) == 0 {
            continue;
        }
        let mut rows = BTreeMap::new();
        for _ in 0..rng.random_range(1..8) {
            let version = rng.random_range(first..=last);
            let row = row(rng, version);
            rows.insert(row.key.clone(), row);
        }
        let mut columns = vec!["x".to_string(), "y".to_string()];
        if rng.random() {
            columns.reverse();
        }
        tables.push(TableDelta {
            name: table.to_string(),
            columns,
            rows: rows.into_values().collect(),
        });
    }
    Delta { from, to, sites: vec![site(9), site(name)], headers, tables, ..Delta::default() }
}

fn row(rng: &mut StdRng, version: u64) -> RowDelta {
    let (dot, origin) = (DeltaDot { site: SiteIdx(1), version }, SiteIdx(rng.random_range(0..2)));
    let key = pack(&[ValueRef::Integer(rng.random_range(0..12))]).unwrap();
    let causal_length = rng.random_range(1..4);
    let mut cell = |column| {
        let value = match rng.random_range(0..8) {
            0 => Value::Blob(vec![7; 100_000]),
            _ => Value::Integer(rng.random_range(0..3)),
        };
        CellDelta { column, version: rng.random_range(1..4), dot, origin, value }
    };
    let cells = if causal_length % 2 == 1 { vec![cell(0), cell(1)] } else { Vec::new() };
    RowDelta { key, causal_length, births: vec![Birth { dot, origin }], cells }
}

/// A delta as it is stored.
fn stored(delta: &Delta, blobs: &BlobDir) -> StoredDelta {
    let parts = encode(delta);
    let (name, body) = put(parts.iter().map(Ok), blobs).unwrap();
    let span = |(site, held): (SiteId, Held)| {
        let first = delta.from.version(site) + 1;
        Span { site, first, last: held.version, chain: held.chain }
    };
    let spans = delta.to.iter().map(span).collect();
    StoredDelta { id: 1, name, spans, body, live: None }
}

pub(in crate::joining) fn read(body: &Body, blobs: &BlobDir) -> Delta {
    let parts: Vec<Vec<u8>> = match body {
        Body::Inline(part) => vec![part.to_vec()],
        Body::Blobs(parts) => {
            parts.iter().map(|(hash, _)| blobs.get(*hash).unwrap().unwrap()).collect()
        }
    };
    decode(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
}

/// Says the same in one order of its sites and columns.
fn plain(delta: Delta) -> BTreeMap<(String, Vec<u8>), String> {
    let site = |idx: SiteIdx| delta.sites[idx.0 as usize];
    let mut rows = BTreeMap::new();
    for table in &delta.tables {
        for row in &table.rows {
            let mut births: Vec<_> = row
                .births
                .iter()
                .map(|birth| (site(birth.dot.site), birth.dot.version, site(birth.origin)))
                .collect();
            births.sort();
            let mut cells: Vec<_> = row
                .cells
                .iter()
                .map(|cell| {
                    let column = &table.columns[cell.column as usize];
                    let dot = (site(cell.dot.site), cell.dot.version, site(cell.origin));
                    (column, cell.version, dot, format!("{:?}", cell.value))
                })
                .collect();
            cells.sort();
            let says = format!("{} {births:?} {cells:?}", row.causal_length);
            let was = rows.insert((table.name.clone(), row.key.clone()), says);
            assert_eq!(was, None, "each row once");
        }
    }
    rows
}

#[test]
fn a_checkpoint_is_the_join_of_all_whatever_the_room() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path()).unwrap();
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut line, mut now, mut all) = (Line::default(), VersionVector::new(), Vec::new());
        let n_before = rng.random_range(0..4);
        let mut from = VersionVector::new();
        for number in 0..20 {
            let delta = addition(&mut rng, &now);
            delta.check_invariants().unwrap();
            if number < n_before {
                now.join(&delta.to);
                from.clone_from(&now);
                continue;
            }
            all.push(stored(&delta, &blobs));
            let after = delta.to.clone();
            assert!(line.extend(&now, delta).is_none());
            now.join(&after);
        }
        let expected = join_chain(line.deltas).unwrap();
        let ample = Room::of(1 << 30);
        let tight = Room { sorted_bytes: 2_000, chunk_bytes: 500, headers: 5, ..ample };
        for room in [ample, tight] {
            let joined = make(&from, &all, &blobs, room, u64::MAX).unwrap().unwrap();
            joined.check_invariants().unwrap();
            joined.verify_chains().unwrap();
            assert_eq!((&joined.from, &joined.to), (&expected.from, &expected.to), "seed {seed}");
            assert_eq!(joined.headers, expected.headers, "seed {seed}");
            assert_eq!(joined.seen, expected.seen, "seed {seed}");
            assert_eq!(plain(joined), plain(expected.clone()), "seed {seed}: {room:?}");
        }
        let size = |delta: &StoredDelta| delta.body.n_bytes();
        let most = all.iter().map(size).max().unwrap() / 2;
        let made = make(&from, &all, &blobs, tight, most.min(100));
        assert_eq!(made, Some(None), "seed {seed}: larger than it may be");
    }
}

#[test]
fn what_has_no_room_stays_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let (mut rng, mut now, mut all) = (StdRng::seed_from_u64(1), VersionVector::new(), Vec::new());
    for _ in 0..9 {
        let delta = addition(&mut rng, &now);
        now.join(&delta.to);
        all.push(stored(&delta, &blobs));
    }
    let tight = Room { sorted_bytes: 2_000, chunk_bytes: 500, headers: 5, ..Room::of(1 << 30) };
    let make = |room| make(&VersionVector::new(), &all, &blobs, room, u64::MAX);
    assert!(make(tight).unwrap().is_some());
    for (what, room) in [
        ("scratch", Room { scratch_bytes: 1_000, ..tight }),
        ("runs", Room { runs: 1, ..tight }),
        ("names", Room { name_bytes: 200, ..tight }),
    ] {
        assert_eq!(make(room), None, "{what}");
    }
}

/// Each of two deltas names as many columns as a table may have; together they have too many.
#[test]
fn what_is_too_wide_together_stays_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let (mut rng, mut now, mut all) = (StdRng::seed_from_u64(1), VersionVector::new(), Vec::new());
    for letter in ["a", "b"] {
        let mut delta = addition(&mut rng, &now);
        let rows = vec![row(&mut rng, delta.to.iter().next().unwrap().1.version)];
        let columns = (0..20_000).map(|n| format!("{letter}{n}")).collect();
        delta.tables = vec![TableDelta { name: "a".into(), columns, rows }];
        delta.check_invariants().unwrap();
        now.join(&delta.to);
        all.push(stored(&delta, &blobs));
    }
    let made = make(&VersionVector::new(), &all, &blobs, Room::of(1 << 30), u64::MAX);
    assert_eq!(made, Some(None));
}

/// All of one site's versions up to `last`, of which those up to `floor` were forgotten.
fn complete(rng: &mut StdRng, floor: u64, last: u64) -> Delta {
    let mut delta = Delta { sites: vec![site(9), site(1)], ..Delta::default() };
    let rows = (0..3).map(|_| row(rng, last));
    let rows: BTreeMap<_, _> = rows.map(|row| (row.key.clone(), row)).collect();
    delta.to.set(site(1), held(1, last));
    let columns = vec!["x".to_string(), "y".to_string()];
    let rows = rows.into_values().collect();
    delta.tables = vec![TableDelta { name: "a".to_string(), columns, rows }];
    let mut forgot = Complete::default();
    forgot.floor.set(site(1), held(1, floor));
    forgot.tables = vec![TableFloor { name: "a".into(), restart_length: 5, is_whole: true }];
    delta.complete = Some(forgot);
    delta.salts = vec![SaltRun { site: site(1), version: 1, salt: 3 }];
    delta.headers = (floor + 1..=last).map(|version| header(1, version)).collect();
    delta.check_invariants().unwrap();
    delta
}

#[test]
fn a_complete_delta_begins_a_checkpoint_and_stays_complete() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path()).unwrap();
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let base = complete(&mut rng, 3, 5);
        let (mut line, mut now) = (Line::default(), VersionVector::new());
        let (mut all, mut late) = (Vec::new(), None);
        let mut next = base;
        while all.len() < 6 {
            let (stored, after) = (stored(&next, &blobs), next.to.clone());
            match line.extend(&now, next) {
                None => all.push(stored),
                // Its maker had not seen what the first forgot: here the chain ends.
                Some(_) => {
                    late = Some(stored);
                    break;
                }
            }
            now.join(&after);
            next = addition(&mut rng, &now);
        }
        let expected = join_chain(line.deltas).unwrap();
        let make = |deltas: &[StoredDelta]| {
            make(&VersionVector::new(), deltas, &blobs, Room::of(1 << 30), u64::MAX)
        };
        let joined = make(&all).unwrap().unwrap();
        assert_eq!(joined.complete, expected.complete, "seed {seed}");
        assert_eq!((&joined.salts, &joined.headers), (&expected.salts, &expected.headers));
        assert_eq!(plain(joined), plain(expected), "seed {seed}");
        if let Some(late) = late {
            assert_eq!(make(&[all[0].clone(), late]), None, "seed {seed}");
        }
        // Behind something else it is not joined, nor what begins too late.
        if all.len() == 1 {
            continue;
        }
        all.rotate_left(1);
        assert_eq!(make(&all), None, "seed {seed}");
    }
}
