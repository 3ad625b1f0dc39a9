//! Joining old files, and deleting what a joined file replaces.
//!
//! Sizes grow like the digits of a counter: a run of the newest files is joined once there
//! are enough of them and none outweighs those after it, so that a change is written again
//! once for each factor by which the directory grows.
//!
//! Nobody is asked. Two writers who join the same files write the same delta; a file is
//! deleted only for another, whole and old enough, that spans all it does. "Spans" is a
//! strict order (ties are broken by name), so the file that spans most is never deleted.

use anabranch_core::delta::{Delta, join};
use anabranch_core::wire;

use super::name::CHANGES;
use super::read::read_whole;
use super::shelf::{DeltaFile, Shelf};
use crate::limits::{
    MAX_JOINED_BYTES, MAX_JOINED_CHANGES, MAX_JOINED_RATIO, MIN_FILE_COST_BYTES, MIN_JOINED_FILES,
    REPLACED_AFTER_MS,
};
use crate::storage::{Storage, StorageError};

/// Writes one file for a run of the newest ones, if it is time.
pub(super) fn join_old(
    storage: &dyn Storage,
    shelf: &mut Shelf,
    now_ms: u64,
) -> Result<(), StorageError> {
    // Those that another spans wait for their deletion.
    let files: Vec<&DeltaFile> = shelf
        .files()
        .filter(|file| file.is_verified() && !shelf.files().any(|other| spans(other, file)))
        .collect();
    let run = &files[files.len() - newest_run(&files)..];
    if run.len() < MIN_JOINED_FILES {
        return Ok(());
    }
    let Some(joined) = joined(storage, run) else { return Ok(()) };
    let parts = wire::encode(&joined);
    let Ok(file) = DeltaFile::of_parts(&parts, now_ms) else { return Ok(()) };
    match storage.put(&format!("{CHANGES}/{}", file.name), &parts) {
        Ok(()) => shelf.add(file),
        // Joining is a kindness to others: what has no room for it works without.
        Err(StorageError::Full { .. } | StorageError::Denied { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// How many of the newest files are to be joined.
fn newest_run(files: &[&DeltaFile]) -> usize {
    let mut n = 0;
    let (mut n_bytes, mut n_changes, mut cost) = (0, 0, MIN_FILE_COST_BYTES);
    for file in files.iter().rev() {
        let file_cost = file.n_bytes.max(MIN_FILE_COST_BYTES);
        (n_bytes, n_changes) = (n_bytes + file.n_bytes, n_changes + file.n_changes());
        let is_too_much = n_bytes > MAX_JOINED_BYTES || n_changes > MAX_JOINED_CHANGES;
        if is_too_much || file_cost > cost * MAX_JOINED_RATIO {
            break;
        }
        n += 1;
        cost += file_cost;
    }
    n
}

/// The oldest files of the run that chain, as one delta; `None` if they are too few.
fn joined(storage: &dyn Storage, run: &[&DeltaFile]) -> Option<Delta> {
    let mut n = 0;
    let mut joined: Option<Delta> = None;
    for file in run {
        let next = read_delta(storage, file).and_then(|delta| match &joined {
            None => Some(delta),
            Some(earlier) => join(earlier, &delta).or_else(|_| join(&delta, earlier)).ok(),
        });
        match next {
            Some(next) => (n, joined) = (n + 1, Some(next)),
            None if n >= MIN_JOINED_FILES => break,
            // Begins anew after what stands in the way.
            None => (n, joined) = (0, None),
        }
    }
    joined.filter(|_| n >= MIN_JOINED_FILES)
}

fn read_delta(storage: &dyn Storage, file: &DeltaFile) -> Option<Delta> {
    let mut parts = Vec::new();
    let keep = &mut |part: &[u8]| {
        parts.push(part.to_vec());
        Ok(())
    };
    read_whole(storage, file, keep).ok()?;
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    wire::decode(&parts).ok()
}

/// Deletes files that another spans, once that one has been there for a while.
pub(super) fn delete_replaced(
    storage: &dyn Storage,
    shelf: &mut Shelf,
    now_ms: u64,
) -> Result<(), StorageError> {
    let replaced: Vec<String> = shelf
        .files()
        .filter(|file| {
            file.is_verified()
                && shelf.files().any(|other| {
                    let is_old = other.modified_ms.saturating_add(REPLACED_AFTER_MS) <= now_ms;
                    is_old && spans(other, file)
                })
        })
        .map(|file| file.name.clone())
        .collect();
    for name in replaced {
        match storage.delete(&format!("{CHANGES}/{name}")) {
            Ok(()) => shelf.remove(&name),
            // It stays, and does no harm.
            Err(StorageError::Denied { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether `file` brings nothing to whoever can take `other`.
fn spans(other: &DeltaFile, file: &DeltaFile) -> bool {
    if other.name == file.name || !other.is_verified() {
        return false;
    }
    let is_wider = other.from().is_at_or_below(file.from()) && file.to().is_at_or_below(other.to());
    let is_same = file.from().is_at_or_below(other.from()) && other.to().is_at_or_below(file.to());
    let has_same_history = file.to().iter().chain(file.from().iter()).all(|(site, held)| {
        other
            .to()
            .get(site)
            .is_none_or(|theirs| theirs.version != held.version || theirs.chain == held.chain)
    });
    is_wider && has_same_history && (!is_same || other.name < file.name)
}
