//! Peers that do what no honest one does: what they cost is bounded, and others go on.

use std::sync::Arc;

use anabranch_core::forest::Reading;
use anabranch_sync::frame::*;
use anabranch_sync::limits::*;
use anabranch_sync::scope::Scopes;
use anabranch_sync::{
    ChannelId, Config, Open, Question, Refusal, Request, Session, StoreEvent, Time, Verdict,
};
use bytes::Bytes;

use crate::talk::{
    T, answer_hello, errors, events, have, hello, live, opened, requests, say, say_on, sent,
    vector, zero,
};
use crate::toy::{Rng, parts, site};
use crate::world::name;

#[test]
fn a_connection_names_the_stores_it_may() {
    let only = StoreName::new("other").unwrap();
    let mut relay = Session::new(T, Config { only_store: Some(only), ..Config::relay() });
    say(&mut relay, hello(Role::Peer));
    assert_eq!(errors(&sent(&mut relay)), [(ErrorCode::NoStore, Closes::Channel)]);
    // Ten thousand stores named by one client, none of them verified.
    let mut relay = Session::new(T, Config::relay());
    for channel in 0..1000 {
        say_on(&mut relay, channel % 1024, hello(Role::Peer));
        if relay.is_closed() {
            break;
        }
    }
    assert!(relay.is_closed(), "too many that nobody verifies");
    assert!(requests(&mut relay).len() <= 2 * MAX_UNVERIFIED_CHANNELS);
}

/// Questions whose answers nobody reads, and refusals that nobody reads, end the channel.
#[test]
fn a_peer_that_asks_and_does_not_read_is_ended() {
    let mut relay = live(Scopes::ALL, &[(1, 3)], &[(1, 3)]);
    for n in 0.. {
        assert!(n < 200, "answers pile up");
        say(&mut relay, Frame::Chains(Chains::Ask { site: site(1), versions: vec![1] }));
        let chains = vec![None];
        let answer = StoreEvent::Chains { question: Question::Peer, chains };
        relay.handle_store_event(T, zero(), answer);
        if relay.channels().count() == 0 {
            break;
        }
    }
    let mut relay = live(Scopes::NONE, &[], &[]);
    for n in 0.. {
        assert!(n < 200, "refusals pile up");
        say(&mut relay, Frame::Ack(Ack::default()));
        if relay.channels().count() == 0 {
            break;
        }
    }
}

/// A driver that does not answer stops the reading; one that reads on is cut off.
#[test]
fn parts_that_the_store_does_not_take_stay_in_the_socket() {
    let mut relay = live(Scopes::ALL, &[], &[]);
    let part = parts(&vec![0; 1 << 20], 1 << 20).remove(0);
    let mut n = 0;
    while relay.is_reading() {
        say(&mut relay, Frame::Delta(part.clone()));
        n += 1;
    }
    assert!(n <= 17, "{n} MiB");
    while !relay.is_closed() {
        say(&mut relay, Frame::Delta(part.clone()));
        n += 1;
    }
    assert!(n <= 34, "{n} MiB");
}

/// Many channels share what a connection may queue, and all come to their turn.
#[test]
fn channels_share_a_connection() {
    let mut relay = Session::new(T, Config::relay());
    let n_channels = 40;
    let part = parts(&vec![0; 3 << 20], 3 << 20).remove(0);
    let to = Arc::new(vector(&[(2, 1)]));
    for n in 0..n_channels {
        let channel = ChannelId::new(n).unwrap();
        say_on(&mut relay, n, hello(Role::Peer));
        relay.handle_token(T, channel, Verdict::Granted { scopes: Scopes::ALL, ends: None });
        relay.handle_store_event(T, channel, opened(&[(2, 1)]));
        say_on(&mut relay, n, have(&[]));
    }
    let mut queued = 0;
    let mut n_sent = 0;
    loop {
        while let Some(request) = relay.poll_request() {
            if let Request::Export { channel, .. } = request {
                queued += part.part().len();
                let exported = StoreEvent::Exported { part: part.clone(), to: to.clone() };
                relay.handle_store_event(T, channel, exported);
            }
        }
        let most = MAX_CONNECTION_QUEUED_BYTES + n_channels as usize * 100;
        assert!(queued <= most + 40 * (3 << 20), "{queued} bytes queued");
        let Some(transmit) = relay.poll_transmit() else { break };
        let is_delta = transmit.len_bytes() > 1 << 20;
        n_sent += usize::from(is_delta);
        queued -= if is_delta { part.part().len() } else { 0 };
    }
    assert_eq!(n_sent, n_channels as usize);
}

