//! What a relay reads of a delta: its vectors, the salts of its headers, the newest time.
//!
//! Rows are decoded and checked part by part, so that no reader is ever handed bytes that
//! it must refuse, and dropped at once. What only a later version can read is skipped, kept as
//! it came, and said in the log.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::SaltRun;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{Decoder, Piece, WireError};

use crate::blobs::BlobHash;
use crate::forgotten::{hashes_in, hashes_in_key};
use crate::limits::{MAX_DELTA_BLOBS, MAX_MENTIONED_BLOBS};
use crate::storage::Span;

/// The vectors and headers of a delta, without its rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outline {
    /// What a receiver must hold already.
    pub(crate) from: VersionVector,
    /// What it holds afterwards.
    pub(crate) to: VersionVector,
    /// The largest time of a header.
    pub(crate) newest: Hlc,
    /// Sections that only a later version can read.
    pub(crate) n_unread: u64,
    /// The blobs that its headers name.
    pub(crate) blobs: BTreeSet<BlobHash>,
    /// Whether it is complete: its maker forgot something.
    pub(crate) has_forgotten: bool,
    /// Of a complete delta what its rows hold that may be hashes of blobs, for the headers that
    /// named them may be gone.
    pub(crate) mentioned: BTreeSet<BlobHash>,
    /// For each site with changes in the delta their salts, from `from` + 1 on; of a complete
    /// delta from 1 on, for it tells those up to its floor too.
    salts: BTreeMap<SiteId, Vec<u64>>,
}

impl Outline {
    /// What a delta with these headers says; for tests of the storage.
    #[cfg(test)]
    pub(crate) fn new(
        from: VersionVector,
        to: VersionVector,
        newest: Hlc,
        salts: BTreeMap<SiteId, Vec<u64>>,
    ) -> Outline {
        Outline { from, to, newest, salts, ..Outline::default() }
    }

    /// The salts of a site's versions above `from`, ascending.
    pub(crate) fn salts(&self, site: SiteId) -> &[u64] {
        self.salts.get(&site).map_or(&[], Vec::as_slice)
    }

    /// The chain of `site` at `version`, which lies within `from` and `to`.
    pub(crate) fn chain_at(&self, site: SiteId, version: u64) -> Chain {
        let origin = self.to.origin(site);
        let (start, chain) = match self.from.get(site) {
            Some(held) => (held.version, held.chain),
            None => (0, origin.chain),
        };
        let n = (version - start) as usize;
        (start + 1..)
            .zip(&self.salts(site)[..n])
            .fold(chain, |chain, (version, salt)| origin.next(chain, version, *salt))
    }

    /// The changes in the delta.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.salts.iter().map(|(site, salts)| {
            let first = self.from.version(*site) + 1;
            let last = first + salts.len() as u64 - 1;
            Span { site: *site, first, last, chain: self.chain_at(*site, last) }
        })
    }

    /// How many changes.
    pub(crate) fn n_changes(&self) -> u64 {
        self.salts.values().map(|salts| salts.len() as u64).sum()
    }

    fn add(&mut self, piece: Piece, floor: &mut Floor) {
        if let Some(bounds) = piece.bounds {
            self.has_forgotten = bounds.complete.is_some();
            floor.vector = bounds.complete.map(|complete| complete.floor).unwrap_or_default();
            (self.from, self.to) = (bounds.from, bounds.to);
        }
        for run in piece.salts {
            let next = floor.run.filter(|open| open.site == run.site).map(|_| run.version);
            floor.end_run(next, &mut self.salts);
            floor.run = Some(run);
        }
        if !piece.headers.is_empty() || !piece.tables.is_empty() {
            floor.end_run(None, &mut self.salts);
        }
        for header in piece.headers {
            self.newest = self.newest.max(header.time);
            self.salts.entry(header.site).or_default().push(header.salt);
            self.blobs.extend(header.blobs.into_iter().map(BlobHash));
        }
        for row in piece.tables.iter().flat_map(|table| &table.rows) {
            if !self.has_forgotten || self.mentioned.len() > MAX_MENTIONED_BLOBS {
                break;
            }
            let cells = row.cells.iter().flat_map(|cell| hashes_in(cell.value.as_ref()));
            self.mentioned.extend(cells.chain(hashes_in_key(&row.key)));
        }
    }
}

/// What is being read of the salts up to the floor of a complete delta.
#[derive(Debug, Default)]
struct Floor {
    vector: VersionVector,
    /// The run that goes on up to the next one, or to the floor.
    run: Option<SaltRun>,
}

impl Floor {
    /// Writes out the run that is open; `next`: where the next one of the same site begins.
    fn end_run(&mut self, next: Option<u64>, salts: &mut BTreeMap<SiteId, Vec<u64>>) {
        let Some(run) = self.run.take() else { return };
        let last = self.vector.version(run.site);
        let end = next.map_or(last, |next| last.min(next - 1));
        let n = (end + 1).saturating_sub(run.version) as usize;
        salts.entry(run.site).or_default().extend(std::iter::repeat_n(run.salt, n));
    }
}

/// Reads the parts of one delta as they come.
#[derive(Debug)]
pub(crate) struct OutlineReader {
    decoder: Decoder,
    outline: Outline,
    floor: Floor,
}

impl OutlineReader {
    /// Expects the first part.
    pub(crate) fn new() -> OutlineReader {
        let (decoder, outline) = (Decoder::skipping_unknown(), Outline::default());
        OutlineReader { decoder, outline, floor: Floor::default() }
    }

    /// The blobs that the headers so far name.
    pub(crate) fn blobs(&self) -> &BTreeSet<BlobHash> {
        &self.outline.blobs
    }

    /// Checks the next part.
    ///
    /// # Errors
    /// [`WireError`]; the reader is of no more use.
    pub(crate) fn push(&mut self, part: &[u8]) -> Result<(), WireError> {
        self.outline.add(self.decoder.push(part)?, &mut self.floor);
        let (found, limit) = (self.outline.blobs.len() as u64, MAX_DELTA_BLOBS as u64);
        if found > limit {
            return Err(WireError::OverLimit { what: "blobs of a delta", found, limit });
        }
        Ok(())
    }

    /// Ends the delta.
    ///
    /// # Errors
    /// [`WireError`] if something is missing.
    pub(crate) fn finish(mut self) -> Result<Outline, WireError> {
        self.floor.end_run(None, &mut self.outline.salts);
        self.outline.n_unread = self.decoder.n_skipped();
        self.decoder.finish()?;
        Ok(self.outline)
    }
}

/// The outline of a delta of one part.
///
/// # Errors
/// [`WireError`].
pub(crate) fn outline_of(part: &[u8]) -> Result<Outline, WireError> {
    let mut reader = OutlineReader::new();
    reader.push(part)?;
    reader.finish()
}
