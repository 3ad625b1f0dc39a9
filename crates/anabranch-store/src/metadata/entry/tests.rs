//! Random entries come back, damaged bytes are refused, and what is regular is small.

use anabranch_core::value::Value;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::buffer::Superseded;
use crate::ids::{AuthorId, ColumnId};

fn mask(columns: &[u16]) -> Mask {
    let mut mask = Mask::new();
    columns.iter().for_each(|id| mask.insert(ColumnId(*id)));
    mask
}

const OWN: LocalDot = LocalDot { author: AuthorId(0), version: 9 };

fn insert(mask: &Mask, first_seq: u64) -> Stamp<'_> {
    Stamp {
        kind: RecordKind::Insert,
        is_birth: true,
        mask,
        first_seq,
        dot: OWN,
        origin: Ordinal(0),
        db_version: 5,
    }
}

#[test]
fn one_row_is_a_few_bytes() {
    let columns = mask(&[1, 2, 3, 4]);
    let mut writer = Writer::default();
    writer.push(&insert(&columns, 0), &(1u64 << 63 | 1000).to_be_bytes(), 8);
    assert_eq!(writer.finish(9, false, 5).len(), 7);
    // Other keys are there as they are, and nothing tells their length.
    let key = [7; 18];
    writer.push(&insert(&columns, 0), &key, 18);
    let body = writer.finish(9, false, 5);
    assert_eq!(body.len(), 3 + 18);
    assert_eq!(decode(&body, 9, 5).unwrap().key(0), KeyOf::Whole(&key));
}

#[test]
fn numbers_in_a_row_cost_nothing() {
    let columns = mask(&[1, 2, 3, 4]);
    let mut writer = Writer::default();
    for i in 0..4096 {
        writer.push(&insert(&columns, i * 4), &(1u64 << 63 | i).to_be_bytes(), 8);
    }
    let body = writer.finish(9, false, 5);
    assert!(body.len() < 20, "{}", body.len());
    let entry = decode(&body, 9, 5).unwrap();
    assert_eq!(entry.stamp(4095), Some(insert(&columns, 4095 * 4)));
    assert_eq!(entry.stamp(4096), None);
    assert_eq!(entry.span(), ((5, 0), (5, 4095 * 4 + 3)));
}

/// Scans read only this of a row to know that the rows before it can be shown.
#[test]
fn the_first_seq_is_read_without_the_rest() {
    let columns = mask(&[1, 2, 3, 4]);
    for (n, seq, has_head) in [(1, 0, true), (1, 7, false), (4096, 0, true), (4096, 16_384, false)]
    {
        let mut writer = Writer::default();
        for i in 0..n {
            let stamp = insert(&columns, seq + i * 4);
            writer.push(&stamp, &(1u64 << 63 | i).to_be_bytes(), 8);
        }
        let body = writer.finish(9, has_head, 5);
        let start = &body[..body.len().min(32)];
        assert_eq!(read::first_seq(start), Ok(Some(seq)), "{n} records from {seq}");
    }
}

/// A record of anything, its key, and how much of it is kept.
struct Case {
    kind: RecordKind,
    is_birth: bool,
    mask: Mask,
    first_seq: u64,
    dot: LocalDot,
    origin: Ordinal,
    db_version: u64,
    key: Vec<u8>,
    kept: usize,
}

impl Case {
    fn stamp(&self) -> Stamp<'_> {
        let Case { kind, is_birth, first_seq, dot, origin, db_version, .. } = *self;
        Stamp { kind, is_birth, mask: &self.mask, first_seq, dot, origin, db_version }
    }
}

