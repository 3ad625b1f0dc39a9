//! Seeks in a table of a million rows.

use anyhow::Result;
use rusqlite::Connection;

use crate::doors::CHANGES;
use crate::measure::{cost_of, median};
use crate::report::{Table, verdict};
use crate::side::{KeyKind, Side};
use crate::workload::{fresh, insert_range};

const MANY: u64 = 1_000_000;

/// Seeks in a million rows.
///
/// # Errors
/// SQLite's.
pub fn million() -> Result<String> {
    let mut table = Table::new(&["one million rows", "key", "median", "bar", ""]);
    for key in [KeyKind::Integer, KeyKind::Uuid] {
        let (_folder, c) = fresh(&Side::Ours, key)?;
        for chunk in 0..10 {
            insert_range(&c, key, chunk * MANY / 10 + 1, (chunk + 1) * MANY / 10, 0)?;
        }
        let name = format!("{key:?}").to_lowercase();
        let mut row = |what: &str, ms: f64, bar: f64| {
            let cells = [what, &name, &format!("{ms:.3} ms"), &format!("{bar} ms")];
            let mut cells: Vec<String> = cells.map(str::to_owned).into();
            cells.push(verdict(ms, bar));
            table.row(cells);
        };
        let (ms, n_blocks) = one_row(&c, key)?;
        row("changes of one row", ms, 1.0);
        row("changes since a version, one row new", since_a_version(&c, key)?, 0.1);
        table.row(vec![
            "blocks read for the changes of one row, at most".into(),
            name,
            format!("{n_blocks}"),
            "3".into(),
            verdict(n_blocks as f64, 3.0),
        ]);
    }
    Ok(format!("## Seeks\n\n{table}\n"))
}

/// Median milliseconds, and most blocks read.
fn one_row(connection: &Connection, key: KeyKind) -> Result<(f64, i64)> {
    let blocks_read = || -> Result<i64> {
        Ok(connection.query_row("SELECT ana_internal_blocks_read()", [], |row| row.get(0))?)
    };
    let sql = format!("{CHANGES} WHERE [table] = 't' AND pk = crsql_pack_columns(?1)");
    let mut select = connection.prepare(&sql)?;
    let (mut times, mut most_blocks) = (Vec::new(), 0);
    for n in 1..=500u64 {
        let key = key.key(1 + (n * 7919) % MANY);
        let before = blocks_read()?;
        let (cost, n) = cost_of(|| Ok(select.query_map([key], |_| Ok(()))?.count()))?;
        most_blocks = most_blocks.max(blocks_read()? - before);
        assert_eq!(n, 4, "a row has four changes");
        times.push(1e3 * cost.wall.as_secs_f64());
    }
    Ok((median(&times, |ms| *ms), most_blocks))
}

fn since_a_version(connection: &Connection, key: KeyKind) -> Result<f64> {
    let mut select = connection.prepare(&format!("{CHANGES} WHERE db_version > ?1"))?;
    let mut insert = connection.prepare("INSERT INTO t VALUES(?1, 1, 2, 3, 4)")?;
    let mut times = Vec::new();
    for n in 1..=200u64 {
        let version: i64 =
            connection.query_row("SELECT crsql_db_version()", [], |row| row.get(0))?;
        insert.execute([key.key(MANY + n)])?;
        let (cost, n) = cost_of(|| Ok(select.query_map([version], |_| Ok(()))?.count()))?;
        assert_eq!(n, 4, "one new row has four changes");
        times.push(1e3 * cost.wall.as_secs_f64());
    }
    Ok(median(&times, |ms| *ms))
}
