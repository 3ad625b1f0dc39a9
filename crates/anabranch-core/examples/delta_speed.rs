//! How fast deltas become bytes and back, on one core: cells a second of each shape.
//!
//! `cargo run --release -p anabranch-core --example delta_speed [rows]`

use std::time::{Duration, Instant};

use anabranch_core::change::{ChangeHeader, ChangeKind};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::{Birth, CellDelta, Delta, DeltaDot, RowDelta, SiteIdx, TableDelta};
use anabranch_core::key::pack;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::Held;
use anabranch_core::wire::{decode, encode};

const N_COLUMNS: u32 = 4;
const N_RUNS: usize = 5;

fn main() {
    let n_rows = std::env::args().nth(1).map_or(100_000, |rows| rows.parse().expect("a number"));
    println!("{n_rows} rows x {N_COLUMNS} columns, median of {N_RUNS}");
    println!("{:<34} {:>14} {:>14} {:>8}", "", "encode", "decode", "B/cell");
    measure("integers, integer keys", &delta(n_rows, 1, |n, _| Value::Integer(n as i64)));
    measure("mixed, integer keys", &delta(n_rows, 1, mixed));
    measure("mixed, UUID keys", &uuid_keys(delta(n_rows, 1, mixed)));
    measure("mixed, a change for each row", &delta(n_rows, n_rows, mixed));
    measure("mixed, UUID keys, random dots", &random_dots(uuid_keys(delta(n_rows, n_rows, mixed))));
}

fn measure(name: &str, delta: &Delta) {
    let n_cells: usize =
        delta.tables.iter().flat_map(|table| &table.rows).map(|row| row.cells.len()).sum();
    let mut parts = Vec::new();
    let encoding = median(|| parts = encode(delta));
    let refs: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let mut back = Delta::default();
    let decoding = median(|| back = decode(&refs).expect("own bytes are read"));
    assert!(back == *delta, "what came back differs");
    let n_bytes: usize = parts.iter().map(Vec::len).sum();
    let rate = |time: Duration| format!("{:.2} M/s", n_cells as f64 / time.as_secs_f64() / 1e6);
    let per_cell = n_bytes as f64 / n_cells as f64;
    println!("{name:<34} {:>14} {:>14} {per_cell:>8.1}", rate(encoding), rate(decoding));
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..N_RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[N_RUNS / 2]
}

/// Splitmix64 (Steele, Lea, Flood 2014): a number without pattern from its index.
fn scattered(index: u64) -> u64 {
    let z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn mixed(row: u64, column: u32) -> Value {
    let noise = scattered(row << 2 | u64::from(column));
    match column {
        0 => Value::Integer((noise % 100_000) as i64),
        1 => Value::Text(format!("name {}", noise % 1_000_000).into_bytes()),
        2 => Value::Real((noise % 10_000) as f64 / 100.0),
        _ if noise.is_multiple_of(4) => Value::Null,
        _ => Value::Text(format!("street {} no. {}", noise >> 50, noise % 200).into_bytes()),
    }
}

fn delta(n_rows: u64, n_changes: u64, value: impl Fn(u64, u32) -> Value) -> Delta {
    let site = SiteId::from_random([7; 16]);
    let mut delta = Delta { sites: vec![site], ..Delta::default() };
    let mut chain = Chain::default();
    for version in 1..=n_changes {
        let salt = scattered(version);
        chain = chain.next(site, version, salt);
        delta.headers.push(ChangeHeader {
            site,
            version,
            salt,
            time: Hlc(version << 24),
            deps: Vec::new(),
            author: None,
            message: None,
            kind: ChangeKind::Edit,
        });
    }
    delta.to.set(site, Held { version: n_changes, chain });
    let row = |n: u64| {
        let dot = DeltaDot { site: SiteIdx(0), version: 1 + n * n_changes / n_rows };
        let cell = |column| CellDelta {
            column,
            version: 1,
            dot,
            origin: SiteIdx(0),
            value: value(n, column),
        };
        RowDelta {
            key: pack(&[ValueRef::Integer(n as i64)]).expect("one value"),
            causal_length: 1,
            births: vec![Birth { dot, origin: SiteIdx(0) }],
            cells: (0..N_COLUMNS).map(cell).collect(),
        }
    };
    delta.tables.push(TableDelta {
        name: "t".to_owned(),
        columns: (0..N_COLUMNS).map(|column| format!("c{column}")).collect(),
        rows: (0..n_rows).map(row).collect(),
    });
    delta
}

fn uuid_keys(mut delta: Delta) -> Delta {
    for (n, row) in (0..).zip(&mut delta.tables[0].rows) {
        let uuid = [scattered(n), scattered(!n)].map(u64::to_be_bytes).concat();
        row.key = pack(&[ValueRef::Blob(&uuid)]).expect("one value");
    }
    delta.tables[0].rows.sort_by(|a, b| a.key.cmp(&b.key));
    delta
}

fn random_dots(mut delta: Delta) -> Delta {
    let n_changes = delta.headers.len() as u64;
    let cells = delta.tables[0].rows.iter_mut().flat_map(|row| &mut row.cells);
    for (n, cell) in (0..).zip(cells) {
        cell.dot.version = 1 + scattered(n) % n_changes;
        cell.version = 1 + scattered(!n) % 3;
    }
    delta
}
