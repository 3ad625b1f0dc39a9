//! What lazy folding costs, and what making a table conflict-free costs.

use anyhow::Result;

use crate::doors::CHANGES;
use crate::measure::{cost_of, median};
use crate::report::{Table, verdict};
use crate::side::{KeyKind, Side};
use crate::workload::{ROWS, SMALL, fresh, insert_all};

/// Folding and conversion.
///
/// # Errors
/// SQLite's.
pub fn folding() -> Result<String> {
    let mut table = Table::new(&["", "measured", "bar", ""]);
    for unfolded in [0, 255, 256] {
        unfolded_rows(unfolded, &mut table)?;
    }
    worst_commit(&mut table)?;
    conversion(&mut table)?;
    Ok(format!("## Folding and conversion\n\n{table}\n"))
}

fn unfolded_rows(unfolded: u64, table: &mut Table) -> Result<()> {
    let (_folder, c) = fresh(&Side::Ours, KeyKind::Integer)?;
    insert_all(&c, KeyKind::Integer, 0)?;
    let mut insert = c.prepare("INSERT INTO t VALUES(?1, 1, 2, 3, 4)")?;
    for n in 1..=unfolded {
        insert.execute([(ROWS + n) as i64])?;
    }
    let mut times = Vec::new();
    let mut select = c.prepare(&format!("{CHANGES} WHERE db_version > 1"))?;
    for _ in 0..20 {
        let (cost, _) = cost_of(|| Ok(select.query_map([], |_| Ok(()))?.count()))?;
        times.push(1e3 * cost.wall.as_secs_f64());
    }
    let (cost, _) = cost_of(|| Ok(insert.execute([(ROWS + unfolded + 1) as i64])?))?;
    let read = median(&times, |ms| *ms);
    let write = 1e3 * cost.wall.as_secs_f64();
    table.row(vec![
        format!("{unfolded} rows unfolded: read their changes; insert one more"),
        format!("{read:.3} ms; {write:.3} ms"),
        String::new(),
        String::new(),
    ]);
    Ok(())
}

fn worst_commit(table: &mut Table) -> Result<()> {
    for key in [KeyKind::Integer, KeyKind::Uuid] {
        let (_folder, c) = fresh(&Side::Ours, key)?;
        insert_all(&c, key, 0)?;
        let mut insert = c.prepare("INSERT INTO t VALUES(?1, 1, 2, 3, 4)")?;
        let mut commits = Vec::new();
        for n in 1..=SMALL {
            let (cost, _) = cost_of(|| Ok(insert.execute([key.key(ROWS + n)])?))?;
            commits.push(1e3 * cost.wall.as_secs_f64());
        }
        let worst = commits.iter().copied().fold(0.0, f64::max);
        table.row(vec![
            format!("{SMALL} one-row commits, {key:?} keys: median; worst"),
            format!("{:.3} ms; {worst:.2} ms", median(&commits, |ms| *ms)),
            String::new(),
            String::new(),
        ]);
    }
    Ok(())
}

fn conversion(table: &mut Table) -> Result<()> {
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
    Ok(())
}
