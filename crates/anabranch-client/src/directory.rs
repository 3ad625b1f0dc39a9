//! A directory as a relay (`docs/protocol.md`, "A directory"): immutable delta files, read by
//! listing, written without a lock.
//!
//! A round lists, takes what is new here, gives what is new there, and joins old files. What
//! the directory holds is worked out anew from what can be read in each round, so that a file
//! that got lost or damaged is made good by whoever holds its changes.
//!
//! Invariant: a file counts as held by the directory only after all of it was read and its
//! checksums agreed, or it was written by this process and synced.

mod blobs;
mod join;
mod name;
mod read;
mod shelf;
#[cfg(test)]
mod tests;

use anabranch_core::vector::VersionVector;
use anabranch_sync::frame::BlobId;

use crate::limits::SEEN_MS;
use crate::peer::{self, PeerRole};
use crate::replica::{Replica, StoreError, n_changes_above};
use crate::report::{End, Event, ForkedBranch, Moved, Progress, Report, Skipped};
use crate::storage::{Storage, StorageError};
use name::CHANGES;
use read::{ReadError, read_whole};
use shelf::{DeltaFile, Shelf};

/// A directory, and what this process has read of it.
pub(crate) struct Directory {
    storage: Box<dyn Storage>,
    url: String,
    /// Files that were read whole, in this process or, by `ana_peer_file`, in an earlier one.
    memory: shelf::Memory,
    /// Blobs that are to be on both sides.
    blobs: Vec<BlobId>,
}

