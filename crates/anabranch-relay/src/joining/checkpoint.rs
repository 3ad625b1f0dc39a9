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

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_core::change::ChangeHeader;
use anabranch_core::delta::{Gather, SaltRun};
use anabranch_core::limits::MAX_PART_HEADERS;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{Decoder, EncodeError, Encoder, Piece, WireError, aside, seal};
use bytes::Bytes;

use super::scratch::{Place, Scratch};
use super::sort::RowSort;
use super::{Run, merged, put};
use crate::blobs::BlobDir;
use crate::limits::{
    CHECKPOINT_AGE, HEADERS_ASIDE, MAX_CHECKPOINT_BYTES, MAX_SORTED_BYTES, MIN_CHECKPOINT_BYTES,
    MIN_CHECKPOINT_GAIN, SORTED_CHUNK_BYTES,
};
use crate::relay::Relay;
use crate::storage::{Body, Listed, StorageError, StoredDelta, Wanted, to};
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
    if relay.storage().vector(store).await?.has_branches() {
        return Ok(0);
    }
    let listed = relay.storage().list(store).await?;
    let old = listed.into_iter().take_while(|delta| delta.received_ms < terms.before_ms);
    let mut stretches = stretches(old);
    let mut n_joined = 0;
    while let Some(stretch) = stretches.pop() {
        if !is_due(&stretch, terms)
            || relay.has_no_gain(store, stretch.deltas[0].id, n_bytes(&stretch))
        {
            continue;
        }
        match join_stretch(relay, store, &stretch, terms).await? {
            Outcome::Joined => n_joined += stretch.deltas.len() as u64,
            Outcome::NoGain => relay.note_no_gain(store, stretch.deltas[0].id, n_bytes(&stretch)),
            Outcome::Stuck(at) => stretches.extend(split(stretch, at)),
        }
    }
    Ok(n_joined)
}

/// Neighbours that may be joined in one pass.
fn stretches(deltas: impl Iterator<Item = Listed>) -> Vec<Run> {
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
fn split(mut stretch: Run, at: usize) -> [Run; 2] {
    let mut rest = stretch.deltas.split_off(at.max(1));
    if at == 0 {
        return [Run::default(), Run { from: after(&stretch), deltas: rest }];
    }
    let from = after(&stretch);
    rest.shrink_to_fit();
    [stretch, Run { from, deltas: rest }]
}

/// What is held behind a stretch.
fn after(stretch: &Run) -> VersionVector {
    let mut held = stretch.from.clone();
    stretch.deltas.iter().for_each(|delta| held.join(&to(&delta.spans)));
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
    terms: Terms,
) -> Result<Outcome> {
    let n_deltas = stretch.deltas.len();
    let (first, last) = (stretch.deltas[0].id, stretch.deltas[n_deltas - 1].id);
    let wanted = Wanted {
        held: Arc::default(),
        after: Some(first - 1),
        max_deltas: n_deltas as u32,
        max_bytes: u64::MAX,
    };
    let deltas = relay.storage().deltas(store, wanted).await?;
    if deltas.len() != n_deltas || deltas.last().is_none_or(|delta| delta.id != last) {
        return Ok(Outcome::NoGain);
    }
    let spans = merged(stretch.deltas.iter().map(|delta| delta.spans.clone()));
    let (n_before, from) = (n_bytes(stretch), stretch.from.clone());
    let max_bytes = n_before.saturating_sub(n_before / terms.min_gain);
    let blobs = Arc::clone(relay.blobs());
    let work = move || make(from, &deltas, &blobs, Room::default(), max_bytes);
    let (name, body) = match relay.work(usize::MAX, work).await?? {
        Made::Joined(name, body) => (name, body),
        Made::NoGain => return Ok(Outcome::NoGain),
        Made::Stuck(at) => return Ok(Outcome::Stuck(at)),
    };
    let n_after = body.n_bytes();
    let joined = StoredDelta { id: last, name, spans, body, live: None };
    if !relay.storage().replace(store, first, joined, n_deltas as u64).await? {
        return Ok(Outcome::NoGain);
    }
    tracing::info!(%store, n_deltas, n_before, n_after, "old deltas became a checkpoint");
    Ok(Outcome::Joined)
}

/// What [`make`] made.
enum Made {
    Joined([u8; 16], Body),
    NoGain,
    Stuck(usize),
}

/// How much of it is in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes of rows that are sorted at a time.
    pub(super) sorted_bytes: usize,
    /// Bytes of sorted rows that are read at a time of each run.
    pub(super) chunk_bytes: usize,
    /// Headers.
    pub(super) headers: usize,
}

impl Default for Room {
    fn default() -> Room {
        let (sorted_bytes, chunk_bytes) = (MAX_SORTED_BYTES, SORTED_CHUNK_BYTES);
        Room { sorted_bytes, chunk_bytes, headers: HEADERS_ASIDE }
    }
}

/// Reads, sorts, joins, and stores what is at most so large; slow.
fn make(
    from: VersionVector,
    deltas: &[StoredDelta],
    blobs: &BlobDir,
    room: Room,
    max_bytes: u64,
) -> Result<Made> {
    let mut maker = Maker::new(from, deltas, Scratch::new(blobs.scratch()?), room);
    for (at, delta) in deltas.iter().enumerate() {
        if !maker.read(at == 0, delta, blobs)? {
            return Ok(Made::Stuck(at));
        }
    }
    match maker.write(max_bytes, blobs) {
        Ok(made) => Ok(made),
        Err(MakeError::Storage(error)) => Err(error),
        // What is too wide for a part stays as it came.
        Err(MakeError::Encode(_)) => Ok(Made::NoGain),
    }
}

/// Why none was made.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl From<std::io::Error> for MakeError {
    fn from(error: std::io::Error) -> MakeError {
        MakeError::Storage(error.into())
    }
}

