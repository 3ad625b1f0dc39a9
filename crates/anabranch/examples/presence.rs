//! Who else is on a store, and what they do: `presence DB URL NAME`, in several terminals at once.
//!
//! ```text
//! ana serve &
//! cargo run --example presence -- a.db ws://127.0.0.1:7440/sync/notes Ann
//! cargo run --example presence -- b.db ws://127.0.0.1:7440/sync/notes Bob
//! ```
//!
//! The token is in `ANABRANCH_TOKEN`. What is typed is shown to the others, and kept nowhere.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::mpsc;
use std::time::Duration;

use anabranch::{Event, Store, Sync};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [db, url, name] = &arguments[..] else { return Err("presence DB URL NAME".into()) };
    let token = std::env::var("ANABRANCH_TOKEN").unwrap_or_default();
    let store = Store::open(db)?;
    let mut watch = Sync::to(url)?.token(token).start(&store)?;
    watch.set_presence("", Some(format!("{name} is here").as_bytes()))?;
    let typed = typed_lines();
    let mut others = BTreeMap::new();
    loop {
        match watch.next_within(Duration::from_millis(100))?.map(|told| told.event) {
            Some(Event::Present { site, instance, state: Some(state) }) => {
                let state = String::from_utf8_lossy(&state).into_owned();
                println!("{state}");
                others.insert((site, instance), state);
            }
            Some(Event::Present { site, instance, state: None }) => {
                let was = others.remove(&(site, instance)).unwrap_or_default();
                println!("({was}: has left; {} others are here)", others.len());
            }
            Some(Event::Offline { why, .. } | Event::Refused(why)) => eprintln!("{why}"),
            _ => {}
        }
        match typed.try_recv() {
            Ok(line) => watch.set_presence("", Some(format!("{name}: {line}").as_bytes()))?,
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => return Ok(watch.close()?),
        }
    }
}

/// Lines of standard input, as they come.
fn typed_lines() -> mpsc::Receiver<String> {
    let (lines, typed) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    typed
}
