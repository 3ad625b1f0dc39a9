//! `ana receipts`: how far each change is known to have got.

use std::path::PathBuf;

use anabranch::{LogRecord, Receipts, Store};
use serde_json::{Value, json};

use crate::console::Console;
use crate::failure::{Exit, Result};
use crate::literal::hex;
use crate::output::{Sheet, count, grouped};
use crate::people::short;
use crate::{open, time};

const AFTER_HELP: &str = "\
Examples:
  ana receipts notes.db
  ana receipts notes.db --all --json

Every change listed is on this disk. \"on the disk of\": a peer acknowledged it,
or it was read back from the folder. \"seen by\": another copy wrote something
after it had the change. A receipt is never ahead of the truth.";

/// Changes listed where not all are asked for: a screenful.
const MAX_LISTED: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// All changes held here, whoever made them; else the last 20 of this copy
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let store = open::readable(&args.db)?;
    let receipts = store.receipts()?;
    let own = store.site()?;
    let mut log = store.log(0)?;
    if !args.all {
        log.retain(|record| record.site == own);
    }
    let n_before = if args.all { 0 } else { log.len().saturating_sub(MAX_LISTED) };
    if console.is_json() {
        for record in &log[n_before..] {
            let line = as_json(&store, &receipts, record)?;
            console.json(&line)?;
        }
        return Ok(Exit::Ok);
    }
    if log.is_empty() {
        console.line("no changes yet")?;
        return Ok(Exit::Ok);
    }
    if n_before > 0 {
        console.line(format!("… {} before; --all lists all", count(n_before as u64, "change")))?;
    }
    print(&store, &receipts, &log[n_before..], console)?;
    Ok(Exit::Ok)
}

fn print(
    store: &Store,
    receipts: &Receipts,
    log: &[LogRecord],
    console: &mut Console,
) -> Result<()> {
    let mut sheet =
        Sheet::new(&["time", "message", "site", ">version", "on the disk of", "seen by"]);
    for record in log {
        let (site, version) = (record.site, record.version);
        let disks: Vec<_> =
            receipts.on_disk_of(site, version).map(|peer| peer.url.as_str()).collect();
        let seen: Vec<_> = receipts.seen_by(site, version).map(short).collect();
        let disks = if disks.is_empty() { "this one only".into() } else { disks.join(", ") };
        sheet.row([
            time::local(store, record.time_ms)?,
            record.message.clone().unwrap_or_default(),
            short(site),
            grouped(version),
            disks,
            seen.join(", "),
        ]);
    }
    console.sheet(&sheet)
}

fn as_json(store: &Store, receipts: &Receipts, record: &LogRecord) -> Result<Value> {
    let (site, version) = (record.site, record.version);
    let disks: Vec<_> = receipts
        .on_disk_of(site, version)
        .map(|peer| json!({ "url": peer.url, "role": peer.role.name() }))
        .collect();
    let seen: Vec<_> = receipts.seen_by(site, version).map(|by| hex(by.as_bytes())).collect();
    Ok(json!({
        "site": hex(site.as_bytes()),
        "version": version,
        "time": time::iso(store, record.time_ms)?,
        "message": record.message,
        "on_disk_of": disks,
        "seen_by": seen,
    }))
}
