//! `ana try`: two people, one data set, both offline, then merged; the first thing that
//! somebody sees of us.
//!
//! Invariant: what is printed about data, versions, digests and sizes is asked of the two
//! files after the merge ([`facts`]); only durations and the bytes that moved are measured
//! while it happens. Other edits, other output (a test hands in others).

mod edits;
mod facts;
mod print;
mod stage;

use std::path::PathBuf;

use crate::console::Console;
use crate::failure::{Exit, Failure, Result, io_at};
use crate::hint::word;
use crate::terminal::DEFAULT_WIDTH;
use edits::Person;

const AFTER_HELP: &str = "\
Example:
  ana try
  ana try --dir demo && ana sql demo/ada.db

The data are 3,376 airports, published by the government of the United States
and in the public domain. Takes a few seconds, changes nothing but the folder
it makes.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Where the databases go: a folder that has no ada.db yet (default: a new one among the
    /// temporary files)
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Other edits than the usual ones
    #[arg(long, value_name = "FILE", hide = true)]
    edits: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let text = match &args.edits {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|error| io_at(file.display(), error))?
        }
        None => edits::USUAL.to_string(),
    };
    let edits = edits::parse(&text)?;
    let folder = folder(args)?;
    let pair = stage::play(&folder, &edits)?;
    let facts = facts::look(&pair)?;
    if console.is_json() {
        console.json(&facts.as_json())?;
    } else {
        console.assume_width(DEFAULT_WIDTH);
        print::print(&facts, console)?;
    }
    if facts.is_equal() {
        return Ok(Exit::Ok);
    }
    let [ada, ben] = pair.paths.each_ref().map(|path| path.display().to_string());
    Err(Failure::new(Exit::No, "the two files differ after the merge: this is our error")
        .hint(format!("`ana diverge {} {}` finds where", word(&ada), word(&ben))))
}

/// The folder for the files, made if it is missing; nothing in it is replaced.
fn folder(args: &Args) -> Result<PathBuf> {
    let Some(folder) = &args.dir else {
        let made = tempfile::Builder::new().prefix("ana-try-").tempdir();
        let made = made.map_err(|error| io_at(std::env::temp_dir().display(), error))?;
        return Ok(made.keep());
    };
    std::fs::create_dir_all(folder).map_err(|error| io_at(folder.display(), error))?;
    for name in Person::BOTH.map(Person::file).iter().chain(&[stage::LIST_FILE]) {
        let file = folder.join(name);
        if file.symlink_metadata().is_ok() {
            return Err(Failure::new(Exit::Io, format!("{} exists already", file.display()))
                .hint("name another folder with --dir, or remove the file"));
        }
    }
    Ok(folder.clone())
}
