//! Resume: a ticket that stands for what both ends hold.
//!
//! ```text
//! ticket (bytes, 1 to 1024) | digest of the receiver's vector (16) | of the sender's (16)
//! ```
//!
//! The ticket is opaque to who receives it. The digests say which two vectors it stands for;
//! who finds others in its own books throws the ticket away ([`crate::ticket`]).

use bytes::Bytes;

use super::FrameError;
use super::codec::{Reader, put_bytes};
use crate::limits::MAX_TICKET_BYTES;

/// First 16 bytes of a BLAKE3 hash over a vector's entries ([`crate::ticket::digest`]).
pub type VectorDigest = [u8; 16];

/// A new ticket; replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// What the receiver may show in its next Hello; 1 to [`MAX_TICKET_BYTES`] bytes.
    pub ticket: Bytes,
    /// Of what the receiver has said to hold.
    pub yours: VectorDigest,
    /// Of what the sender has said to hold.
    pub mine: VectorDigest,
}

impl Resume {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        assert!((1..=MAX_TICKET_BYTES).contains(&self.ticket.len()));
        put_bytes(out, &self.ticket);
        out.extend_from_slice(&self.yours);
        out.extend_from_slice(&self.mine);
    }

    pub(super) fn read(reader: &mut Reader<'_>, frame: &Bytes) -> Result<Resume, FrameError> {
        let ticket = frame.slice_ref(reader.bytes("ticket", MAX_TICKET_BYTES)?);
        if ticket.is_empty() {
            return Err(reader.malformed("ticket"));
        }
        let yours = reader.array("digest of a vector")?;
        Ok(Resume { ticket, yours, mine: reader.array("digest of a vector")? })
    }
}
