//! Resume tickets: a shortcut past two long vectors, which loses nothing when it is lost.
//!
//! A relay makes a ticket when nothing is on its way, and says in digests which two vectors it
//! stands for: what the peer has said to hold, and what the relay has said to hold. The peer
//! keeps the ticket only if its own books agree. In the next Hello it shows the ticket; if
//! the relay takes it, both Haves say only what differs from those vectors.
//!
//! What is in a ticket is the relay's driver's matter: it makes and authenticates it, and
//! refuses one that is older or newer than its store (a backup that was put back).

use anabranch_core::vector::VersionVector;
use bytes::Bytes;

use crate::frame::codec::{Reader, put_bytes, put_entry, put_varint};
use crate::frame::{Entry, FrameError, VectorDigest};
use crate::limits::MAX_TICKET_BYTES;
use anabranch_core::limits::MAX_SITES;

/// The two vectors that a ticket stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// What this end had said to hold.
    pub mine: VersionVector,
    /// What the other end had said to hold.
    pub theirs: VersionVector,
}

impl Basis {
    /// The vectors one behind the other: what a driver keeps of a ticket it made or was given.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_vector(&mut out, &self.mine);
        put_vector(&mut out, &self.theirs);
        out
    }

    /// Reads [`Basis::to_bytes`].
    ///
    /// # Errors
    /// [`FrameError`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Basis, FrameError> {
        let mut reader = Reader::new(bytes, "basis of a ticket");
        let basis = Basis { mine: read_vector(&mut reader)?, theirs: read_vector(&mut reader)? };
        reader.finish()?;
        Ok(basis)
    }
}

/// A ticket as a peer keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// To be shown; opaque.
    pub bytes: Bytes,
    /// What it stands for.
    pub basis: Basis,
}

impl Ticket {
    /// What a driver writes down.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, &self.bytes);
        out.extend(self.basis.to_bytes());
        out
    }

    /// Reads [`Ticket::to_bytes`].
    ///
    /// # Errors
    /// [`FrameError`] for anything else: forget it, the vectors decide.
    pub fn from_bytes(bytes: &[u8]) -> Result<Ticket, FrameError> {
        let mut reader = Reader::new(bytes, "ticket");
        let ticket = Bytes::copy_from_slice(reader.bytes("ticket", MAX_TICKET_BYTES)?);
        let basis = Basis { mine: read_vector(&mut reader)?, theirs: read_vector(&mut reader)? };
        reader.finish()?;
        Ok(Ticket { bytes: ticket, basis })
    }
}

/// BLAKE3 over a vector's entries as frames write them, first 16 bytes.
pub fn digest(vector: &VersionVector) -> VectorDigest {
    let mut bytes = Vec::new();
    put_vector(&mut bytes, vector);
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    digest
}

/// What must be said so that who knows `basis` knows `vector`: entries that moved, in either
/// direction, and those that are gone as version 0.
pub(crate) fn difference(basis: &VersionVector, vector: &VersionVector) -> Vec<Entry> {
    let moved = vector.iter().filter(|(site, held)| basis.get(*site) != Some(*held));
    let is_gone = |(site, _): &Entry| vector.get(*site).is_none();
    let gone = basis.iter().filter(is_gone).map(|(site, _)| (site, NOTHING));
    let mut difference: Vec<Entry> = moved.chain(gone).collect();
    difference.sort_unstable_by_key(|entry| entry.0);
    difference
}

const NOTHING: anabranch_core::vector::Held =
    anabranch_core::vector::Held { version: 0, chain: anabranch_core::clock::Chain([0; 16]) };

pub(crate) fn put_vector(out: &mut Vec<u8>, vector: &VersionVector) {
    put_varint(out, vector.len() as u64);
    vector.iter().for_each(|(site, held)| put_entry(out, site, held));
}

pub(crate) fn read_vector(reader: &mut Reader<'_>) -> Result<VersionVector, FrameError> {
    let mut vector = VersionVector::new();
    for (site, held) in reader.entries(MAX_SITES, 1)? {
        vector.set(site, held);
    }
    Ok(vector)
}
