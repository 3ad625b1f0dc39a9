//! Joining old deltas, so that a newcomer is not sent every change apart.
//!
//! A relay's deltas are a chain once each is *restricted* to what was new when it came: from
//! the relay's vector before it to the vector after it. Restricting drops only cells that
//! whoever holds that vector skips anyway, so for every reader the restricted delta does what
//! the original did, and neighbours join whatever their senders' own `from` was
//! (`changes.md`, 3). The joined delta stands in the place of the last of them.
//!
//! Two copies that write at the same time hardly ever know all that the relay does: what a delta's
//! maker had not seen of what it is restricted to goes into [`Delta::seen`]. Whoever forgot some of
//! that takes the rows of the joined delta with the same doubt as those of the parts.
//!
//! A complete delta whose floor is held restricts like any other. One whose floor is not (a copy
//! made a relay whole that was put back to an older state) begins anew: whoever lacks something
//! before it takes it instead, if it leads to all of that, else it stays alone. What comes of it
//! has the floor, and has no place for deltas whose makers had not seen that.
//!
//! The bytes of deltas keep the names of their makers. Where histories have forked those are joined
//! that use the names that the relay does; what was made in ignorance of a fork stays as it came.
//!
//! Runs of small neighbours are joined when there are enough of them, pair by pair, until what
//! comes of it is large enough to be left alone. What was joined before is joined again only with
//! some times as much, so that a change is put together a few times in all.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use anabranch_core::delta::{Complete, Delta, DeltaDot, JoinError, join_owned};
use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{WireError, decode, encode, part_head, peek};
use bytes::Bytes;

use crate::blobs::BlobDir;
use crate::limits::{
    MAX_INLINE_BYTES, MAX_JOIN_BYTES, MAX_JOINED_CELLS, MAX_SMALL_DELTA_BYTES, MIN_JOIN_DELTAS,
    MIN_JOIN_RATIO,
};
use crate::relay::Relay;
use crate::storage::{Body, Listed, Span, StorageError, StoredDelta, Wanted, to};
use crate::store_id::StoreId;

mod checkpoint;
mod maker;
mod scratch;
mod sort;

pub(crate) use checkpoint::{Terms, make_checkpoints};

/// Joins a store's small deltas; how many went.
///
/// # Errors
/// [`StorageError`]; then nothing was changed.
pub(crate) async fn join_store(relay: &Relay, store: &StoreId) -> Result<u64, StorageError> {
    join_runs(relay, store, MIN_JOIN_DELTAS).await
}

/// Joins runs of at least `min_deltas`.
pub(crate) async fn join_runs(
    relay: &Relay,
    store: &StoreId,
    min_deltas: usize,
) -> Result<u64, StorageError> {
    let vector = relay.storage().vector(store).await?;
    let listed = relay.storage().list(store).await?;
    let mut n_joined = 0;
    for run in runs(listed, min_deltas, &vector) {
        n_joined += join_run(relay, store, run, &vector).await?;
    }
    Ok(n_joined)
}

/// Neighbours that are joined, and what is held before the first of them.
#[derive(Default)]
struct Run {
    from: VersionVector,
    deltas: Vec<Listed>,
}

/// Maximal runs of small deltas that are worth it.
fn runs(listed: Vec<Listed>, min_deltas: usize, vector: &VersionVector) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut held = VersionVector::new();
    let mut run = Run::default();
    let mut n_bytes = 0;
    for delta in listed {
        let is_small = delta.n_bytes <= MAX_SMALL_DELTA_BYTES && delta.n_parts == 1;
        if !is_small || n_bytes + delta.n_bytes > MAX_JOIN_BYTES {
            let next = Run::default();
            runs.push(std::mem::replace(&mut run, next));
            n_bytes = 0;
        }
        if is_small && run.deltas.is_empty() {
            run.from = held.clone();
        }
        held.join(&to(&delta.spans));
        if is_small {
            n_bytes += delta.n_bytes;
            run.deltas.push(delta);
        }
    }
    runs.push(run);
    runs.iter_mut().for_each(Run::leave_heavy);
    runs.iter_mut().for_each(|run| run.from.take_branches(vector));
    runs.retain(|run| run.deltas.len() >= min_deltas);
    runs
}

impl Run {
    /// Leaves out what was joined before, until enough has come after it: what is put together
    /// again each time would cost more the more there is of it.
    fn leave_heavy(&mut self) {
        let mut n_after: u64 = self.deltas.iter().map(|delta| delta.n_bytes).sum();
        let mut n_left = 0;
        for delta in &self.deltas {
            n_after -= delta.n_bytes;
            if delta.n_bytes.saturating_mul(MIN_JOIN_RATIO) <= n_after {
                break;
            }
            self.from.join(&to(&delta.spans));
            n_left += 1;
        }
        self.deltas.drain(..n_left);
    }
}

