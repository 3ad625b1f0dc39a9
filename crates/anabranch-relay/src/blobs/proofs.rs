//! What proves the chunks of blobs to who fetches them: outlines, of the blobs asked for last.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_sync::blob::{Outline, n_chunks};
use anabranch_sync::frame::Chunk;
use anabranch_sync::limits::CHUNK_BYTES;

use super::{BlobDir, BlobHash};
use crate::limits::MAX_PROOF_BYTES;

/// Outlines in memory, the one asked for last at the back.
#[derive(Debug, Default)]
pub(crate) struct Proofs {
    known: Mutex<VecDeque<(BlobHash, Arc<Outline>)>>,
}

impl Proofs {
    /// Chunk `index` of a blob with its proof; `None` if it is not here. Reads the whole blob
    /// when it is asked for first.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn chunk(
        &self,
        blobs: &BlobDir,
        hash: BlobHash,
        index: u64,
    ) -> io::Result<Option<Chunk>> {
        let outline = match self.known(hash) {
            Some(outline) => outline,
            None => match outline_of(blobs, hash)? {
                Some(outline) => self.keep(hash, outline),
                None => return Ok(None),
            },
        };
        let blob_bytes = outline.blob_bytes();
        if index >= n_chunks(blob_bytes) {
            return Ok(None);
        }
        let bytes = blobs.chunk(hash, index)?;
        let path = outline.path(index);
        Ok(bytes.map(|bytes| Chunk { blob_bytes, index, path, bytes: bytes.into() }))
    }

    fn known(&self, hash: BlobHash) -> Option<Arc<Outline>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(blob, _)| *blob == hash)?;
        let found = known.remove(at)?;
        let outline = Arc::clone(&found.1);
        known.push_back(found);
        Some(outline)
    }

    fn keep(&self, hash: BlobHash, outline: Outline) -> Arc<Outline> {
        let outline = Arc::new(outline);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back((hash, Arc::clone(&outline)));
        let in_memory = |known: &VecDeque<(BlobHash, Arc<Outline>)>| {
            let each = |outline: &Outline| 256 + 64 * n_chunks(outline.blob_bytes());
            known.iter().map(|(_, outline)| each(outline)).sum::<u64>()
        };
        // The last one stays, however large.
        while known.len() > 1 && in_memory(&known) > MAX_PROOF_BYTES {
            known.pop_front();
        }
        outline
    }
}

fn outline_of(blobs: &BlobDir, hash: BlobHash) -> io::Result<Option<Outline>> {
    let Some(mut file) = blobs.file(hash)? else { return Ok(None) };
    let mut outline = Outline::default();
    let mut chunk = Vec::new();
    loop {
        chunk.clear();
        (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            break;
        }
        outline.push(&chunk);
    }
    outline.finish();
    // A damaged file proves nothing, and is none.
    Ok((outline.blob().0 == hash.0).then_some(outline))
}
