//! Chunks of blobs: every length, every chunk proven alone, every lie found.

use anabranch_sync::blob::{Outline, chunk_bytes, n_chunks};
use anabranch_sync::frame::{BlobId, Chunk};
use anabranch_sync::limits::CHUNK_BYTES;
use bytes::Bytes;

fn noise(len: usize) -> Vec<u8> {
    let mut noise = vec![0; len];
    blake3::Hasher::new().update(&len.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

pub(crate) fn chunks_of(blob: &[u8]) -> (BlobId, Vec<Chunk>) {
    let outline = Outline::of(blob.chunks(CHUNK_BYTES));
    let blob_bytes = blob.len() as u64;
    assert_eq!(outline.blob_bytes(), blob_bytes);
    let chunk = |index: u64| {
        let start = index as usize * CHUNK_BYTES;
        let end = start + chunk_bytes(blob_bytes, index) as usize;
        let bytes = Bytes::copy_from_slice(&blob[start..end]);
        Chunk { blob_bytes, index, path: outline.path(index), bytes }
    };
    (outline.blob(), (0..n_chunks(blob_bytes)).map(chunk).collect())
}

#[test]
fn every_chunk_is_proven_alone() {
    let k = CHUNK_BYTES;
    let lengths = [
        0,
        1,
        k - 1,
        k,
        k + 1,
        2 * k,
        2 * k + 1,
        3 * k,
        4 * k + 5,
        5 * k,
        7 * k + 1,
        8 * k,
        9 * k + 9,
        13 * k,
    ];
    for len in lengths {
        let blob = noise(len);
        let (name, chunks) = chunks_of(&blob);
        assert_eq!(name.0, *blake3::hash(&blob).as_bytes(), "{len}");
        for chunk in &chunks {
            chunk.verify(name).unwrap_or_else(|error| panic!("{len}: {error}"));
            let is_last = chunk.index as usize + 1 == chunks.len();
            assert_eq!(chunk.is_last(), is_last, "{len}");
        }
    }
}

#[test]
fn lies_are_found() {
    let (name, chunks) = chunks_of(&noise(5 * CHUNK_BYTES + 7));
    for chunk in &chunks {
        let check = |what: &str, change: &dyn Fn(&mut Chunk)| {
            let mut lie = chunk.clone();
            change(&mut lie);
            assert!(lie.verify(name).is_err(), "{what} of chunk {}", chunk.index);
        };
        check("a byte", &|lie| {
            let mut bytes = lie.bytes.to_vec();
            bytes[3] ^= 1;
            lie.bytes = bytes.into();
        });
        check("a sibling", &|lie| lie.path[0][5] ^= 1);
        check("a missing sibling", &|lie| lie.path.truncate(lie.path.len() - 1));
        check("one sibling more", &|lie| lie.path.push([0; 32]));
        check("the number", &|lie| lie.index ^= 1);
        check("a number beyond", &|lie| lie.index += 6);
        check("a shorter chunk", &|lie| lie.bytes = lie.bytes.slice(1..));
        check("no bytes", &|lie| lie.bytes = Bytes::new());
    }
    let last = chunks.last().unwrap();
    for blob_bytes in [0, 1, 5 * CHUNK_BYTES as u64, 6 * CHUNK_BYTES as u64, u64::MAX] {
        let lie = Chunk { blob_bytes, ..last.clone() };
        assert!(lie.verify(name).is_err(), "a length of {blob_bytes}");
    }
}
