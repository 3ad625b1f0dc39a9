//! `ana init`: a new store, or our tables in a database that exists.

use std::path::PathBuf;

use anabranch::Store;
use serde_json::json;

use crate::console::Console;
use crate::failure::{Exit, Failure, Result, io_at};
use crate::literal::hex;
use crate::open::{Found, literal, look};

const AFTER_HELP: &str = "\
Example:
  ana init notes.db
  ana sql notes.db \"CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)\"
  ana crr notes.db note

A SQLite database that exists keeps its tables and rows; `ana crr` makes tables
of it conflict-free. A store stays as it is.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The file to make, or the SQLite database to add to
    db: PathBuf,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let found = look(&args.db)?;
    if found == Found::Missing {
        must_have_folder(&args.db)?;
    }
    let store = Store::open(literal(&args.db))
        .map_err(|error| Failure::from(error).at(args.db.display()))?;
    let site = store.site()?;
    if console.is_json() {
        let is_new = found != Found::Store;
        console.json(&json!({
            "db": args.db.display().to_string(),
            "site": hex(site.as_bytes()),
            "made": is_new,
        }))?;
        return Ok(Exit::Ok);
    }
    let what = match found {
        Found::Missing => "is a new store",
        Found::Empty | Found::Plain => "is a store now; its tables are as they were",
        Found::Store => "is a store already; nothing was changed",
    };
    console.line(format!("{} {what} (site {site})", args.db.display()))?;
    Ok(Exit::Ok)
}

/// SQLite's own message for a missing folder does not name it.
fn must_have_folder(path: &std::path::Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => return Ok(()),
    };
    folder.metadata().map(|_| ()).map_err(|error| io_at(folder.display(), error))
}
