//! The two doors: reading changes, merging them row by row and as deltas.

use anyhow::Result;
use rusqlite::Connection;

use crate::measure::{Cost, cost_of, median};
use crate::options::{Options, keys};
use crate::report::{Table, verdict, verdict_rate};
use crate::side::{KeyKind, Side};
use crate::workload::{ROWS, fresh, insert_all};

/// All columns of `crsql_changes`.
pub const CHANGES: &str = "SELECT [table], pk, cid, val, col_version, db_version, site_id, cl, seq \
                       FROM crsql_changes";
const INSERT_CHANGE: &str = "INSERT INTO crsql_changes VALUES(?,?,?,?,?,?,?,?,?)";

type Change = Vec<rusqlite::types::Value>;

fn read_changes(connection: &Connection) -> Result<Vec<Change>> {
    let mut select = connection.prepare(CHANGES)?;
    let rows = select.query_map([], |row| (0..9).map(|i| row.get(i)).collect())?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn merge_changes(connection: &Connection, changes: &[Change]) -> Result<()> {
    connection.execute_batch("BEGIN")?;
    let mut insert = connection.prepare(INSERT_CHANGE)?;
    for change in changes {
        insert.execute(rusqlite::params_from_iter(change))?;
    }
    drop(insert);
    Ok(connection.execute_batch("COMMIT")?)
}

fn export(connection: &Connection) -> Result<Vec<u8>> {
    Ok(connection.query_row("SELECT ana_export()", [], |row| row.get(0))?)
}

fn apply(connection: &Connection, delta: &[u8]) -> Result<()> {
    connection.query_row("SELECT ana_apply(?1)", [delta], |_| Ok(()))?;
    Ok(())
}

/// Reading and merging changes, as rates.
///
/// # Errors
/// SQLite's.
pub fn doors(options: &Options) -> Result<String> {
    let mut table = Table::new(&["work", "key", "side", "changes/s (CPU)", "bar", ""]);
    let mut merging = vec![Side::Ours];
    merging.extend(options.against.clone().map(Side::Extension));
    for key in keys(options) {
        for side in &merging {
            one_side_of_the_doors(options, side, *key, &mut table)?;
        }
    }
    Ok(format!("## Reading and merging\n\n{} changes.\n\n{table}\n", 4 * ROWS))
}

fn one_side_of_the_doors(
    options: &Options,
    side: &Side,
    key: KeyKind,
    table: &mut Table,
) -> Result<()> {
    let mut rates: Vec<(&str, f64, Vec<f64>)> = Vec::new();
    let mut firsts = Vec::new();
    let mut note = |name: &'static str, bar: f64, cost: Cost| {
        let rate = 4.0 * ROWS as f64 / cost.cpu.as_secs_f64();
        match rates.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., rates)) => rates.push(rate),
            None => rates.push((name, bar, vec![rate])),
        }
    };
    for _ in 0..options.runs {
        let (_folder, source) = fresh(side, key)?;
        insert_all(&source, key, 0)?;
        let (first, ()) = cost_of(|| Ok(source.query_row(CHANGES, [], |_| Ok(()))?))?;
        firsts.push(1e3 * first.wall.as_secs_f64());
        note("read all changes", 1e6, cost_of(|| count_changes(&source))?.0);
        let changes = read_changes(&source)?;
        let (_folder, target) = fresh(side, key)?;
        note(
            "merge into an empty database, row by row",
            4e5,
            cost_of(|| merge_changes(&target, &changes))?.0,
        );
        note(
            "merge what is already there, row by row",
            1e6,
            cost_of(|| merge_changes(&target, &changes))?.0,
        );
        source.execute_batch("UPDATE t SET a = 7, b = 8, c = 9, d = 10")?;
        let changes = read_changes(&source)?;
        note(
            "conflicting cells, incoming wins",
            2.5e5,
            cost_of(|| merge_changes(&target, &changes))?.0,
        );
        if *side == Side::Ours {
            let (cost, delta) = cost_of(|| export(&source))?;
            note("export as one delta", 1e6, cost);
            let (_folder, target) = fresh(side, key)?;
            note(
                "merge into an empty database, as one delta",
                1e6,
                cost_of(|| apply(&target, &delta))?.0,
            );
            note(
                "merge what is already there, as one delta",
                1e6,
                cost_of(|| apply(&target, &delta))?.0,
            );
        }
    }
    for (name, bar, rates) in rates {
        let rate = median(&rates, |rate| *rate);
        table.row(vec![
            name.into(),
            format!("{key:?}").to_lowercase(),
            side.name(),
            format!("{rate:.0}"),
            format!("{bar:.0}"),
            verdict_rate(rate, bar),
        ]);
    }
    let first = median(&firsts, |ms| *ms);
    table.row(vec![
        "first change of a full read".into(),
        format!("{key:?}").to_lowercase(),
        side.name(),
        format!("{first:.2} ms"),
        "1 ms".into(),
        verdict(first, 1.0),
    ]);
    Ok(())
}

/// Reads every column of every change, as a client that sends them would.
fn count_changes(connection: &Connection) -> Result<u64> {
    let mut select = connection.prepare(CHANGES)?;
    let mut rows = select.query([])?;
    let mut n = 0;
    while let Some(row) = rows.next()? {
        for column in 0..9 {
            std::hint::black_box(row.get_ref(column)?);
        }
        n += 1;
    }
    Ok(n)
}
