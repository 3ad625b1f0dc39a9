//! Local work: inserts, updates, deletes, one-row transactions.

use anyhow::Result;

use crate::measure::{Cost, cost_of, median};
use crate::options::{Options, keys, sides, wanted};
use crate::report::{Table, verdict};
use crate::side::{KeyKind, Side};
use crate::workload::{ROWS, SMALL, WORKLOADS, Workload, fresh};

/// Local work of every side, as ratios of processor and wall time to plain SQLite.
///
/// # Errors
/// SQLite's.
pub fn workloads(options: &Options) -> Result<String> {
    let sides = sides(options);
    let mut header = vec!["work".to_owned(), "key".into(), "plain, CPU ms".into()];
    for side in &sides[1..] {
        header.push(format!("{}, CPU", side.name()));
        header.push(format!("{}, wall", side.name()));
    }
    header.extend(["bar".into(), String::new()]);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new(&header);
    for workload in WORKLOADS.iter().filter(|w| wanted(options, w.name)) {
        for key in keys(options) {
            let costs = run_sides(options, &sides, workload, key)?;
            table.row(workload_row(workload, key, &costs));
        }
    }
    Ok(format!(
        "## Local work\n\n{ROWS} rows of four columns ({SMALL} one-row transactions); WAL, \
         synchronous NORMAL. Ratios to plain SQLite.\n\n{table}\n"
    ))
}

/// For each side, one cost a run; sides alternate within a run.
fn run_sides(
    options: &Options,
    sides: &[Side],
    workload: &Workload,
    key: KeyKind,
) -> Result<Vec<Vec<Cost>>> {
    let mut costs = vec![Vec::new(); sides.len()];
    for _ in 0..options.runs {
        for (side, costs) in sides.iter().zip(&mut costs) {
            let (_folder, connection) = fresh(side, key)?;
            (workload.prepare)(&connection, key)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            costs.push(cost_of(|| (workload.run)(&connection, key))?.0);
        }
    }
    Ok(costs)
}

fn workload_row(workload: &Workload, key: KeyKind, costs: &[Vec<Cost>]) -> Vec<String> {
    let ratio = |side: usize, base: usize, of: fn(&Cost) -> f64| {
        let ratios: Vec<f64> =
            costs[side].iter().zip(&costs[base]).map(|(cost, base)| of(cost) / of(base)).collect();
        median(&ratios, |ratio| *ratio)
    };
    let cpu: fn(&Cost) -> f64 = |cost| cost.cpu.as_secs_f64();
    let wall: fn(&Cost) -> f64 = |cost| cost.wall.as_secs_f64();
    let mut row = vec![
        workload.name.to_owned(),
        format!("{key:?}").to_lowercase(),
        format!("{:.1}", 1e3 * median(&costs[0], cpu)),
    ];
    for side in 1..costs.len() {
        row.push(format!("{:.2}", ratio(side, 0, cpu)));
        row.push(format!("{:.2}", ratio(side, 0, wall)));
    }
    let bar = if key == KeyKind::Uuid { workload.bar_uuid } else { workload.bar };
    let base = usize::from(workload.against_trigger);
    row.push(format!("{bar}{}", if base == 1 { "x of the trigger" } else { "x" }));
    // A tenth of grace where equality is the bar: it is noise.
    let grace = if bar <= 1.0 { 1.1 } else { 1.0 };
    row.push(verdict(ratio(2, base, cpu), bar * grace));
    row
}