/// What stops a round.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is there was taken; what is here cannot be written there.
    #[error("nothing could be given: {0}")]
    Giving(StorageError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Directory {
    pub(crate) fn new(storage: Box<dyn Storage>, url: String) -> Directory {
        Directory { storage, url, memory: shelf::Memory::default(), blobs: Vec::new() }
    }

    /// Brings these blobs along, to whichever side lacks them.
    pub(crate) fn with_blobs(mut self, blobs: &[[u8; 32]]) -> Directory {
        self.blobs = blobs.iter().copied().map(BlobId).collect();
        self
    }

    /// Takes and gives once. What it could not do is in the report.
    ///
    /// # Errors
    /// Only what is wrong with this copy's own file.
    pub(crate) fn round(
        &mut self,
        replica: Replica<'_>,
        now_ms: u64,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Report, StoreError> {
        let mut round = Round { report: Report::new(), progress: Progress::default(), tell };
        let ended = self.exchange(replica, now_ms, &mut round);
        let mut report = round.report;
        report.end = match ended {
            Ok(()) => {
                let end = end_of(&report);
                match &end {
                    End::Converged => (round.tell)(Event::Converged),
                    End::Refused(why) | End::Partly(why) | End::Offline(why) => {
                        peer::note_error(replica, &self.url, PeerRole::Directory, why, now_ms)?;
                    }
                }
                end
            }
            Err(error) => {
                let end = end_after(error, &report)?;
                if let End::Offline(why) | End::Refused(why) | End::Partly(why) = &end {
                    peer::note_error(replica, &self.url, PeerRole::Directory, why, now_ms)?;
                }
                end
            }
        };
        Ok(report)
    }

    /// Takes, gives, and notes what the directory holds in the end.
    fn exchange(
        &mut self,
        replica: Replica<'_>,
        now_ms: u64,
        round: &mut Round<'_>,
    ) -> Result<(), RoundError> {
        self.refuse_unplugged(replica)?;
        self.memory.load(replica, &self.url)?;
        let mut shelf = Shelf::list(&*self.storage, &self.memory)?;
        (round.tell)(Event::Connected);
        let before = replica.vector()?;
        self.take(replica, &mut shelf, round)?;
        // What waits may have come after the listing; each time somebody wrote a file.
        while shelf.is_waiting(&replica.vector()?) && shelf.look_again(&*self.storage)? {
            self.take(replica, &mut shelf, round)?;
        }
        round.forked(ForkedBranch::new_in(&replica.vector()?, &before));
        self.verify_others(&mut shelf)?;
        for (name, why) in shelf.unreadable(&replica.vector()?) {
            round.skip(Skipped { name, why, is_refused: false });
        }
        self.give(replica, &mut shelf, now_ms, round)?;
        self.exchange_blobs(replica, round)?;
        join::join_old(&*self.storage, &mut shelf, now_ms)?;
        join::delete_replaced(&*self.storage, &mut shelf, now_ms)?;
        let held = shelf.held();
        // Nothing is written where nothing is news: others who watch this file need not wake.
        let known = peer::find(replica, &self.url)?;
        let is_news = known.as_ref().is_none_or(|peer| peer.held != held);
        let is_known = known.is_some_and(|peer| {
            let is_recent = peer.seen_ms.is_some_and(|seen| seen + SEEN_MS > now_ms);
            peer.held == held && peer.error.is_none() && is_recent
        });
        self.memory.store(replica, &self.url, &shelf)?;
        let is_clean = round.report.n_skipped == 0;
        if !is_known && (is_clean || is_news) {
            peer::note_held(replica, &self.url, PeerRole::Directory, &held, 1, now_ms)?;
        }
        Ok(())
    }

    fn exchange_blobs(
        &self,
        replica: Replica<'_>,
        round: &mut Round<'_>,
    ) -> Result<(), RoundError> {
        for blob in &self.blobs {
            match blobs::exchange(&*self.storage, replica, *blob)? {
                blobs::Fetched::Both { took, gave } => {
                    round.report.took.bytes += took;
                    round.report.gave.bytes += gave;
                    if took + gave > 0 {
                        (round.tell)(Event::Blob { hash: blob.0, bytes: took + gave });
                    }
                }
                blobs::Fetched::Nowhere(why) => {
                    let name = format!("blob {blob}");
                    round.skip(Skipped { name, why, is_refused: false });
                }
            }
        }
        Ok(())
    }

    /// The folder of a drive that is not mounted is often there and empty: filling it would
    /// hide the changes from everyone.
    fn refuse_unplugged(&self, replica: Replica<'_>) -> Result<(), RoundError> {
        let known = peer::find(replica, &self.url)?;
        let was_used = known.is_some_and(|peer| !peer.held.is_empty());
        if was_used && self.storage.has_folder(CHANGES)? == Some(false) {
            return Err(StorageError::Offline {
                place: self.url.clone(),
                why: format!(
                    "it held changes before and has no folder {CHANGES:?} now; is the drive \
                     mounted? To begin anew, make that folder"
                ),
            }
            .into());
        }
        Ok(())
    }

    /// Applies every file that brings something, as long as one applies.
    fn take(
        &self,
        replica: Replica<'_>,
        shelf: &mut Shelf,
        round: &mut Round<'_>,
    ) -> Result<(), RoundError> {
        let mut mine = replica.vector()?;
        shelf.read(replica)?;
        round.expect(shelf.files().filter(|file| !file.to().is_at_or_below(&mine)), &mine);
        // A complete file comes last: others may lead to its floor, and then nothing that is
        // only here need be told from what it forgot.
        let mut takes_complete = false;
        loop {
            let mut has_moved = false;
            for n in 0..shelf.len() {
                let file = shelf.file(n);
                if file.is_left_out() || file.to().is_at_or_below(&mine) {
                    continue;
                }
                let needed = if takes_complete { file.from() } else { file.start() };
                if !needed.is_at_or_below(&mine) {
                    continue;
                }
                if self.take_file(replica, shelf, n, round)? {
                    mine = replica.vector()?;
                    // Others' files may use names that mean something else since.
                    shelf.read(replica)?;
                    has_moved = true;
                    takes_complete = false;
                }
            }
            if !has_moved && takes_complete {
                return Ok(());
            }
            takes_complete = !has_moved;
        }
    }

    /// Whether the file was taken; else it is marked, and the round goes on without it.
    fn take_file(
        &self,
        replica: Replica<'_>,
        shelf: &mut Shelf,
        n: usize,
        round: &mut Round<'_>,
    ) -> Result<bool, RoundError> {
        let file = shelf.file(n);
        let (name, n_bytes) = (file.name.clone(), file.n_bytes);
        let mut moved = Moved { changes: 0, bytes: n_bytes };
        let read = read_whole(&*self.storage, file, &mut |part| {
            moved.changes += replica.apply(part)?;
            round.advance(part.len() as u64);
            Ok(())
        });
        match read {
            Ok(()) => {
                shelf.mark_verified(n);
                round.took(moved);
                Ok(true)
            }
            Err(ReadError::Unreadable(why)) => {
                shelf.mark_unreadable(n, why);
                Ok(false)
            }
            Err(ReadError::Storage(error)) => Err(error.into()),
            Err(ReadError::Store(error)) if error.is_refusal() => {
                shelf.mark_refused(n);
                round.skip(Skipped { name, why: error.to_string(), is_refused: true });
                Ok(false)
            }
            Err(ReadError::Store(error)) => Err(error.into()),
        }
    }

    /// Reads what brought nothing new and was never read whole: only then does it count.
    fn verify_others(&self, shelf: &mut Shelf) -> Result<(), RoundError> {
        for n in 0..shelf.len() {
            let file = shelf.file(n);
            if file.is_left_out() || file.is_verified() {
                continue;
            }
            match read_whole(&*self.storage, file, &mut |_| Ok(())) {
                Ok(()) => shelf.mark_verified(n),
                Err(ReadError::Unreadable(why)) => shelf.mark_unreadable(n, why),
                Err(ReadError::Storage(error)) => return Err(error.into()),
                Err(ReadError::Store(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes one file with all that is held here and not there.
    fn give(
        &self,
        replica: Replica<'_>,
        shelf: &mut Shelf,
        now_ms: u64,
        round: &mut Round<'_>,
    ) -> Result<(), RoundError> {
        let held = shelf.held();
        if replica.vector()?.is_at_or_below(&held) {
            return Ok(());
        }
        let parts = replica.export(&held)?;
        let file = DeltaFile::of_parts(&parts, now_ms)?;
        let path = format!("{CHANGES}/{}", file.name);
        self.storage.put(&path, &parts).map_err(RoundError::Giving)?;
        round.gave(Moved { changes: n_changes_above(&held, file.to()), bytes: file.n_bytes });
        shelf.add(file);
        Ok(())
    }
}

/// What is told while a round runs.
struct Round<'a> {
    report: Report,
    progress: Progress,
    tell: &'a mut dyn FnMut(Event),
}

impl Round<'_> {
    fn expect<'f>(&mut self, files: impl Iterator<Item = &'f DeltaFile>, mine: &VersionVector) {
        let mut to = mine.clone();
        self.progress.bytes_left = 0;
        for file in files {
            to.join(file.to());
            self.progress.bytes_left += file.n_bytes;
        }
        self.progress.changes_left = n_changes_above(mine, &to);
    }

    fn advance(&mut self, n_bytes: u64) {
        self.progress.took.bytes += n_bytes;
        self.progress.bytes_left = self.progress.bytes_left.saturating_sub(n_bytes);
        (self.tell)(Event::Progress(self.progress));
    }

    fn took(&mut self, moved: Moved) {
        self.report.took.add(moved);
        self.progress.took.changes += moved.changes;
        self.progress.changes_left = self.progress.changes_left.saturating_sub(moved.changes);
        if moved.changes > 0 {
            (self.tell)(Event::Took(moved));
        }
    }

    fn gave(&mut self, moved: Moved) {
        self.report.gave.add(moved);
        self.progress.gave.add(moved);
        (self.tell)(Event::Gave(moved));
    }

    fn forked(&mut self, forked: Vec<ForkedBranch>) {
        if !forked.is_empty() {
            self.report.forked.clone_from(&forked);
            (self.tell)(Event::Forked(forked));
        }
    }

    fn skip(&mut self, skipped: Skipped) {
        (self.tell)(Event::Skipped(skipped.clone()));
        self.report.skip(skipped);
    }
}

/// How a round ended that went through.
fn end_of(report: &Report) -> End {
    if let Some(refused) = report.skipped.iter().find(|skipped| skipped.is_refused) {
        return End::Refused(format!("{}: {}", refused.name, refused.why));
    }
    match report.skipped.first() {
        Some(skipped) => End::Partly(format!("{}: {}", skipped.name, skipped.why)),
        None => End::Converged,
    }
}

/// How a round ended that was stopped.
fn end_after(error: RoundError, report: &Report) -> Result<End, StoreError> {
    let has_moved = report.took.bytes + report.gave.bytes > 0;
    Ok(match error {
        RoundError::Store(error @ StoreError::Busy(_)) => End::Partly(error.to_string()),
        RoundError::Store(error) => return Err(error),
        RoundError::Storage(error @ StorageError::Denied { .. }) => End::Refused(error.to_string()),
        RoundError::Storage(error) | RoundError::Giving(error) => match error {
            StorageError::Offline { .. } if !has_moved => End::Offline(error.to_string()),
            _ => End::Partly(error.to_string()),
        },
    })
}
