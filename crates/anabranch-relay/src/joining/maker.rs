//! Makes one delta of a chain of stored ones, whose size does not matter: each is read once, its
//! headers and rows are put aside, and come back in order.

use std::collections::BTreeMap;

use anabranch_core::change::ChangeHeader;
use anabranch_core::delta::{Gather, SaltRun};
use anabranch_core::limits::MAX_PART_HEADERS;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{Decoder, EncodeError, Encoder, Piece, WireError, aside, seal};

use super::scratch::{Place, Scratch};
use super::sort::RowSort;
use super::{part, put};
use crate::blobs::BlobDir;
use crate::limits::{
    HEADERS_ASIDE, MAX_JOINED_NAME_BYTES, MAX_SCRATCH_RATIO, MAX_SORTED_BYTES, MAX_SORTED_RUNS,
    SORTED_CHUNK_BYTES,
};
use crate::storage::{Body, StorageError, StoredDelta};

type Result<T> = std::result::Result<T, StorageError>;

/// How much of it is in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes of rows that are sorted at a time.
    pub(super) sorted_bytes: usize,
    /// Bytes of sorted rows that are read at a time of each run.
    pub(super) chunk_bytes: usize,
    /// Headers.
    pub(super) headers: usize,
    /// Runs of rows, each with a chunk in memory when they are merged.
    pub(super) runs: usize,
    /// Bytes of names of tables and columns.
    pub(super) name_bytes: usize,
    /// Bytes that are put aside.
    pub(super) scratch_bytes: u64,
}

impl Room {
    /// For so many bytes of deltas.
    pub(super) fn of(n_bytes: u64) -> Room {
        Room {
            sorted_bytes: MAX_SORTED_BYTES,
            chunk_bytes: SORTED_CHUNK_BYTES,
            headers: HEADERS_ASIDE,
            runs: MAX_SORTED_RUNS,
            name_bytes: MAX_JOINED_NAME_BYTES,
            scratch_bytes: n_bytes.saturating_mul(MAX_SCRATCH_RATIO),
        }
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

/// A delta under way.
pub(super) struct Maker {
    gather: Gather,
    /// Where all of them lead: what headers that were put aside name their sites by.
    to: VersionVector,
    salts: Vec<SaltRun>,
    rows: RowSort,
    /// Of each site, in order; those of `n_headers` are in memory yet.
    headers: BTreeMap<SiteId, (Vec<Place>, Vec<ChangeHeader>)>,
    n_headers: usize,
    n_deltas: u64,
    scratch: Scratch,
    room: Room,
}

impl Maker {
    /// Of deltas that begin where `from` is held, and lead to `to`.
    pub(super) fn new(
        from: VersionVector,
        to: VersionVector,
        scratch: Scratch,
        room: Room,
    ) -> Maker {
        Maker {
            gather: Gather::new(from),
            to,
            salts: Vec::new(),
            rows: RowSort::new(room),
            headers: BTreeMap::new(),
            n_headers: 0,
            n_deltas: 0,
            scratch,
            room,
        }
    }

    /// Takes the next deltas, slow; the id of the first that does not join with those before it,
    /// is of a later version, or has no room: then the maker is of no more use.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) fn read(&mut self, deltas: &[StoredDelta], blobs: &BlobDir) -> Result<Option<u64>> {
        for delta in deltas {
            if !self.read_one(delta, blobs)? {
                return Ok(Some(delta.id));
            }
        }
        Ok(None)
    }

    fn read_one(&mut self, delta: &StoredDelta, blobs: &BlobDir) -> Result<bool> {
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
            if self.n_deltas > 0 {
                // What the first forgot, if it is complete, others do not tell.
                piece.salts.clear();
            }
            self.take(piece)?;
            if !self.has_room() {
                return Ok(false);
            }
        }
        decoder.finish()?;
        self.n_deltas += 1;
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

    /// What compresses well may be a thousand times as much when it is read.
    fn has_room(&self) -> bool {
        self.rows.n_runs() <= self.room.runs
            && self.gather.n_name_bytes() <= self.room.name_bytes
            && self.scratch.n_bytes() <= self.room.scratch_bytes
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

    /// Writes all as one delta, and stores it if it is at most so large: its name, and where it
    /// is. Slow.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) fn finish(
        self,
        max_bytes: u64,
        blobs: &BlobDir,
    ) -> Result<Option<([u8; 16], Body)>> {
        match self.write(max_bytes, blobs) {
            Ok(made) => Ok(made),
            // What is too wide for a part, or to be put aside, stays as it came.
            Err(MakeError::Encode(_) | MakeError::Storage(StorageError::Wire(_))) => Ok(None),
            Err(MakeError::Storage(error)) => Err(error),
        }
    }

    fn write(
        mut self,
        max_bytes: u64,
        blobs: &BlobDir,
    ) -> std::result::Result<Option<([u8; 16], Body)>, MakeError> {
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
            if out.n_bytes > max_bytes {
                return Ok(None);
            }
        }
        let (rest, of_all) = encoder.finish()?;
        for part in rest {
            out.push(&part, scratch)?;
        }
        if out.n_bytes > max_bytes {
            return Ok(None);
        }
        let sealed = out.places.into_iter().map(|place| {
            let mut part = scratch.get(place)?;
            seal(&mut part, &of_all);
            Ok(part)
        });
        Ok(Some(put(sealed, blobs)?))
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

#[cfg(test)]
pub(super) mod tests;
