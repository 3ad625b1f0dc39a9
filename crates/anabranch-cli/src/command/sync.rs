//! `ana sync`: brings a database and a peer to the same state, and says how far it got.

use std::path::PathBuf;
use std::time::Instant;

use anabranch::{End, Event, Moved, Report, Sync};
use serde_json::{Value, json};

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::open;
use crate::output::{bytes, count};
use crate::progress::Progress;
use crate::terminal::Style;

const AFTER_HELP: &str = "\
Example:
  ana sync notes.db dir:/media/stick

Takes what the other side has and gives what it lacks; running it again does no
harm. dir: and a folder (a stick, a share, a cloud drive's folder, a checkout of
git) needs no server: every copy syncs with the folder when it can.

Exit status:
  0  converged: both hold the same changes
  3  offline: nothing moved; also when the database itself cannot be read
  4  refused, by the other side or by this database; the message says why
  5  partially: some of it moved; run it again";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// Where to sync: dir:FOLDER
    url: String,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let sync = Sync::to(&args.url)?;
    let store = open::writable(&args.db)?;
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
        print(&report, args, &sync.peer(), console)?;
    }
    finish(&report, args)
}

/// `took 1,200 changes (3.1 MB, 1.2 MB/s), 4.0 MB left`.
fn line(at: &anabranch::Progress, start: Instant) -> String {
    let moved = at.took.bytes + at.gave.bytes;
    let rate = moved as f64 / start.elapsed().as_secs_f64().max(0.001);
    let changes = count(at.took.changes + at.gave.changes, "change");
    format!(
        "{changes} ({}, {}/s), {} left ({})",
        bytes(moved),
        bytes(rate as u64),
        count(at.changes_left, "change"),
        bytes(at.bytes_left)
    )
}

fn print(report: &Report, args: &Args, peer: &str, console: &mut Console) -> Result<()> {
    let name = args.db.display();
    for (verb, moved) in [("took", report.took), ("gave", report.gave)] {
        if moved.changes > 0 {
            let changes = count(moved.changes, "change");
            console.line(format!("{name} {verb} {changes} ({})", bytes(moved.bytes)))?;
        }
    }
    for skipped in &report.skipped {
        console.line(format!("left out {}: {}", skipped.name, skipped.why))?;
    }
    let more = report.n_skipped - report.skipped.len() as u64;
    if more > 0 {
        console.line(format!("… and {} more", count(more, "file")))?;
    }
    if report.is_converged() {
        let text = console.paint(Style::Good, &format!("{peer} holds the same"));
        console.line(text)?;
    }
    Ok(())
}

/// The exit status that says how it ended.
fn finish(report: &Report, args: &Args) -> Result<Exit> {
    let again = format!(
        "ana sync {} {}",
        crate::hint::word(&args.db.display().to_string()),
        crate::hint::word(&args.url)
    );
    match &report.end {
        End::Converged => Ok(Exit::Ok),
        End::Offline(why) => Err(Failure::new(Exit::Io, format!("offline: {why}"))
            .hint("nothing is lost: run the command again when it is there")),
        End::Refused(why) => Err(Failure::new(Exit::Refused, format!("refused: {why}"))
            .known_hint_or("nothing that was refused is lost; both sides are as they were")),
        End::Partly(why) => Err(Failure::new(Exit::Again, format!("not all of it: {why}"))
            .hint(format!("`{again}` goes on where this stopped"))),
    }
}

fn as_json(report: &Report, peer: &str) -> Value {
    let (end, why) = match &report.end {
        End::Converged => ("converged", None),
        End::Offline(why) => ("offline", Some(why)),
        End::Refused(why) => ("refused", Some(why)),
        End::Partly(why) => ("partially", Some(why)),
    };
    let moved = |moved: Moved| json!({ "changes": moved.changes, "bytes": moved.bytes });
    let skipped: Vec<_> = report
        .skipped
        .iter()
        .map(|skipped| {
            json!({ "name": skipped.name, "why": skipped.why, "refused": skipped.is_refused })
        })
        .collect();
    json!({
        "peer": peer, "end": end, "why": why,
        "took": moved(report.took), "gave": moved(report.gave),
        "skipped": skipped, "n_skipped": report.n_skipped,
    })
}
