//! Histories over a real database against a plain model.

use anabranch_sqlite::{Db, Embedded};

use super::mask::Mask;
use super::{Metadata, PendingChange, tables};
use crate::buffer::{LocalBuffer, LocalKind, LocalOp};
use crate::ids::{ColumnId, TableId};

/// The statements of a fresh file that the log needs.
const SCHEMA: &str =
    "CREATE TABLE crsql_site_id(site_id BLOB NOT NULL, ordinal INTEGER PRIMARY KEY);
    INSERT INTO crsql_site_id VALUES(x'000102030405060708090a0b0c0d0e0f', 0);";

/// A fresh store in memory.
fn fresh() -> (Embedded, Db) {
    let conn = Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
    let db = conn.db().clone();
    db.execute_batch(tables::CREATE).unwrap();
    db.execute_batch(SCHEMA).unwrap();
    (conn, db)
}

const T: TableId = TableId(1);

fn columns(n: u16) -> Mask {
    let mut mask = Mask::new();
    (1..=n).for_each(|id| mask.insert(ColumnId(id)));
    mask
}

fn push(buffer: &mut LocalBuffer, kind: LocalKind, mask: Mask, key: &[u8]) {
    let found = buffer.masks.iter().position(|known| *known == mask);
    let mask = found.unwrap_or_else(|| {
        buffer.masks.push(mask);
        buffer.masks.len() - 1
    }) as u32;
    let key_start = buffer.arena.len() as u32;
    buffer.arena.extend_from_slice(key);
    buffer.ops.push(LocalOp { table: T, kind, mask, key_start, key_len: key.len() as u32 });
}

fn int_key(value: i64) -> [u8; 8] {
    ((value as u64) ^ (1 << 63)).to_be_bytes()
}

/// One transaction of these operations.
fn transact(db: &Db, metadata: &mut Metadata, ops: &LocalBuffer) {
    db.execute_batch("BEGIN").unwrap();
    metadata.refresh().unwrap();
    let mut change = PendingChange::default();
    metadata.write_local(&mut change, ops).unwrap();
    metadata.write_header(&change, 1_700_000_000_000).unwrap();
    db.execute_batch("COMMIT").unwrap();
    metadata.committed();
}

#[test]
fn a_row_lives_dies_and_lives_again() {
    let (_conn, db) = fresh();
    let mut metadata = Metadata::open(&db).unwrap();
    let all = columns(3);
    for (kind, mask) in [
        (LocalKind::Insert, all.clone()),
        (LocalKind::Update, Mask::of(ColumnId(2))),
        (LocalKind::Delete, Mask::new()),
        (LocalKind::Insert, all),
    ] {
        let mut ops = LocalBuffer::default();
        push(&mut ops, kind, mask, &int_key(7));
        transact(&db, &mut metadata, &ops);
    }
    let mut again = Metadata::open(&db).unwrap();
    for metadata in [&mut metadata, &mut again] {
        let clock = metadata.row(T, &int_key(7)).unwrap().unwrap();
        assert_eq!((clock.causal_length, clock.number), (3, 1));
        assert_eq!(metadata.db_version(), 4);
        let mut scan = metadata.scan_since(0).unwrap();
        let batch = scan.next_batch(metadata).unwrap();
        assert_eq!(batch.len(), 1);
        assert_eq!(batch[0].cells.len(), 4);
        assert_eq!(batch[0].cells[0].version, 3);
        assert!(scan.next_batch(metadata).unwrap().is_empty());
    }
    assert_eq!(metadata.vector(), again.vector());
    let chain = metadata.chain_at(metadata.own_site(), 4).unwrap();
    assert_eq!(chain, Some(again.vector().get(again.own_site()).unwrap().chain));
}
