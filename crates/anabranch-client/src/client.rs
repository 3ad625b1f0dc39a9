//! Syncing once: until nothing is left to move, or nothing more can.

use std::time::{Duration, Instant};

use anabranch_core::vector::Dot;
use anabranch_sync::frame::{Retry, StoreName};
use anabranch_sync::limits::{MAX_CHANNELS, MAX_TOKEN_BYTES};
use rusqlite::Connection;

use crate::address::{Address, Target};
use crate::directory::Directory;
use crate::limits::{MAX_CONNECTIONS_ONCE, REFUSED_QUIET_MS};
use crate::peer::{self, Peer};
use crate::relay::{Channel, Relay, State};
use crate::replica::{Replica, StoreError};
use crate::report::{End, Event, Report};
use crate::storage::{Folder, Storage};
use anabranch_clock::now_ms;

/// What is wrong on this side; what went wrong with the peer is in the [`Report`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// This copy's own file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address does not fit what is asked.
    #[error("{address}: {why}")]
    Address {
        /// The address.
        address: String,
        /// What does not fit.
        why: &'static str,
    },
    /// The token is too long, there are more stores than a connection carries, or the runtime of
    /// the sockets cannot be made.
    #[error("{0}")]
    Setup(String),
}

/// What a sync is told besides address and store.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What a relay wants to see; may be empty.
    pub token: String,
    /// Blobs that are to be on both sides, by BLAKE3 hash. A relay gives them; it takes those
    /// that changes name.
    pub blobs: Vec<[u8; 32]>,
    /// Changes that a relay is asked about once both hold the same: how far they got.
    pub receipts: Vec<Dot>,
}

/// Brings a store and a peer to the same state, as far as it goes now.
///
/// # Errors
/// [`ClientError`], for what is wrong on this side.
pub fn once(
    connection: &Connection,
    address: &Address,
    options: &Options,
    tell: &mut dyn FnMut(Event),
) -> Result<Report, ClientError> {
    let replica = Replica::new(connection);
    if matches!(address.target(), Target::Relay { .. }) {
        let mut relay = relay(&[(replica, None)], address, options)?;
        return Ok(relay_once(&mut relay, tell)?);
    }
    let directory = Directory::new(storage(address)?, address.to_string());
    let mut directory = directory.with_blobs(&options.blobs);
    Ok(directory.round(replica, now_ms(), tell)?)
}

/// All peers that a store has synced with.
///
/// # Errors
/// What SQLite says.
pub fn peers(connection: &Connection) -> Result<Vec<Peer>, StoreError> {
    peer::all(Replica::new(connection))
}

/// Forgets a peer that is not synced with any more, or never was; whether it was known.
///
/// # Errors
/// What SQLite says.
pub fn forget_peer(connection: &Connection, url: &str) -> Result<bool, StoreError> {
    let replica = Replica::new(connection);
    replica.atomically(|| peer::forget(replica, url))
}

/// The files of a directory.
pub(crate) fn storage(address: &Address) -> Result<Box<dyn Storage>, ClientError> {
    match address.target() {
        Target::Folder(path) => Ok(Box::new(Folder::new(path))),
        #[cfg(feature = "s3")]
        Target::Bucket { bucket, prefix } => {
            let bucket = crate::storage::Bucket::new(bucket, prefix);
            Ok(Box::new(bucket.map_err(|error| ClientError::Setup(error.to_string()))?))
        }
        #[cfg(not(feature = "s3"))]
        Target::Bucket { .. } => {
            Err(wrong(address, "this program was built without S3 (cargo feature s3)"))
        }
        Target::Relay { .. } => Err(wrong(address, "it is no directory")),
    }
}

