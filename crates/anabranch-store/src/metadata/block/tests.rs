//! Random rows come back, damaged bytes are refused, and what is regular is small.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ids::{ColumnId, Key};
use crate::metadata::local::{self, Newborn};
use crate::metadata::patterns::{Op, Patterns};
use crate::metadata::record::RecordKind;
use crate::metadata::rows::Slot;

fn mask(columns: &[u16]) -> Mask {
    let mut mask = Mask::new();
    columns.iter().for_each(|id| mask.insert(ColumnId(*id)));
    mask
}

use super::super::mask::Mask;

fn encoded(rows: &[BlockRow]) -> Vec<u8> {
    let mut out = Vec::new();
    let rows = Rows::of(rows);
    Encoder::default().encode(&rows, 0..rows.len(), &mut out);
    out
}

fn fresh_row(key: &[u8], number: u64, at: u64) -> BlockRow {
    let group = Group { mask: mask(&[1, 2, 3, 4]), version: 1, at: address(at), is_birth: true };
    let groups = SmallVec::from_iter([group]);
    (Key::from_slice(key), RowClock { number, causal_length: 1, groups })
}

#[test]
fn regular_rows_are_small() {
    let ints: Vec<_> =
        (0..128u64).map(|i| fresh_row(&(i + 77).to_be_bytes(), i + 1, 8192 + i)).collect();
    assert!(encoded(&ints).len() <= 24, "{}", encoded(&ints).len());
    let mut rng = StdRng::seed_from_u64(3);
    let mut uuids: Vec<[u8; 16]> = (0..50).map(|_| rng.random()).collect();
    uuids.sort_unstable();
    let uuids: Vec<_> = uuids
        .iter()
        .map(|key| {
            let number = rng.random_range(0..100_000);
            fresh_row(key, number, number + 409_600)
        })
        .collect();
    let per_row = encoded(&uuids).len() as f64 / 50.0;
    assert!(per_row < 19.0, "{per_row}");
}

/// A row of anything, that a block may hold.
fn random_row(rng: &mut StdRng, key: Key) -> BlockRow {
    let masks = [&[0][..], &[1], &[2, 3], &[1, 2, 3, 4], &[70, 700], &[]];
    let groups = (0..rng.random_range(1..4))
        .map(|_| Group {
            mask: mask(masks.choose(rng).unwrap()),
            version: rng.random_range(0..4),
            at: address(rng.random::<u64>() >> rng.random_range(8..60)),
            is_birth: rng.random(),
        })
        .collect();
    (
        key,
        RowClock {
            number: rng.random_range(1..2000),
            causal_length: rng.random_range(1..4),
            groups,
        },
    )
}

