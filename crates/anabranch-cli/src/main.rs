//! `ana`: makes, queries, merges and compares Anabranch databases from the command line.
//!
//! One file a command in [`command`]; each takes its arguments and a [`Console`] and
//! returns the exit status. What every command shares is beside it: how a database is
//! opened ([`open`]), how results look ([`output`]), how errors are told ([`failure`]).
//! Nothing here knows how a store works: commands use the library and its SQL.
#![forbid(unsafe_code)]

mod command;
mod console;
mod failure;
mod hint;
mod leash;
mod literal;
mod open;
mod output;
mod people;
mod progress;
mod rows;
mod script;
mod terminal;
mod time;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::command::Command;
use crate::console::Console;
use crate::failure::{Exit, Failure};

/// What `ana --help` says after the list of commands.
const AFTER_HELP: &str = "\
Try it, on data about 3,376 airports:
  ana try

Make two copies of your own, edit both, merge them:
  ana init a.db
  ana sql a.db \"CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)\"
  ana crr a.db note
  cp a.db b.db
  ana sql a.db \"INSERT INTO note VALUES('n1', 'written in a')\"
  ana sql b.db \"INSERT INTO note VALUES('n2', 'written in b')\"
  ana merge a.db b.db

Exit status:
  0  done (sql: committed; diverge: equal; check: clean; sync: converged)
  1  the answer is no (diverge, merge: they differ; check: something is wrong)
  2  the command line is wrong
  3  out of reach: a file is missing, or cannot be read or written; sync: the
     other side is offline
  4  refused: a statement, a delta, a file that is no store; by the other side
     of a sync
  5  not all of it was done: run the command again (another program holds
     the database; sync got part of the way)";

/// Local-first data that merges: SQLite tables that any copy may edit, offline.
#[derive(Debug, Parser)]
#[command(name = "ana", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// Answer in JSON, for programs; errors too
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut console = Console::new(cli.json);
    let outcome = cli.command.run(&mut console).and_then(|exit| {
        console.finish()?;
        Ok(exit)
    });
    let exit = outcome.unwrap_or_else(|failure| {
        failure.report(cli.json);
        failure.exit()
    });
    ExitCode::from(exit as u8)
}

/// Prints help or what is wrong with the command line.
fn usage(error: &clap::Error) -> ExitCode {
    let is_asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // The command line was not understood, so it is searched for the word alone.
    if !is_asked && std::env::args_os().any(|word| word == "--json") {
        Failure::new(Exit::Usage, what_is_wrong(error))
            .hint("`ana COMMAND --help` shows the arguments and an example")
            .report(true);
        return ExitCode::from(Exit::Usage as u8);
    }
    // Nobody is left to tell if this cannot be printed.
    let _ = error.print();
    if is_asked { ExitCode::SUCCESS } else { ExitCode::from(Exit::Usage as u8) }
}

/// One line of what clap prints for people: its first paragraph.
fn what_is_wrong(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or(&text);
    let words: Vec<&str> = first.trim_start_matches("error: ").split_whitespace().collect();
    words.join(" ")
}