/// A checkpoint under way.
struct Maker {
    gather: Gather,
    /// Where all of them lead: what headers that were put aside name their sites by.
    to: VersionVector,
    salts: Vec<SaltRun>,
    rows: RowSort,
    /// Of each site, in order; those of `n_headers` are in memory yet.
    headers: BTreeMap<SiteId, (Vec<Place>, Vec<ChangeHeader>)>,
    n_headers: usize,
    scratch: Scratch,
    room: Room,
}

impl Maker {
    fn new(from: VersionVector, deltas: &[StoredDelta], scratch: Scratch, room: Room) -> Maker {
        let mut to_all = from.clone();
        deltas.iter().for_each(|delta| to_all.join(&to(&delta.spans)));
        Maker {
            gather: Gather::new(from),
            to: to_all,
            salts: Vec::new(),
            rows: RowSort::new(room),
            headers: BTreeMap::new(),
            n_headers: 0,
            scratch,
            room,
        }
    }

    /// Takes the next delta; `false` if it does not join with those before it, or is of a
    /// later version.
    fn read(&mut self, is_first: bool, delta: &StoredDelta, blobs: &BlobDir) -> Result<bool> {
        let mut decoder = Decoder::new();
        for number in 0..delta.body.n_parts() {
            let mut piece = match decoder.push(&part(delta, number, blobs)?) {
                Ok(piece) => piece,
                Err(WireError::Unsupported { .. } | WireError::UnknownSection { .. }) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            };
            if piece.bounds.as_ref().is_some_and(|bounds| self.gather.open(bounds).is_err()) {
                return Ok(false);
            }
            if !is_first {
                piece.salts.clear();
            }
            self.take(piece)?;
        }
        decoder.finish()?;
        Ok(true)
    }

    fn take(&mut self, piece: Piece) -> Result<()> {
        self.salts.extend(piece.salts);
        for header in piece.headers {
            if self.gather.is_new(&header) {
                self.headers.entry(header.site).or_default().1.push(header);
                self.n_headers += 1;
            }
        }
        if self.n_headers > self.room.headers {
            self.put_headers_aside()?;
        }
        for table in piece.tables {
            let table = self.gather.rows(table);
            self.rows.push(table, &self.gather, &mut self.scratch)?;
        }
        Ok(())
    }

    fn put_headers_aside(&mut self) -> Result<()> {
        self.n_headers = 0;
        for (aside, headers) in self.headers.values_mut() {
            for some in headers.chunks(MAX_PART_HEADERS) {
                aside.push(self.scratch.put(&aside::put_headers(some, &self.to))?);
            }
            headers.clear();
        }
        Ok(())
    }

    /// Writes all as one delta, and stores it if it is at most so large.
    fn write(mut self, max_bytes: u64, blobs: &BlobDir) -> std::result::Result<Made, MakeError> {
        self.put_headers_aside()?;
        let (gather, scratch) = (&self.gather, &mut self.scratch);
        let (to, sites) = (gather.to(), gather.sites());
        let mut out = Parts { places: Vec::new(), n_bytes: 0 };
        let mut encoder = match (gather.complete(), gather.seen()) {
            (Some(complete), _) => Encoder::complete(complete, to, sites)?,
            (None, Some(seen)) => Encoder::joined((gather.from(), seen), to, sites)?,
            (None, None) => Encoder::new(gather.from(), to, sites)?,
        };
        for run in self.salts.iter().filter(|_| gather.complete().is_some()) {
            encoder.salts(run)?;
        }
        for place in self.headers.values().flat_map(|(aside, _)| aside) {
            let headers = aside::take_headers(&scratch.get(*place)?, &self.to);
            for header in headers.map_err(StorageError::from)? {
                encoder.header(&header)?;
            }
            out.take(&mut encoder, scratch)?;
        }
        let mut rows = self.rows.finish(gather, scratch)?;
        let mut under_way = None;
        while let Some((table, row)) = rows.next(sites, scratch)? {
            if under_way.as_ref() != Some(&table) {
                encoder.table(&table, gather.columns(&table))?;
                under_way = Some(table);
            }
            encoder.row(&row)?;
            out.take(&mut encoder, scratch)?;
        }
        let (rest, of_all) = encoder.finish()?;
        for part in rest {
            out.push(&part, scratch)?;
        }
        if out.n_bytes > max_bytes {
            return Ok(Made::NoGain);
        }
        let sealed = out.places.into_iter().map(|place| {
            let mut part = scratch.get(place)?;
            seal(&mut part, &of_all);
            Ok(part)
        });
        let (name, body) = put(sealed, blobs)?;
        Ok(Made::Joined(name, body))
    }
}

/// Parts that are not sealed yet.
struct Parts {
    places: Vec<Place>,
    n_bytes: u64,
}

impl Parts {
    fn take(&mut self, encoder: &mut Encoder, scratch: &mut Scratch) -> std::io::Result<()> {
        while let Some(part) = encoder.take_part() {
            self.push(&part, scratch)?;
        }
        Ok(())
    }

    fn push(&mut self, part: &[u8], scratch: &mut Scratch) -> std::io::Result<()> {
        self.n_bytes += part.len() as u64;
        self.places.push(scratch.put(part)?);
        Ok(())
    }
}

/// A part of a stored delta.
fn part(delta: &StoredDelta, number: u32, blobs: &BlobDir) -> Result<Bytes> {
    let missing = StorageError::Damaged { what: "a file of a delta's part" };
    match &delta.body {
        Body::Inline(part) => Ok(part.clone()),
        Body::Blobs(parts) => blobs.get(parts[number as usize].0)?.map(Bytes::from).ok_or(missing),
    }
}

#[cfg(test)]
mod tests;
