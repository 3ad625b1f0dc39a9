//! `ana compact`: forgets what all peers have, after saying what that is.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use anabranch::{Compaction, VersionVector};
use serde_json::json;

use super::status::vector_json;
use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::open;
use crate::output::{bytes, count, plain};
use crate::progress::Progress;

const AFTER_HELP: &str = "\
Examples:
  ana compact notes.db --dry-run
  ana compact notes.db --yes
  ana compact notes.db --floor \"$(ana status old.db --json | jq -c .vector)\"

Drops what is past and what every peer in `ana status` has acknowledged: marks
of deleted rows, headers of changes (author, message, time), overwritten
entries, values that gave way. Rows stay as they are. A copy that missed what
was dropped is made whole at its next sync: rows that were deleted meanwhile go
there too, what it had not sent yet stays.
With --floor you say what all copies hold; without a listed peer you must, if
others wrote here.
The space is used again; `ana sql notes.db VACUUM` gives it back to the disk.
Exit status 0: done, or nothing to drop; 1: you said no.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Only say what would be dropped
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// A version vector that all copies hold, instead of what the peers acknowledged
    #[arg(long, value_name = "VECTOR")]
    floor: Option<String>,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let floor = args.floor.as_deref().map(read_floor).transpose()?;
    let store = match args.dry_run {
        true => open::readable(&args.db)?,
        false => open::writable(&args.db)?,
    };
    let progress = Progress::new("looking at what is past");
    let planned = store.plan_compaction(floor.as_ref())?;
    progress.done();
    if !console.is_json() {
        console.line(format!("{}: {}", args.db.display(), said("would drop", &planned)))?;
        for peer in &planned.waits_for {
            console.line(format!("  waits for {}", plain(peer)))?;
        }
    }
    if args.dry_run {
        return answer(&planned, false, console);
    }
    if !args.yes && planned.bytes > 0 && !may(console)? {
        return Ok(Exit::No);
    }
    let progress = Progress::new("dropping it");
    let done = store.compact(floor.as_ref())?;
    progress.done();
    if !console.is_json() {
        console.line(format!("{}: {}", args.db.display(), said("dropped", &done)))?;
    }
    answer(&done, true, console)
}

fn read_floor(text: &str) -> Result<VersionVector> {
    VersionVector::from_json(text).map_err(|error| {
        Failure::new(Exit::Usage, format!("--floor: {error}"))
            .hint("a vector is what `SELECT ana_version_vector()` prints")
    })
}

/// Asks a person; nobody else may be asked.
fn may(console: &mut Console) -> Result<bool> {
    if console.is_json() || !std::io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, "nobody is here to be asked")
            .hint("--yes does it, --dry-run only says what it would do"));
    }
    console.line("Go on? [y/N]")?;
    console.finish()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn said(verb: &str, what: &Compaction) -> String {
    format!(
        "{verb} {}, {}, {}, {}: {}",
        count(what.tombstones, "deleted row"),
        count(what.headers, "header"),
        count(what.records, "overwritten entry").replace("entrys", "entries"),
        count(what.values, "conflict"),
        bytes(what.bytes),
    )
}

fn answer(what: &Compaction, is_done: bool, console: &mut Console) -> Result<Exit> {
    if console.is_json() {
        console.json(&json!({
            "done": is_done,
            "floor": vector_json(&what.floor),
            "waits_for": what.waits_for,
            "tombstones": what.tombstones,
            "headers": what.headers,
            "records": what.records,
            "values": what.values,
            "bytes": what.bytes,
        }))?;
    }
    Ok(Exit::Ok)
}
