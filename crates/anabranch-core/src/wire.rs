//! The bytes of deltas and parts (`docs/format.md`); nothing else knows them.
//!
//! A delta is a series of parts. A part is a head of fixed size ([`part_head`]) and one zstd
//! frame, whose content is a series of sections: bounds (first part only), headers, rows
//! by table and column, rows too large for that, chunks of their bytes. Parts are written
//! by [`Encoder`] and read by [`Decoder`] one at a time, so that neither holds a delta
//! whole; [`encode`] and [`decode`] do that for small ones.

use crate::delta::{Delta, DeltaError};

pub mod aside;
mod bounds;
mod columns;
mod complete;
mod decoder;
mod encoder;
mod headers;
mod keys;
mod long;
mod part;
mod peek;
mod rows;
mod runs;
mod section;
mod shapes;
mod varint;

pub use bounds::Bounds;
pub use decoder::{Decoder, Piece, decode_body};
#[cfg(feature = "testing")]
pub use encoder::close_parts_at;
pub use encoder::{EncodeError, Encoder};
pub use part::{HEAD_BYTES, PartHead, Seal, body, part_head, seal, split};
pub use peek::{PEEK_BYTES, peek};

/// Why bytes are not a delta.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// Malformed.
    #[error("malformed delta: {what} at byte {at}")]
    Malformed {
        /// Which field.
        what: &'static str,
        /// Offset in the decoded part.
        at: usize,
    },
    /// The bytes do not start like a part.
    #[error("these bytes are no part of a delta")]
    NotAPart,
    /// A part of a later format.
    #[error("the delta has format version {found}, this version reads {expected}")]
    FormatVersion {
        /// The part's.
        found: u8,
        /// Ours.
        expected: u8,
    },
    /// The part ends early.
    #[error("the part of a delta has {found} bytes of {expected}")]
    Truncated {
        /// Bytes there are.
        found: usize,
        /// Bytes there must be.
        expected: usize,
    },
    /// Bytes were damaged on their way.
    #[error("the checksum of a delta's part does not match: it was damaged on its way")]
    Checksum,
    /// A part that was never sealed ([`seal`]).
    #[error("the part of a delta is not sealed: its export did not end")]
    Unsealed,
    /// Not the part that comes next, or of another delta.
    #[error("part {found} of a delta where part {expected} of {of} must come: {what}")]
    Order {
        /// From 0.
        found: u32,
        /// From 0.
        expected: u32,
        /// How many there are.
        of: u32,
        /// What does not fit.
        what: &'static str,
    },
    /// Parts are missing at the end.
    #[error("the delta has {expected} parts, {found} came")]
    Incomplete {
        /// Parts that came.
        found: u32,
        /// Parts there are.
        expected: u32,
    },
    /// Something of a later version.
    #[error("this delta holds {what}, which this version cannot read")]
    Unsupported {
        /// By name.
        what: &'static str,
    },
    /// Something that no version we know writes.
    #[error("this delta holds a section of kind {kind}, which this version does not know")]
    UnknownSection {
        /// Its number.
        kind: u64,
    },
    /// More than is accepted.
    #[error("a part of a delta claims {found} {what}, at most {limit} are accepted")]
    OverLimit {
        /// Of what.
        what: &'static str,
        /// How many.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// The delta contradicts itself.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// Memory for what the part holds could not be had.
    #[error("out of memory for a part of a delta")]
    OutOfMemory,
}

/// Encodes a delta as parts of at most [`crate::limits::MAX_PART_BYTES`] each.
///
/// # Panics
/// If the delta breaks [`Delta::check_invariants`], or has a row whose names and births
/// alone exceed a part; [`Encoder`] returns errors instead.
pub fn encode(delta: &Delta) -> Vec<Vec<u8>> {
    try_encode(delta).expect("a delta that keeps its invariants can be encoded")
}

fn try_encode(delta: &Delta) -> Result<Vec<Vec<u8>>, EncodeError> {
    let mut encoder = match (&delta.complete, &delta.seen) {
        (Some(complete), _) => Encoder::complete(complete, &delta.to, &delta.sites)?,
        (None, Some(seen)) => Encoder::joined((&delta.from, seen), &delta.to, &delta.sites)?,
        (None, None) => Encoder::new(&delta.from, &delta.to, &delta.sites)?,
    };
    let mut parts = Vec::new();
    for run in &delta.salts {
        encoder.salts(run)?;
    }
    for header in &delta.headers {
        encoder.header(header)?;
    }
    for table in &delta.tables {
        encoder.table(&table.name, &table.columns)?;
        for row in &table.rows {
            encoder.row(row)?;
            parts.extend(std::iter::from_fn(|| encoder.take_part()));
        }
    }
    let (rest, of_all) = encoder.finish()?;
    parts.extend(rest);
    parts.iter_mut().for_each(|part| seal(part, &of_all));
    Ok(parts)
}

/// Decodes all parts of one delta, in order, and checks [`Delta::check_invariants`] but
/// for keys that occur twice.
///
/// # Errors
/// [`WireError`].
pub fn decode(parts: &[&[u8]]) -> Result<Delta, WireError> {
    let mut decoder = Decoder::new();
    let mut delta = Delta::default();
    for part in parts {
        let piece = decoder.push(part)?;
        if let Some(bounds) = piece.bounds {
            (delta.from, delta.to, delta.sites) = (bounds.from, bounds.to, bounds.sites);
            (delta.complete, delta.seen) = (bounds.complete, bounds.seen);
        }
        delta.salts.extend(piece.salts);
        delta.headers.extend(piece.headers);
        for table in piece.tables {
            match delta.tables.last_mut().filter(|last| last.name == table.name) {
                Some(last) => last.rows.extend(table.rows),
                None => delta.tables.push(table),
            }
        }
    }
    decoder.finish()?;
    Ok(delta)
}
