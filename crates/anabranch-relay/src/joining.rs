//! Joining old deltas, so that a newcomer is not sent every change apart.
//!
//! A relay's deltas are a chain once each is *restricted* to what was new when it came: from
//! the relay's vector before it to the vector after it. Restricting drops only cells that
//! whoever holds that vector skips anyway, so for every reader the restricted delta does what
//! the original did, and neighbours join whatever their senders' own `from` was
//! (`changes.md`, 3). The joined delta stands in the place of the last of them.
//!
//! A complete delta whose floor is held restricts like any other. One whose floor is not (a copy
//! made a relay whole that was put back to an older state) begins anew: whoever lacks something
//! before it takes it instead, if it leads to all of that. What comes of it has the floor.
//!
//! Runs of small neighbours are joined when there are enough of them, pair by pair, until what
//! comes of it is large enough to be left alone. What was joined before is joined again only with
//! some times as much, so that a change is put together a few times in all.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_core::delta::{Delta, DeltaDot, JoinError, join_owned};
use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{WireError, decode, encode};
use bytes::Bytes;

use crate::blobs::BlobDir;
use crate::limits::{
    MAX_INLINE_BYTES, MAX_JOIN_BYTES, MAX_JOINED_CELLS, MAX_SMALL_DELTA_BYTES, MIN_JOIN_DELTAS,
    MIN_JOIN_RATIO,
};
use crate::relay::Relay;
use crate::storage::{Body, Listed, Span, StorageError, StoredDelta, Wanted, to};
use crate::store_id::StoreId;

/// Joins a store's small deltas; how many went.
///
/// # Errors
/// [`StorageError`]; then nothing was changed.
pub(crate) async fn join_store(relay: &Relay, store: &StoreId) -> Result<u64, StorageError> {
    if relay.storage().vector(store).await?.has_branches() {
        // The bytes of deltas use the names of their makers: they are not those of the vectors
        // that are kept here, and what one of them covers cannot be told by them.
        return Ok(0);
    }
    let listed = relay.storage().list(store).await?;
    let mut n_joined = 0;
    for run in runs(listed) {
        n_joined += join_run(relay, store, run).await?;
    }
    Ok(n_joined)
}

/// Neighbours that are joined, and what is held before the first of them.
struct Run {
    from: VersionVector,
    deltas: Vec<Listed>,
}

/// Maximal runs of small deltas that are worth it.
fn runs(listed: Vec<Listed>) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut held = VersionVector::new();
    let mut run = Run { from: VersionVector::new(), deltas: Vec::new() };
    let mut n_bytes = 0;
    for delta in listed {
        let is_small = delta.n_bytes <= MAX_SMALL_DELTA_BYTES && delta.n_parts == 1;
        if !is_small || n_bytes + delta.n_bytes > MAX_JOIN_BYTES {
            let next = Run { from: VersionVector::new(), deltas: Vec::new() };
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
    runs.retain(|run| run.deltas.len() >= MIN_JOIN_DELTAS);
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

async fn join_run(relay: &Relay, store: &StoreId, run: Run) -> Result<u64, StorageError> {
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
        parts.push(relay.read_part(delta, 0).await?);
    }
    let spans = merged(run.deltas.into_iter().map(|delta| delta.spans));
    let blobs = Arc::clone(relay.blobs());
    let made = relay.work(usize::MAX, move || make(&run.from, &parts, &blobs)).await??;
    // What cannot be read or joined stays as it came.
    let Some((name, body)) = made else { return Ok(0) };
    let joined = StoredDelta { id: last, name, spans, body, live: None };
    let is_replaced = relay.storage().replace(store, first, joined, n_deltas as u64).await?;
    Ok(if is_replaced { n_deltas as u64 } else { 0 })
}

/// Decodes, restricts, joins, encodes and stores; slow. `None` where that cannot be done.
fn make(
    from: &VersionVector,
    parts: &[Bytes],
    blobs: &BlobDir,
) -> Result<Option<([u8; 16], Body)>, StorageError> {
    let mut held = from.clone();
    let mut chain = Vec::with_capacity(parts.len());
    let mut n_cells = 0;
    for part in parts {
        let delta = match decode(&[part]) {
            Ok(delta) => delta,
            Err(WireError::Unsupported { .. } | WireError::UnknownSection { .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let rows = delta.tables.iter().flat_map(|table| &table.rows);
        n_cells += rows.map(|row| 1 + row.cells.len()).sum::<usize>();
        if n_cells > MAX_JOINED_CELLS || !extend(&mut chain, &mut held, delta) {
            return Ok(None);
        }
    }
    let Ok(joined) = join_chain(chain) else { return Ok(None) };
    let parts = encode(&joined);
    let mut name = [0; 16];
    name.copy_from_slice(&parts[0][8..24]);
    if let [part] = parts.as_slice()
        && part.len() <= MAX_INLINE_BYTES
    {
        return Ok(Some((name, Body::Inline(Bytes::copy_from_slice(part)))));
    }
    let mut files = Vec::with_capacity(parts.len());
    for part in &parts {
        files.push((blobs.put(part)?, part.len() as u32));
    }
    Ok(Some((name, Body::Blobs(files.into()))))
}

/// Appends a delta to a chain that leads to `held`; `false` if it has no place there.
fn extend(chain: &mut Vec<Delta>, held: &mut VersionVector, delta: Delta) -> bool {
    let delta = match delta.start().is_at_or_below(held) {
        true => restricted(delta, held),
        // Nobody needs what is before it any more.
        false if delta.complete.is_some() && held.is_at_or_below(&delta.to) => {
            chain.clear();
            delta
        }
        false => return false,
    };
    held.clone_from(&delta.to);
    chain.push(delta);
    true
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

/// The delta as one from `floor`: without what whoever holds that has already.
fn restricted(mut delta: Delta, floor: &VersionVector) -> Delta {
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
mod tests;
