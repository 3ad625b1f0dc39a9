//! The commands that begin with a dot: what is not SQL.

use std::ops::ControlFlow;

use clap::ValueEnum;

use super::runner::Runner;
use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Format, Sheet};

const HELP: &str = "\
.help             this
.tables           tables and views; * marks the conflict-free ones
.schema [TABLE]   the statements that made them
.mode MODE        table, csv, json or line
.quit             leave (Ctrl-D too)
A statement ends with a semicolon. Ours: SELECT crsql_as_crr('t'),
SELECT ana_digest(), SELECT * FROM ana_log, SELECT * FROM ana_check,
SELECT * FROM crsql_changes.";

/// Runs a line that begins with a dot; `Break` ends the session.
pub(super) fn run(
    line: &str,
    runner: &mut Runner<'_>,
    console: &mut Console,
) -> Result<ControlFlow<()>> {
    let mut words = line.split_whitespace();
    let command = words.next().unwrap_or_default();
    let argument = words.next();
    match (command, argument) {
        (".quit" | ".exit", None) => return Ok(ControlFlow::Break(())),
        (".help", None) => console.line(HELP)?,
        (".tables", None) => tables(runner, console)?,
        (".schema", table) => schema(runner, table, console)?,
        (".mode", Some(mode)) => {
            runner.format = Format::from_str(mode, true).map_err(|_| {
                Failure::new(Exit::Usage, format!(".mode {mode}: no such mode"))
                    .hint(".mode table, .mode csv, .mode json or .mode line")
            })?;
        }
        _ => {
            return Err(Failure::new(Exit::Usage, format!("{line}: no such command"))
                .hint(".help lists the commands; SQL does not begin with a dot"));
        }
    }
    console.finish()?;
    Ok(ControlFlow::Continue(()))
}

fn tables(runner: &Runner<'_>, console: &mut Console) -> Result<()> {
    let mut statement = runner.connection.prepare(
        "SELECT l.name, l.type, EXISTS(SELECT 1 FROM main.sqlite_schema AS s
           WHERE s.type = 'trigger' AND s.tbl_name = l.name AND s.name = l.name || '__crsql_itrig')
         FROM pragma_table_list AS l WHERE l.schema = 'main' AND l.type <> 'shadow'
           AND l.name NOT GLOB 'sqlite_*' AND l.name NOT GLOB 'ana_*'
           AND l.name NOT GLOB 'crsql_*' AND l.name NOT GLOB '*__crsql_*'
         ORDER BY l.name",
    )?;
    let mut rows = statement.query([])?;
    let mut sheet = Sheet::new(&["", "name", "type"]);
    while let Some(row) = rows.next()? {
        let mark = if row.get(2)? { "*" } else { "" };
        sheet.row([mark.to_string(), row.get(0)?, row.get(1)?]);
    }
    if sheet.is_empty() {
        return console.line("no tables yet");
    }
    console.sheet(&sheet)
}

fn schema(runner: &Runner<'_>, table: Option<&str>, console: &mut Console) -> Result<()> {
    let mut statement = runner.connection.prepare(
        "SELECT sql FROM main.sqlite_schema WHERE sql IS NOT NULL
           AND (tbl_name = ?1 COLLATE NOCASE OR (?1 IS NULL
             AND tbl_name NOT GLOB 'ana_*' AND tbl_name NOT GLOB 'crsql_*'))
           AND name NOT GLOB '*__crsql_*' ORDER BY tbl_name, type = 'table' DESC, name",
    )?;
    let mut rows = statement.query([table])?;
    let mut is_empty = true;
    while let Some(row) = rows.next()? {
        is_empty = false;
        console.line(format!("{};", row.get::<_, String>(0)?))?;
    }
    match table.filter(|_| is_empty) {
        Some(table) => Err(Failure::new(Exit::Refused, format!("no such table: {table}"))
            .hint(".tables lists the tables there are")),
        None => Ok(()),
    }
}
