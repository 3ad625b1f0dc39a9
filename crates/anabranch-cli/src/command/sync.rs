//! `ana sync`: brings a database and a peer to the same state, and says how far it got.

mod watch;

use std::path::PathBuf;
use std::time::Instant;

use anabranch::{End, Event, Moved, Place, Reached, Report, Sync};
use serde_json::{Value, json};

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::hint::word;
use crate::leash;
use crate::literal::{hash_of, hex};
use crate::open;
use crate::output::{bytes, count, grouped};
use crate::people::short;
use crate::progress::Progress;
use crate::terminal::Style;

const AFTER_HELP: &str = "\
Examples:
  ana sync notes.db dir:/media/stick
  ana sync notes.db wss://relay.example/sync/notes --watch

Takes what the other side has and gives what it lacks; running it again does no
harm. ws:// or wss:// is a relay, started by `ana serve`. dir: and a folder (a
stick, a share, a cloud drive's folder, a checkout of git) needs no server: each
copy syncs with the folder when it can. docs/sync.md says what \"synced\" means.

A relay takes a change with the blobs that it names. Into a folder a blob goes
only with --blob: without, its hash is there and ana_blob(hash) is NULL on other
copies until `ana sync DB dir:FOLDER --blob HASH` ran here, then there.

Exit status:
  0  converged: both hold the same changes
  3  offline: nothing moved; also when the database itself cannot be read
  4  refused, by the other side or by this database; the message says why
  5  partially: some of it moved; run it again";

/// The variable that holds the token where `--token` is not given.
const TOKEN_VARIABLE: &str = "ANABRANCH_TOKEN";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// Where to sync: ws://HOST/sync/STORE, wss://HOST/sync/STORE or dir:FOLDER
    url: String,
    /// Stay, sync every change as it happens, and say so; Ctrl-C ends it
    #[arg(long)]
    watch: bool,
    /// What the relay wants to see; default: the variable ANABRANCH_TOKEN
    #[arg(long)]
    token: Option<String>,
    /// Bring this blob along, by its hash, to whichever side lacks it; may be given again
    #[arg(long = "blob", value_name = "HASH")]
    blobs: Vec<String>,
    /// End when standard input does
    #[arg(long, hide = true, requires = "watch")]
    until_stdin_ends: bool,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let mut sync = Sync::to(&args.url)?.token(token(args.token.as_deref()));
    for hash in &args.blobs {
        sync = sync.blob(hash_of(hash)?);
    }
    let store = open::writable(&args.db)?;
    if args.until_stdin_ends {
        leash::end_with_stdin();
    }
    if args.watch {
        return watch::run(&store, &sync, console);
    }
    let progress = Progress::new("looking");
    let start = Instant::now();
    let report = sync.run(&store, &mut |event| {
        if let Event::Progress(at) = event {
            progress.step(line(&at, start));
        }
    });
    progress.done();
    let report = report?;
    if console.is_json() {
        console.json(&as_json(&report, &sync.peer()))?;
    } else {
        if !report.forked.is_empty() {
            console.line(super::merge::forked(&report.forked))?;
        }
        print(&report, args, &sync.peer(), console)?;
    }
    finish(&report, args)
}

/// What the relay wants to see: as given, or as the variable says.
pub(super) fn token(given: Option<&str>) -> String {
    let variable = || std::env::var(TOKEN_VARIABLE).ok();
    given.map(str::to_string).or_else(variable).unwrap_or_default()
}

/// `1,200 changes (3.1 MB, 1.2 MB/s), 300 changes left (4.0 MB)`.
fn line(at: &anabranch::Progress, start: Instant) -> String {
    let moved = at.took.bytes + at.gave.bytes;
    let rate = moved as f64 / start.elapsed().as_secs_f64().max(0.001);
    let changes = count(at.took.changes + at.gave.changes, "change");
    let left = match at.bytes_left {
        0 => String::new(),
        bytes_left => format!(" ({})", bytes(bytes_left)),
    };
    format!(
        "{changes} ({}, {}/s), {} left{left}",
        bytes(moved),
        bytes(rate as u64),
        count(at.changes_left, "change"),
    )
}

