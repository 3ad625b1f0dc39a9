//! The workloads of the table: each prepares a database untimed, then runs timed.

use anyhow::Result;
use rusqlite::{Connection, params};

use crate::side::{KeyKind, Opened, Side};

/// Rows of the bulk workloads.
pub const ROWS: u64 = 100_000;
/// Transactions of the one-row workloads.
pub const SMALL: u64 = 4_000;

/// A workload that every side can run.
pub struct Workload {
    /// First column of the report.
    pub name: &'static str,
    /// What must be reached against plain SQLite: the ratio for integer keys.
    pub bar: f64,
    /// The bar for UUID keys, where it differs.
    pub bar_uuid: f64,
    /// Whether the bar counts against the bare trigger.
    pub against_trigger: bool,
    /// Untimed.
    pub prepare: fn(&Connection, KeyKind) -> Result<()>,
    /// Timed; ends with everything committed.
    pub run: fn(&Connection, KeyKind) -> Result<()>,
}

/// All workloads, in the order of the report.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "bulk insert, one transaction",
        bar: 2.0,
        bar_uuid: 1.8,
        against_trigger: false,
        prepare: |_, _| Ok(()),
        run: |c, k| insert_all(c, k, 0),
    },
    Workload {
        name: "update one column of all rows, one statement",
        bar: 3.0,
        bar_uuid: 4.0,
        against_trigger: false,
        prepare: |c, k| insert_all(c, k, 0),
        run: |c, _| one(c, "UPDATE t SET b = b + 1"),
    },
    Workload {
        name: "update one column by key, one transaction",
        bar: 1.8,
        bar_uuid: 1.8,
        against_trigger: false,
        prepare: |c, k| insert_all(c, k, 0),
        run: update_by_key,
    },
    Workload {
        name: "delete all rows, one statement",
        bar: 2.0,
        bar_uuid: 2.0,
        against_trigger: true,
        prepare: |c, k| insert_all(c, k, 0),
        run: |c, _| one(c, "DELETE FROM t"),
    },
    Workload {
        name: "insert the same keys again",
        bar: 3.0,
        bar_uuid: 3.0,
        against_trigger: false,
        prepare: |c, k| {
            insert_all(c, k, 0)?;
            one(c, "DELETE FROM t")
        },
        run: |c, k| insert_all(c, k, 1),
    },
    Workload {
        name: "one-row transactions: insert",
        bar: 2.0,
        bar_uuid: 2.0,
        against_trigger: false,
        prepare: |_, _| Ok(()),
        run: |c, k| {
            let mut insert = c.prepare(INSERT)?;
            for n in 1..=SMALL {
                insert.execute(params![k.key(n), n as i64, 2 * n as i64, "text", 0.5])?;
            }
            Ok(())
        },
    },
    Workload {
        name: "one-row transactions: update",
        bar: 2.0,
        bar_uuid: 2.0,
        against_trigger: false,
        prepare: |c, k| insert_all(c, k, 0),
        run: |c, k| {
            let mut update = c.prepare("UPDATE t SET b = ?2 WHERE id = ?1")?;
            for n in 1..=SMALL {
                update.execute(params![k.key(1 + (n * 7919) % ROWS), n as i64 + 5_000_000])?;
            }
            Ok(())
        },
    },
    Workload {
        name: "update that changes nothing",
        bar: 1.5,
        bar_uuid: 1.5,
        against_trigger: true,
        prepare: |c, k| insert_all(c, k, 0),
        run: |c, _| one(c, "UPDATE t SET b = b"),
    },
    Workload {
        name: "point select",
        bar: 1.0,
        bar_uuid: 1.0,
        against_trigger: false,
        prepare: |c, k| insert_all(c, k, 0),
        run: |c, k| {
            let mut select = c.prepare("SELECT a, b, c, d FROM t WHERE id = ?1")?;
            for n in 1..=ROWS {
                select.query_row([k.key(1 + (n * 7919) % ROWS)], |_| Ok(()))?;
            }
            Ok(())
        },
    },
];

const INSERT: &str = "INSERT INTO t(id, a, b, c, d) VALUES(?1, ?2, ?3, ?4, ?5)";

/// Inserts all rows in one transaction; `salt` changes their values.
pub fn insert_all(connection: &Connection, key: KeyKind, salt: i64) -> Result<()> {
    insert_range(connection, key, 1, ROWS, salt)
}

/// Inserts rows `first..=last` in one transaction.
pub fn insert_range(
    connection: &Connection,
    key: KeyKind,
    first: u64,
    last: u64,
    salt: i64,
) -> Result<()> {
    connection.execute_batch("BEGIN")?;
    let mut insert = connection.prepare_cached(INSERT)?;
    for n in first..=last {
        let a = n as i64 + salt;
        insert.execute(params![key.key(n), a, 2 * a, "some text", 0.5 * a as f64])?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}

fn update_by_key(connection: &Connection, key: KeyKind) -> Result<()> {
    connection.execute_batch("BEGIN")?;
    let mut update = connection.prepare("UPDATE t SET b = ?2 WHERE id = ?1")?;
    for n in 1..=ROWS {
        update.execute(params![key.key(1 + (n * 7919) % ROWS), n as i64 + 5_000_000])?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}

fn one(connection: &Connection, sql: &str) -> Result<()> {
    Ok(connection.execute_batch(sql)?)
}

/// A database of this side with table `t`, in a temporary folder that lives as long.
pub fn fresh(side: &Side, key: KeyKind) -> Result<(tempfile::TempDir, Opened)> {
    let folder = tempfile::tempdir()?;
    let connection = side.open(&folder.path().join("bench.db"))?;
    side.make_table(&connection, key)?;
    Ok((folder, connection))
}
