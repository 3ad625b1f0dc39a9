//! Histories over a real database against a plain model.

mod doors;
mod format;
mod histories;
mod sizes;

use anabranch_core::change::ChangeHeader;
use anabranch_core::vector::VersionVector;
use anabranch_sqlite::{Db, Embedded};

use super::mask::Mask;
use super::scan::{LiveRecord, Scan};
use super::{Metadata, PendingChange, tables};
use crate::buffer::{LocalBuffer, LocalKind, LocalOp};
use crate::ids::{ColumnId, TableId};

/// What the log needs of a fresh file beside its own tables.
const SITE: &str = "CREATE TABLE crsql_site_id(site_id BLOB NOT NULL, ordinal INTEGER PRIMARY KEY);
    INSERT INTO crsql_site_id VALUES(x'000102030405060708090a0b0c0d0e0f', 0);";

/// A fresh store in memory.
fn fresh() -> (Embedded, Db) {
    let conn = Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
    let db = conn.db().clone();
    db.execute_batch(tables::CREATE).unwrap();
    db.execute_batch(SITE).unwrap();
    (conn, db)
}

const T: TableId = TableId(1);

fn columns(n: u16) -> Mask {
    let mut mask = Mask::new();
    (1..=n).for_each(|id| mask.insert(ColumnId(id)));
    mask
}

fn push(buffer: &mut LocalBuffer, table: TableId, kind: LocalKind, mask: Mask, key: &[u8]) {
    let found = buffer.masks.iter().position(|known| *known == mask);
    let mask = found.unwrap_or_else(|| {
        buffer.masks.push(mask);
        buffer.masks.len() - 1
    }) as u32;
    let key_start = buffer.arena.len() as u32;
    buffer.arena.extend_from_slice(key);
    buffer.ops.push(LocalOp { table, kind, mask, key_start, key_len: key.len() as u32 });
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

/// The headers of all changes, in the order of a delta.
fn all_headers(metadata: &mut Metadata) -> Vec<ChangeHeader> {
    let mut headers = metadata.headers_above(&VersionVector::new()).unwrap();
    std::iter::from_fn(|| metadata.next_header(&mut headers).unwrap()).collect()
}

/// All that a scan yields, sorted as `crsql_changes` shows it, and checks that batches are
/// in that order.
fn read_all(mut scan: Scan, metadata: &mut Metadata) -> Vec<LiveRecord> {
    let mut all: Vec<LiveRecord> = Vec::new();
    loop {
        let mut batch = scan.next_batch(metadata).unwrap();
        if batch.is_empty() {
            return all;
        }
        let place = |r: &LiveRecord| {
            (r.db_version, r.cells.first().map_or(0, |cell| cell.seq), r.table, r.number)
        };
        batch.sort_by_key(place);
        all.extend(batch);
    }
}
