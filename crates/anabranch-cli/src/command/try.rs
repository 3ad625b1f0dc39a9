//! `ana try`: two people, one data set, both offline, then merged, then live through a
//! relay; the first thing that somebody sees of us.
//!
//! Invariant: what is printed about data, versions, digests, receipts and sizes is asked of
//! the two files and the relay afterwards ([`facts`]); only durations and the bytes that moved
//! are measured while it happens. Other edits, other output (a test hands in others). No
//! process is left behind, however it ends ([`process`]).

mod edits;
mod facts;
mod live;
mod print;
mod process;
mod relay;
mod stage;

use std::path::PathBuf;
use std::time::Duration;

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
and in the public domain. Ada and Ben edit them offline and merge; then a relay
starts on a free port of this machine, both go live, and one is killed in
between. Takes some seconds, changes nothing but the folder it makes, and leaves
no process behind.";

/// How long a change, an answer or a lock is waited for: far longer than any takes, and short
/// enough for a person who looks on.
const PATIENCE: Duration = Duration::from_secs(20);

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
    let script = edits::parse(&text)?;
    let folder = folder(args)?;
    let pair = stage::play(&folder, &script.offline)?;
    let merged = facts::merged(&pair)?;
    let live = live::play(&pair, &folder, &script.live)?;
    let facts = facts::look(&pair, merged, live)?;
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
    Err(Failure::new(Exit::No, "the two files differ at the end: this is our error").hint(format!(
        "`ana diverge {} {}` finds where",
        word(&ada),
        word(&ben)
    )))
}

/// The folder for the files, made if it is missing; nothing in it is replaced.
fn folder(args: &Args) -> Result<PathBuf> {
    let Some(folder) = &args.dir else {
        let made = tempfile::Builder::new().prefix("ana-try-").tempdir();
        let made = made.map_err(|error| io_at(std::env::temp_dir().display(), error))?;
        return Ok(made.keep());
    };
    std::fs::create_dir_all(folder).map_err(|error| io_at(folder.display(), error))?;
    let others = [stage::LIST_FILE, relay::RELAY_FOLDER];
    for name in Person::BOTH.map(Person::file).iter().chain(&others) {
        let file = folder.join(name);
        if file.symlink_metadata().is_ok() {
            return Err(Failure::new(Exit::Io, format!("{} exists already", file.display()))
                .hint("name another folder with --dir, or remove the file"));
        }
    }
    Ok(folder.clone())
}
