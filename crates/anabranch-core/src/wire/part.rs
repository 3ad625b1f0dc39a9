//! The head of a part, its checksums, and the one zstd frame behind it.
//!
//! ```text
//!  0  4  magic "anaD"            32  4  bytes of the frame
//!  4  1  format version, 1       36  4  bytes of its content
//!  5  3  zero                    40 16  BLAKE3 of the frame, first 16 bytes
//!  8 16  delta                   56  8  BLAKE3 of bytes 0 to 55, first 8 bytes
//! 24  4  part, from 0            64     the frame
//! 28  4  of, how many
//! ```
//!
//! Numbers are little-endian. `delta` is BLAKE3 over the parts' frame checksums in order,
//! first 16 bytes, so it names a content, and says that all parts are there. It and `of`
//! are known at the end only: until [`seal`] the four last fields of a head that it fills
//! are zero, and a reader refuses the part.

use std::cell::RefCell;

use zstd::bulk::Decompressor;
use zstd::stream::raw::Operation;

use super::WireError;
use crate::limits::{MAX_PART_BYTES, MAX_PART_DECODED_BYTES, MAX_PARTS};

/// Bytes before a part's frame.
pub const HEAD_BYTES: usize = 64;

const MAGIC: [u8; 4] = *b"anaD";
const FORMAT_VERSION: u8 = 1;
const CHECKED_BYTES: usize = 56;
/// 2^26 bytes: [`MAX_PART_DECODED_BYTES`].
const MAX_WINDOW_LOG: u32 = MAX_PART_DECODED_BYTES.ilog2();

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

/// What is known of a delta once its last part is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Names the delta.
    pub delta: [u8; 16],
    /// How many parts there are.
    pub of: u32,
}

/// Writes a seal into the head of a part, where the first [`HEAD_BYTES`] bytes suffice.
///
/// # Panics
/// If `part` is shorter than a head.
pub fn seal(part: &mut [u8], seal: &Seal) {
    part[8..24].copy_from_slice(&seal.delta);
    part[28..32].copy_from_slice(&seal.of.to_le_bytes());
    let check = checksum(&part[..CHECKED_BYTES]);
    part[CHECKED_BYTES..HEAD_BYTES].copy_from_slice(&check[..8]);
}

/// Reads the head of the first part in `bytes` and how many bytes the part takes.
///
/// Only the first [`HEAD_BYTES`] bytes are looked at.
///
/// # Errors
/// [`WireError`] for anything but a sealed head within its bounds.
pub fn part_head(bytes: &[u8]) -> Result<(PartHead, usize), WireError> {
    let (frame, head) = read_head(bytes)?;
    Ok((head, HEAD_BYTES + frame.n_bytes))
}

/// Cuts parts that stand one behind the other, as an exported file holds them.
///
/// # Errors
/// [`WireError`] if a head is none or the last part ends early.
pub fn split(mut bytes: &[u8]) -> Result<Vec<&[u8]>, WireError> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (_, len) = part_head(bytes)?;
        let truncated = WireError::Truncated { found: bytes.len(), expected: len };
        let (part, rest) = bytes.split_at_checked(len).ok_or(truncated)?;
        parts.push(part);
        bytes = rest;
    }
    Ok(parts)
}

/// Checks one whole part and unpacks its body, the content of its frame.
///
/// # Errors
/// [`WireError`]. No more than [`MAX_PART_DECODED_BYTES`] are ever allocated.
pub fn body(part: &[u8]) -> Result<Vec<u8>, WireError> {
    open(part)?.body()
}

/// A whole part whose head was read.
pub(super) struct Opened<'a> {
    pub(super) head: PartHead,
    frame: Frame,
    packed: &'a [u8],
}

/// Reads the head of one whole part.
pub(super) fn open(part: &[u8]) -> Result<Opened<'_>, WireError> {
    let (frame, head) = read_head(part)?;
    let packed = &part[HEAD_BYTES..];
    if packed.len() != frame.n_bytes {
        let expected = HEAD_BYTES + frame.n_bytes;
        return Err(WireError::Truncated { found: part.len(), expected });
    }
    debug_assert!(head.part < head.of);
    Ok(Opened { head, frame, packed })
}

impl Opened<'_> {
    /// The checksum of its frame, as its head gives it.
    pub(super) fn checksum(&self) -> [u8; 16] {
        self.frame.checksum
    }

    /// Checks the frame and unpacks its content.
    pub(super) fn body(&self) -> Result<Vec<u8>, WireError> {
        if checksum(self.packed) != self.frame.checksum {
            return Err(WireError::Checksum);
        }
        unpack(self.packed, self.frame.n_decoded_bytes)
    }
}

