//! Checkpoints: all that a store had long ago as one delta, however large.
//!
//! Joining neighbours ([`super`]) leaves what is large alone, so a cell that is written over
//! and over lies in many of them. Now and then old neighbours of any size are joined in one
//! pass over all their parts: headers and rows are put aside in order, then written out as one
//! delta in parts by ranges of keys, whose memory does not follow its size.
//!
//! A copy that holds part of a checkpoint is sent the whole, so only what came [long
//! ago](CHECKPOINT_AGE) is taken, and the small neighbours are kept where nothing is won. All is
//! read again only when as much has come as there was: each byte is written a few times in all.

use std::sync::Arc;

use anabranch_core::vector::VersionVector;

use super::maker::{Maker, Room};
use super::scratch::Scratch;
use super::{Run, has_our_names, merged};
use crate::limits::{
    CHECKPOINT_AGE, MAX_CHECKPOINT_BYTES, MAX_CHECKPOINT_CUTS, MAX_JOIN_BYTES,
    MIN_CHECKPOINT_BYTES, MIN_CHECKPOINT_GAIN, MIN_JOIN_DELTAS,
};
use crate::relay::Relay;
use crate::storage::{Listed, StorageError, StoredDelta, Wanted, to};
use crate::store_id::StoreId;

type Result<T> = std::result::Result<T, StorageError>;

/// What is worth a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Only what came before, in Unix milliseconds.
    pub(crate) before_ms: u64,
    /// At least so many bytes.
    pub(crate) min_bytes: u64,
    /// It must be smaller by one part of so many.
    pub(crate) min_gain: u64,
}

impl Terms {
    /// Those of a relay.
    pub(crate) fn at(now_ms: u64) -> Terms {
        Terms {
            before_ms: now_ms.saturating_sub(CHECKPOINT_AGE.as_millis() as u64),
            min_bytes: MIN_CHECKPOINT_BYTES,
            min_gain: MIN_CHECKPOINT_GAIN,
        }
    }
}

/// Joins what a store had long ago, where much has come since that was done last; how many
/// deltas went.
///
/// # Errors
/// [`StorageError`]; then nothing was changed.
pub(crate) async fn make_checkpoints(relay: &Relay, store: &StoreId, terms: Terms) -> Result<u64> {
    let vector = relay.storage().vector(store).await?;
    let listed = relay.storage().list(store).await?;
    let old = listed.into_iter().take_while(|delta| delta.received_ms < terms.before_ms);
    let mut stretches = stretches(old, &vector);
    let (mut n_joined, mut n_cuts) = (0, 0);
    while let Some(stretch) = stretches.pop() {
        if !is_due(&stretch, terms)
            || relay.has_no_gain(store, stretch.deltas[0].id, n_bytes(&stretch))
        {
            continue;
        }
        match join_stretch(relay, store, &stretch, &vector, terms).await? {
            Outcome::Joined => n_joined += stretch.deltas.len() as u64,
            Outcome::NoGain => relay.note_no_gain(store, stretch.deltas[0].id, n_bytes(&stretch)),
            Outcome::Stuck(at) if n_cuts < MAX_CHECKPOINT_CUTS => {
                n_cuts += 1;
                stretches.extend(split(stretch, at, &vector));
            }
            Outcome::Stuck(_) => {}
        }
    }
    Ok(n_joined)
}

/// Neighbours that may be joined in one pass.
fn stretches(deltas: impl Iterator<Item = Listed>, vector: &VersionVector) -> Vec<Run> {
    let mut stretches = Vec::new();
    let mut held = VersionVector::new();
    let mut stretch = Run::default();
    for delta in deltas {
        if n_bytes(&stretch) + delta.n_bytes > MAX_CHECKPOINT_BYTES {
            stretches.push(std::mem::take(&mut stretch));
        }
        if stretch.deltas.is_empty() {
            stretch.from = held.clone();
        }
        held.join(&to(&delta.spans));
        stretch.deltas.push(delta);
    }
    stretches.push(stretch);
    stretches.iter_mut().for_each(|stretch| stretch.from.take_branches(vector));
    stretches
}

fn n_bytes(stretch: &Run) -> u64 {
    stretch.deltas.iter().map(|delta| delta.n_bytes).sum()
}

/// Whether as much has come as what was a checkpoint, and enough of it.
fn is_due(stretch: &Run, terms: Terms) -> bool {
    let [first, _, ..] = stretch.deltas.as_slice() else { return false };
    let n_bytes = n_bytes(stretch);
    n_bytes >= terms.min_bytes && n_bytes - first.n_bytes >= first.n_bytes
}

