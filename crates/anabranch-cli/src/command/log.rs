//! `ana log`: the changes that a copy holds, in the order in which they arrived.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anabranch::{LogRecord, SiteId, Store};
use serde_json::{Value, json};

use super::changes::must_be_conflict_free;
use crate::console::Console;
use crate::failure::{Exit, Result};
use crate::literal::hex;
use crate::output::{Sheet, grouped};
use crate::people::short;
use crate::{open, rows, time};

const AFTER_HELP: &str = "\
Examples:
  ana log notes.db
  ana log notes.db note             only changes that touched this table
  ana log notes.db note n1          the changes whose writes this row shows
  ana log notes.db --json | tail -1

A change is one committed transaction. Say who and why with `ana sql --author
--message`, or in SQL with ana_author() and ana_message(). A row's key is one
word for each key column; changes that were overwritten since are not listed
for a row.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// Only changes of this table
    table: Option<String>,
    /// Only changes that wrote what this row holds
    key: Vec<String>,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let store = open::readable(&args.db)?;
    let mut log = store.log(0)?;
    if let Some(table) = &args.table {
        must_be_conflict_free(&store, table)?;
        if args.key.is_empty() {
            log.retain(|record| record.tables.split(',').any(|name| name.trim() == table));
        } else {
            let wrote = writers_of(&store, table, &args.key)?;
            log.retain(|record| wrote.contains(&(record.site, record.version)));
        }
    }
    if console.is_json() {
        for record in &log {
            let line = as_json(&store, record)?;
            console.json(&line)?;
        }
        return Ok(Exit::Ok);
    }
    print(&store, &log, console)?;
    Ok(Exit::Ok)
}

fn writers_of(store: &Store, table: &str, key: &[String]) -> Result<BTreeSet<(SiteId, u64)>> {
    let pk = rows::find_key(store, table, key)?;
    let writers = rows::writers(store, table, &pk)?;
    Ok(writers.into_iter().map(|writer| (writer.site, writer.version)).collect())
}

fn print(store: &Store, log: &[LogRecord], console: &mut Console) -> Result<()> {
    if log.is_empty() {
        return console.line("no changes yet");
    }
    let mut sheet =
        Sheet::new(&["time", "author", "message", "kind", "tables", ">rows", "site", ">version"]);
    for record in log {
        sheet.row([
            time::local(store, record.time_ms)?,
            record.author.clone().unwrap_or_default(),
            record.message.clone().unwrap_or_default(),
            record.kind.clone(),
            record.tables.clone(),
            grouped(record.rows),
            short(record.site),
            grouped(record.version),
        ]);
    }
    console.sheet(&sheet)
}

/// A record as programs read it.
pub(super) fn as_json(store: &Store, record: &LogRecord) -> Result<Value> {
    Ok(json!({
        "position": record.position,
        "site": hex(record.site.as_bytes()),
        "version": record.version,
        "time": time::iso(store, record.time_ms)?,
        "time_ms": record.time_ms,
        "author": record.author,
        "message": record.message,
        "kind": record.kind,
        "tables": record.tables,
        "rows": record.rows,
    }))
}