/// An unsealed part, and the checksum of its frame for the seal.
///
/// `None` if the part would be larger than [`MAX_PART_BYTES`], or its body than
/// [`MAX_PART_DECODED_BYTES`].
pub(super) fn make(
    body: &[u8],
    part: u32,
    compressor: &mut zstd::bulk::Compressor<'_>,
) -> Option<(Vec<u8>, [u8; 16])> {
    if body.len() > MAX_PART_DECODED_BYTES {
        return None;
    }
    let mut bytes = vec![0; HEAD_BYTES];
    let packed = compressor.compress(body).expect("zstd compresses into memory it asked for");
    let sum = checksum(&packed);
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4] = FORMAT_VERSION;
    bytes[24..28].copy_from_slice(&part.to_le_bytes());
    bytes[32..36].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    bytes[36..40].copy_from_slice(&(body.len() as u32).to_le_bytes());
    bytes[40..56].copy_from_slice(&sum);
    bytes.extend_from_slice(&packed);
    (bytes.len() <= MAX_PART_BYTES).then_some((bytes, sum))
}

pub(super) fn checksum(bytes: &[u8]) -> [u8; 16] {
    let mut sum = [0; 16];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    sum
}

struct Frame {
    n_bytes: usize,
    n_decoded_bytes: usize,
    checksum: [u8; 16],
}

fn read_head(bytes: &[u8]) -> Result<(Frame, PartHead), WireError> {
    if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
        return Err(WireError::NotAPart);
    }
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Err(WireError::Truncated { found: bytes.len(), expected: HEAD_BYTES });
    };
    if head[4] != FORMAT_VERSION {
        return Err(WireError::FormatVersion { found: head[4], expected: FORMAT_VERSION });
    }
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (part, of) = (number(24), number(28));
    if of == 0 && head[CHECKED_BYTES..] == [0; 8] {
        return Err(WireError::Unsealed);
    }
    if checksum(&head[..CHECKED_BYTES])[..8] != head[CHECKED_BYTES..] {
        return Err(WireError::Checksum);
    }
    if head[5..8] != [0; 3] || part >= of || of > MAX_PARTS {
        return Err(WireError::Malformed { what: "head of a part", at: 5 });
    }
    let (n_bytes, n_decoded_bytes) = (number(32) as usize, number(36) as usize);
    over_limit("bytes", HEAD_BYTES + n_bytes, MAX_PART_BYTES)?;
    over_limit("decoded bytes", n_decoded_bytes, MAX_PART_DECODED_BYTES)?;
    let mut delta = [0; 16];
    delta.copy_from_slice(&head[8..24]);
    let mut checksum = [0; 16];
    checksum.copy_from_slice(&head[40..56]);
    Ok((Frame { n_bytes, n_decoded_bytes, checksum }, PartHead { delta, part, of }))
}

/// The first `wanted` bytes of a part's body, or all of a shorter one, from the first bytes
/// of the part, without a look at its checksum; `None` where these do not reach so far.
///
/// # Errors
/// [`WireError`] for a head or frame that is none.
pub(super) fn unpack_start(
    first_bytes: &[u8],
    wanted: usize,
) -> Result<Option<Vec<u8>>, WireError> {
    let malformed = || WireError::Malformed { what: "zstd frame", at: 0 };
    let (frame, _) = read_head(first_bytes)?;
    let end = first_bytes.len().min(HEAD_BYTES + frame.n_bytes);
    let packed = &first_bytes[HEAD_BYTES..end];
    let is_whole = packed.len() == frame.n_bytes;
    let wanted = wanted.min(frame.n_decoded_bytes);
    let mut body = super::varint::room(wanted)?;
    body.resize(wanted, 0);
    let mut zstd = zstd::stream::raw::Decoder::new().map_err(|_| WireError::OutOfMemory)?;
    // A frame of ours never looks back further than a body is long.
    zstd.set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(MAX_WINDOW_LOG))
        .map_err(|_| WireError::OutOfMemory)?;
    let (mut n_read, mut n_written) = (0, 0);
    while n_written < wanted {
        let step = zstd
            .run_on_buffers(&packed[n_read..], &mut body[n_written..])
            .map_err(|_| malformed())?;
        (n_read, n_written) = (n_read + step.bytes_read, n_written + step.bytes_written);
        if step.bytes_read == 0 && step.bytes_written == 0 {
            return if is_whole { Err(malformed()) } else { Ok(None) };
        }
    }
    Ok(Some(body))
}

fn over_limit(what: &'static str, found: usize, limit: usize) -> Result<(), WireError> {
    if found > limit {
        return Err(WireError::OverLimit { what, found: found as u64, limit: limit as u64 });
    }
    Ok(())
}

fn unpack(packed: &[u8], n_decoded_bytes: usize) -> Result<Vec<u8>, WireError> {
    let malformed = || WireError::Malformed { what: "zstd frame", at: 0 };
    if zstd::zstd_safe::find_frame_compressed_size(packed) != Ok(packed.len()) {
        return Err(malformed());
    }
    let mut body = super::varint::room(n_decoded_bytes)?;
    let n = DECOMPRESSOR.with_borrow_mut(|kept| {
        let zstd = match kept {
            Some(zstd) => zstd,
            None => kept.insert(Decompressor::new().map_err(|_| WireError::OutOfMemory)?),
        };
        // Writes into the room there is and stops with an error where it ends.
        zstd.decompress_to_buffer(packed, &mut body).map_err(|_| malformed())
    })?;
    if n == n_decoded_bytes { Ok(body) } else { Err(malformed()) }
}

thread_local! {
    /// Each frame begins anew, whatever became of the one before; only the memory is kept,
    /// which costs more to take and to clear than a small part costs to unpack.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}
