//! What rows cost in bytes, and what reading costs in blocks.

use anabranch_core::value::Value;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const N: i64 = 20_000;

/// Bytes of pages that the log and the clocks take.
fn bytes(db: &Db) -> f64 {
    let sql = "SELECT sum(pgsize) FROM dbstat WHERE name IN ('ana_entry', 'ana_clock')";
    match db.query_value(sql, &[]).unwrap() {
        Some(Value::Integer(bytes)) => bytes as f64,
        other => panic!("no size: {other:?}"),
    }
}

fn uuid_keys(n: i64) -> Vec<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(8);
    // As a packed blob: type and length, then the bytes.
    (0..n).map(|_| [&[0x0c, 0x10][..], &rng.random::<[u8; 16]>()].concat()).collect()
}

fn int_keys(n: i64) -> Vec<Vec<u8>> {
    (1..=n).map(|i| int_key(i).to_vec()).collect()
}

fn all_of(kind: LocalKind, mask: Mask, keys: &[Vec<u8>]) -> LocalBuffer {
    let mut ops = LocalBuffer::default();
    keys.iter().for_each(|key| push(&mut ops, T, kind, mask.clone(), key));
    ops
}

/// Bytes a row: inserted at once; then a column of all updated; then all deleted.
fn bulk(keys: &[Vec<u8>]) -> [f64; 3] {
    let (_conn, db) = fresh();
    let mut metadata = Metadata::open(&db).unwrap();
    let steps = [
        (LocalKind::Insert, columns(4)),
        (LocalKind::Update, Mask::of(ColumnId(2))),
        (LocalKind::Delete, Mask::new()),
    ];
    steps.map(|(kind, mask)| {
        transact(&db, &mut metadata, &all_of(kind, mask, keys));
        bytes(&db) / keys.len() as f64
    })
}

#[test]
fn bulk_rows_cost_little_more_than_their_keys() {
    let [inserted, updated, deleted] = bulk(&int_keys(N));
    assert!(inserted <= 2.0, "integers: {inserted} bytes a row");
    assert!(updated <= 2.0, "integers, updated: {updated} bytes a row");
    assert!(deleted <= 2.0, "integers, deleted: {deleted} bytes a row");
    let [inserted, updated, deleted] = bulk(&uuid_keys(N));
    assert!(inserted <= 26.0, "UUIDs: {inserted} bytes a row");
    let (update, delete) = (updated - inserted, deleted - updated);
    assert!(update <= 14.0 && delete <= 20.0, "UUIDs: {update} an update, {delete} a delete");
}

/// Bytes a row when each is inserted in a transaction of its own.
fn single(keys: &[Vec<u8>]) -> f64 {
    let (_conn, db) = fresh();
    let mut metadata = Metadata::open(&db).unwrap();
    for key in keys {
        transact(
            &db,
            &mut metadata,
            &all_of(LocalKind::Insert, columns(4), std::slice::from_ref(key)),
        );
    }
    bytes(&db) / keys.len() as f64
}

#[test]
fn single_rows_cost_a_log_row() {
    let ints = single(&int_keys(3000));
    let uuids = single(&uuid_keys(3000));
    assert!(ints <= 40.0, "integers: {ints} bytes a row");
    // 49 of the log and 25 of the blocks, of which 7 are what SQLite leaves free in pages
    // that random keys split.
    assert!(uuids <= 74.0, "UUIDs: {uuids} bytes a row");
}

#[test]
fn one_row_is_a_block_away() {
    let (_conn, db) = fresh();
    let mut metadata = Metadata::open(&db).unwrap();
    let keys = uuid_keys(N);
    transact(&db, &mut metadata, &all_of(LocalKind::Insert, columns(4), &keys));
    transact(&db, &mut metadata, &all_of(LocalKind::Update, columns(1), &keys[..3]));
    let before = metadata.blocks.n_decoded.get();
    for key in &keys[..100] {
        assert!(!metadata.row_records(T, key).unwrap().is_empty());
    }
    assert!(metadata.blocks.n_decoded.get() - before <= 300);
    let mut scan = metadata.scan_since(metadata.db_version() - 1).unwrap();
    let before = metadata.blocks.n_decoded.get();
    assert_eq!(scan.next_batch(&mut metadata).unwrap().len(), 3);
    assert!(metadata.blocks.n_decoded.get() - before <= 6);
}

#[test]
fn what_is_long_or_wide_has_a_block_of_its_own() {
    let (_conn, db) = fresh();
    let mut metadata = Metadata::open(&db).unwrap();
    let long = vec![b'k'; 1 << 20];
    let keys: Vec<Vec<u8>> = vec![b"a".to_vec(), long, b"z".to_vec()];
    transact(&db, &mut metadata, &all_of(LocalKind::Insert, columns(2000), &keys));
    for id in (1..=2000).step_by(3) {
        let mask = Mask::of(ColumnId(id));
        transact(&db, &mut metadata, &all_of(LocalKind::Update, mask, &keys[2..]));
    }
    let mut metadata = Metadata::open(&db).unwrap();
    for key in &keys {
        let records = metadata.row_records(T, key).unwrap();
        assert_eq!(records.iter().map(|record| record.cells.len()).sum::<usize>(), 2000);
        assert!(metadata.row(T, key).unwrap().is_some());
    }
    let mut findings = Vec::new();
    metadata.check(&mut |_, place, what| findings.push(format!("{place}: {what}"))).unwrap();
    assert_eq!(findings, [""; 0]);
}