/// A relay and the stores that sync with it, by their names there, or as the address says.
pub(crate) fn relay<'a>(
    stores: &[(Replica<'a>, Option<&str>)],
    address: &Address,
    options: &Options,
) -> Result<Relay<'a>, ClientError> {
    let Target::Relay { base, store } = address.target() else {
        return Err(wrong(address, "several stores at once need a relay: ws:// or wss://"));
    };
    if options.token.len() > MAX_TOKEN_BYTES {
        return Err(ClientError::Setup(format!(
            "the token is longer than {MAX_TOKEN_BYTES} bytes"
        )));
    }
    if stores.len() > MAX_CHANNELS as usize {
        let n = stores.len();
        let why = format!("a connection carries {MAX_CHANNELS} stores at most, not {n}");
        return Err(ClientError::Setup(why));
    }
    let mut channels = Vec::with_capacity(stores.len());
    for (replica, name) in stores {
        let name = match (name, store) {
            (Some(name), _) => StoreName::new(name),
            (None, store) => store.clone(),
        };
        let name = name.ok_or_else(|| wrong(address, "the name of the store is missing"))?;
        let url = format!("{base}/{}", name.as_str());
        let channel = Channel::new(*replica, name, url).with_blobs(&options.blobs);
        channels.push(channel.with_questions(&options.receipts));
    }
    let failed = |error: std::io::Error| ClientError::Setup(error.to_string());
    Relay::new(address.to_string(), options.token.clone(), channels).map_err(failed)
}

fn wrong(address: &Address, why: &'static str) -> ClientError {
    ClientError::Address { address: address.to_string(), why }
}

/// Turns until the one channel has converged, or cannot.
fn relay_once(relay: &mut Relay<'_>, tell: &mut dyn FnMut(Event)) -> Result<Report, StoreError> {
    let mut report = Report::new();
    let mut last_word = String::new();
    let (mut n_connections, mut moved_before) = (0, 0);
    let quiet = Duration::from_millis(REFUSED_QUIET_MS);
    report.end = loop {
        relay.turn(Instant::now() + quiet)?;
        while let Some(told) = relay.poll_told() {
            match &told.event {
                Event::Skipped(skipped) => report.skip(skipped.clone()),
                Event::Offline { why, .. } | Event::Refused(why) => last_word.clone_from(why),
                Event::Forked(forked) => report.forked.extend_from_slice(forked),
                Event::HeldThere(held) => report.held_there.clone_from(held),
                Event::Receipts(receipts) => report.receipts.extend_from_slice(receipts),
                _ => {}
            }
            tell(told.event);
        }
        let channel = &relay.channels()[0];
        let progress = channel.progress();
        (report.took, report.gave) = (progress.took, progress.gave);
        let has_moved = report.took.changes + report.gave.changes + report.took.bytes;
        let is_quiet = *channel.state() == State::Converged
            && !channel.wants_blobs()
            && !channel.has_questions();
        if is_quiet && channel.refused().is_none() {
            // Refusals on the way were overcome; blobs that the relay lacks were not.
            (report.skipped, report.n_skipped) = (Vec::new(), 0);
            channel.missing_blobs().iter().cloned().for_each(|blob| report.skip(blob));
            break match report.skipped.first() {
                None => End::Converged,
                Some(blob) => End::Partly(format!("{}: {}", blob.name, blob.why)),
            };
        }
        if let Some((why, retry)) = channel.stuck_with(quiet) {
            break match retry {
                Retry::Never => End::Refused(why.clone()),
                Retry::AfterMs(_) => End::Partly(why.clone()),
            };
        }
        if relay.has_given_up() {
            break End::Refused(last_word);
        }
        if !relay.is_live() && !last_word.is_empty() {
            n_connections += 1;
            let goes_on = has_moved > moved_before && n_connections < MAX_CONNECTIONS_ONCE;
            match (goes_on, has_moved) {
                (true, _) => relay.hurry(),
                (false, 0) => break End::Offline(last_word),
                (false, _) => break End::Partly(last_word),
            }
            moved_before = has_moved;
            last_word.clear();
        }
    };
    relay.close()?;
    // After the farewell, which notes what the peer holds, and that all went well.
    if let End::Refused(why) | End::Partly(why) = &report.end {
        relay.channels()[0].note_error(why)?;
    }
    Ok(report)
}