async fn join_run(
    relay: &Relay,
    store: &StoreId,
    run: Run,
    vector: &VersionVector,
) -> Result<u64, StorageError> {
    let (first, last) = (run.deltas[0].id, run.deltas[run.deltas.len() - 1].id);
    let n_deltas = run.deltas.len();
    let wanted = Wanted {
        held: Arc::default(),
        after: Some(first - 1),
        max_deltas: n_deltas as u32,
        max_bytes: u64::MAX,
    };
    let deltas = relay.storage().deltas(store, wanted).await?;
    if deltas.len() != n_deltas || deltas.last().is_none_or(|delta| delta.id != last) {
        return Ok(0);
    }
    let mut parts = Vec::with_capacity(n_deltas);
    for delta in &deltas {
        let (blobs, delta) = (Arc::clone(relay.blobs()), delta.clone());
        let part = relay.work(usize::MAX, move || part(&delta, 0, &blobs)).await??;
        let is_legible = !vector.has_branches() || has_our_names(relay, store, &part).await?;
        parts.push((part, is_legible));
    }
    let (blobs, vector) = (Arc::clone(relay.blobs()), vector.clone());
    let mut n_joined = 0;
    for joined in relay.work(usize::MAX, move || make(run, &parts, &vector, &blobs)).await?? {
        let Joined { first, n_deltas, delta } = joined;
        if relay.storage().replace(store, first, delta, n_deltas).await? {
            n_joined += n_deltas;
        }
    }
    Ok(n_joined)
}

