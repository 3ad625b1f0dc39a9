//! Bytes of peers that mean harm: damaged, forged, inflated.

use anabranch_core::wire::{WireError, body, decode, decode_body, encode, part_head};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::random;

/// One random damage: flip, truncate, extend, splice or overwrite with an edge.
fn damage(rng: &mut StdRng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.random_range(0..=bytes.len());
    match rng.random_range(0..6) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes.truncate(at),
        2 => bytes.extend(random::bytes(rng, 8)),
        3 => {
            let start = rng.random_range(0..=other.len());
            let end = rng.random_range(start..=other.len());
            let stop = rng.random_range(at..=bytes.len());
            bytes.splice(at..stop, other[start..end].iter().copied());
        }
        4 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
        _ => {
            let big: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
            let stop = (at + rng.random_range(0..3)).min(bytes.len());
            bytes.splice(at..stop, big[10 - rng.random_range(1..=10)..].iter().copied());
        }
    }
}

/// Checksums keep this away from honest decoders, not from hostile encoders.
#[test]
fn damaged_bodies_are_refused_or_read() {
    let mut rng = random::rng(40);
    let mut n_read = 0;
    let mut other = Vec::new();
    for case in 0..1_000_u32 {
        let whole = body(&encode(&random::delta(&mut rng))[0]).unwrap();
        for _ in 0..16 {
            let mut bytes = whole.clone();
            for _ in 0..rng.random_range(1..3_u8) {
                damage(&mut rng, &mut bytes, &other);
            }
            if let Ok(piece) = decode_body(&bytes) {
                n_read += 1;
                let bounds = piece.bounds.expect("a whole delta has bounds");
                let delta = anabranch_core::delta::Delta {
                    from: bounds.from,
                    to: bounds.to,
                    seen: bounds.seen,
                    sites: bounds.sites,
                    complete: bounds.complete,
                    salts: piece.salts,
                    headers: piece.headers,
                    tables: piece.tables,
                };
                let parts = encode(&delta);
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                assert!(decode(&parts).unwrap() == delta, "case {case}");
            }
        }
        other = whole;
    }
    assert!(n_read > 1_000, "most damage must not be caught by luck: {n_read}");
}

#[test]
fn damaged_parts_are_refused() {
    let mut rng = random::rng(41);
    let mut other = Vec::new();
    for case in 0..500_u32 {
        let whole = encode(&random::delta(&mut rng)).remove(0);
        for _ in 0..16 {
            let mut bytes = whole.clone();
            damage(&mut rng, &mut bytes, &other);
            let _ = part_head(&bytes);
            let is_whole = bytes == whole || bytes == other;
            assert!(is_whole || decode(&[&bytes]).is_err(), "case {case}");
        }
        other = whole;
    }
}

/// A body by hand: bounds of nothing, then what is given.
fn after_empty_bounds(section: &[u8]) -> Vec<u8> {
    [&[1, 2, 0, 0], section].concat()
}

#[test]
fn what_later_versions_write_is_refused_by_name() {
    let check = |kind: u8, what: &str| {
        let error = decode_body(&after_empty_bounds(&[kind, 1, 0])).unwrap_err();
        assert_eq!(error.to_string(), format!("this delta holds {what}"));
    };
    check(16, "a parked operation, which this version cannot read");
    check(17, "a superseded value, which this version cannot read");
    check(18, "an undo image, which this version cannot read");
    check(19, "a kind state, which this version cannot read");
    check(20, "a document update, which this version cannot read");
    check(8, "a section of kind 8, which this version does not know");
    check(23, "a section of kind 23, which this version does not know");
    check(0, "a section of kind 0, which this version does not know");
    let mut part = encode(&Default::default()).remove(0);
    part[4] = 2;
    let error = part_head(&part).unwrap_err().to_string();
    assert_eq!(error, "the delta has format version 2, this version reads 1");
}

/// Counts that a few bytes claim, each refused before memory is taken for it.
#[test]
fn inflated_counts_are_refused() {
    let varint = |mut n: u64| {
        let mut out = Vec::new();
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    };
    let huge = varint(u64::MAX);
    let section = |kind: u8, content: &[u8]| {
        after_empty_bounds(&[&[kind][..], &varint(content.len() as u64), content].concat())
    };
    let over = |body: &[u8], expected: &str| match decode_body(body) {
        Err(WireError::OverLimit { what, .. }) => assert_eq!(what, expected),
        other => panic!("{expected}: {other:?}"),
    };
    over(&[&[1, 10][..], &huge].concat(), "sites");
    over(&[&[1, 11, 0][..], &huge].concat(), "sites");
    over(&section(2, &huge), "spans of headers");
    over(&section(3, &[&[0][..], &huge].concat()), "columns");
    over(&section(3, &[&[0, 0][..], &huge].concat()), "rows");
    over(&section(4, &[&[0, 0, 1][..], &huge].concat()), "bytes of a row");
    // 2^18 rows of one key byte each may not claim 2^18 births each.
    let births = [&[0, 0, 2, 1, 2, 2, 2][..], &[2, 2, 1], &[4, 2], &varint(1 << 13)].concat();
    assert!(decode_body(&section(3, &births)).is_err());
    // Keys that grow by sharing with the key before: 2^17 times 1 KiB.
    let n_rows = 1_u64 << 17;
    let mut keys = [&[0][..], &varint(1024), &[1; 1024]].concat();
    (1..n_rows).for_each(|_| keys.extend([0x80, 0x08, 0]));
    let mut rows = [&[0, 0][..], &varint(n_rows), &[0]].concat();
    rows.extend(varint(keys.len() as u64));
    rows.extend(&keys);
    over(&section(3, &rows), "bytes of keys and texts");
}

/// A frame that unpacks to more than the head says, or than is allowed.
#[test]
fn a_frame_may_not_grow_beyond_its_head() {
    let mut part = encode(&Default::default()).remove(0);
    let (head, _) = part_head(&part).unwrap();
    let reseal = |part: &mut Vec<u8>| {
        let seal = anabranch_core::wire::Seal { delta: head.delta, of: head.of };
        anabranch_core::wire::seal(part, &seal);
    };
    let malformed = |part: &[u8]| {
        assert!(matches!(body(part), Err(WireError::Malformed { what: "zstd frame", .. })));
    };
    part[36] -= 1;
    reseal(&mut part);
    malformed(&part);
    part[36] += 2;
    reseal(&mut part);
    malformed(&part);
    part[36..40].copy_from_slice(&u32::MAX.to_le_bytes());
    reseal(&mut part);
    assert!(matches!(body(&part), Err(WireError::OverLimit { what: "decoded bytes", .. })));
    part[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    reseal(&mut part);
    assert!(matches!(part_head(&part), Err(WireError::OverLimit { what: "bytes", .. })));
}
