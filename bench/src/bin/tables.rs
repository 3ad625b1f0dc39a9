//! `cargo xtask bench tables`: the table of docs/bench-tables.md.

use std::path::PathBuf;

use anabranch_bench::measure::{Cost, cost_of, median};
use anabranch_bench::report::{Table, verdict, verdict_rate};
use anabranch_bench::side::{KeyKind, Side};
use anabranch_bench::workload::{
    ROWS, SMALL, WORKLOADS, Workload, fresh, insert_all, insert_range,
};
use anyhow::{Context, Result, bail};
use rusqlite::{Connection, params};

const HELP: &str = "\
cargo xtask bench tables [--runs N] [--quick] [--against EXTENSION] [--write FILE]

  --runs N       runs of each workload, alternating between the sides (default 5)
  --quick        1 run, integer keys only, no million-row part
  --against P    also measures the extension at P (the same SQL, entry sqlite3_crsqlite_init)
  --only TEXT    workloads whose name holds TEXT
  --write FILE   writes the report there too
";

struct Options {
    runs: usize,
    is_quick: bool,
    against: Option<PathBuf>,
    only: Option<String>,
    write: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = options()?;
    let mut report = String::new();
    report += &workloads(&options)?;
    report += &doors(&options)?;
    report += &sizes(&options)?;
    if !options.is_quick {
        report += &million()?;
    }
    report += &folding()?;
    println!("{report}");
    if let Some(path) = &options.write {
        let head = "# Tables: measured\n\nMade by `cargo xtask bench tables`; medians, ratios taken \
                    run by run.\n\n";
        std::fs::write(path, format!("{head}{report}"))?;
    }
    Ok(())
}

fn options() -> Result<Options> {
    let mut options = Options { runs: 5, is_quick: false, against: None, only: None, write: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--runs" => options.runs = value()?.parse().context("--runs needs a number")?,
            "--quick" => (options.is_quick, options.runs) = (true, 1),
            "--against" => options.against = Some(value()?.into()),
            "--only" => options.only = Some(value()?),
            "--write" => options.write = Some(value()?.into()),
            "--help" => {
                print!("{HELP}");
                std::process::exit(0);
            }
            other => bail!("no option `{other}`\n\n{HELP}"),
        }
    }
    Ok(options)
}

fn wanted(options: &Options, name: &str) -> bool {
    options.only.as_ref().is_none_or(|text| name.contains(text.as_str()))
}

fn sides(options: &Options) -> Vec<Side> {
    let mut sides = vec![Side::Plain, Side::Trigger, Side::Ours];
    sides.extend(options.against.clone().map(Side::Extension));
    sides
}

fn keys(options: &Options) -> &'static [KeyKind] {
    if options.is_quick {
        &[KeyKind::Integer]
    } else {
        &[KeyKind::Integer, KeyKind::Text, KeyKind::Uuid]
    }
}

/// Local work of every side, as ratios of processor and wall time to plain SQLite.
fn workloads(options: &Options) -> Result<String> {
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
            let costs = run_sides(options, &sides, workload, *key)?;
            table.row(workload_row(workload, *key, &costs));
        }
    }
    Ok(format!(
        "## Local work\n\n{ROWS} rows of four columns ({SMALL} one-row transactions); WAL, synchronous \
         NORMAL. Ratios to plain SQLite.\n\n{table}\n"
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

const CHANGES: &str = "SELECT [table], pk, cid, val, col_version, db_version, site_id, cl, seq \
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
fn doors(options: &Options) -> Result<String> {
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

/// Bytes of all tables and indexes but the user's own, after a checkpoint.
fn metadata_bytes(connection: &Connection) -> Result<f64> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let sql = "SELECT coalesce(sum(pgsize), 0) FROM dbstat \
               WHERE name NOT IN ('t', 'sqlite_autoindex_t_1', 'sqlite_schema')";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))? as f64)
}

