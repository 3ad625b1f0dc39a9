//! Delta: one part of a delta, as `docs/format.md`, section 4, has it.
//!
//! ```text
//! part (bytes, at most 4 MiB)
//! ```
//!
//! The part names its delta, its number and how many there are, with a checksum over that;
//! it must end where its head says. What it holds is the store's matter.

use anabranch_core::wire::{PartHead, part_head};
use bytes::Bytes;

use super::FrameError;
use super::codec::{Reader, put_varint};
use anabranch_core::limits::MAX_PART_BYTES;

/// Names a delta by its content (`docs/format.md`, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeltaName(pub [u8; 16]);

impl std::fmt::Display for DeltaName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A part of a delta whose head was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    head: PartHead,
    part: Bytes,
}

impl Delta {
    /// Takes one whole, sealed part.
    ///
    /// # Errors
    /// [`FrameError::Part`] if its head is damaged or it ends elsewhere.
    pub fn new(part: Bytes) -> Result<Delta, FrameError> {
        match part_head(&part) {
            Ok((head, len)) if len == part.len() => Ok(Delta { head, part }),
            Ok((_, len)) => {
                let what = format!("the part has {} bytes of {len}", part.len());
                Err(FrameError::Part(what))
            }
            Err(error) => Err(FrameError::Part(error.to_string())),
        }
    }

    /// The delta it belongs to.
    pub fn name(&self) -> DeltaName {
        DeltaName(self.head.delta)
    }

    /// Its number, from 0.
    pub fn number(&self) -> u32 {
        self.head.part
    }

    /// How many parts the delta has.
    pub fn of(&self) -> u32 {
        self.head.of
    }

    /// The part itself.
    pub fn part(&self) -> &Bytes {
        &self.part
    }

    /// The part itself.
    pub fn into_part(self) -> Bytes {
        self.part
    }

    /// Writes the length; the part is the body.
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Bytes {
        put_varint(out, self.part.len() as u64);
        self.part.clone()
    }

    pub(super) fn read(reader: &mut Reader<'_>, frame: &Bytes) -> Result<Delta, FrameError> {
        Delta::new(frame.slice_ref(reader.bytes("part", MAX_PART_BYTES)?))
    }
}
