//! Chunks of blobs and their proofs, over BLAKE3's own tree.
//!
//! A chunk of 64 KiB is a complete subtree of the tree that BLAKE3 hashes a blob by
//! (O'Connor et al. 2020, 2.1), so its chaining value and the siblings on the way up give the
//! blob's name: every chunk is proven when it comes, alone, in memory that does not grow with
//! the blob. The length is proven by the last chunk.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::frame::{BlobId, Chunk, SubtreeHash};
use crate::limits::{CHUNK_BYTES, MAX_BLOB_BYTES};

/// How many chunks a blob of so many bytes has; the empty blob has one, which is empty.
pub fn n_chunks(blob_bytes: u64) -> u64 {
    blob_bytes.div_ceil(CHUNK_BYTES as u64).max(1)
}

/// Length of chunk `index` of a blob of so many bytes; 0 beyond its end.
pub fn chunk_bytes(blob_bytes: u64, index: u64) -> u64 {
    let before = index.saturating_mul(CHUNK_BYTES as u64);
    blob_bytes.saturating_sub(before).min(CHUNK_BYTES as u64)
}

/// Why a chunk is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// It lies beyond the end, or has another length than it must have there.
    #[error("chunk {index} of a blob of {blob_bytes} bytes has {found} bytes")]
    Length {
        /// Which chunk.
        index: u64,
        /// What the chunk says the blob has.
        blob_bytes: u64,
        /// What the chunk has.
        found: usize,
    },
    /// Bytes and siblings do not lead to the blob's name.
    #[error("chunk {index} does not belong to its blob")]
    Damaged {
        /// Which chunk.
        index: u64,
    },
}

impl Chunk {
    /// Proves that the chunk belongs to `blob`.
    ///
    /// # Errors
    /// [`ChunkError`]: nothing of it may be kept.
    pub fn verify(&self, blob: BlobId) -> Result<(), ChunkError> {
        let (index, blob_bytes, found) = (self.index, self.blob_bytes, self.bytes.len());
        let n = n_chunks(blob_bytes);
        let expected = chunk_bytes(blob_bytes, index);
        if index >= n || found as u64 != expected || blob_bytes > MAX_BLOB_BYTES {
            return Err(ChunkError::Length { index, blob_bytes, found });
        }
        match self.root(n) {
            Some(root) if root == blob => Ok(()),
            _ => Err(ChunkError::Damaged { index }),
        }
    }

    /// Whether it is the last of its blob.
    pub fn is_last(&self) -> bool {
        self.index + 1 == n_chunks(self.blob_bytes)
    }

    /// The name that bytes and siblings lead to in a blob of `n` chunks.
    fn root(&self, n: u64) -> Option<BlobId> {
        if n == 1 {
            let name = BlobId(*blake3::hash(&self.bytes).as_bytes());
            return self.path.is_empty().then_some(name);
        }
        let mut path = self.path.iter();
        let mut hash = subtree_hash(&self.bytes, self.index);
        let (mut at, mut n_level) = (self.index, n);
        while n_level > 1 {
            // A last subtree without a sibling stands one level higher as it is.
            if at ^ 1 < n_level {
                let sibling = path.next()?;
                let (left, right) = if at & 1 == 0 { (&hash, sibling) } else { (sibling, &hash) };
                if n_level == 2 {
                    let root = merge_subtrees_root(left, right, Mode::Hash);
                    return path.next().is_none().then_some(BlobId(*root.as_bytes()));
                }
                hash = merge_subtrees_non_root(left, right, Mode::Hash);
            }
            (at, n_level) = (at >> 1, n_level.div_ceil(2));
        }
        None
    }
}

fn subtree_hash(bytes: &[u8], index: u64) -> SubtreeHash {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(index * CHUNK_BYTES as u64);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The tree above the chunks of one blob: what a sender proves them with.
///
/// 64 bytes a chunk, one thousandth of the blob; made while the blob is read once.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// Length of the blob so far.
    n_bytes: u64,
    /// Chaining values of chunks, of pairs of chunks, and so on; the root is not among them.
    levels: Vec<Vec<SubtreeHash>>,
    /// The name of a blob of one chunk.
    only: Option<BlobId>,
}

impl Outline {
    /// Reads a blob chunk by chunk: each of [`CHUNK_BYTES`], but for the last.
    ///
    /// # Panics
    /// If a chunk follows a shorter one, or is longer.
    pub fn of<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Outline {
        let mut outline = Outline::default();
        chunks.into_iter().for_each(|chunk| outline.push(chunk));
        outline.finish();
        outline
    }

    /// Reads the next chunk.
    ///
    /// # Panics
    /// As [`Outline::of`]; after [`Outline::finish`].
    pub fn push(&mut self, chunk: &[u8]) {
        assert!(self.levels.len() <= 1, "a chunk after the last");
        let index = self.levels.first().map_or(0, |chunks| chunks.len() as u64);
        assert_eq!(self.n_bytes, index * CHUNK_BYTES as u64, "a chunk after a shorter one");
        assert!(chunk.len() <= CHUNK_BYTES);
        self.n_bytes += chunk.len() as u64;
        self.only = (index == 0).then(|| BlobId(*blake3::hash(chunk).as_bytes()));
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        self.levels[0].push(subtree_hash(chunk, index));
    }

    /// The last chunk was read.
    pub fn finish(&mut self) {
        let Some(mut hashes) = self.levels.pop() else { return };
        while hashes.len() > 1 {
            let above = hashes.chunks(2).map(|pair| match pair {
                [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
                _ => pair[0],
            });
            let above = above.collect();
            self.levels.push(std::mem::replace(&mut hashes, above));
        }
    }

    /// The blob's name.
    pub fn blob(&self) -> BlobId {
        match (self.levels.last(), self.only) {
            (Some(top), _) => BlobId(*merge_subtrees_root(&top[0], &top[1], Mode::Hash).as_bytes()),
            (None, only) => only.unwrap_or_else(|| BlobId(*blake3::hash(b"").as_bytes())),
        }
    }

    /// Length of the blob in bytes.
    pub fn blob_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// The siblings of chunk `index` on the way to the root, lowest first.
    pub fn path(&self, index: u64) -> Vec<SubtreeHash> {
        let siblings = self.levels.iter().zip(0..).map(|(level, height)| {
            let at = usize::try_from(index >> height).unwrap_or(usize::MAX);
            level.get(at ^ 1).copied()
        });
        siblings.flatten().collect()
    }
}
