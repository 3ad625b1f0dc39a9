//! The two doors: reading changes, merging them row by row and as deltas.

use anyhow::Result;
use rusqlite::Connection;

use crate::measure::{cost_of, median};
use crate::options::{Options, keys, wanted};
use crate::report::{Table, verdict, verdict_rate};
use crate::side::{KeyKind, Side};
use crate::workload::{ROWS, fresh, insert_all};

/// All columns of `crsql_changes`.
pub const CHANGES: &str = "SELECT [table], pk, cid, val, col_version, db_version, site_id, cl, seq \
                       FROM crsql_changes";
/// What tells which changes there are, without a look at the user's table.
const STAMPS: &str = "SELECT [table], pk, cid, col_version, db_version, site_id, cl, seq \
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
            one_side_of_the_doors(options, side, key, &mut table)?;
        }
    }
    Ok(format!("## Reading and merging\n\n{} changes.\n\n{table}\n", 4 * ROWS))
}

/// Rates by name of the work, with their bars.
#[derive(Default)]
struct Rates {
    rates: Vec<(&'static str, f64, Vec<f64>)>,
    firsts: Vec<f64>,
}

impl Rates {
    /// Runs a work if it is wanted, and notes how many changes a second it did.
    fn run<T>(
        &mut self,
        options: &Options,
        name: &'static str,
        bar: f64,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<()> {
        if !wanted(options, name) {
            return Ok(());
        }
        let rate = 4.0 * ROWS as f64 / cost_of(work)?.0.cpu.as_secs_f64();
        match self.rates.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., rates)) => rates.push(rate),
            None => self.rates.push((name, bar, vec![rate])),
        }
        Ok(())
    }
}

const READ_ALL: &str = "read all changes";
const READ_NO_VALUES: &str = "read all changes, all but their values";
const FIRST: &str = "first change of a full read";
const MERGE_ROWS: &str = "merge into an empty database, row by row";
const MERGE_KNOWN: &str = "merge what is already there, row by row";
const MERGE_CONFLICTS: &str = "conflicting cells, incoming wins";
const EXPORT: &str = "export as one delta";
const MERGE_DELTA: &str = "merge into an empty database, as one delta";
const MERGE_KNOWN_DELTA: &str = "merge what is already there, as one delta";

fn one_side_of_the_doors(
    options: &Options,
    side: &Side,
    key: KeyKind,
    table: &mut Table,
) -> Result<()> {
    let mut rates = Rates::default();
    for _ in 0..options.runs {
        let (_folder, source) = fresh(side, key)?;
        insert_all(&source, key, 0)?;
        read(options, &source, &mut rates)?;
        if [MERGE_ROWS, MERGE_KNOWN, MERGE_CONFLICTS].iter().any(|name| wanted(options, name)) {
            merge_rows(options, side, key, &source, &mut rates)?;
        }
        if *side == Side::Ours {
            rates.run(options, EXPORT, 1e6, || export(&source))?;
        }
        if *side == Side::Ours
            && [MERGE_DELTA, MERGE_KNOWN_DELTA].iter().any(|name| wanted(options, name))
        {
            let delta = export(&source)?;
            let (_folder, target) = fresh(side, key)?;
            rates.run(options, MERGE_DELTA, 1e6, || apply(&target, &delta))?;
            rates.run(options, MERGE_KNOWN_DELTA, 1e6, || apply(&target, &delta))?;
        }
    }
    report(&rates, side, key, table);
    Ok(())
}

fn read(options: &Options, source: &Connection, rates: &mut Rates) -> Result<()> {
    if wanted(options, FIRST) {
        let (first, ()) = cost_of(|| Ok(source.query_row(CHANGES, [], |_| Ok(()))?))?;
        rates.firsts.push(1e3 * first.wall.as_secs_f64());
    }
    rates.run(options, READ_ALL, 1e6, || count_changes(source, CHANGES))?;
    rates.run(options, READ_NO_VALUES, 1e6, || count_changes(source, STAMPS))
}

fn merge_rows(
    options: &Options,
    side: &Side,
    key: KeyKind,
    source: &Connection,
    rates: &mut Rates,
) -> Result<()> {
    let changes = read_changes(source)?;
    let (_folder, target) = fresh(side, key)?;
    rates.run(options, MERGE_ROWS, 4e5, || merge_changes(&target, &changes))?;
    rates.run(options, MERGE_KNOWN, 1e6, || merge_changes(&target, &changes))?;
    source.execute_batch("UPDATE t SET a = 7, b = 8, c = 9, d = 10")?;
    let changes = read_changes(source)?;
    rates.run(options, MERGE_CONFLICTS, 2.5e5, || merge_changes(&target, &changes))
}

fn report(rates: &Rates, side: &Side, key: KeyKind, table: &mut Table) {
    let mut row = |name: &str, measured: String, bar: String, verdict: String| {
        let key = format!("{key:?}").to_lowercase();
        table.row(vec![name.into(), key, side.name(), measured, bar, verdict]);
    };
    for (name, bar, rates) in &rates.rates {
        let rate = median(rates, |rate| *rate);
        row(name, format!("{rate:.0}"), format!("{bar:.0}"), verdict_rate(rate, *bar));
    }
    if !rates.firsts.is_empty() {
        let first = median(&rates.firsts, |ms| *ms);
        row(FIRST, format!("{first:.2} ms"), "1 ms".into(), verdict(first, 1.0));
    }
}

/// Reads every column of every row, as a client that sends them would.
#[inline(never)]
fn count_changes(connection: &Connection, sql: &str) -> Result<u64> {
    let mut select = connection.prepare(sql)?;
    let n_columns = select.column_count();
    let mut rows = select.query([])?;
    let mut n = 0;
    while let Some(row) = rows.next()? {
        for column in 0..n_columns {
            std::hint::black_box(row.get_ref(column)?);
        }
        n += 1;
    }
    Ok(n)
}
