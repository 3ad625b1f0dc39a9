//! Merges, foreign headers, several connections.

use anabranch_core::change::{ChangeHeader, ChangeKind, Dep};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::site::SiteId;
use anabranch_core::value::Value;
use anabranch_core::vector::VersionVector;
use hashbrown::HashMap;
use smallvec::smallvec;

use super::*;
use crate::buffer::{MergedBuffer, MergedRecord, Superseded};
use crate::ids::{Address, AuthorId, EntryId, LocalDot};
use crate::metadata::row_clock::{Group, RowClock};

fn site(byte: u8) -> SiteId {
    SiteId::new(&[byte; 16]).unwrap()
}

fn header(from: SiteId, version: u64, deps: Vec<Dep>) -> ChangeHeader {
    let (salt, time, kind) = (u64::from(from.as_bytes()[0]), Hlc(version << 16), ChangeKind::Edit);
    ChangeHeader {
        site: from,
        version,
        salt,
        time,
        deps,
        author: None,
        message: None,
        kind,
        blobs: vec![],
    }
}

/// A row born with one foreign cell.
fn merged(metadata: &mut Metadata, key: &[u8], dot: Option<LocalDot>, seq: u64) -> MergedBuffer {
    let origin = metadata.ordinal_of(site(7)).unwrap();
    let db_version = metadata.db_version() + 1;
    let mask = Mask::of(ColumnId(1));
    let at = Address { entry: EntryId::PENDING, index: 0 };
    let group = Group { mask: mask.clone(), version: 1, at, is_birth: true };
    let mut buffer = MergedBuffer::default();
    let cell = Superseded {
        column: ColumnId(1),
        version: 1,
        causal_length: 1,
        stands: 2,
        dot: LocalDot { author: AuthorId(0), version: 1 },
        origin: AuthorId(0),
        value: Value::Text(b"lost".to_vec()),
    };
    let record = MergedRecord {
        row: 0,
        mask,
        first_seq: seq,
        dot,
        origin,
        db_version,
        is_birth: true,
        is_open: false,
        superseded: Some(Box::new(cell)),
    };
    let clock = RowClock { number: 0, causal_length: 1, groups: smallvec![group] };
    buffer.push((T, key), Some(clock), record, 0, |_, _| ()).unwrap();
    buffer
}

#[test]
fn foreign_changes_move_the_vector_and_are_nobody_elses() {
    let (_conn, db) = fresh();
    let mut metadata = Metadata::open(&db).unwrap();
    db.execute_batch("BEGIN").unwrap();
    let headers: Vec<_> = (1..=130).map(|version| header(site(7), version, Vec::new())).collect();
    metadata.append_headers(headers.iter().cloned().map(Ok)).unwrap();
    let author = metadata.author_of(site(7)).unwrap();
    let dot = LocalDot { author, version: 130 };
    let buffer = merged(&mut metadata, b"a long key of a row", Some(dot), 0);
    let mut change = PendingChange::default();
    metadata.write_merged(&mut change, &buffer).unwrap();
    assert_eq!(change.first_entry, None, "a delta is no change of ours");
    metadata.write_header(&change, 1).unwrap();
    db.execute_batch("COMMIT").unwrap();
    metadata.committed();
    for metadata in [&mut metadata, &mut Metadata::open(&db).unwrap()] {
        let vector = metadata.vector();
        assert_eq!((vector.version(site(7)), vector.len()), (130, 1));
        assert_eq!(all_headers(metadata), headers);
        let mut chain = Chain::default();
        for version in 1..=130 {
            chain = chain.next(site(7), version, 7);
            assert_eq!(metadata.chain_at(site(7), version).unwrap(), Some(chain));
        }
        assert_eq!(metadata.chain_at(site(7), 131).unwrap(), None);
        let mut scan = metadata.scan_above(&VersionVector::new(), &HashMap::new()).unwrap();
        let batch = scan.next_batch(metadata).unwrap();
        assert_eq!((batch.len(), batch[0].dot, batch[0].number), (1, dot, 1));
        let mut scan = metadata.scan_above(&vector, &HashMap::new()).unwrap();
        assert!(scan.next_batch(metadata).unwrap().is_empty());
        let (at, cells) = metadata.superseded_after(EntryId(0)).unwrap().expect("one is noted");
        assert_eq!(metadata.superseded_after(at).unwrap(), None);
        assert_eq!((cells.len(), cells[0].by), (1, dot));
        assert_eq!(cells[0].key.as_slice(), b"a long key of a row");
    }
}