#[test]
fn random_rows_come_back() {
    let mut rng = StdRng::seed_from_u64(4);
    for case in 0..45 {
        let mut keys: Vec<Key> = (0..rng.random_range(1..=128))
            .map(|_| match case % 3 {
                0 => Key::from_slice(&rng.random_range(0..5000u64).to_be_bytes()),
                1 => Key::from_slice(&rng.random::<[u8; 16]>()),
                _ => (0..rng.random_range(0..40)).map(|_| rng.random_range(0..3)).collect(),
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let rows: Vec<_> = keys.iter().map(|key| random_row(&mut rng, key.clone())).collect();
        let body = encoded(&rows);
        assert_eq!(decode(&keys[0], &body).unwrap(), rows);
        for (key, clock) in rows.iter().step_by(3) {
            assert_eq!(find(&keys[0], &body, key).unwrap().as_ref(), Some(clock));
        }
        for _ in 0..8 {
            let mut other = keys.choose(&mut rng).unwrap().clone();
            other.push(rng.random_range(0..3));
            let expected = rows.iter().find(|row| row.0 == other).map(|row| &row.1);
            assert_eq!(find(&keys[0], &body, &other).unwrap().as_ref(), expected);
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let mut rng = StdRng::seed_from_u64(5);
    for case in 0..16 {
        let mut keys: Vec<[u8; 8]> = (0..40).map(|_| rng.random()).collect();
        keys.sort_unstable();
        let cut = if case % 2 == 0 { 8 } else { 7 };
        let rows: Vec<_> =
            keys.iter().map(|key| random_row(&mut rng, Key::from_slice(&key[..cut]))).collect();
        let body = encoded(&rows);
        for _ in 0..100 {
            let mut damaged = body.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..damaged.len());
                damaged[at] = rng.random();
            }
            damaged.truncate(rng.random_range(0..=damaged.len()));
            let _ = decode(&rows[0].0, &damaged);
            let _ = find(&rows[0].0, &damaged, &keys[20]);
            if let Ok(parts) = Parts::read(&damaged) {
                let _ = parts.last_key(&rows[0].0);
                let (mut patterns, mut slot) = (Patterns::default(), Slot::default());
                let row = rng.random_range(0..parts.n_rows);
                let mut out = Vec::new();
                let mut encoder = Encoder::default();
                let apply = |_: usize, slot: &mut Slot, patterns: &mut Patterns| {
                    patterns.set(slot, &rows[20].1);
                };
                let _ =
                    encoder.edit(&parts, &[(row, 0)], &mut patterns, &mut slot, apply, &mut out);
            }
        }
    }
}

/// What is copied and what is put anew are together what encoding all rows would hold.
#[test]
fn edited_rows_are_changed_and_others_stay() {
    let mut rng = StdRng::seed_from_u64(9);
    let (mut encoder, mut patterns, mut slot) =
        (Encoder::default(), Patterns::default(), Slot::default());
    for case in 0..200 {
        let mut keys: Vec<Key> = (0..rng.random_range(1..=128))
            .map(|_| match case % 2 {
                0 => Key::from_slice(&rng.random_range(0..5000u64).to_be_bytes()),
                _ => (0..rng.random_range(0..40)).map(|_| rng.random_range(0..3)).collect(),
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let is_regular = case % 3 > 0;
        let mut rows: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(i, key)| match is_regular {
                true => fresh_row(key, i as u64 + 1, 8192 + i as u64),
                false => random_row(&mut rng, key.clone()),
            })
            .collect();
        let mut body = encoded(&rows);
        for _ in 0..4 {
            let some: Vec<usize> =
                (0..rows.len()).filter(|_| rng.random_range(0..20) == 0).collect();
            for row in &some {
                let number = rows[*row].1.number;
                rows[*row] = random_row(&mut rng, keys[*row].clone());
                rows[*row].1.number = number;
            }
            let parts = Parts::read(&body).unwrap();
            assert_eq!(parts.last_key(&keys[0]), Ok(keys[keys.len() - 1].clone()));
            let found = parts.find_all(&keys[0], some.len(), |i| &keys[some[i]]).unwrap().unwrap();
            assert!(found.iter().map(|row| &row.0).eq(&some));
            let apply = |i: usize, slot: &mut Slot, patterns: &mut Patterns| {
                assert_eq!(slot.number, rows[some[i]].1.number);
                patterns.set(slot, &rows[some[i]].1);
            };
            let mut edited = Vec::new();
            encoder.edit(&parts, &found, &mut patterns, &mut slot, apply, &mut edited).unwrap();
            assert_eq!(decode(&keys[0], &edited).unwrap(), rows);
            body = edited;
        }
        let absent = [&keys[keys.len() - 1][..], &[1]].concat();
        let parts = Parts::read(&body).unwrap();
        assert_eq!(parts.find_all(&keys[0], 1, |_| &absent), Ok(None));
    }
}

/// What an operation makes of all rows over their bytes is what it makes of each.
#[test]
fn rows_changed_alike_are_changed_each() {
    let mut rng = StdRng::seed_from_u64(12);
    let (mut encoder, mut patterns) = (Encoder::default(), Patterns::default());
    let (all_columns, mut n_edited) = (mask(&[1, 2, 3, 4]), 0);
    let newborn = Newborn { number: 0, restart: 1 };
    let ops = [
        (RecordKind::Update, mask(&[2])),
        (RecordKind::Update, mask(&[1, 3])),
        (RecordKind::Delete, Mask::new()),
        (RecordKind::Insert, all_columns),
    ];
    for case in 0..100 {
        let mut keys: Vec<Key> = (0..rng.random_range(1..=128u64))
            .map(|i| match case % 3 {
                0 => Key::from_slice(&(i + 70).to_be_bytes()),
                1 => Key::from_slice(&rng.random_range(0..5000u64).to_be_bytes()),
                _ => Key::from_slice(&rng.random::<[u8; 16]>()),
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let mut rows: Vec<BlockRow> = keys.iter().map(|key| fresh_row(key, 1, 1)).collect();
        for (i, row) in rows.iter_mut().enumerate() {
            row.1.number = i as u64 + 1;
            row.1.groups[0].at = address(4096 + i as u64);
        }
        for round in 2..7 {
            // Now and then some rows change by themselves, a few of them to what is no pattern.
            for row in &mut rows {
                if round < 4 || rng.random_range(0..9) > 0 {
                    continue;
                }
                let at = address(4096 * round - rng.random_range(1..99));
                local::apply_to(&mut row.1, RecordKind::Update, &mask(&[4]), at, newborn);
            }
            let body = encoded(&rows);
            let parts = Parts::read(&body).unwrap();
            let name = rng.random_range(0..ops.len());
            let (kind, columns) = (ops[name].0, &ops[name].1);
            let own = address(0);
            let op = Op { kind, name: name as u32, columns, at: own, newborn };
            let at: Vec<u64> = match rng.random() {
                true => (0..rows.len() as u64).map(|i| 4096 * round + i).collect(),
                false => (0..rows.len() as u64).map(|i| 4096 * round + i * 77 % 128).collect(),
            };
            let are_all = parts.are_all(&keys[0], keys.len(), |i| &keys[i]);
            assert!(are_all.unwrap().is_some());
            let mut edited = Vec::new();
            let outcomes = encoder.edit_all(&parts, &mut patterns, &op, &at, &mut edited).unwrap();
            let expected: Vec<_> = rows
                .iter_mut()
                .zip(&at)
                .map(|(row, at)| local::apply_to(&mut row.1, kind, columns, address(*at), newborn))
                .collect();
            if let Some(outcomes) = outcomes {
                assert_eq!(outcomes, expected);
                assert_eq!(decode(&keys[0], &edited).unwrap(), rows);
                n_edited += 1;
            }
        }
        let parts = encoded(&rows);
        let parts = Parts::read(&parts).unwrap();
        keys[rows.len() - 1].push(1);
        assert_eq!(parts.are_all(&rows[0].0, keys.len(), |i| &keys[i]), Ok(None));
    }
    assert!(n_edited > 200, "{n_edited}");
}
