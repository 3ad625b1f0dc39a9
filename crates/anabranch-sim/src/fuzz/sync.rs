//! Frames and sessions: bytes that no honest peer sends, in any state, between any answers of
//! the store.
//!
//! A decoder promises one spelling for each frame; a session promises that nothing panics, that
//! a time that has come is not asked for again, and that what it queues has its bounds.

use std::sync::Arc;

use anabranch_core::branch::Branch;
use anabranch_core::clock::Chain;
use anabranch_core::forest::{Difference, Reading};
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, Held, VersionVector};
use anabranch_sync::frame::*;
use anabranch_sync::scope::{Scope, Scopes};
use anabranch_sync::{
    ChannelId, Config, Open, Question, Refusal, Session, StoreEvent, Time, Verdict,
};
use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{mutate, random_bytes, seal_body};

/// What a session may have queued after inputs that are all small.
const MAX_QUEUED_BYTES: usize = 4 << 20;

pub(super) fn fuzz_frame(rng: &mut StdRng) -> Result<(), String> {
    let bytes = frame_bytes(rng)?;
    let Ok(Decoded::Frame(channel, frame)) = decode(&bytes) else { return Ok(()) };
    let again = encode(channel, &frame).into_bytes();
    match again == bytes[..] {
        true => Ok(()),
        false => Err(format!("{bytes:02x?} reads as {frame:?}, which is {again:02x?}")),
    }
}

pub(super) fn fuzz_session(rng: &mut StdRng) -> Result<(), String> {
    let mut session = session(rng)?;
    for _ in 0..rng.random_range(1..80) {
        step(rng, &mut session)?;
        if rng.random_ratio(1, 3) {
            while session.poll_request().is_some() {}
            while session.poll_event().is_some() {}
        }
        if rng.random_ratio(1, 3) {
            let _ = session.poll_transmit();
        }
    }
    let queued = std::iter::from_fn(|| session.poll_transmit());
    let n_bytes: usize = queued.map(|transmit| transmit.len_bytes()).sum();
    match n_bytes <= MAX_QUEUED_BYTES {
        true => Ok(()),
        false => Err(format!("{n_bytes} bytes were queued")),
    }
}

/// A session that has just begun, or is live.
fn session(rng: &mut StdRng) -> Result<Session, String> {
    let now = Time(1_000);
    if rng.random() {
        let mut client = Session::new(now, Config::client());
        let (site, token) = (site(1), Bytes::new());
        let open = Open { store: name(), site, token, ticket: None };
        client.open(now, open).map_err(|error| error.to_string())?;
        return Ok(client);
    }
    let mut relay = Session::new(now, Config::relay());
    if rng.random() {
        let turn = Turn::Open { token: Bytes::new(), ticket: Bytes::new() };
        give(&mut relay, &hello(Role::Peer, turn));
        let words = Scope::ALL.choose(rng).map(|scope| scope.word());
        let scopes = Scopes::from_words(words);
        relay.handle_token(now, channel(0), Verdict::Granted { scopes, ends: None });
        relay.handle_store_event(now, channel(0), opened(rng));
        give(&mut relay, &Frame::Have(have(rng)));
    }
    Ok(relay)
}

fn step(rng: &mut StdRng, session: &mut Session) -> Result<(), String> {
    let now = Time(rng.random_range(1_000..60_000));
    let on = channel(rng.random_range(0..2));
    match rng.random_range(0..10) {
        0..5 => session.handle_frame(now, frame_bytes(rng)?),
        5 => {
            let ends = rng.random::<bool>().then(|| Time(rng.random_range(0..90_000)));
            session.handle_token(now, on, Verdict::Granted { scopes: Scopes::ALL, ends });
        }
        6 => {
            session.handle_timer(now);
            if let Some(at) = session.poll_timeout()
                && at <= now
            {
                return Err(format!("{at:?} is asked for again at {now:?}"));
            }
        }
        _ => session.handle_store_event(now, on, store_event(rng)?),
    }
    Ok(())
}

fn give(session: &mut Session, frame: &Frame) {
    session.handle_frame(Time(1_000), encode(channel(0), frame).into_bytes().into());
}

fn channel(number: u32) -> ChannelId {
    ChannelId::new(number).expect("a small number")
}

fn name() -> StoreName {
    StoreName::new("notes").expect("a name")
}

fn site(byte: u8) -> SiteId {
    SiteId::new(&[byte; 16]).expect("16 bytes")
}

/// An honest frame, most often damaged, or bytes that are none.
fn frame_bytes(rng: &mut StdRng) -> Result<Bytes, String> {
    if rng.random_ratio(1, 16) {
        return Ok(random_bytes(rng, 60).into());
    }
    let frame = frame(rng)?;
    let mut bytes = encode(channel(rng.random_range(0..2)), &frame).into_bytes();
    if rng.random_ratio(2, 3) {
        mutate(rng, &mut bytes);
    }
    Ok(bytes.into())
}

fn hello(role: Role, turn: Turn) -> Frame {
    let (capabilities, site) = (Capabilities::ALL, site(1));
    Frame::Hello(Hello { capabilities, role, site, store: name(), turn })
}

fn entries(rng: &mut StdRng) -> Vec<Entry> {
    let n = rng.random_range(0..4);
    let held = |rng: &mut StdRng| {
        let version = rng.random_range(1..5);
        Held { version, chain: Chain([version as u8 * u8::from(rng.random::<bool>()); 16]) }
    };
    (1..=n).map(|byte| (site(byte), held(rng))).collect()
}

