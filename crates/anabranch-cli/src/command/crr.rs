//! `ana crr`: makes tables conflict-free, all that are named or none.

use std::path::PathBuf;

use anabranch::Store;
use serde_json::json;

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::open;
use crate::output::{Sheet, count};

const AFTER_HELP: &str = "\
Example:
  ana crr notes.db note tag
  ana crr notes.db --all

A table needs a PRIMARY KEY whose columns are NOT NULL, a DEFAULT for every
other NOT NULL column, and no UNIQUE or REFERENCES. Rows that are there already
count as this copy's first change. Run again after ALTER TABLE.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// Tables to make conflict-free
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tables: Vec<String>,
    /// Every table of the database that is not conflict-free yet
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let store = open::writable(&args.db)?;
    let tables = if args.all { tables_left(&store)? } else { args.tables.clone() };
    let mut refused = None;
    store
        .transact(|tx| {
            tables.iter().try_for_each(|table| {
                let made = tx.sql().query_row("SELECT crsql_as_crr(?1)", [table], |_| Ok(()));
                made.inspect_err(|_| refused = Some(table.clone()))?;
                Ok(())
            })
        })
        .map_err(|error| {
            let failure = match &refused {
                Some(table) if !is_table(&store, table) => {
                    Failure::new(Exit::Refused, format!("no table {table}"))
                        .hint("`.tables` in `ana sql` lists the tables there are")
                }
                _ => Failure::from(error),
            };
            match refused.filter(|_| tables.len() > 1) {
                Some(table) => failure.at(format!("{table} (no table was changed)")),
                None => failure,
            }
        })?;
    report(&store, &tables, console)?;
    Ok(Exit::Ok)
}

/// Whether the database has a table, not a view, of this name.
fn is_table(store: &Store, name: &str) -> bool {
    let sql = "SELECT 1 FROM pragma_table_list
               WHERE schema = 'main' AND type = 'table' AND name = ?1 COLLATE NOCASE";
    store.sql().query_row(sql, [name], |_| Ok(())).is_ok()
}

fn report(store: &Store, tables: &[String], console: &mut Console) -> Result<()> {
    let mut made = Vec::new();
    for table in tables {
        let sql = format!("SELECT count(*) FROM main.{}", crate::literal::name(table));
        let n_rows: i64 = store.sql().query_row(&sql, [], |row| row.get(0))?;
        made.push((table, n_rows.cast_unsigned()));
    }
    if console.is_json() {
        let made: Vec<_> =
            made.iter().map(|(table, rows)| json!({ "name": table, "rows": rows })).collect();
        return console.json(&json!({ "tables": made }));
    }
    if made.is_empty() {
        return console.line("every table is conflict-free already");
    }
    let mut sheet = Sheet::new(&["conflict-free", ">rows"]);
    for (table, rows) in &made {
        sheet.row([table.to_string(), crate::output::grouped(*rows)]);
    }
    console.sheet(&sheet)?;
    if made.len() > 1 {
        console.line(count(made.len() as u64, "table"))?;
    }
    Ok(())
}

/// User tables that are not conflict-free yet, by name.
fn tables_left(store: &Store) -> Result<Vec<String>> {
    let done = store.tables()?;
    let mut statement = store.sql().prepare(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
           AND name NOT GLOB 'sqlite_*' AND name NOT GLOB 'ana_*' AND name NOT GLOB 'crsql_*'
           AND name NOT GLOB '*__crsql_*' ORDER BY name",
    )?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    Ok(names.into_iter().filter(|name| !done.contains(name)).collect())
}
