//! The bytes of deltas and parts (`docs/format.md`); nothing else knows them.

use crate::delta::Delta;

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
}

/// Place of a part among the parts of its delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartHead {
    /// Names the delta: equal in all its parts.
    pub delta: [u8; 16],
    /// From 0.
    pub part: u32,
    /// How many there are.
    pub of: u32,
}

/// Encodes a delta as parts of at most [`crate::limits::MAX_PART_BYTES`] each.
pub fn encode(_delta: &Delta) -> Vec<Vec<u8>> {
    todo!()
}

/// Reads the head of the first part in `bytes` and how many bytes the part takes.
pub fn part_head(_bytes: &[u8]) -> Result<(PartHead, usize), WireError> {
    todo!()
}

/// Decodes all parts of one delta, in order.
pub fn decode(_parts: &[&[u8]]) -> Result<Delta, WireError> {
    todo!()
}
