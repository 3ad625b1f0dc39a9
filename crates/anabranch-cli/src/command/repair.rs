//! `ana repair`: makes good what went wrong outside of the database.

use std::path::PathBuf;

use serde_json::Value;

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::open;
use crate::output::count;

const AFTER_HELP: &str = "\
Example:
  ana repair notes.db --clock

When the clock of this machine ran ahead, peers refuse what was written then
(\"ClockAhead\") until it is that late. Set the clock right, then let --clock give
those changes the present time. It does so only while no peer has any of them.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// Give changes that are ahead of the clock, and that nobody has seen, the present time
    #[arg(long, required = true)]
    clock: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    debug_assert!(args.clock, "there is nothing else to repair");
    let store = open::writable(&args.db)?;
    let json: String =
        store
            .sql()
            .query_row("SELECT ana_internal_retime(?1)", [args.dry_run], |row| row.get(0))?;
    let done: Value = serde_json::from_str(&json)
        .map_err(|error| Failure::new(Exit::Refused, format!("ana_internal_retime: {error}")))?;
    if console.is_json() {
        console.json(&done)?;
        return Ok(Exit::Ok);
    }
    let number = |name: &str| done[name].as_u64().unwrap_or(0);
    let db = args.db.display();
    if number("changes") == 0 {
        console.line(format!("{db}: no change is ahead of the clock"))?;
        return Ok(Exit::Ok);
    }
    let verb = if args.dry_run { "would be" } else { "were" };
    console.line(format!(
        "{db}: {} (versions {} to {}), up to {} s ahead, {verb} given the present time",
        count(number("changes"), "change"),
        number("first"),
        number("last"),
        number("ahead_ms").div_ceil(1000),
    ))?;
    Ok(Exit::Ok)
}
