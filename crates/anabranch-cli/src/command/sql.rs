//! `ana sql`: statements from an argument, from a pipe, or from a person.
//!
//! Exit status 0 means committed: the first statement that fails ends the run, and a
//! transaction that the text leaves open is rolled back and reported.

mod dot;
mod runner;
mod shell;

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::open;
use crate::output::Format;
use crate::script;
use runner::Runner;

const AFTER_HELP: &str = "\
Examples:
  ana sql notes.db                                   talk to it; .help helps
  ana sql notes.db \"SELECT * FROM note\"
  ana sql notes.db --output csv \"SELECT * FROM note\" > note.csv
  ana sql notes.db < schema.sql
  ana sql notes.db --author Ada --message 'typos' \\
    \"UPDATE note SET body = trim(body)\"

Each statement commits by itself unless the text says BEGIN and COMMIT. Exit
status 0 means that all of it is committed; at the first error the run stops and
says what was committed before. With --json a result is an array of objects, any
other statement {\"changed\":rows}; one line or more for each statement.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// SQL to run; without it, standard input
    #[arg(allow_hyphen_values = true)]
    statement: Option<String>,
    /// How results look
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Open read-only
    #[arg(long)]
    read_only: bool,
    /// Who the changes are by
    #[arg(long)]
    author: Option<String>,
    /// Why: the message of the change (one transaction; for more, call ana_message in each)
    #[arg(long)]
    message: Option<String>,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let store = if args.read_only { open::readable(&args.db)? } else { open::writable(&args.db)? };
    if let Some(author) = &args.author {
        store.sql().query_row("SELECT ana_author(?1)", [author], |_| Ok(()))?;
    }
    let format = if console.is_json() { Format::Json } else { args.output };
    let mut runner = Runner::new(store.sql(), format, args.message.clone());
    match &args.statement {
        Some(text) => {
            if script::split(text).is_empty() {
                return Err(Failure::new(Exit::Usage, "there is no statement in the argument"));
            }
            runner.run_all(text, console)?;
        }
        None if std::io::stdin().is_terminal() => {
            shell::run(&store, &args.db, &mut runner, console)?;
        }
        None => feed(&mut runner, console)?,
    }
    runner.end(console)?;
    Ok(Exit::Ok)
}

/// Runs statements from standard input as they come, so that a long file is never held.
fn feed(runner: &mut Runner<'_>, console: &mut Console) -> Result<()> {
    let mut text = String::new();
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        let n_read = input.read_until(b'\n', &mut line).map_err(stdin_error)?;
        if n_read == 0 {
            break;
        }
        let line = std::str::from_utf8(&line)
            .map_err(|_| Failure::new(Exit::Refused, "standard input is not UTF-8 text"))?;
        if text.is_empty() && line.starts_with('.') {
            if dot::run(line.trim(), runner, console)?.is_break() {
                return Ok(());
            }
            continue;
        }
        if text.is_empty() && script::split(line).is_empty() {
            continue;
        }
        text.push_str(line);
        if line.contains(';') {
            text = runner.run_complete(&text, console)?;
            // A program at the other end may wait for this answer before it asks again.
            console.finish()?;
        }
    }
    runner.run_all(&text, console)
}

fn stdin_error(error: std::io::Error) -> Failure {
    crate::failure::io_at("standard input", error)
}
