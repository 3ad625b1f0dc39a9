//! Bytes that are kept beside the user's table.

use anyhow::Result;
use rusqlite::{Connection, params};

use crate::options::{Options, keys};
use crate::report::{Table, verdict};
use crate::side::{KeyKind, Side};
use crate::workload::{ROWS, fresh, insert_all};

/// Bytes of all tables and indexes but the user's own, after a checkpoint.
fn metadata_bytes(connection: &Connection) -> Result<f64> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let sql = "SELECT coalesce(sum(pgsize), 0) FROM dbstat \
               WHERE name NOT IN ('t', 'sqlite_autoindex_t_1', 'sqlite_schema')";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))? as f64)
}

/// Bytes per row of what is kept beside the user's table.
///
/// # Errors
/// SQLite's.
pub fn sizes(options: &Options) -> Result<String> {
    let mut table = Table::new(&["metadata of", "key", "bytes each", "bar", ""]);
    for key in keys(options) {
        let is_uuid = key == KeyKind::Uuid;
        let (_folder, c) = fresh(&Side::Ours, key)?;
        let empty = metadata_bytes(&c)?;
        insert_all(&c, key, 0)?;
        let bulk = metadata_bytes(&c)?;
        size_row(
            &mut table,
            "a row inserted in bulk",
            key,
            (bulk - empty) / ROWS as f64,
            if is_uuid { 26.0 } else { 2.0 },
        );
        c.execute_batch("DELETE FROM t")?;
        let dead = metadata_bytes(&c)?;
        size_row(
            &mut table,
            "a tombstone (the row's insert included)",
            key,
            (dead - empty) / ROWS as f64,
            if is_uuid { 46.0 } else { 20.0 },
        );
        size_row(
            &mut table,
            "a tombstone (what a deletion adds)",
            key,
            (dead - bulk) / ROWS as f64,
            20.0,
        );
        let (_folder, c) = fresh(&Side::Ours, key)?;
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
            key,
            single,
            if is_uuid { 66.0 } else { 48.0 },
        );
    }
    Ok(format!(
        "## Sizes\n\nFrom `dbstat` after a checkpoint. No bar was set for text keys: theirs are \
         the integers'.\n\n{table}\n"
    ))
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