fn vector(rng: &mut StdRng) -> Arc<VersionVector> {
    let mut vector = VersionVector::new();
    entries(rng).into_iter().for_each(|(site, held)| vector.set(site, held));
    Arc::new(vector)
}

fn have(rng: &mut StdRng) -> Have {
    Have { entries: entries(rng), ..Have::default() }
}

/// A part, the only one of its delta.
fn part(rng: &mut StdRng) -> Result<Delta, String> {
    let content = random_bytes(rng, 9);
    Delta::new(seal_body(&content)?.into()).map_err(|error| error.to_string())
}

fn frame(rng: &mut StdRng) -> Result<Frame, String> {
    let (blob, some) = (BlobId([1; 32]), site(rng.random_range(1..4)));
    let chain = Chain([rng.random_range(0..5); 16]);
    let dots = vec![Dot { site: some, version: rng.random_range(1..5) }];
    Ok(match rng.random_range(0..16) {
        0 => hello(Role::Peer, Turn::Open { token: Bytes::new(), ticket: Bytes::new() }),
        1 => {
            let grants = Scopes::ALL;
            hello(Role::Relay, Turn::Answer { grants, expires_in_ms: 9_000, is_resumed: true })
        }
        2 => Frame::Have(have(rng)),
        3 => {
            let entries = entries(rng);
            let has_more = !entries.is_empty();
            let (root, base, chain) = (site(9), rng.random_range(0..4), Chain([1; 16]));
            let branches = match entries.first() {
                Some((site, _)) if rng.random() => vec![(*site, Branch { root, base, chain })],
                _ => Vec::new(),
            };
            let is_on_ticket = rng.random();
            Frame::Have(Have { has_more, is_on_ticket, entries, branches, ..Have::default() })
        }
        4 | 5 => Frame::Delta(part(rng)?),
        6 => {
            let (replicas, entries) = (rng.random_range(0..3), entries(rng));
            Frame::Ack(Ack { replicas, entries, held: dots.clone(), shown: dots })
        }
        7 => Frame::Chains(Chains::Ask { site: some, versions: vec![1, 2, 9] }),
        8 => {
            let chains = (1..rng.random_range(2..6)).map(|version| (version, Some(chain)));
            Frame::Chains(Chains::Tell { site: some, chains: chains.collect() })
        }
        9 => {
            let common = rng.random_range(0..3);
            Frame::Chains(Chains::Forked { site: some, common, chain })
        }
        10 => Frame::BlobWant(BlobWant { blob, first: 0, count: rng.random_range(1..17) }),
        11 => {
            let (blob_bytes, index, path) = (rng.random_range(0..5), 0, Vec::new());
            let bytes = random_bytes(rng, 5).into();
            let chunk = Some(Chunk { blob_bytes, index, path, bytes });
            Frame::BlobChunk(BlobChunk { blob, chunk })
        }
        12 => {
            let (retry, closes) = (Retry::AfterMs(rng.random_range(0..9)), Closes::Nothing);
            let about = About::Delta(part(rng)?.name());
            let code = ErrorCode::of(rng.random_range(0..25));
            Frame::Error(ErrorFrame { code, retry, closes, about, text: "é".to_owned() })
        }
        13 => Frame::Resume(Resume { ticket: vec![1].into(), yours: [0; 16], mine: [0; 16] }),
        14 => {
            let instance = rng.random_range(0..3);
            let from = rng.random::<bool>().then_some(Participant { site: some, instance });
            Frame::Presence(Presence { from, state: Some(random_bytes(rng, 9).into()) })
        }
        _ => Frame::Receipts(Receipts::Ask(dots)),
    })
}

fn opened(rng: &mut StdRng) -> StoreEvent {
    let (site, vector, partials) = (site(9), vector(rng), Vec::new());
    StoreEvent::Opened { site, vector, partials, resumed: None }
}

fn store_event(rng: &mut StdRng) -> Result<StoreEvent, String> {
    let (blob, part, some) = (BlobId([1; 32]), part(rng)?, vector(rng));
    let (delta, index) = (part.name(), rng.random_range(0..3));
    let refusal = Refusal::new(ErrorCode::of(rng.random_range(0..23)), Retry::AfterMs(0), "x");
    let chains = (0..rng.random_range(0..4)).map(|n| Some(Chain([n; 16])).filter(|_| n < 3));
    let question = *[Question::Bisect, Question::Peer].choose(rng).expect("a constant list");
    Ok(match rng.random_range(0..17) {
        0 => opened(rng),
        1 => StoreEvent::Committed { from: vector(rng), to: some, part: Some(part) },
        2 | 3 => StoreEvent::Exported { part, to: some },
        4 => StoreEvent::NothingAbove,
        5 => StoreEvent::ExportFailed(refusal),
        6 => StoreEvent::Part(part),
        7 => StoreEvent::Staged { delta },
        8 => StoreEvent::Applied { delta, to: some, held: Vec::new() },
        9 => StoreEvent::Refused { delta, refusal },
        10 => StoreEvent::Durable { replicas: index, vector: some },
        11 | 12 => StoreEvent::Chains { question, chains: chains.collect() },
        13 if rng.random() => {
            let fork = Difference { site: site(1), version: 1, chain: Chain([2; 16]) };
            StoreEvent::Read(Reading { vector: (*some).clone(), forks: vec![fork] })
        }
        13 => StoreEvent::Replaced { vector: some },
        14 => StoreEvent::Chunk { blob, chunk: None },
        15 => StoreEvent::ChunkStored { blob, index, refusal: Some(refusal) },
        _ => StoreEvent::Ticket(Some(Bytes::from_static(b"t"))),
    })
}