/// More records than are sorted at a time, of a small part of the log.
#[test]
fn what_is_new_comes_by_key() {
    let (_conn, db) = fresh();
    let mut metadata = Metadata::open(&db).unwrap();
    let write = |metadata: &mut Metadata, kind, row: i64| {
        let mut ops = LocalBuffer::default();
        push(&mut ops, T, kind, columns(1), &int_key(row));
        transact(&db, metadata, &ops);
    };
    (0..1000).for_each(|n| write(&mut metadata, LocalKind::Insert, n * 7 % 1000));
    let before = metadata.vector();
    // Some rows twice: what gave way does not come.
    (0..300).for_each(|n| write(&mut metadata, LocalKind::Update, n * 77 % 250));
    let mut scan = metadata.scan_above(&before, &HashMap::new()).unwrap();
    let mut keys = Vec::new();
    loop {
        let batch = scan.next_batch(&mut metadata).unwrap();
        if batch.is_empty() {
            break;
        }
        keys.extend(batch.into_iter().map(|record| record.key));
    }
    let expected: Vec<Vec<u8>> = (0..250).map(|row| int_key(row).to_vec()).collect();
    assert_eq!(keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>(), expected);
}

#[test]
fn contexts_grow_with_what_was_seen() {
    let (_conn, db) = fresh();
    let mut metadata = Metadata::open(&db).unwrap();
    let seen = |of: u8, version| Dep { site: site(of), version, chain: Chain::default() };
    let others = [header(site(8), 1, vec![]), header(site(8), 2, vec![])];
    metadata.append_headers(others.map(Ok)).unwrap();
    let mut headers = vec![header(site(7), 1, vec![]), header(site(7), 2, vec![seen(8, 1)])];
    headers.extend((3..=100).map(|version| header(site(7), version, vec![])));
    headers.push(header(site(7), 101, vec![seen(8, 2)]));
    metadata.append_headers(headers.iter().cloned().map(Ok)).unwrap();
    metadata.committed();
    let author = metadata.author_of(site(7)).unwrap();
    let other = metadata.author_of(site(8)).unwrap();
    let mut covers = |later, earlier| {
        let later = LocalDot { author, version: later };
        metadata.context_covers(later, LocalDot { author: other, version: earlier }).unwrap()
    };
    for (later, earlier, expected) in
        [(1, 1, false), (2, 1, true), (63, 1, true), (70, 1, true), (70, 2, false), (101, 2, true)]
    {
        assert_eq!(covers(later, earlier), expected, "{later} of {earlier}");
    }
    let own = LocalDot { author: AuthorId(0), version: 1 };
    assert!(metadata.context_covers(own, LocalDot { author: other, version: 2 }).unwrap());
    assert!(!metadata.context_covers(LocalDot { author, version: 101 }, own).unwrap());
}

#[test]
fn an_import_is_a_change_of_ours() {
    let (_conn, db) = fresh();
    let mut metadata = Metadata::open(&db).unwrap();
    db.execute_batch("BEGIN").unwrap();
    let buffer = merged(&mut metadata, b"key", None, 40);
    let mut change = PendingChange::default();
    metadata.write_merged(&mut change, &buffer).unwrap();
    // BUSY at COMMIT: the header is written again.
    metadata.write_header(&change, 1).unwrap();
    metadata.write_header(&change, 2).unwrap();
    db.execute_batch("COMMIT").unwrap();
    metadata.committed();
    for metadata in [&mut metadata, &mut Metadata::open(&db).unwrap()] {
        let headers = all_headers(metadata);
        assert_eq!((headers.len(), headers[0].kind), (1, ChangeKind::Import));
        assert_eq!(metadata.pending_dot().version, 2);
        let records = metadata.row_records(T, b"key").unwrap();
        let own = LocalDot { author: AuthorId(0), version: 1 };
        assert_eq!((records[0].dot, records[0].cells[0].seq), (own, 40));
        assert_eq!(metadata.origin_site(records[0].origin).unwrap(), site(7));
    }
}

#[test]
fn connections_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let open = || Embedded::new(rusqlite::Connection::open(&path).unwrap()).unwrap();
    let (one, two) = (open(), open());
    one.db().execute_batch("PRAGMA journal_mode = WAL").unwrap_or(());
    one.db().execute_batch(tables::CREATE).unwrap();
    one.db().execute_batch(SITE).unwrap();
    let mut sides = [
        (one.db().clone(), Metadata::open(one.db()).unwrap()),
        (two.db().clone(), Metadata::open(two.db()).unwrap()),
    ];
    for i in 0..600i64 {
        let (db, metadata) = &mut sides[usize::from(i % 3 == 0)];
        let mut ops = LocalBuffer::default();
        push(&mut ops, T, LocalKind::Insert, columns(2), &int_key(i));
        transact(db, metadata, &ops);
        assert_eq!(metadata.db_version(), i as u64 + 1);
        assert_eq!(metadata.row(T, &int_key(i)).unwrap().unwrap().number, i as u64 + 1);
    }
    for (_, metadata) in &mut sides {
        metadata.refresh().unwrap();
        let scan = metadata.scan_since(0).unwrap();
        assert_eq!(read_all(scan, metadata).len(), 600);
        let mut findings = Vec::new();
        metadata.check(&mut |_, place, what| findings.push(format!("{place}: {what}"))).unwrap();
        assert_eq!(findings, [""; 0]);
    }
    assert_eq!(sides[0].1.vector(), sides[1].1.vector());
}