fn print(report: &Report, args: &Args, peer: &str, console: &mut Console) -> Result<()> {
    let name = args.db.display();
    for (verb, moved) in [("took", report.took), ("gave", report.gave)] {
        if moved.changes > 0 {
            console.line(format!("{name} {verb} {}", amount(moved)))?;
        }
    }
    for skipped in &report.skipped {
        console.line(format!("left out {}: {}", skipped.name, skipped.why))?;
    }
    let more = report.n_skipped - report.skipped.len() as u64;
    if more > 0 {
        console.line(format!("… and {} more", count(more, "file")))?;
    }
    for reached in &report.held_there {
        console.line(held_there(reached))?;
    }
    if report.is_converged() {
        let text = console.paint(Style::Good, &format!("{peer} holds the same"));
        console.line(text)?;
    }
    Ok(())
}

/// `change 7 is held at 51515151 and not shown there`.
pub(super) fn held_there(reached: &Reached) -> String {
    let held = reached.places.iter().filter(|place| !place.is_relay && !place.is_shown);
    let sites: Vec<String> = held.map(|place| short(place.site)).collect();
    let version = grouped(reached.version);
    format!("change {version} is held at {} and not shown there", sites.join(", "))
}

/// `3 changes (1.2 kB)`.
fn amount(moved: Moved) -> String {
    let changes = count(moved.changes, "change");
    match moved.bytes {
        0 => changes,
        n => format!("{changes} ({})", bytes(n)),
    }
}

/// The exit status that says how it ended.
fn finish(report: &Report, args: &Args) -> Result<Exit> {
    let (db, url) = (args.db.display().to_string(), &args.url);
    match &report.end {
        End::Converged => Ok(Exit::Ok),
        End::Offline(why) => Err(Failure::new(Exit::Io, format!("offline: {why}"))
            .hint("nothing is lost: run the command again when it is there")),
        End::Refused(why) => Err(refused(why)),
        End::Partly(why) => Err(Failure::new(Exit::Again, format!("not all of it: {why}"))
            .hint(format!("`ana sync {} {}` goes on where this stopped", word(&db), word(url)))),
    }
}

fn refused(why: &str) -> Failure {
    Failure::new(Exit::Refused, format!("refused: {why}"))
        .known_hint_or("nothing that was refused is lost; both sides are as they were")
}

fn as_json(report: &Report, peer: &str) -> Value {
    let (end, why) = match &report.end {
        End::Converged => ("converged", None),
        End::Offline(why) => ("offline", Some(why)),
        End::Refused(why) => ("refused", Some(why)),
        End::Partly(why) => ("partially", Some(why)),
    };
    let skipped: Vec<_> = report
        .skipped
        .iter()
        .map(|skipped| {
            json!({ "name": skipped.name, "why": skipped.why, "refused": skipped.is_refused })
        })
        .collect();
    json!({
        "peer": peer, "end": end, "why": why,
        "took": moved_json(report.took), "gave": moved_json(report.gave),
        "forked": super::status::forked_json(&report.forked),
        "skipped": skipped, "n_skipped": report.n_skipped,
        "held_there": report.held_there.iter().map(reached_json).collect::<Vec<_>>(),
    })
}

/// A change, and who has it.
pub(super) fn reached_json(reached: &Reached) -> Value {
    let place = |place: &Place| {
        let role = if place.is_relay { "relay" } else { "copy" };
        json!({ "site": hex(place.site.as_bytes()), "role": role, "shown": place.is_shown })
    };
    let places: Vec<_> = reached.places.iter().map(place).collect();
    json!({ "site": hex(reached.site.as_bytes()), "version": reached.version, "places": places })
}

fn moved_json(moved: Moved) -> Value {
    json!({ "changes": moved.changes, "bytes": moved.bytes })
}
