//! Random values, keys and deltas from a seed.

use anabranch_core::change::{ChangeHeader, ChangeKind, Dep};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::{
    Birth, CellDelta, Complete, Delta, DeltaDot, RowDelta, SaltRun, SiteIdx, TableDelta, TableFloor,
};
use anabranch_core::key::pack;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::{Held, VersionVector};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

pub(crate) fn site(n: u8) -> SiteId {
    SiteId::new(&[n; 16]).expect("16 bytes are a site")
}

/// A value of any type, edges more often than the middle.
pub(crate) fn value(rng: &mut StdRng) -> Value {
    match rng.random_range(0..5) {
        0 => Value::Null,
        1 => Value::Integer(integer(rng)),
        2 => Value::Real(real(rng)),
        3 => Value::Text(text(rng).into_bytes()),
        _ => Value::Blob(bytes(rng, 12)),
    }
}

pub(crate) fn integer(rng: &mut StdRng) -> i64 {
    let edges = [0, 1, -1, 127, 128, 255, 256, 1 << 51, (1 << 53) + 1, i64::MAX, i64::MIN];
    match rng.random_range(0..3) {
        0 => *edges.choose(rng).expect("there are edges"),
        1 => rng.random_range(-5..300),
        _ => rng.random(),
    }
}

pub(crate) fn real(rng: &mut StdRng) -> f64 {
    let edges = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        0.1,
        1e14,
        1e15,
        1e-4,
        1e-5,
        1e300,
        5e-324,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        9_223_372_036_854_775_808.0,
        -9_223_372_036_854_775_808.0,
        9_007_199_254_740_993.0,
    ];
    match rng.random_range(0..3) {
        0 => *edges.choose(rng).expect("there are edges"),
        1 => f64::from(rng.random_range(-3000..3000)) / 4.0,
        _ => rng.random_range(-1e6..1e6),
    }
}

pub(crate) fn text(rng: &mut StdRng) -> String {
    let alphabet: Vec<char> = "aAbBéÉ漢🦀 0\t".chars().collect();
    let len = rng.random_range(0..6);
    (0..len).map(|_| *alphabet.choose(rng).expect("not empty")).collect()
}

