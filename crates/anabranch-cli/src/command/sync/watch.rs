//! `ana sync --watch`: stays, and prints a line for everything that happens, as it happens.

use anabranch::{Event, Store, Sync, Told};
use serde_json::{Value, json};

use super::{amount, held_there, moved_json, reached_json, refused};
use crate::console::Console;
use crate::failure::{Exit, Result};
use crate::literal::hex;
use crate::output::bytes;
use crate::progress::Progress;
use crate::terminal::Style;
use crate::time;

/// Runs until it is stopped, the relay refuses for good, or nobody reads what is printed.
pub(super) fn run(store: &Store, sync: &Sync, console: &mut Console) -> Result<Exit> {
    let mut watch = sync.start(store)?;
    let peer = sync.peer();
    let progress = Progress::new("connecting");
    loop {
        let Told { event, .. } = watch.next()?;
        if let Event::Progress(at) = &event {
            let left = match at.changes_left {
                0 => "in sync".to_string(),
                n => {
                    format!("{} left ({})", crate::output::count(n, "change"), bytes(at.bytes_left))
                }
            };
            progress.step(left);
            continue;
        }
        let now = time::now_ms();
        if console.is_json() {
            console.json(&as_json(&event, &time::iso(store, now)?, &peer))?;
        } else {
            let line =
                format!("{}  {}", time::clock(store, now)?, sentence(&event, &peer, console));
            progress.above(|| console.line(line))?;
        }
        console.finish()?;
        if let Event::Refused(why) = event {
            progress.done();
            return Err(refused(&why));
        }
    }
}

fn sentence(event: &Event, peer: &str, console: &Console) -> String {
    match event {
        Event::Connected => format!("connected to {peer}"),
        Event::Took(moved) => format!("took {}", amount(*moved)),
        Event::Gave(moved) => format!("gave {}", amount(*moved)),
        Event::Forked(forked) => crate::command::merge::forked(forked),
        Event::Blob { hash, bytes: n } => format!("blob {} ({})", hex(hash), bytes(*n)),
        Event::Skipped(skipped) => format!("left out {}: {}", skipped.name, skipped.why),
        Event::Converged => console.paint(Style::Good, "in sync"),
        Event::HeldThere(held) => held.iter().map(held_there).collect::<Vec<_>>().join("; "),
        Event::Refused(why) => console.paint(Style::Bad, &format!("refused: {why}")),
        Event::TokenWanted => "the token ends soon".into(),
        Event::Offline { why, retry_in_ms } => {
            let again = retry_in_ms
                .map_or(String::new(), |ms| format!("; again in {:.1} s", ms as f64 / 1000.0));
            console.paint(Style::Bad, &format!("offline: {why}{again}"))
        }
        other => format!("{other:?}"),
    }
}

fn as_json(event: &Event, now: &str, peer: &str) -> Value {
    let (what, more) = match event {
        Event::Connected => ("connected", json!({})),
        Event::Took(moved) => ("took", moved_json(*moved)),
        Event::Gave(moved) => ("gave", moved_json(*moved)),
        Event::Skipped(skipped) => (
            "skipped",
            json!({ "name": skipped.name, "why": skipped.why, "refused": skipped.is_refused }),
        ),
        Event::Blob { hash, bytes } => ("blob", json!({ "hash": hex(hash), "bytes": bytes })),
        Event::Forked(forked) => {
            ("forked", json!({ "branches": crate::command::status::forked_json(forked) }))
        }
        Event::Converged => ("converged", json!({})),
        Event::HeldThere(held) => {
            let changes: Vec<_> = held.iter().map(reached_json).collect();
            ("held_there", json!({ "changes": changes }))
        }
        Event::Refused(why) => ("refused", json!({ "why": why })),
        Event::TokenWanted => ("token_wanted", json!({})),
        Event::Offline { why, retry_in_ms } => {
            ("offline", json!({ "why": why, "retry_in_ms": retry_in_ms }))
        }
        _ => ("other", json!({})),
    };
    let mut line = json!({ "time": now, "peer": peer, "event": what });
    if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
        line.extend(more);
    }
    line
}
