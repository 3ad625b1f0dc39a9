//! Staying in sync: what is committed here goes at once, what comes is committed here, and
//! what happens is told.
//!
//! Everything happens inside [`Watch::next_within`], on the caller's thread. Commits of other
//! connections and processes are noticed by `PRAGMA data_version` every 20 ms; those of the
//! store's own connection between two calls, at the beginning of the next.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anabranch_core::vector::Dot;
use anabranch_sync::limits::MAX_PRESENCE_BYTES;
use bytes::Bytes;
use rusqlite::Connection;

use crate::address::{Address, Target};
use crate::client::{ClientError, Options, relay, storage};
use crate::directory::Directory;
use crate::limits::{COMMIT_POLL_MS, DIRECTORY_GATHER_MS, DIRECTORY_POLL_MS, MAX_TOLD};
use crate::relay::Relay;
use crate::replica::{Replica, StoreError};
use crate::report::{End, Event, Told};
use anabranch_clock::now_ms;

/// A sync that stays until it is dropped.
pub struct Watch<'a> {
    link: Link<'a>,
    told: VecDeque<Told>,
}

enum Link<'a> {
    Directory(Box<WatchedDirectory<'a>>),
    Relay(Box<Relay<'a>>),
}

struct WatchedDirectory<'a> {
    replica: Replica<'a>,
    directory: Directory,
    /// When the next round is due.
    due: Instant,
    seen: Option<(i64, i64)>,
    /// How the last round ended, so that the same is not told again and again.
    last: Option<End>,
}

impl<'a> Watch<'a> {
    /// Begins; nothing happens before the first [`Watch::next_within`].
    ///
    /// Each store has its name at the relay; one alone may have it in the address.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Setup`].
    pub fn new(
        stores: &[(&'a Connection, Option<&str>)],
        address: &Address,
        options: &Options,
    ) -> Result<Watch<'a>, ClientError> {
        let stores: Vec<(Replica<'a>, Option<&str>)> =
            stores.iter().map(|(store, name)| (Replica::new(store), *name)).collect();
        let link = match (address.target(), &stores[..]) {
            (Target::Folder(_) | Target::Bucket { .. }, [(replica, _)]) => {
                let directory = Directory::new(storage(address)?, address.to_string());
                let directory = directory.with_blobs(&options.blobs);
                let (due, seen, last) = (Instant::now(), None, None);
                let replica = *replica;
                Link::Directory(Box::new(WatchedDirectory { replica, directory, due, seen, last }))
            }
            _ => Link::Relay(Box::new(relay(&stores, address, options)?)),
        };
        Ok(Watch { link, told: VecDeque::new() })
    }

    /// Syncs until something happens, for at most `wait`; `None` when that is over.
    ///
    /// # Errors
    /// What is wrong with a store's own file: the watch is of no more use then.
    pub fn next_within(&mut self, wait: Duration) -> Result<Option<Told>, ClientError> {
        let until = Instant::now() + wait;
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(Some(told));
            }
            let now = Instant::now();
            if now >= until {
                return Ok(None);
            }
            let turn_ends = until.min(now + Duration::from_millis(COMMIT_POLL_MS));
            match &mut self.link {
                Link::Directory(directory) => directory.turn(turn_ends, &mut self.told)?,
                Link::Relay(relay) => {
                    relay.turn(turn_ends)?;
                    self.told.extend(std::iter::from_fn(|| relay.poll_told()));
                }
            }
            // Progress is of the moment: what nobody took in time need not be told.
            if self.told.len() > MAX_TOLD {
                self.told.retain(|told| !matches!(told.event, Event::Progress(_)));
            }
        }
    }

    /// Shows a new token in place of one that ends soon ([`Event::TokenWanted`]).
    pub fn renew_token(&mut self, token: &str) {
        if let Link::Relay(relay) = &mut self.link {
            relay.renew_token(token);
        }
    }

    /// Shows this to others on a store for as long as this is connected, and again whenever it is;
    /// `None`: nothing any more. It is stored nowhere; of many in short order the last gets
    /// through. What others show is [`Event::Present`]. A directory passes nothing on.
    ///
    /// # Errors
    /// [`ClientError::Setup`] for more than 4 KiB.
    pub fn set_presence(&mut self, store: &str, state: Option<&[u8]>) -> Result<(), ClientError> {
        if state.is_some_and(|state| state.len() > MAX_PRESENCE_BYTES) {
            let what = format!("presence is at most {MAX_PRESENCE_BYTES} bytes");
            return Err(ClientError::Setup(what));
        }
        if let Link::Relay(relay) = &mut self.link {
            relay.set_presence(store, state.map(Bytes::copy_from_slice));
        }
        Ok(())
    }

    /// Asks a relay how far changes got, once both hold the same; the answer is
    /// [`Event::Receipts`]. `store` is its name at the relay; the only one may be left empty.
    /// A directory answers nothing.
    pub fn ask_receipts(&mut self, store: &str, changes: &[Dot]) {
        if let Link::Relay(relay) = &mut self.link {
            relay.ask_receipts(store, changes);
        }
    }

    /// Ends, and says goodbye to a relay.
    ///
    /// # Errors
    /// What is wrong with a store's own file.
    pub fn close(mut self) -> Result<(), ClientError> {
        if let Link::Relay(relay) = &mut self.link {
            relay.close()?;
        }
        Ok(())
    }
}

impl WatchedDirectory<'_> {
    fn turn(&mut self, until: Instant, told: &mut VecDeque<Told>) -> Result<(), StoreError> {
        let seen = Some((self.replica.data_version()?, self.replica.total_changes()?));
        if self.seen.is_some_and(|before| Some(before) != seen) {
            // Commits come in groups: one file for each group.
            let soon = Instant::now() + Duration::from_millis(DIRECTORY_GATHER_MS);
            self.due = self.due.min(soon);
        }
        self.seen = seen;
        if self.due > Instant::now() {
            let until = until.min(self.due);
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            return Ok(());
        }
        let mut tell = |event| told.push_back(Told { store: String::new(), event });
        let mut converged = false;
        let report = self.directory.round(self.replica, now_ms(), &mut |event| match event {
            Event::Converged => converged = true,
            Event::Connected | Event::Skipped(_) => {}
            event => tell(event),
        })?;
        self.due = Instant::now() + Duration::from_millis(DIRECTORY_POLL_MS);
        self.seen = Some((self.replica.data_version()?, self.replica.total_changes()?));
        let has_moved = report.took.changes + report.gave.changes > 0;
        if self.last.as_ref() != Some(&report.end) || (converged && has_moved) {
            let was_away = matches!(self.last, None | Some(End::Offline(_)));
            if was_away && !matches!(report.end, End::Offline(_)) {
                tell(Event::Connected);
            }
            match &report.end {
                End::Converged => tell(Event::Converged),
                End::Offline(why) => {
                    let retry_in_ms = Some(DIRECTORY_POLL_MS);
                    tell(Event::Offline { why: why.clone(), retry_in_ms });
                }
                End::Refused(_) | End::Partly(_) => {
                    report
                        .skipped
                        .iter()
                        .cloned()
                        .for_each(|skipped| tell(Event::Skipped(skipped)));
                }
            }
            self.last = Some(report.end);
        }
        Ok(())
    }
}
