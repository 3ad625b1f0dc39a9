//! `ana receipts`: how far each change is known to have got.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anabranch::{End, LogRecord, Place, Reached, Receipts, SiteId, Store, Sync};
use serde_json::{Value, json};

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::literal::hex;
use crate::output::{Sheet, count, grouped};
use crate::people::short;
use crate::{open, time};

const AFTER_HELP: &str = "\
Examples:
  ana receipts notes.db
  ana receipts notes.db --all --json
  ana receipts notes.db --from wss://relay.example/sync/notes

Every change listed is on this disk. \"on the disk of\": a peer acknowledged it,
or it was read back from the folder. \"seen by\": another copy wrote something
after it had the change. --from syncs and asks the relay too: what each copy
acknowledged, and what it holds and does not show. A receipt is never ahead of
the truth.";

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
    /// Sync with this relay, and ask it too
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// What the relay wants to see; default: the variable ANABRANCH_TOKEN
    #[arg(long, requires = "from")]
    token: Option<String>,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let store = match args.from {
        Some(_) => open::writable(&args.db)?,
        None => open::readable(&args.db)?,
    };
    let own = store.site()?;
    let mut log = store.log(0)?;
    if !args.all {
        log.retain(|record| record.site == own);
    }
    let n_before = if args.all { 0 } else { log.len().saturating_sub(MAX_LISTED) };
    let told = match &args.from {
        Some(url) => ask(&store, &log[n_before..], url, args.token.as_deref())?,
        None => Told::new(),
    };
    let receipts = store.receipts()?;
    if console.is_json() {
        for record in &log[n_before..] {
            let line = as_json(&store, &receipts, &told, record)?;
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
    print(&store, &receipts, &told, &log[n_before..], console)?;
    Ok(Exit::Ok)
}

/// What a relay says of changes, by site and version.
type Told = BTreeMap<(SiteId, u64), Reached>;

/// Syncs, and asks the relay about these changes.
fn ask(store: &Store, log: &[LogRecord], url: &str, token: Option<&str>) -> Result<Told> {
    let changes = log.iter().map(|record| (record.site, record.version));
    let sync = Sync::to(url)?.token(super::sync::token(token)).ask_about(changes);
    let report = sync.run(store, &mut |_| ())?;
    match report.end {
        End::Offline(why) => return Err(Failure::new(Exit::Io, format!("offline: {why}"))),
        End::Refused(why) => return Err(Failure::new(Exit::Refused, format!("refused: {why}"))),
        End::Partly(why) => return Err(Failure::new(Exit::Again, format!("not all of it: {why}"))),
        End::Converged => {}
    }
    let told = report.receipts.into_iter();
    Ok(told.map(|reached| ((reached.site, reached.version), reached)).collect())
}

/// Copies that have a change, as a relay says: `51515151, 52525252 (held)`.
fn copies(told: &Told, site: SiteId, version: u64) -> Vec<String> {
    let places = told.get(&(site, version)).map_or(&[][..], |reached| &reached.places);
    let copies = places.iter().filter(|place| !place.is_relay);
    let name = |place: &Place| match place.is_shown {
        true => short(place.site),
        false => format!("{} (held)", short(place.site)),
    };
    copies.map(name).collect()
}

fn print(
    store: &Store,
    receipts: &Receipts,
    told: &Told,
    log: &[LogRecord],
    console: &mut Console,
) -> Result<()> {
    let mut sheet =
        Sheet::new(&["time", "message", "site", ">version", "on the disk of", "seen by"]);
    for record in log {
        let (site, version) = (record.site, record.version);
        let mut disks: Vec<_> =
            receipts.on_disk_of(site, version).map(|peer| peer.url.clone()).collect();
        disks.extend(copies(told, site, version));
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

fn as_json(store: &Store, receipts: &Receipts, told: &Told, record: &LogRecord) -> Result<Value> {
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
        "relay_says": told.get(&(site, version)).map(super::sync::reached_json),
    }))
}