fn random_cases(rng: &mut StdRng) -> Vec<Case> {
    let masks = [mask(&[0]), mask(&[1]), mask(&[1, 2, 3]), mask(&[0, 500]), mask(&[])];
    let kinds = [RecordKind::Insert, RecordKind::Update, RecordKind::Delete, RecordKind::Merged];
    let (is_wild, shape) = (rng.random::<bool>(), rng.random_range(0..4));
    let mut last = (mask(&[1, 2]), RecordKind::Insert);
    let (mut seq, mut key) = (rng.random_range(0..100u64), Vec::new());
    (0..rng.random_range(1..60))
        .map(|_| {
            if rng.random_range(0..3) == 0 {
                last = (masks.choose(rng).unwrap().clone(), *kinds.choose(rng).unwrap());
            }
            let first_seq = if is_wild { rng.random_range(0..1000) } else { seq };
            seq += u64::from(last.0.len()) + u64::from(rng.random_range(0..5) == 0);
            if rng.random_range(0..4) > 0 {
                key = match shape {
                    0 => rng.random::<[u8; 8]>().to_vec(),
                    1 => rng.random::<[u8; 16]>().to_vec(),
                    _ => vec![b'k'; rng.random_range(0..50)],
                };
            }
            let author = if is_wild { rng.random_range(0..3) } else { 0 };
            Case {
                kind: last.1,
                is_birth: rng.random_range(0..4) == 0,
                mask: last.0.clone(),
                first_seq,
                dot: LocalDot { author: AuthorId(author), version: 9 - u64::from(author) },
                origin: Ordinal(author),
                db_version: 5 - u64::from(author),
                kept: if shape == 3 { rng.random_range(0..60) } else { usize::MAX },
                key: key.clone(),
            }
        })
        .collect()
}

fn encoded(cases: &[Case], superseded: &[(u32, Superseded)]) -> Vec<u8> {
    let mut writer = Writer::default();
    for (i, case) in cases.iter().enumerate() {
        let cells: Vec<_> = superseded.iter().filter(|(at, _)| *at == i as u32).collect();
        let kept = if cells.is_empty() { case.kept } else { usize::MAX };
        writer.push(&case.stamp(), &case.key, kept);
        cells.into_iter().for_each(|(_, cell)| writer.supersede(cell.clone()));
    }
    writer.finish(9, cases.len().is_multiple_of(2), 5)
}

fn random_cells(rng: &mut StdRng, n_records: u32) -> Vec<(u32, Superseded)> {
    let values = [
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Real(-0.5),
        Value::Text(b"text".to_vec()),
        Value::Blob(vec![0; 300]),
    ];
    let mut cells: Vec<_> = (0..rng.random_range(0..3))
        .map(|_| {
            let cell = Superseded {
                column: ColumnId(rng.random()),
                version: rng.random(),
                causal_length: 1,
                stands: 2,
                dot: LocalDot { author: AuthorId(2), version: rng.random() },
                origin: AuthorId(3),
                value: values.choose(rng).unwrap().clone(),
            };
            (rng.random_range(0..n_records), cell)
        })
        .collect();
    cells.sort_by_key(|(at, _)| *at);
    cells
}

#[test]
fn random_entries_come_back() {
    let mut rng = StdRng::seed_from_u64(6);
    for _ in 0..400 {
        let cases = random_cases(&mut rng);
        let cells = random_cells(&mut rng, cases.len() as u32);
        let entry = decode(&encoded(&cases, &cells), 9, 5).unwrap();
        assert_eq!(entry.len() as usize, cases.len());
        assert_eq!(entry.superseded, cells);
        let places = cases.iter().map(|case| (case.db_version, case.first_seq));
        let span = (places.clone().min().unwrap(), places.max().unwrap());
        assert!(entry.span().0 <= span.0 && entry.span().1 >= span.1);
        for (i, case) in cases.iter().enumerate() {
            assert_eq!(entry.stamp(i as u32), Some(case.stamp()));
            match entry.key(i as u32) {
                KeyOf::Whole(key) => assert_eq!(key, case.key),
                KeyOf::Prefix(key) => assert_eq!(key, &case.key[..case.kept]),
            }
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..300 {
        let cases = random_cases(&mut rng);
        let cells = random_cells(&mut rng, cases.len() as u32);
        let body = encoded(&cases, &cells);
        for _ in 0..40 {
            let mut damaged = body.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..damaged.len());
                damaged[at] = rng.random();
            }
            damaged.truncate(rng.random_range(0..=damaged.len()));
            let Ok(entry) = decode(&damaged, 9, 5) else { continue };
            entry.span();
            for index in 0..entry.len() {
                entry.stamp(index);
                entry.key(index);
            }
        }
    }
}

#[test]
fn reserved_sections_are_refused_by_name() {
    let columns = mask(&[1]);
    for (tag, name) in RESERVED {
        let mut writer = Writer::default();
        // Not the one row of its change: that ends with its key.
        writer.push(&insert(&columns, 1), b"key", 3);
        let mut body = writer.finish(9, false, 5);
        body.push(tag);
        assert_eq!(decode(&body, 9, 5).unwrap_err().0, name);
        body[0] = tag;
        assert_eq!(decode(&body, 9, 5).unwrap_err().0, name);
    }
}