/// Bytes per row of what is kept beside the user's table.
fn sizes(options: &Options) -> Result<String> {
    let mut table = Table::new(&["metadata of", "key", "bytes each", "bar", ""]);
    for key in keys(options) {
        let is_uuid = *key == KeyKind::Uuid;
        let (_folder, c) = fresh(&Side::Ours, *key)?;
        let empty = metadata_bytes(&c)?;
        insert_all(&c, *key, 0)?;
        let bulk = metadata_bytes(&c)?;
        size_row(
            &mut table,
            "a row inserted in bulk",
            *key,
            (bulk - empty) / ROWS as f64,
            if is_uuid { 26.0 } else { 2.0 },
        );
        c.execute_batch("DELETE FROM t")?;
        let dead = metadata_bytes(&c)?;
        size_row(
            &mut table,
            "a tombstone (the row's insert included)",
            *key,
            (dead - empty) / ROWS as f64,
            if is_uuid { 46.0 } else { 20.0 },
        );
        size_row(
            &mut table,
            "a tombstone (what a deletion adds)",
            *key,
            (dead - bulk) / ROWS as f64,
            20.0,
        );
        let (_folder, c) = fresh(&Side::Ours, *key)?;
        let empty = metadata_bytes(&c)?;
        let mut insert = c.prepare("INSERT INTO t VALUES(?1, ?2, 2, 3, 4)")?;
        for n in 1..=5_000u64 {
            insert.execute(params![key.key(n), n as i64])?;
        }
        drop(insert);
        let single = (metadata_bytes(&c)? - empty) / 5_000.0;
        size_row(
            &mut table,
            "a row inserted alone, header included",
            *key,
            single,
            if is_uuid { 66.0 } else { 48.0 },
        );
    }
    Ok(format!("## Sizes\n\nFrom `dbstat` after a checkpoint.\n\n{table}\n"))
}

fn size_row(table: &mut Table, what: &str, key: KeyKind, bytes: f64, bar: f64) {
    table.row(vec![
        what.into(),
        format!("{key:?}").to_lowercase(),
        format!("{bytes:.1}"),
        format!("{bar}"),
        verdict(bytes, bar),
    ]);
}

/// Seeks in a million rows.
fn million() -> Result<String> {
    const MANY: u64 = 1_000_000;
    let mut table = Table::new(&["one million rows", "key", "median", "bar", ""]);
    for key in [KeyKind::Integer, KeyKind::Uuid] {
        let (_folder, c) = fresh(&Side::Ours, key)?;
        for chunk in 0..10 {
            insert_range(&c, key, chunk * MANY / 10 + 1, (chunk + 1) * MANY / 10, 0)?;
        }
        let one_row = format!("{CHANGES} WHERE [table] = 't' AND pk = crsql_pack_columns(?1)");
        let mut select = c.prepare(&one_row)?;
        let mut times = Vec::new();
        for n in 1..=500u64 {
            let key = key.key(1 + (n * 7919) % MANY);
            let (cost, n) = cost_of(|| Ok(select.query_map([key], |_| Ok(()))?.count()))?;
            assert_eq!(n, 4, "a row has four changes");
            times.push(1e3 * cost.wall.as_secs_f64());
        }
        drop(select);
        let time = median(&times, |ms| *ms);
        table.row(vec![
            "changes of one row".into(),
            format!("{key:?}").to_lowercase(),
            format!("{time:.3} ms"),
            "1 ms".into(),
            verdict(time, 1.0),
        ]);
        let mut times = Vec::new();
        let since = format!("{CHANGES} WHERE db_version > ?1");
        let mut select = c.prepare(&since)?;
        let mut insert = c.prepare("INSERT INTO t VALUES(?1, 1, 2, 3, 4)")?;
        for n in 1..=200u64 {
            let version: i64 = c.query_row("SELECT crsql_db_version()", [], |row| row.get(0))?;
            insert.execute([key.key(MANY + n)])?;
            let (cost, n) = cost_of(|| Ok(select.query_map([version], |_| Ok(()))?.count()))?;
            assert_eq!(n, 4, "one new row has four changes");
            times.push(1e3 * cost.wall.as_secs_f64());
        }
        let time = median(&times, |ms| *ms);
        table.row(vec![
            "changes since a version, one row new".into(),
            format!("{key:?}").to_lowercase(),
            format!("{time:.3} ms"),
            "0.1 ms".into(),
            verdict(time, 0.1),
        ]);
        drop((select, insert));
        let decoded: Option<i64> = c
            .query_row(
                "SELECT value FROM ana_statistics WHERE name = 'blocks decoded, last key'",
                [],
                |row| row.get(0),
            )
            .ok();
        if let Some(blocks) = decoded {
            table.row(vec![
                "blocks decoded for one key".into(),
                format!("{key:?}").to_lowercase(),
                format!("{blocks}"),
                "3".into(),
                verdict(blocks as f64, 3.0),
            ]);
        }
    }
    Ok(format!("## Seeks\n\n{table}\n"))
}

