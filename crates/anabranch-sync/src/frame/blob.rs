//! BlobWant and BlobChunk: content-addressed bytes, chunk by chunk, each proven alone.
//!
//! ```text
//! BlobWant:   blob (32) | first chunk (varint) | how many (varint, 1 to 16)
//! BlobChunk:  blob (32) | 0                                  the sender does not have it
//!             blob (32) | 1 | length of the blob (varint) | chunk (varint, from 0)
//!                       | n | siblings on the way to the root, lowest first (32 each) | bytes
//! ```
//!
//! A blob's name is its BLAKE3 hash; a chunk of 64 KiB is a subtree of BLAKE3's tree, and
//! the siblings lead from it to the name. [`crate::blob`] makes and checks them.

use bytes::Bytes;

use super::FrameError;
use super::codec::{Reader, put_varint};
use crate::limits::{CHUNK_BYTES, MAX_BLOB_BYTES, MAX_CHUNKS_IN_FLIGHT, MAX_PATH};

/// Names a blob: BLAKE3 over its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub [u8; 32]);

impl std::fmt::Display for BlobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The chaining value of a subtree that is not the root.
pub type SubtreeHash = [u8; 32];

/// Chunks that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobWant {
    /// Of which blob.
    pub blob: BlobId,
    /// The first, from 0.
    pub first: u64,
    /// How many, 1 to [`MAX_CHUNKS_IN_FLIGHT`]; those beyond the blob's end are not sent.
    pub count: u64,
}

/// One chunk, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobChunk {
    /// Of which blob.
    pub blob: BlobId,
    /// `None`: the sender does not have the blob.
    pub chunk: Option<Chunk>,
}

/// A chunk with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Length of the whole blob in bytes, proven by its last chunk only.
    pub blob_bytes: u64,
    /// Its number, from 0.
    pub index: u64,
    /// Siblings on the way to the root, lowest first.
    pub path: Vec<SubtreeHash>,
    /// [`CHUNK_BYTES`] of it, or what the last chunk has.
    pub bytes: Bytes,
}

impl BlobWant {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.blob.0);
        put_varint(out, self.first);
        put_varint(out, self.count);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<BlobWant, FrameError> {
        let blob = BlobId(reader.array("name of a blob")?);
        let first = reader.number("first chunk", 1 << MAX_PATH)?;
        let count = reader.number("chunks", MAX_CHUNKS_IN_FLIGHT as u64)?;
        if count == 0 {
            return Err(reader.malformed("chunks"));
        }
        Ok(BlobWant { blob, first, count })
    }
}

impl BlobChunk {
    /// Writes all but the chunk's bytes, which are the body.
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Bytes {
        out.extend_from_slice(&self.blob.0);
        let Some(chunk) = &self.chunk else {
            out.push(0);
            return Bytes::new();
        };
        assert!(chunk.path.len() <= MAX_PATH && chunk.bytes.len() <= CHUNK_BYTES);
        out.push(1);
        put_varint(out, chunk.blob_bytes);
        put_varint(out, chunk.index);
        put_varint(out, chunk.path.len() as u64);
        chunk.path.iter().for_each(|hash| out.extend_from_slice(hash));
        put_varint(out, chunk.bytes.len() as u64);
        chunk.bytes.clone()
    }

    pub(super) fn read(reader: &mut Reader<'_>, frame: &Bytes) -> Result<BlobChunk, FrameError> {
        let blob = BlobId(reader.array("name of a blob")?);
        if !reader.flag("whether the blob is there")? {
            return Ok(BlobChunk { blob, chunk: None });
        }
        let blob_bytes = reader.number("length of the blob", MAX_BLOB_BYTES)?;
        let index = reader.number("chunk", 1 << MAX_PATH)?;
        let n = reader.count("siblings", MAX_PATH, 32)?;
        let path = (0..n).map(|_| reader.array("sibling")).collect::<Result<_, _>>()?;
        let bytes = frame.slice_ref(reader.bytes("bytes of a chunk", CHUNK_BYTES)?);
        Ok(BlobChunk { blob, chunk: Some(Chunk { blob_bytes, index, path, bytes }) })
    }
}
