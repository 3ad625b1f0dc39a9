//! Blobs towards a relay: before a change that names them is acknowledged they are on its disk,
//! and whoever reads the store gets them there.

use anabranch_relay::Settings;
use anabranch_sync::Event;
use anabranch_sync::frame::{BlobId, ErrorCode};
use anabranch_sync::limits::CHUNK_BYTES;

use crate::client::{Client, Copy};
use crate::deltas::Site;
use crate::world::World;

/// Bytes that no two of are alike, as far as it matters.
fn noise(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

/// A client on the store, that has not been answered yet.
fn client(world: &World, store: &str, copy: Copy, scope: &str) -> Client {
    let token = world.token("ann", store, scope);
    let mut client = Client::connect(world, &format!("/sync/{store}"), None);
    client.open(store, copy, &token);
    client
}

fn channel() -> anabranch_sync::ChannelId {
    anabranch_sync::ChannelId::new(0).unwrap()
}

/// Wants a blob: its bytes, or why it does not come.
fn fetch(client: &mut Client, blob: BlobId) -> Result<Vec<u8>, ErrorCode> {
    client.session().want_blob(channel(), blob, 0).unwrap();
    let failed = client.until(|event| match event {
        Event::BlobDone { .. } => Some(None),
        Event::BlobFailed { refusal, .. } => Some(Some(refusal.code)),
        _ => None,
    });
    match failed {
        None => Ok(client.copy(channel()).blobs[&blob].clone()),
        Some(code) => Err(code),
    }
}

#[test]
fn a_change_is_acknowledged_with_its_blobs() {
    for n_bytes in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 20 * CHUNK_BYTES + 7] {
        let mut world = World::new();
        let mut ann = client(&world, "notes", Copy::new(Site::new(1)), "write");
        ann.until_converged(channel());
        let bytes = noise(n_bytes);
        let blob = ann.copy(channel()).put(&bytes);
        ann.write(channel(), 1, 10);
        // And changes behind it, on their way before it was refused.
        ann.copy(channel()).writer.blobs.clear();
        ann.write(channel(), 1, 10);
        ann.until_converged(channel());
        assert!(world.has_blob(&blob.0), "{n_bytes}");
        let n_chunks = anabranch_sync::blob::n_chunks(n_bytes as u64);
        assert_eq!(ann.copy(channel()).chunks_read, (0..n_chunks).collect::<Vec<_>>());
        // Also after a restart, and only who reads this store gets it.
        world.restart();
        let mut bob = client(&world, "notes", Copy::new(Site::new(2)), "read");
        bob.until_converged(channel());
        assert_eq!(fetch(&mut bob, blob), Ok(bytes), "{n_bytes}");
        let mut eve = client(&world, "other", Copy::new(Site::new(3)), "read");
        eve.until_converged(channel());
        assert_eq!(fetch(&mut eve, blob), Err(ErrorCode::NoStore));
    }
}

/// The relay is killed in the middle, again and again: each time the blob goes on at the chunk
/// that came last, but for those that were on their way.
#[test]
fn a_blob_goes_on_where_the_relay_was_killed() {
    let mut world = World::process();
    let bytes = noise(80 * CHUNK_BYTES);
    let mut copy = Copy::new(Site::new(1));
    let blob = copy.put(&bytes);
    copy.write(1, 10);
    let mut n_read = 0;
    for kill in 1..4 {
        let mut ann = client(&world, "notes", copy, "write");
        while ann.copy(channel()).chunks_read.len() < 20 {
            ann.drain();
            assert!(ann.read());
        }
        world.kill();
        copy = ann.stores.remove(&channel()).unwrap();
        let read = std::mem::take(&mut copy.chunks_read);
        let (first, last) = (read[0], *read.last().unwrap());
        assert_eq!(read, (first..=last).collect::<Vec<_>>());
        assert!(first <= n_read && n_read <= first + 17, "kill {kill}: {first}, {n_read}");
        n_read = last + 1;
    }
    let mut ann = client(&world, "notes", copy, "write");
    ann.until_converged(channel());
    assert!(ann.copy(channel()).chunks_read[0] > 12);
    assert!(world.has_blob(&blob.0));
    assert_eq!(fetch(&mut ann_without_blobs(&world), blob), Ok(bytes));
}

fn ann_without_blobs(world: &World) -> Client {
    let mut ann = client(world, "notes", Copy::new(Site::new(5)), "read");
    ann.until_converged(channel());
    ann
}

/// Who took a change elsewhere may not have its blob: the change is taken without, and the
/// blob when somebody comes who has it.
#[test]
fn a_blob_that_is_lost_stops_nothing() {
    let world = World::new();
    let mut copy = Copy::new(Site::new(1));
    let bytes = noise(100_000);
    let blob = copy.put(&bytes);
    copy.write(3, 10);
    let with_blob = copy.blobs.clone();
    copy.blobs.clear();
    let mut bob = client(&world, "notes", copy, "write");
    bob.until_converged(channel());
    assert!(!world.has_blob(&blob.0));
    assert_eq!(fetch(&mut ann_without_blobs(&world), blob), Err(ErrorCode::NoStore));
    // Also over HTTP, where nobody can be asked.
    let token = world.token("eve", "notes", "write");
    let part = Site { blobs: vec![[7; 32]], ..Site::new(9) }.write_one();
    assert_eq!(world.with_token("POST", "/api/stores/notes/import", &token, &part).status, 200);
    let mut copy = Copy::new(Site::new(2));
    copy.blobs = with_blob;
    let mut ann = client(&world, "notes", copy, "write");
    loop {
        ann.drain();
        if ann.copy(channel()).chunks_read.last() == Some(&1) {
            break;
        }
        assert!(ann.read());
    }
    // Its last chunk is on its way; nothing is said of it when it is there.
    while fetch(&mut ann_without_blobs(&world), blob) != Ok(bytes.clone()) {}
}

/// The quota is named, other changes go on, and what began to come counts too.
#[test]
fn blobs_beyond_the_quota_are_refused_by_name() {
    let settings = Settings { max_store_blob_bytes: Some(200_000), ..Settings::default() };
    let world = World::with(settings);
    let put = |name: u8, n_bytes: usize| {
        let mut copy = Copy::new(Site::new(name));
        let blob = copy.put(&noise(n_bytes));
        copy.write(1, 10);
        let mut client = client(&world, "notes", copy, "write");
        let refused = client.until(|event| match event {
            Event::Converged { .. } => Some(None),
            Event::PeerRefused { error, .. } if error.code != ErrorCode::BlobsFirst => {
                Some(Some((error.code, error.text.clone())))
            }
            _ => None,
        });
        assert_eq!(refused.is_none(), world.has_blob(&blob.0));
        refused
    };
    assert_eq!(put(1, 150_000), None);
    let (code, text) = put(2, 60_000).expect("beyond the quota");
    assert_eq!(code, ErrorCode::OverQuota);
    assert!(text.contains("quota store-blob-bytes"), "{text}");
    assert_eq!(put(3, 40_000), None);
    assert_eq!(put(4, 150_000), None, "the same blob is there");
    // Of another store, though the file is there.
    let mut copy = Copy::new(Site::new(5));
    copy.put(&noise(150_000));
    copy.put(&noise(60_000));
    copy.write(1, 10);
    let mut other = client(&world, "other", copy, "write");
    let code = other.until(|event| match event {
        Event::PeerRefused { error, .. } if error.code != ErrorCode::BlobsFirst => Some(error.code),
        _ => None,
    });
    assert_eq!(code, ErrorCode::OverQuota);
}
