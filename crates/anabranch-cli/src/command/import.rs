//! `ana import`: takes in a file that `ana export` wrote, whole or not at all.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use anabranch::Store;
use serde_json::json;

use crate::console::Console;
use crate::failure::{Exit, Failure, Result, io_at};
use crate::open;
use crate::output::{bytes, count};
use crate::progress::Progress;

const AFTER_HELP: &str = "\
Examples:
  ana import b.db for-b.delta
  ssh host ana export a.db --output - | ana import b.db -

Importing twice does no harm. Tables must exist here and be conflict-free under
the same names; a file made with --since is refused by a copy that holds less
than it assumes.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database that takes the changes
    db: PathBuf,
    /// The file; - is standard input
    file: PathBuf,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let is_stdin = args.file.as_os_str() == "-";
    let name = if is_stdin { "standard input".into() } else { args.file.display().to_string() };
    let mut input: Box<dyn Read> = if is_stdin {
        Box::new(std::io::stdin().lock())
    } else {
        let file = File::open(&args.file).map_err(|error| io_at(&name, error))?;
        Box::new(BufReader::new(file))
    };
    let store = open::writable(&args.db)?;
    let taken = take_whole(&store, &mut input, &name)?;
    let quarantined = store.quarantined()?;
    if console.is_json() {
        console.json(&json!({
            "changes": taken.changes, "bytes": taken.bytes, "quarantined": quarantined,
        }))?;
    } else {
        let (db, changes) = (args.db.display(), count(taken.changes, "new change"));
        console.line(format!("{db}: {changes} from {}", bytes(taken.bytes)))?;
        if quarantined > 0 {
            let held = count(quarantined, "change");
            console.line(format!("{db}: {held} held, not shown; `ana status` says why"))?;
        }
    }
    Ok(Exit::Ok)
}

/// Takes all of the input in one transaction, so that what follows a good part cannot leave
/// half of a file behind.
fn take_whole(store: &Store, input: &mut dyn Read, name: &str) -> Result<Taken> {
    store.sql().execute_batch("BEGIN IMMEDIATE")?;
    let taken = take(store, input, name).and_then(|taken| {
        store.sql().execute_batch("COMMIT")?;
        Ok(taken)
    });
    if taken.is_err() && !store.sql().is_autocommit() {
        store.sql().execute_batch("ROLLBACK")?;
    }
    taken
}

#[derive(Default)]
struct Taken {
    changes: u64,
    bytes: u64,
}

/// Applies part after part; the last one makes all of it happen.
fn take(store: &Store, input: &mut dyn Read, name: &str) -> Result<Taken> {
    let mut progress = Progress::new("reading");
    let mut taken = Taken::default();
    let mut is_complete = true;
    while let Some((part, is_last)) = read_part(input, name)? {
        taken.changes += store.apply(&part).map_err(|error| Failure::from(error).at(name))?;
        taken.bytes += part.len() as u64;
        is_complete = is_last;
        progress.advance("applied", part.len() as u64);
    }
    progress.done();
    if taken.bytes == 0 {
        return Err(Failure::new(Exit::Refused, format!("{name} is empty"))
            .hint("a file of `ana export` has at least one part"));
    }
    if !is_complete {
        return Err(Failure::new(Exit::Refused, format!("{name} ends before the last part"))
            .hint("copy the file again, or export again"));
    }
    Ok(taken)
}

/// The next part, and whether it is the last of its delta; `None` at the end of the file.
fn read_part(input: &mut dyn Read, name: &str) -> Result<Option<(Vec<u8>, bool)>> {
    let mut part = Vec::new();
    read_up_to(input, anabranch::PART_HEAD_BYTES, &mut part, name)?;
    if part.is_empty() {
        return Ok(None);
    }
    let (head, len) = anabranch::part_head(&part).map_err(|error| {
        Failure::new(Exit::Refused, format!("{name}: {error}"))
            .hint("the file must be one that `ana export` wrote, whole")
    })?;
    read_up_to(input, len - part.len(), &mut part, name)?;
    if part.len() < len {
        return Err(
            Failure::new(Exit::Refused, format!("{name} is cut off")).hint("copy the file again")
        );
    }
    Ok(Some((part, head.part + 1 == head.of)))
}

fn read_up_to(input: &mut dyn Read, n: usize, to: &mut Vec<u8>, name: &str) -> Result<()> {
    input.take(n as u64).read_to_end(to).map_err(|error| io_at(name, error))?;
    Ok(())
}
