//! `ana check`: every invariant of a store, looked at.

use std::path::PathBuf;

use serde_json::json;

use crate::console::Console;
use crate::failure::{Exit, Result};
use crate::open;
use crate::output::{Sheet, count};
use crate::terminal::Style;

const AFTER_HELP: &str = "\
Example:
  ana check notes.db && echo clean

Reads the whole database and changes nothing. Exit status 0: clean; 1: something
is wrong, listed on standard output.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let store = open::readable(&args.db)?;
    let findings = store.check()?;
    let exit = if findings.is_empty() { Exit::Ok } else { Exit::No };
    if console.is_json() {
        let list: Vec<_> = findings
            .iter()
            .map(|found| {
                json!({ "severity": found.severity, "place": found.place, "what": found.what })
            })
            .collect();
        console.json(&json!({ "clean": findings.is_empty(), "findings": list }))?;
        return Ok(exit);
    }
    if findings.is_empty() {
        let word = console.paint(Style::Good, "clean");
        console.line(format!("{}: {word}", args.db.display()))?;
        return Ok(exit);
    }
    let mut sheet = Sheet::new(&["severity", "place", "what"]);
    for found in &findings {
        sheet.row([&found.severity, &found.place, &found.what].map(String::clone));
    }
    console.sheet(&sheet)?;
    let number = console.paint(Style::Bad, &count(findings.len() as u64, "finding"));
    console.line(format!("{}: {number}; keep a copy of the file", args.db.display()))?;
    Ok(exit)
}