/// What lazy folding costs a reader and a writer, and what making a table conflict-free costs.
fn folding() -> Result<String> {
    let mut table = Table::new(&["", "measured", "bar", ""]);
    for unfolded in [0u64, 255, 256] {
        let (_folder, c) = fresh(&Side::Ours, KeyKind::Integer)?;
        insert_all(&c, KeyKind::Integer, 0)?;
        let mut insert = c.prepare("INSERT INTO t VALUES(?1, 1, 2, 3, 4)")?;
        for n in 1..=unfolded {
            insert.execute([(ROWS + n) as i64])?;
        }
        let mut times = Vec::new();
        let mut select = c.prepare(&format!("{CHANGES} WHERE db_version > 1"))?;
        for _ in 0..20 {
            times.push(
                1e3 * cost_of(|| Ok(select.query_map([], |_| Ok(()))?.count()))?
                    .0
                    .wall
                    .as_secs_f64(),
            );
        }
        let (cost, _) = cost_of(|| Ok(insert.execute([(ROWS + unfolded + 1) as i64])?))?;
        table.row(vec![
            format!("{unfolded} rows unfolded: read their changes; insert one more"),
            format!("{:.3} ms; {:.3} ms", median(&times, |ms| *ms), 1e3 * cost.wall.as_secs_f64()),
            String::new(),
            String::new(),
        ]);
    }
    let (_folder, c) = fresh(&Side::Ours, KeyKind::Uuid)?;
    insert_all(&c, KeyKind::Uuid, 0)?;
    let mut insert = c.prepare("INSERT INTO t VALUES(?1, 1, 2, 3, 4)")?;
    let mut commits = Vec::new();
    for n in 1..=SMALL {
        commits.push(
            1e3 * cost_of(|| Ok(insert.execute([KeyKind::Uuid.key(ROWS + n)])?))?
                .0
                .wall
                .as_secs_f64(),
        );
    }
    let worst = commits.iter().copied().fold(0.0, f64::max);
    table.row(vec![
        format!("{SMALL} one-row commits, UUID keys: median; worst"),
        format!("{:.3} ms; {worst:.2} ms", median(&commits, |ms| *ms)),
        String::new(),
        String::new(),
    ]);
    let folder = tempfile::tempdir()?;
    let c = Side::Ours.open(&folder.path().join("crr.db"))?;
    Side::Plain.make_table(&c, KeyKind::Integer)?;
    insert_all(&c, KeyKind::Integer, 0)?;
    let (cost, ()) = cost_of(|| Ok(c.query_row("SELECT crsql_as_crr('t')", [], |_| Ok(()))?))?;
    let seconds = cost.cpu.as_secs_f64();
    table.row(vec![
        format!("make {ROWS} existing rows conflict-free"),
        format!("{seconds:.3} s"),
        "0.1 s".into(),
        verdict(seconds, 0.1),
    ]);
    Ok(format!("## Folding and conversion\n\n{table}\n"))
}