/// Whether a delta uses the names that its sites have here. The bytes of deltas keep the names of
/// their makers: those of one who did not know of a fork stay as they came.
async fn has_our_names(relay: &Relay, store: &StoreId, first: &[u8]) -> Result<bool, StorageError> {
    let Some((_, bounds)) = peek(first)? else { return Ok(false) };
    for theirs in [bounds.to.clone(), bounds.start().clone()] {
        let reading = relay.storage().read(store, Arc::new(theirs.clone())).await?;
        if !reading.forks.is_empty() || reading.vector != theirs {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A delta that stands for several.
struct Joined {
    /// The first of them; it has the place of the last.
    first: u64,
    n_deltas: u64,
    delta: StoredDelta,
}

/// Decodes, restricts, joins, encodes and stores; slow. What cannot be read or joined stays as
/// it came. `vector`: all that is held, for what its sites branched from.
fn make(
    run: Run,
    parts: &[(Bytes, bool)],
    vector: &VersionVector,
    blobs: &BlobDir,
) -> Result<Vec<Joined>, StorageError> {
    let mut chains = vec![Line::default()];
    let (mut held, mut n_cells) = (run.from, 0);
    for (listed, (part, is_legible)) in run.deltas.into_iter().zip(parts) {
        let delta = match decode(&[part]) {
            Ok(delta) => Some(delta).filter(|_| *is_legible),
            Err(WireError::Unsupported { .. } | WireError::UnknownSection { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let rows = delta.iter().flat_map(|delta| &delta.tables).flat_map(|table| &table.rows);
        n_cells += rows.map(|row| 1 + row.cells.len()).sum::<usize>();
        if n_cells > MAX_JOINED_CELLS {
            break;
        }
        let after = to(&listed.spans);
        append(&mut chains, &held, delta, listed);
        held.join(&after);
        held.take_branches(vector);
    }
    chains.retain(|chain| chain.listed.len() > 1);
    chains.into_iter().filter_map(|chain| chain.finish(blobs).transpose()).collect()
}

/// Puts a delta at the end of the last chain, or begins another with it, or after it.
fn append(chains: &mut Vec<Line>, held: &VersionVector, delta: Option<Delta>, listed: Listed) {
    let chain = chains.last_mut().expect("there is one from the start");
    let left = match delta {
        Some(delta) => chain.extend(held, delta),
        None => Some(None),
    };
    match left {
        None => chain.listed.push(listed),
        Some(Some(delta)) => {
            let (deltas, listed) = (vec![delta], vec![listed]);
            chains.push(Line { deltas, listed });
        }
        Some(None) => chains.push(Line::default()),
    }
}

/// Deltas of which each begins where the one before it leads.
#[derive(Default)]
struct Line {
    deltas: Vec<Delta>,
    /// What is stored of them.
    listed: Vec<Listed>,
}

impl Line {
    /// Appends a delta, before which `held` was held; what begins another chain if it has no
    /// place in this one, or `Some(None)`: it is to be left alone.
    fn extend(&mut self, held: &VersionVector, delta: Delta) -> Option<Option<Delta>> {
        if !delta.start().is_at_or_below(held) {
            if !held.is_at_or_below(&delta.to) {
                return Some(None);
            }
            // Nobody needs what is before it any more.
            self.deltas.clear();
            self.deltas.push(delta);
            return None;
        }
        let delta = restricted(delta, held);
        let forgotten = self.deltas.first().and_then(|first| first.complete.as_ref());
        let has_seen = |complete: &Complete| {
            delta.seen.as_ref().is_none_or(|seen| complete.floor.is_at_or_below(seen))
        };
        if forgotten.is_none_or(has_seen) {
            self.deltas.push(delta);
            return None;
        }
        Some(Some(delta))
    }

    fn finish(self, blobs: &BlobDir) -> Result<Option<Joined>, StorageError> {
        let (first, last) = (self.listed[0].id, self.listed[self.listed.len() - 1].id);
        let n_deltas = self.listed.len() as u64;
        let spans = merged(self.listed.into_iter().map(|listed| listed.spans));
        let Ok(joined) = join_chain(self.deltas) else { return Ok(None) };
        let (name, body) = stored(&joined, blobs)?;
        let delta = StoredDelta { id: last, name, spans, body, live: None };
        Ok(Some(Joined { first, n_deltas, delta }))
    }
}

/// A part of a delta that another is about to stand for. Its file is kept for as long as one that
/// was just written: somebody may be in the middle of being sent it, or of copying the folder.
fn part(delta: &StoredDelta, number: u32, blobs: &BlobDir) -> Result<Bytes, StorageError> {
    let hash = match &delta.body {
        Body::Inline(part) => return Ok(part.clone()),
        Body::Blobs(parts) => parts[number as usize].0,
    };
    blobs.hold(hash)?;
    let missing = StorageError::Damaged { what: "a file of a delta's part" };
    blobs.get(hash)?.map(Bytes::from).ok_or(missing)
}

/// Encodes a delta, and writes its parts unless it is small.
fn stored(delta: &Delta, blobs: &BlobDir) -> Result<([u8; 16], Body), StorageError> {
    put(encode(delta).iter().map(Ok), blobs)
}

/// Stores the parts of a delta; its name, and where they are.
fn put<P: Borrow<Vec<u8>>>(
    parts: impl ExactSizeIterator<Item = io::Result<P>>,
    blobs: &BlobDir,
) -> Result<([u8; 16], Body), StorageError> {
    let is_alone = parts.len() == 1;
    let mut name = [0; 16];
    let mut files = Vec::with_capacity(parts.len());
    for part in parts {
        let part = part?;
        let part = part.borrow();
        name = part_head(part)?.0.delta;
        if is_alone && part.len() <= MAX_INLINE_BYTES {
            return Ok((name, Body::Inline(Bytes::copy_from_slice(part))));
        }
        files.push((blobs.put(part)?, part.len() as u32));
    }
    Ok((name, Body::Blobs(files.into())))
}

/// Joins neighbours pair by pair: each row is moved a logarithmic number of times.
fn join_chain(mut chain: Vec<Delta>) -> Result<Delta, JoinError> {
    while chain.len() > 1 {
        let mut pairs = Vec::with_capacity(chain.len().div_ceil(2));
        let mut deltas = chain.into_iter();
        while let Some(earlier) = deltas.next() {
            pairs.push(match deltas.next() {
                Some(later) => join_owned(earlier, later)?,
                None => earlier,
            });
        }
        chain = pairs;
    }
    Ok(chain.pop().expect("a run has deltas"))
}

/// The delta as one from `floor`: without what whoever holds that has already. What its makers
/// had seen of that is known of where it began.
fn restricted(mut delta: Delta, floor: &VersionVector) -> Delta {
    if delta.complete.is_none() && floor.is_at_or_below(&delta.from) {
        return delta;
    }
    let seen = delta.seen.take().unwrap_or_else(|| delta.start().clone());
    delta.seen = (!floor.is_at_or_below(&seen)).then(|| seen.meet(floor));
    let floors: Vec<u64> = delta.sites.iter().map(|site| floor.version(*site)).collect();
    let is_new = |dot: DeltaDot| dot.version > floors[dot.site.0 as usize];
    for table in &mut delta.tables {
        for row in &mut table.rows {
            row.births.retain(|birth| is_new(birth.dot));
            row.cells.retain(|cell| is_new(cell.dot));
        }
        table.rows.retain(|row| !row.births.is_empty() || !row.cells.is_empty());
    }
    delta.tables.retain(|table| !table.rows.is_empty());
    delta.headers.retain(|header| header.version > floor.version(header.site));
    let mut to = floor.clone();
    to.join(&delta.to);
    (delta.from, delta.to) = (floor.clone(), to);
    (delta.complete, delta.salts) = (None, Vec::new());
    debug_assert_eq!(delta.check_invariants(), Ok(()));
    delta
}

/// Spans of neighbours as those of one delta.
fn merged(spans: impl IntoIterator<Item = Vec<Span>>) -> Vec<Span> {
    let mut merged = BTreeMap::<_, Span>::new();
    for span in spans.into_iter().flatten() {
        merged
            .entry(span.site)
            .and_modify(|all| (all.last, all.chain) = (span.last, span.chain))
            .or_insert(span);
    }
    merged.into_values().collect()
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