pub(crate) fn bytes(rng: &mut StdRng, max_len: usize) -> Vec<u8> {
    (0..rng.random_range(0..=max_len)).map(|_| rng.random()).collect()
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut noise = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

/// A delta that keeps all invariants, its chains too.
pub(crate) fn delta(rng: &mut StdRng) -> Delta {
    let n_sites = rng.random_range(1..4_u8);
    let sites: Vec<SiteId> = (1..=n_sites).map(site).collect();
    let mut delta = Delta { sites: sites.clone(), ..Delta::default() };
    let from: Vec<u64> = sites.iter().map(|_| rng.random_range(0..4)).collect();
    let to: Vec<u64> = from.iter().map(|low| low + rng.random_range(1..5)).collect();
    let mut complete = (rng.random_range(0..3) == 0).then(|| complete(rng));
    for (i, site) in sites.iter().enumerate() {
        let mut chain = Chain(if from[i] == 0 { [0; 16] } else { rng.random() });
        if let Some(complete) = &mut complete {
            chain = Chain::default();
            for version in 1..=from[i] {
                let last = delta.salts.last().filter(|last| last.site == *site).copied();
                let run = last.filter(|_| rng.random()).unwrap_or_else(|| {
                    delta.salts.push(SaltRun { site: *site, version, salt: rng.random() });
                    delta.salts[delta.salts.len() - 1]
                });
                chain = chain.next(*site, version, run.salt);
            }
            complete.floor.set(*site, Held { version: from[i], chain });
        } else {
            delta.from.set(*site, Held { version: from[i], chain });
        }
        for version in from[i] + 1..=to[i] {
            let header = header(rng, *site, version, &sites, &to);
            chain = chain.next(*site, version, header.salt);
            delta.headers.push(header);
        }
        delta.to.set(*site, Held { version: to[i], chain });
    }
    delta.complete = complete;
    if delta.complete.is_none() && rng.random_range(0..3) == 0 {
        let mut seen = VersionVector::new();
        for (site, low) in delta.from.iter() {
            let version = rng.random_range(1..=low.version);
            seen.set(site, Held { version, chain: Chain::default() });
        }
        delta.seen = Some(seen);
    }
    // A foreign origin that authored nothing here.
    delta.sites.push(SiteId::new(b"ab").expect("two bytes are a site"));
    for name in ["a", "b b", "ü\"x"].into_iter().take(rng.random_range(0..=3)) {
        delta.tables.push(table(rng, name, &from, &to));
    }
    delta
}

/// Tables with restart lengths, and no floor yet.
fn complete(rng: &mut StdRng) -> Complete {
    let mut complete = Complete::default();
    for name in ["a", "m", "ü\"x"].into_iter().take(rng.random_range(0..=3)) {
        let restart_length = 1 + 2 * rng.random_range(0..300);
        let is_whole = rng.random();
        complete.tables.push(TableFloor { name: name.to_owned(), restart_length, is_whole });
    }
    complete
}

fn header(
    rng: &mut StdRng,
    site: SiteId,
    version: u64,
    sites: &[SiteId],
    to: &[u64],
) -> ChangeHeader {
    let others = sites.iter().zip(to).filter(|(other, _)| **other != site);
    let deps = others.filter(|_| rng.random()).map(|(site, high)| Dep {
        site: *site,
        version: 1.max(high - 1),
        chain: Chain([7; 16]),
    });
    let deps = deps.collect();
    let kinds = [ChangeKind::Edit, ChangeKind::Import, ChangeKind::Schema, ChangeKind::Restore];
    ChangeHeader {
        site,
        version,
        salt: rng.random(),
        time: Hlc(rng.random_range(1 << 56..1 << 57)),
        deps,
        author: rng.random::<bool>().then(|| text(rng)),
        message: rng.random::<bool>().then(|| text(rng)),
        kind: *kinds.choose(rng).expect("there are kinds"),
        blobs: match rng.random_range(0..4) {
            0 => (0..rng.random_range(1..5_u8)).map(|n| [n; 32]).collect(),
            _ => Vec::new(),
        },
    }
}

fn dot(rng: &mut StdRng, from: &[u64], to: &[u64]) -> DeltaDot {
    let site = rng.random_range(0..from.len());
    let version = rng.random_range(from[site] + 1..=to[site]);
    DeltaDot { site: SiteIdx(site as u32), version }
}

fn table(rng: &mut StdRng, name: &str, from: &[u64], to: &[u64]) -> TableDelta {
    let columns: Vec<String> = ["x", "", "y\"", "z"].into_iter().map(str::to_owned).collect();
    let mut keys: Vec<Vec<u8>> = (0..rng.random_range(0..20))
        .map(|_| {
            let values: Vec<Value> = match rng.random_range(0..2) {
                0 => vec![Value::Integer(integer(rng))],
                _ => (0..rng.random_range(0..3)).map(|_| value(rng)).collect(),
            };
            let values: Vec<ValueRef<'_>> = values.iter().map(Value::as_ref).collect();
            pack(&values).expect("few values")
        })
        .collect();
    keys.sort();
    keys.dedup();
    let rows = keys.into_iter().map(|key| row(rng, key, columns.len() as u32, from, to)).collect();
    TableDelta { name: name.to_owned(), columns, rows }
}

fn row(rng: &mut StdRng, key: Vec<u8>, n_columns: u32, from: &[u64], to: &[u64]) -> RowDelta {
    let causal_length = rng.random_range(1..5);
    let origin = |rng: &mut StdRng| SiteIdx(rng.random_range(0..=from.len() as u32));
    let mut births: Vec<Birth> = (0..rng.random_range(0..3))
        .map(|_| Birth { dot: dot(rng, from, to), origin: origin(rng) })
        .collect();
    births.sort_by_key(|birth| birth.dot);
    births.dedup_by_key(|birth| birth.dot);
    let mut cells = Vec::new();
    for column in 0..n_columns {
        if causal_length % 2 == 1 && rng.random_range(0..3) > 0 {
            let (version, dot) = (rng.random_range(1..4), dot(rng, from, to));
            let (origin, value) = (origin(rng), value(rng));
            cells.push(CellDelta { column, version, dot, origin, value });
        }
    }
    RowDelta { key, causal_length, births, cells }
}

/// A vector over single-byte sites, for laws.
pub(crate) fn vector(rng: &mut StdRng) -> VersionVector {
    let mut vector = VersionVector::new();
    for n in 1..6 {
        if rng.random() {
            let chain = Chain(rng.random());
            vector.set(site(n), Held { version: rng.random_range(1..10), chain });
        }
    }
    vector
}