/// Any frames in any state, any answers of the store, any words on tokens: nothing panics, and
/// what is queued stays bounded.
#[test]
fn anything_in_any_state_is_survived() {
    for seed in 0..1_500 {
        let mut rng = Rng::new(seed);
        let mut session = any_session(&mut rng);
        for _ in 0..rng.below(60) {
            any_input(&mut rng, &mut session);
            if rng.one_in(3) {
                drop((requests(&mut session), events(&mut session)));
            }
            if rng.one_in(3) {
                let _ = session.poll_transmit();
            }
        }
        let total: usize = std::iter::from_fn(|| session.poll_transmit())
            .map(|transmit| transmit.len_bytes())
            .sum();
        assert!(total < 1 << 20, "seed {seed}: {total} bytes out of nothing");
    }
}

fn any_session(rng: &mut Rng) -> Session {
    match rng.below(4) {
        0 => Session::new(T, Config::relay()),
        1 => {
            let mut client = Session::new(T, Config::client());
            let open = Open { store: name(), site: site(1), token: Bytes::new(), ticket: None };
            client.open(T, open).unwrap();
            if rng.one_in(2) {
                client.handle_store_event(T, zero(), opened(&[(1, 2)]));
            }
            if rng.one_in(2) {
                say(&mut client, answer_hello(Scopes::ALL));
            }
            client
        }
        2 => live(Scopes::ALL, &[(1, 3), (2, 2)], &[(1, 2)]),
        _ => live(Scopes::from_words(["read"]), &[(1, 3)], &[(1, 3)]),
    }
}

fn any_input(rng: &mut Rng, session: &mut Session) {
    let now = Time(1000 + rng.below(1 << 12));
    match rng.below(8) {
        0 => session.handle_frame(now, rng.bytes(40).into()),
        1..4 => {
            let (_, frame) = crate::frames::any_frame(rng);
            let channel = ChannelId::new(rng.below(2) as u32).unwrap();
            session.handle_frame(now, encode(channel, &frame).into_bytes().into());
        }
        4 => {
            let ends = rng.one_in(2).then(|| Time(rng.below(4000)));
            let verdict = Verdict::Granted { scopes: Scopes::ALL, ends };
            session.handle_token(now, zero(), verdict);
        }
        5 => {
            session.handle_timer(now);
            let next = session.poll_timeout();
            // A time that has come is not asked for again.
            assert!(next.is_none_or(|at| at > now), "{next:?} after {now:?}");
        }
        _ => session.handle_store_event(now, zero(), any_store_event(rng)),
    }
}

fn any_store_event(rng: &mut Rng) -> StoreEvent {
    let blob = BlobId([1; 32]);
    let some = vector(&[(1, 1 + rng.below(4)), (2, 1 + rng.below(4))]);
    let some = Arc::new(some);
    let content = rng.bytes(50);
    let mut all = parts(&[&[1][..], &content].concat(), 20);
    let part = all.swap_remove(rng.below(all.len() as u64) as usize);
    let delta = part.name();
    let retry = if rng.one_in(2) { Retry::Never } else { Retry::AfterMs(0) };
    let refusal = Refusal::new(ErrorCode::of(rng.below(23)), retry, "any");
    match rng.below(18) {
        0 => opened(&[(1, 3)]),
        1 => StoreEvent::Committed { from: some.clone(), to: some, part: Some(part) },
        2 | 3 => StoreEvent::Exported { part, to: some },
        4 => StoreEvent::NothingAbove,
        5 => StoreEvent::ExportFailed(refusal),
        6 => StoreEvent::Part(part),
        7 => StoreEvent::Staged { delta },
        8 => StoreEvent::Applied { delta, to: some, held: Vec::new() },
        9 => StoreEvent::Refused { delta, refusal },
        10 => StoreEvent::Durable { replicas: rng.below(3), vector: some },
        11 => StoreEvent::Read(Reading::default()),
        12 => StoreEvent::Chains { question: Question::Bisect, chains: vec![None, None] },
        13 => StoreEvent::Chains { question: Question::Peer, chains: Vec::new() },
        14 => StoreEvent::Replaced { vector: some },
        15 => StoreEvent::Chunk { blob, chunk: None },
        16 => StoreEvent::ChunkStored { blob, index: rng.below(3), refusal: None },
        _ => StoreEvent::Ticket(Some(rng.bytes(9).into())),
    }
}
