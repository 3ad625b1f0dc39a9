//! `ana changes`: the cells that changed, as `crsql_changes` has them.

use std::path::PathBuf;

use anabranch::rusqlite::types::ValueRef;

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::hint::word;
use crate::literal::hex;
use crate::open;
use crate::output::{Format, json_value, sink};

const AFTER_HELP: &str = "\
Examples:
  ana changes notes.db
  ana changes notes.db --since 12 --table note
  ana changes notes.db --json | head -1

--since takes a db_version, this copy's own number (`ana status` shows it). A
line is a cell: table, key, column (-1: the row itself), value, its version, the
row's causal length (odd: alive, even: deleted) and the site it comes from. With
--json each line is an object; pk and site_id are hexadecimal, as crsql_changes
wants them.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// Only changes after this db_version
    #[arg(long, value_name = "DB_VERSION", default_value_t = 0)]
    since: u64,
    /// Only changes of this table
    #[arg(long)]
    table: Option<String>,
}

const COLUMNS: [&str; 10] =
    ["table", "key", "column", "value", "col_version", "db_version", "cl", "seq", "site", "pk"];

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let store = open::readable(&args.db)?;
    if let Some(table) = &args.table {
        must_be_conflict_free(&store, table)?;
    }
    let since = i64::try_from(args.since).unwrap_or(i64::MAX);
    let mut statement = store.sql().prepare(
        "SELECT \"table\", (SELECT group_concat(quote(cell), ', ') FROM crsql_unpack_columns
             WHERE package = pk), cid, val, col_version, db_version, cl, seq, site_id, pk
         FROM crsql_changes
         WHERE db_version > ?1 AND (?2 IS NULL OR \"table\" = ?2) ORDER BY db_version, seq",
    )?;
    let mut rows = statement.query((since, &args.table))?;
    if console.is_json() {
        while let Some(row) = rows.next()? {
            let values: Result<Vec<_>, _> = (0..COLUMNS.len()).map(|i| row.get_ref(i)).collect();
            console.line(json_line(&values?))?;
        }
        return Ok(Exit::Ok);
    }
    let names = COLUMNS[..9].iter().map(|name| name.to_string()).collect();
    let terminal = console.terminal();
    let mut table = sink(Format::Table, names, terminal, console.out())?;
    while let Some(row) = rows.next()? {
        let mut values = (0..9).map(|i| row.get_ref(i)).collect::<Result<Vec<_>, _>>()?;
        let site = hex(&blob(values[8])[..blob(values[8]).len().min(4)]);
        values[8] = ValueRef::Text(site.as_bytes());
        table.row(&values)?;
    }
    table.finish()?;
    Ok(Exit::Ok)
}

fn json_line(values: &[ValueRef<'_>]) -> String {
    let members = COLUMNS.iter().zip(values).map(|(name, value)| {
        let text = match *name {
            "pk" | "site" => format!("\"{}\"", hex(blob(*value))),
            _ => json_value(*value),
        };
        let name = if *name == "site" { "site_id" } else { name };
        format!("\"{name}\":{text}")
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn blob(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Blob(blob) => blob,
        _ => &[],
    }
}

/// Refuses a name that no conflict-free table has.
pub(super) fn must_be_conflict_free(store: &anabranch::Store, table: &str) -> Result<()> {
    let tables = store.tables()?;
    if tables.iter().any(|known| known == table) {
        return Ok(());
    }
    let failure = Failure::new(Exit::Refused, format!("no conflict-free table {table}"));
    Err(failure.hint(match tables.as_slice() {
        [] => format!("`ana crr DB {}` makes it one, if it exists", word(table)),
        known => format!("there are: {}", known.join(", ")),
    }))
}