/// The stretches on both sides of a delta that does not join with what is before it. One that
/// may begin anew begins the second; one that did stays alone.
fn split(mut stretch: Run, at: usize, vector: &VersionVector) -> [Run; 2] {
    let mut rest = stretch.deltas.split_off(at.max(1));
    if at == 0 {
        return [Run::default(), Run { from: after(&stretch, vector), deltas: rest }];
    }
    let from = after(&stretch, vector);
    rest.shrink_to_fit();
    [stretch, Run { from, deltas: rest }]
}

/// What is held behind a stretch.
fn after(stretch: &Run, vector: &VersionVector) -> VersionVector {
    let mut held = stretch.from.clone();
    stretch.deltas.iter().for_each(|delta| held.join(&to(&delta.spans)));
    held.take_branches(vector);
    held
}

/// What came of a stretch.
enum Outcome {
    /// One delta stands in the place of all.
    Joined,
    /// It would hardly be smaller.
    NoGain,
    /// This one of them does not join with those before it.
    Stuck(usize),
}

async fn join_stretch(
    relay: &Relay,
    store: &StoreId,
    stretch: &Run,
    vector: &VersionVector,
    terms: Terms,
) -> Result<Outcome> {
    let maker = match gather(relay, store, stretch, vector).await? {
        Ok(maker) => maker,
        Err(outcome) => return Ok(outcome),
    };
    let n_deltas = stretch.deltas.len();
    let (first, last) = (stretch.deltas[0].id, stretch.deltas[n_deltas - 1].id);
    let n_before = n_bytes(stretch);
    let max_bytes = n_before.saturating_sub(n_before / terms.min_gain);
    let blobs = Arc::clone(relay.blobs());
    let made = relay.work(usize::MAX, move || maker.finish(max_bytes, &blobs)).await??;
    let Some((name, body)) = made else { return Ok(Outcome::NoGain) };
    let n_after = body.n_bytes();
    let spans = merged(stretch.deltas.iter().map(|delta| delta.spans.clone()));
    let joined = StoredDelta { id: last, name, spans, body, live: None };
    if !relay.storage().replace(store, first, joined, n_deltas as u64).await? {
        return Ok(Outcome::NoGain);
    }
    tracing::info!(%store, n_deltas, n_before, n_after, "old deltas became a checkpoint");
    Ok(Outcome::Joined)
}

/// Reads all deltas of a stretch, a page of them at a time; or what comes of it instead.
async fn gather(
    relay: &Relay,
    store: &StoreId,
    stretch: &Run,
    vector: &VersionVector,
) -> Result<std::result::Result<Box<Maker>, Outcome>> {
    let (first, last) = (stretch.deltas[0].id, stretch.deltas[stretch.deltas.len() - 1].id);
    let (from, to) = (stretch.from.clone(), after(stretch, vector));
    let scratch = Scratch::new(relay.blobs().scratch()?);
    let mut maker = Box::new(Maker::new(from, to, scratch, Room::of(n_bytes(stretch))));
    let mut read_upto = first - 1;
    while read_upto < last {
        let wanted = Wanted {
            held: Arc::default(),
            after: Some(read_upto),
            max_deltas: MIN_JOIN_DELTAS as u32,
            max_bytes: MAX_JOIN_BYTES,
        };
        let mut deltas = relay.storage().deltas(store, wanted).await?;
        deltas.retain(|delta| delta.id <= last);
        // Somebody else changed the log: another time.
        let Some(next) = deltas.last() else { return Ok(Err(Outcome::NoGain)) };
        read_upto = next.id;
        let n_legible = n_legible(relay, store, &deltas, vector).await?;
        let illegible = deltas.drain(n_legible..).next().map(|delta| delta.id);
        let blobs = Arc::clone(relay.blobs());
        let read = move || maker.read(&deltas, &blobs).map(|stuck| (maker, stuck));
        let (read, stuck) = relay.work(usize::MAX, read).await??;
        maker = read;
        if let Some(id) = stuck.or(illegible) {
            let at = stretch.deltas.iter().position(|delta| delta.id >= id);
            return Ok(Err(at.map_or(Outcome::NoGain, Outcome::Stuck)));
        }
    }
    Ok(Ok(maker))
}

/// How many deltas there are before the first that uses other names than this relay does.
async fn n_legible(
    relay: &Relay,
    store: &StoreId,
    deltas: &[StoredDelta],
    vector: &VersionVector,
) -> Result<usize> {
    if !vector.has_branches() {
        return Ok(deltas.len());
    }
    for (n, delta) in deltas.iter().enumerate() {
        let part = relay.read_part(delta, 0).await?;
        if !has_our_names(relay, store, &part).await? {
            return Ok(n);
        }
    }
    Ok(deltas.len())
}

#[cfg(test)]
mod tests;
