//! Deltas as bytes and back, without a database: cells a second of each shape.

use anabranch_core::change::{ChangeHeader, ChangeKind};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::{Birth, CellDelta, Delta, DeltaDot, RowDelta, SiteIdx, TableDelta};
use anabranch_core::key::pack;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::Held;
use anabranch_core::wire::{decode, encode};
use anyhow::{Result, ensure};

use crate::measure::{cost_of, median};
use crate::options::Options;
use crate::report::{Table, verdict_rate};
use crate::side::scatter;
use crate::workload::ROWS;

const N_COLUMNS: u32 = 4;
/// Cells a second, each way.
const BAR: f64 = 1e6;

/// Encoding and decoding.
///
/// # Errors
/// What was encoded is not what is decoded.
pub fn deltas(options: &Options) -> Result<String> {
    let columns = ["cells", "encoded/s (CPU)", "decoded/s (CPU)", "bytes each", "bar", ""];
    let mut table = Table::new(&columns);
    let mut measure = |name: &str, delta: Delta| row(options, name, &delta, &mut table);
    measure("integers, integer keys", delta(1, |n, _| Value::Integer(n as i64)))?;
    measure("mixed, integer keys", delta(1, mixed))?;
    measure("mixed, UUID keys", uuid_keys(delta(1, mixed)))?;
    measure("mixed, a change for each row", delta(ROWS, mixed))?;
    measure("mixed, UUID keys, random dots", random_dots(uuid_keys(delta(ROWS, mixed))))?;
    Ok(format!("## Deltas without a database\n\n{ROWS} rows of {N_COLUMNS} columns.\n\n{table}\n"))
}

fn row(options: &Options, name: &str, delta: &Delta, table: &mut Table) -> Result<()> {
    let rows = delta.tables.iter().flat_map(|table| &table.rows);
    let n_cells = rows.map(|row| row.cells.len()).sum::<usize>() as f64;
    let (mut encoding, mut decoding, mut n_bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.runs {
        let (cost, parts) = cost_of(|| Ok(encode(delta)))?;
        encoding.push(n_cells / cost.cpu.as_secs_f64());
        n_bytes = parts.iter().map(Vec::len).sum();
        let refs: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let (cost, back) = cost_of(|| Ok(decode(&refs)?))?;
        decoding.push(n_cells / cost.cpu.as_secs_f64());
        ensure!(back == *delta, "what came back differs");
    }
    let [encoding, decoding] = [encoding, decoding].map(|rates| median(&rates, |rate| *rate));
    table.row(vec![
        name.into(),
        format!("{encoding:.0}"),
        format!("{decoding:.0}"),
        format!("{:.1}", n_bytes as f64 / n_cells),
        format!("{BAR:.0}"),
        verdict_rate(encoding.min(decoding), BAR),
    ]);
    Ok(())
}

fn mixed(row: u64, column: u32) -> Value {
    let noise = scatter(row << 2 | u64::from(column));
    match column {
        0 => Value::Integer((noise % 100_000) as i64),
        1 => Value::Text(format!("name {}", noise % 1_000_000).into_bytes()),
        2 => Value::Real((noise % 10_000) as f64 / 100.0),
        _ if noise.is_multiple_of(4) => Value::Null,
        _ => Value::Text(format!("street {} no. {}", noise >> 50, noise % 200).into_bytes()),
    }
}

fn delta(n_changes: u64, value: impl Fn(u64, u32) -> Value) -> Delta {
    let site = SiteId::from_random([7; 16]);
    let mut delta = Delta { sites: vec![site], ..Delta::default() };
    let mut chain = Chain::default();
    for version in 1..=n_changes {
        let salt = scatter(version);
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
            blobs: Vec::new(),
        });
    }
    delta.to.set(site, Held { version: n_changes, chain });
    let row = |n: u64| {
        let dot = DeltaDot { site: SiteIdx(0), version: 1 + n * n_changes / ROWS };
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
        rows: (0..ROWS).map(row).collect(),
    });
    delta
}

fn uuid_keys(mut delta: Delta) -> Delta {
    for (n, row) in (0..).zip(&mut delta.tables[0].rows) {
        let uuid = [scatter(n), scatter(!n)].map(u64::to_be_bytes).concat();
        row.key = pack(&[ValueRef::Blob(&uuid)]).expect("one value");
    }
    delta.tables[0].rows.sort_by(|a, b| a.key.cmp(&b.key));
    delta
}

fn random_dots(mut delta: Delta) -> Delta {
    let n_changes = delta.headers.len() as u64;
    let cells = delta.tables[0].rows.iter_mut().flat_map(|row| &mut row.cells);
    for (n, cell) in (0..).zip(cells) {
        cell.dot.version = 1 + scatter(n) % n_changes;
        cell.version = 1 + scatter(!n) % 3;
    }
    delta
}
