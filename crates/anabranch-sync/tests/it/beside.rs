//! What goes beside deltas on a live channel: presence, blobs, receipts.

use anabranch_core::vector::Dot;
use anabranch_sync::frame::*;
use anabranch_sync::limits::*;
use anabranch_sync::scope::Scopes;
use anabranch_sync::{CommandError, Event, Refusal, Request, StoreEvent};
use bytes::Bytes;

use crate::talk::{T, errors, events, live, requests, say, sent, zero};
use crate::toy::site;

#[test]
fn presence_is_bounded_and_forgotten() {
    let mut relay = live(Scopes::from_words(["presence"]), &[], &[]);
    let here = |n: u8| Frame::Presence(Presence { from: None, state: Some(vec![n].into()) });
    (0..100).for_each(|n| say(&mut relay, here(n)));
    let seen = events(&mut relay);
    assert_eq!(seen.len() as u64, PRESENCE_BURST);
    // The last that was within the rate is repeated: nothing new, but alive.
    assert_eq!(relay.poll_timeout(), Some(T.after(PRESENCE_MS)));
    relay.handle_timer(T.after(20_000));
    relay.handle_frame(T.after(20_000), encode(zero(), &here(39)).into_bytes().into());
    assert_eq!(events(&mut relay), []);
    assert_eq!(relay.poll_timeout(), Some(T.after(20_000 + PRESENCE_MS)));
    relay.handle_timer(T.after(20_000 + PRESENCE_MS));
    let gone = Event::Presence { channel: zero(), from: None, state: None };
    assert_eq!(events(&mut relay), std::slice::from_ref(&gone));
    say(&mut relay, here(1));
    let _ = events(&mut relay);
    relay.close(T, zero(), Refusal::new(ErrorCode::Closing, Retry::Never, ""));
    assert!(events(&mut relay).contains(&gone), "at once on close");
    // A peer does not speak for others.
    let mut relay = live(Scopes::from_words(["presence"]), &[], &[]);
    let from = Some(Participant { site: site(9), instance: 1 });
    say(&mut relay, Frame::Presence(Presence { from, state: None }));
    assert_eq!(errors(&sent(&mut relay)), [(ErrorCode::Forbidden, Closes::Nothing)]);
    // To a slow reader goes the latest of each.
    for n in 0..200 {
        let who = Participant { site: site(9), instance: n % 3 };
        relay.pass_presence(zero(), who, Some(vec![n as u8].into())).unwrap();
    }
    let latest = sent(&mut relay);
    let states = latest.iter().map(|frame| match frame {
        Frame::Presence(Presence { state: Some(state), .. }) => state[0],
        other => panic!("{other:?}"),
    });
    assert_eq!(states.collect::<Vec<_>>(), [198, 199, 197]);
}

#[test]
fn own_presence_is_repeated_until_taken_back() {
    let mut relay = live(Scopes::ALL, &[], &[]);
    relay.set_presence(zero(), Some(Bytes::from_static(b"x"))).unwrap();
    assert_eq!(sent(&mut relay).len(), 1);
    relay.handle_timer(T.after(HEARTBEAT_MS - 1));
    assert_eq!(sent(&mut relay).len(), 0);
    relay.handle_timer(T.after(HEARTBEAT_MS));
    assert_eq!(sent(&mut relay).len(), 1);
    relay.set_presence(zero(), None).unwrap();
    assert_eq!(sent(&mut relay).len(), 1);
    relay.handle_timer(T.after(10 * HEARTBEAT_MS));
    assert_eq!(sent(&mut relay).len(), 0);
}

/// A blob comes in windows, each chunk proven, and is done when the store has kept the last.
#[test]
fn blobs_come_in_windows() {
    let bytes = vec![5; 40 * CHUNK_BYTES + 3];
    let (blob, chunks) = crate::blobs::chunks_of(&bytes);
    let mut relay = live(Scopes::ALL, &[], &[]);
    relay.want_blob(zero(), blob, 2).unwrap();
    let mut wanted: Vec<u64> = Vec::new();
    let mut kept = 2;
    loop {
        for frame in sent(&mut relay) {
            let Frame::BlobWant(want) = frame else { panic!("{frame:?}") };
            wanted.extend(want.first..want.first + want.count);
            assert!(wanted.len() as u64 + 2 - kept <= MAX_CHUNKS_IN_FLIGHT as u64);
        }
        let Some(chunk) = chunks.get(kept as usize) else { break };
        let chunk = Some(chunk.clone());
        say(&mut relay, Frame::BlobChunk(BlobChunk { blob, chunk }));
        assert!(matches!(requests(&mut relay)[..], [Request::StoreChunk { .. }]));
        let refusal = None;
        let stored = StoreEvent::ChunkStored { blob, index: kept, refusal };
        relay.handle_store_event(T, zero(), stored);
        kept += 1;
    }
    assert!(events(&mut relay).contains(&Event::BlobDone { channel: zero(), blob }));
    assert_eq!(wanted, (2..41).collect::<Vec<u64>>());
    // A lie ends the blob, not the channel.
    relay.want_blob(zero(), blob, 0).unwrap();
    let chunk = Some(Chunk { path: vec![[0; 32]; 6], ..chunks[0].clone() });
    say(&mut relay, Frame::BlobChunk(BlobChunk { blob, chunk }));
    let failed = events(&mut relay);
    assert!(
        matches!(&failed[..], [Event::BlobFailed { refusal, .. }]
        if refusal.code == ErrorCode::Damaged),
        "{failed:?}"
    );
    relay.want_blob(zero(), blob, 0).unwrap();
    say(&mut relay, Frame::BlobChunk(BlobChunk { blob, chunk: None }));
    assert!(matches!(&events(&mut relay)[..], [Event::BlobFailed { .. }]));
}

#[test]
fn blobs_are_served_one_by_one() {
    let (blob, chunks) = crate::blobs::chunks_of(&vec![5; 3 * CHUNK_BYTES]);
    let mut relay = live(Scopes::ALL, &[], &[]);
    for _ in 0..3 {
        say(&mut relay, Frame::BlobWant(BlobWant { blob, first: 1, count: 16 }));
        for chunk in &chunks[1..] {
            let asked = requests(&mut relay);
            assert!(
                matches!(asked[..], [Request::ReadChunk { index, .. }] if index == chunk.index)
            );
            let chunk = Some(chunk.clone());
            relay.handle_store_event(T, zero(), StoreEvent::Chunk { blob, chunk });
        }
        assert_eq!(requests(&mut relay), [], "beyond the end");
        assert_eq!(sent(&mut relay).len(), 2);
    }
}

#[test]
fn receipts_are_asked_and_told() {
    let mut relay = live(Scopes::from_words(["read"]), &[], &[]);
    let change = Dot { site: site(1), version: 4 };
    say(&mut relay, Frame::Receipts(Receipts::Ask(vec![change])));
    let asked = Request::Receipts { channel: zero(), changes: vec![change] };
    assert_eq!(requests(&mut relay), [asked]);
    let place = Place { site: site(3), role: Role::Peer, reach: Reach::Held };
    let receipts = vec![Receipt { change, places: vec![place; 100] }];
    relay.handle_store_event(T, zero(), StoreEvent::Receipts(receipts));
    let frames = sent(&mut relay);
    let [Frame::Receipts(Receipts::Tell(told))] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(told[0].places.len(), MAX_PLACES);
    // A relay does not ask a peer that may not answer.
    assert_eq!(relay.ask_receipts(zero(), vec![change]), Err(CommandError::NotAllowed));
}
