//! One session and what a peer says to it, frame by frame: handshakes, refusals, rights.

use std::sync::Arc;

use anabranch_core::clock::Chain;
use anabranch_core::vector::{Dot, Held, VersionVector};
use anabranch_sync::frame::*;
use anabranch_sync::limits::*;
use anabranch_sync::scope::Scopes;
use anabranch_sync::ticket::{Basis, digest};
use anabranch_sync::{
    ChannelId, CommandError, Config, Event, Open, Question, Refusal, Request, Session, StoreEvent,
    Time, Verdict,
};
use bytes::Bytes;

use crate::toy::{Rng, parts, site};
use crate::world::name;

pub(crate) const T: Time = Time(1000);

pub(crate) fn zero() -> ChannelId {
    ChannelId::new(0).unwrap()
}

/// Gives a frame to a session on channel 0.
pub(crate) fn say(session: &mut Session, frame: Frame) {
    say_on(session, 0, frame);
}

fn say_on(session: &mut Session, channel: u32, frame: Frame) {
    let channel = ChannelId::new(channel).unwrap();
    session.handle_frame(T, encode(channel, &frame).into_bytes().into());
}

/// What a session sends, all of it.
pub(crate) fn sent(session: &mut Session) -> Vec<Frame> {
    let frames = std::iter::from_fn(|| session.poll_transmit());
    let frame = |transmit: Transmit| match decode(&transmit.into_bytes().into()) {
        Ok(Decoded::Frame(_, frame)) => frame,
        other => panic!("a session sent {other:?}"),
    };
    frames.map(frame).collect()
}

pub(crate) fn requests(session: &mut Session) -> Vec<Request> {
    std::iter::from_fn(|| session.poll_request()).collect()
}

pub(crate) fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// The errors among frames.
fn errors(frames: &[Frame]) -> Vec<(ErrorCode, Closes)> {
    let error = |frame: &Frame| match frame {
        Frame::Error(error) => Some((error.code, error.closes)),
        _ => None,
    };
    frames.iter().filter_map(error).collect()
}

pub(crate) fn hello(role: Role) -> Frame {
    let turn = Turn::Open { token: Bytes::from_static(b"t"), ticket: Bytes::new() };
    let capabilities = Capabilities::ALL;
    Frame::Hello(Hello { capabilities, role, site: site(1), store: name(), turn })
}

pub(crate) fn answer_hello(grants: Scopes) -> Frame {
    let turn = Turn::Answer { grants, expires_in_ms: 0, is_resumed: false };
    let (capabilities, role) = (Capabilities::ALL, Role::Relay);
    Frame::Hello(Hello { capabilities, role, site: site(0xee), store: name(), turn })
}

pub(crate) fn vector(versions: &[(u8, u64)]) -> VersionVector {
    let mut vector = VersionVector::new();
    for (byte, version) in versions {
        vector.set(site(*byte), Held { version: *version, chain: Chain([*version as u8; 16]) });
    }
    vector
}

pub(crate) fn have(versions: &[(u8, u64)]) -> Frame {
    Frame::Have(Have { entries: vector(versions).iter().collect(), ..Have::default() })
}

pub(crate) fn opened(versions: &[(u8, u64)]) -> StoreEvent {
    let (site, vector) = (site(0xee), Arc::new(vector(versions)));
    StoreEvent::Opened { site, vector, partials: Vec::new(), resumed: None }
}

/// A relay whose only channel is live, after all that this brings out of it.
pub(crate) fn live(scopes: Scopes, mine: &[(u8, u64)], theirs: &[(u8, u64)]) -> Session {
    let mut relay = Session::new(T, Config::relay());
    say(&mut relay, hello(Role::Peer));
    relay.handle_token(T, zero(), Verdict::Granted { scopes, ends: None });
    relay.handle_store_event(T, zero(), opened(mine));
    say(&mut relay, have(theirs));
    assert_eq!(errors(&sent(&mut relay)), []);
    let _ = (requests(&mut relay), events(&mut relay));
    relay
}

/// The handshake of a relay: what is said to it, step by step, and how it ends.
#[test]
fn handshakes_and_refusals() {
    use Closes::{Channel, Connection};
    use ErrorCode::*;
    let check = |what: &str, work: &dyn Fn(&mut Session), expected: &[(ErrorCode, Closes)]| {
        let only = name();
        for only_store in [None, Some(only)] {
            let mut relay = Session::new(T, Config { only_store, ..Config::relay() });
            work(&mut relay);
            let found = errors(&sent(&mut relay));
            assert_eq!(found, expected, "{what}");
            let is_closed = found.iter().any(|error| error.1 == Connection);
            assert_eq!(relay.is_closed(), is_closed, "{what}");
            let opens = requests(&mut relay);
            let opens = opens.iter().filter(|request| matches!(request, Request::Open { .. }));
            let may_open = ["good", "no Have in time"].contains(&what);
            assert_eq!(opens.count(), usize::from(may_open), "{what}");
        }
    };
    let grant = |relay: &mut Session, scopes| {
        relay.handle_token(T, zero(), Verdict::Granted { scopes, ends: None });
    };
    check(
        "good",
        &|relay| {
            say(relay, hello(Role::Peer));
            grant(relay, Scopes::NONE);
        },
        &[],
    );
    check(
        "a token that is none",
        &|relay| {
            say(relay, hello(Role::Peer));
            let refusal = Refusal::new(Unauthorized, Retry::Never, "bad signature");
            relay.handle_token(T, zero(), Verdict::Refused(refusal));
        },
        &[(Unauthorized, Channel)],
    );
    check("a frame before Hello", &|relay| say(relay, have(&[])), &[(Unauthorized, Connection)]);
    check(
        "a frame before the verdict",
        &|relay| {
            say(relay, hello(Role::Peer));
            say(relay, have(&[]));
        },
        &[(Unauthorized, Channel)],
    );
    check("an answer from who opens", &|relay| say(relay, answer_hello(Scopes::ALL)), &[]);
    check(
        "a relay without admin",
        &|relay| {
            say(relay, hello(Role::Relay));
            grant(relay, Scopes::from_words(["write"]));
        },
        &[(Forbidden, Channel)],
    );
    check(
        "garbage",
        &|relay| relay.handle_frame(T, Bytes::from_static(b"\x01")),
        &[(Malformed, Connection)],
    );
    check(
        "an empty frame",
        &|relay| relay.handle_frame(T, Bytes::new()),
        &[(Malformed, Connection)],
    );
    check(
        "an unknown frame",
        &|relay| relay.handle_frame(T, Bytes::from_static(b"\x7f\0")),
        &[(UnknownType, Connection)],
    );
    check(
        "one that may be ignored",
        &|relay| relay.handle_frame(T, Bytes::from_static(b"\xff\0")),
        &[],
    );
    check(
        "another protocol",
        &|relay| relay.handle_frame(T, Bytes::from_static(b"\x01\0\x02")),
        &[(Protocol, Connection)],
    );
    check(
        "64 KiB of nothing",
        &|relay| {
            (0..9).for_each(|_| relay.handle_frame(T, vec![0xff; 8 << 10].into()));
        },
        &[(Unauthorized, Connection)],
    );
    check(
        "five seconds",
        &|relay| {
            say(relay, hello(Role::Peer));
            relay.handle_timer(Time(5_999));
            relay.handle_timer(Time(6_000));
        },
        &[(TimedOut, Connection)],
    );
    check(
        "no Have in time",
        &|relay| {
            say(relay, hello(Role::Peer));
            grant(relay, Scopes::ALL);
            relay.handle_store_event(T, zero(), opened(&[]));
            relay.handle_timer(Time(31_000));
        },
        &[(TimedOut, Channel)],
    );
    check(
        "the peer stops",
        &|relay| {
            say(relay, hello(Role::Peer));
            let refusal = ErrorFrame {
                code: Closing,
                retry: Retry::Never,
                closes: Channel,
                about: About::Nothing,
                text: String::new(),
            };
            say(relay, Frame::Error(refusal));
            grant(relay, Scopes::ALL);
        },
        &[],
    );
}

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

/// A token ends, is renewed in place, is taken back.
#[test]
fn tokens_end_on_the_live_socket() {
    let mut relay = live(Scopes::ALL, &[], &[]);
    let verdict = |ends| Verdict::Granted { scopes: Scopes::from_words(["read"]), ends };
    relay.handle_token(T, zero(), verdict(Some(Time(60_000))));
    assert_eq!(relay.poll_timeout(), Some(Time(60_000)));
    say(&mut relay, hello(Role::Peer));
    let asked = requests(&mut relay);
    assert!(matches!(asked[..], [Request::Verify { is_renewal: true, .. }]), "{asked:?}");
    relay.handle_token(T, zero(), verdict(Some(Time(90_000))));
    let frames = sent(&mut relay);
    let [Frame::Hello(Hello { turn: Turn::Answer { expires_in_ms, .. }, .. })] = frames[..] else {
        panic!("{frames:?}");
    };
    assert_eq!(expires_in_ms, 89_000);
    relay.handle_timer(Time(89_999));
    assert_eq!(errors(&sent(&mut relay)), []);
    relay.handle_timer(Time(90_000));
    assert_eq!(errors(&sent(&mut relay)), [(ErrorCode::TokenEnded, Closes::Channel)]);
    // Frames that were under way meet a channel that is gone.
    say(&mut relay, have(&[]));
    assert_eq!(errors(&sent(&mut relay)), []);

    let mut revoked = live(Scopes::ALL, &[], &[]);
    let refusal = Refusal::new(ErrorCode::TokenEnded, Retry::Never, "revoked");
    revoked.handle_token(T, zero(), Verdict::Refused(refusal));
    assert_eq!(errors(&sent(&mut revoked)), [(ErrorCode::TokenEnded, Closes::Channel)]);
    assert!(!revoked.is_closed());
}

/// Who opened the channel is told in time.
#[test]
fn a_client_is_asked_for_a_new_token() {
    let mut client = Session::new(T, Config::client());
    let open = Open { store: name(), site: site(1), token: Bytes::new(), ticket: None };
    let channel = client.open(T, open).unwrap();
    let mut answer = answer_hello(Scopes::ALL);
    if let Frame::Hello(Hello { turn: Turn::Answer { expires_in_ms, .. }, .. }) = &mut answer {
        *expires_in_ms = 100_000;
    }
    say(&mut client, answer);
    client.handle_store_event(T, channel, opened(&[]));
    say(&mut client, have(&[]));
    let _ = (sent(&mut client), events(&mut client));
    assert_eq!(client.poll_timeout(), Some(Time(71_000)));
    client.handle_timer(Time(71_000));
    assert_eq!(events(&mut client), [Event::TokenWanted { channel }]);
    client.renew_token(channel, Bytes::from_static(b"new")).unwrap();
    assert!(matches!(sent(&mut client)[..], [Frame::Hello(_)]));
    let long = vec![0; MAX_TOKEN_BYTES + 1].into();
    let limit = MAX_TOKEN_BYTES;
    let too_long = CommandError::TooLong { what: "token", limit };
    assert_eq!(client.renew_token(channel, long), Err(too_long));
}

/// Each frame that needs a right, with and without it.
#[test]
fn frames_without_the_right_are_dropped_and_named() {
    let part = parts(b"x", 10).remove(0);
    let blob = BlobId([1; 32]);
    let frames = [
        ("read", Frame::Ack(Ack::default())),
        ("read", Frame::Chains(Chains::Ask { site: site(1), versions: vec![1] })),
        ("read", Frame::BlobWant(BlobWant { blob, first: 0, count: 1 })),
        ("read", Frame::Receipts(Receipts::Ask(Vec::new()))),
        ("write", Frame::Delta(part)),
        ("write", Frame::BlobChunk(BlobChunk { blob, chunk: None })),
        ("presence", Frame::Presence(Presence { from: None, state: Some(Bytes::new()) })),
        ("admin", Frame::Receipts(Receipts::Tell(Vec::new()))),
        ("admin", Frame::Resume(Resume { ticket: vec![1].into(), yours: [0; 16], mine: [0; 16] })),
    ];
    for (needed, frame) in frames {
        for word in ["", "read", "presence", "write", "admin"] {
            let scopes = Scopes::from_words([word]);
            let is_enough =
                matches!((word, needed), ("admin", _) | ("write", "read" | "write" | "presence"))
                    || word == needed;
            let mut relay = live(scopes, &[], &[]);
            say(&mut relay, frame.clone());
            let found = errors(&sent(&mut relay));
            let expected: &[_] =
                if is_enough { &[] } else { &[(ErrorCode::Forbidden, Closes::Nothing)] };
            assert_eq!(found, expected, "{:?} with {word:?}", frame.kind());
            if !is_enough {
                assert_eq!(requests(&mut relay), [], "{:?} with {word:?}", frame.kind());
                assert_eq!(events(&mut relay), [], "{:?} with {word:?}", frame.kind());
            }
        }
    }
}

/// Nothing is sent to a token that may not read.
#[test]
fn without_read_nothing_is_sent() {
    for (word, n) in [("", 0), ("presence", 0), ("read", 1), ("admin", 1)] {
        let mut relay = Session::new(T, Config::relay());
        say(&mut relay, hello(Role::Peer));
        let scopes = Scopes::from_words([word]);
        relay.handle_token(T, zero(), Verdict::Granted { scopes, ends: None });
        relay.handle_store_event(T, zero(), opened(&[(2, 1)]));
        say(&mut relay, have(&[]));
        let asked = requests(&mut relay);
        let exports = asked.iter().filter(|request| matches!(request, Request::Export { .. }));
        assert_eq!(exports.count(), n, "{word}");
    }
}

/// Frames that break the order of things end their channel and no other.
#[test]
fn disorder_ends_the_channel() {
    let check = |what: &str, frames: Vec<Frame>, expected: ErrorCode| {
        let mut relay = live(Scopes::ALL, &[(1, 3), (2, 2)], &[(1, 3)]);
        frames.into_iter().for_each(|frame| say(&mut relay, frame));
        let found = errors(&sent(&mut relay));
        assert_eq!(found, [(expected, Closes::Channel)], "{what}");
        assert!(!relay.is_closed(), "{what}");
    };
    let entry = |byte, version, chain| (site(byte), Held { version, chain: Chain([chain; 16]) });
    let ack = |entry| Frame::Ack(Ack { entries: vec![entry], ..Ack::default() });
    let have = |has_more, is_on_ticket, byte| {
        let (entries, partials) = (vec![entry(byte, 1, 1)], Vec::new());
        Frame::Have(Have { has_more, is_on_ticket, entries, partials })
    };
    let ask = || Frame::Chains(Chains::Ask { site: site(1), versions: vec![1] });
    let (blob, ours, theirs) = (BlobId([1; 32]), Chain([1; 16]), Chain([2; 16]));
    let forked = || Frame::Chains(Chains::Forked { site: site(1), common: 0, ours, theirs });
    use ErrorCode::{Malformed, OverLimit, RateLimited, Unexpected};
    check("an Ack beyond what is held", vec![ack(entry(1, 4, 4))], Unexpected);
    check("an Ack of a stranger", vec![ack(entry(9, 1, 1))], Unexpected);
    check("an Ack of another chain", vec![ack(entry(2, 2, 9))], Unexpected);
    check("a Have on no ticket", vec![have(false, true, 1)], Unexpected);
    check("a Have out of order", vec![have(true, false, 5), have(false, false, 5)], Malformed);
    check("an answer", vec![answer_hello(Scopes::ALL)], Unexpected);
    check("another role", vec![hello(Role::Relay)], Unexpected);
    check("two tokens at once", vec![hello(Role::Peer), hello(Role::Peer)], RateLimited);
    check("five questions", (0..5).map(|_| ask()).collect(), OverLimit);
    check("five forks", (0..5).map(|_| forked()).collect(), OverLimit);
    let wants = |count| Frame::BlobWant(BlobWant { blob, first: 0, count });
    check("seventeen chunks", vec![wants(16), wants(1)], OverLimit);
    let receipts = |_| Frame::Receipts(Receipts::Ask(Vec::new()));
    check("five questions about receipts", (0..5).map(receipts).collect(), OverLimit);
}

/// An Ack says what came on this channel and is safe, once, and as far as it is safe.
#[test]
fn acknowledged_is_what_is_safe() {
    let mut relay = live(Scopes::ALL, &[], &[(1, 3)]);
    let part = parts(b"delta", 10).remove(0);
    say(&mut relay, Frame::Delta(part.clone()));
    let to = Arc::new(vector(&[(1, 3)]));
    let held = vec![Dot { site: site(1), version: 2 }];
    let applied = StoreEvent::Applied { delta: part.name(), to, held: held.clone() };
    relay.handle_store_event(T, zero(), applied);
    let found = sent(&mut relay);
    let [Frame::Ack(Ack { replicas: 0, entries, held: said, .. })] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!((entries.len(), said), (0, &held));
    let mut safe = |versions: &[(u8, u64)], replicas| {
        let vector = Arc::new(vector(versions));
        relay.handle_store_event(T, zero(), StoreEvent::Durable { replicas, vector });
        let acks = sent(&mut relay);
        let entries = acks.iter().flat_map(|frame| match frame {
            Frame::Ack(ack) => {
                ack.entries.iter().map(|(_, held)| (ack.replicas, held.version)).collect()
            }
            _ => Vec::new(),
        });
        entries.collect::<Vec<_>>()
    };
    assert_eq!(safe(&[(7, 1)], 0), []);
    assert_eq!(safe(&[(1, 2), (7, 1)], 0), [(0, 2)]);
    assert_eq!(safe(&[(1, 2)], 0), []);
    assert_eq!(safe(&[(1, 9), (7, 1)], 0), [(0, 3)]);
    assert_eq!(safe(&[(1, 9), (7, 1)], 0), []);
}

/// A ticket stands for two vectors that both ends agree on; then Haves are short.
#[test]
fn tickets_shorten_haves() {
    let mut relay = live(Scopes::ALL, &[(1, 3), (2, 2)], &[(1, 3)]);
    relay.handle_store_event(T, zero(), StoreEvent::NothingAbove);
    let entries = vector(&[(1, 3), (2, 2)]).iter().collect();
    say(&mut relay, Frame::Ack(Ack { entries, ..Ack::default() }));
    let asked = requests(&mut relay);
    let basis = asked.iter().find_map(|request| match request {
        Request::IssueTicket { basis, .. } => Some(basis.clone()),
        _ => None,
    });
    let basis = basis.expect("a relay that is quiet makes a ticket");
    assert_eq!(basis.mine, vector(&[(1, 3), (2, 2)]));
    assert_eq!(Basis::from_bytes(&basis.to_bytes()), Ok(basis.clone()));
    let ticket = Some(Bytes::from_static(b"tick"));
    relay.handle_store_event(T, zero(), StoreEvent::Ticket(ticket));
    let frames = sent(&mut relay);
    let [Frame::Resume(resume)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((resume.yours, resume.mine), (digest(&basis.theirs), digest(&basis.mine)));
    // Shown again, and taken: what moved since is all that is said.
    let mut relay = Session::new(T, Config::relay());
    let mut shown = hello(Role::Peer);
    if let Frame::Hello(Hello { turn: Turn::Open { ticket, .. }, .. }) = &mut shown {
        *ticket = Bytes::from_static(b"tick");
    }
    say(&mut relay, shown);
    relay.handle_token(T, zero(), Verdict::Granted { scopes: Scopes::ALL, ends: None });
    let (site_, vector_) = (site(0xee), Arc::new(vector(&[(1, 3), (3, 1)])));
    let resumed = Some(basis);
    let opened = StoreEvent::Opened { site: site_, vector: vector_, partials: Vec::new(), resumed };
    relay.handle_store_event(T, zero(), opened);
    let frames = sent(&mut relay);
    let [Frame::Hello(answer), Frame::Have(said)] = &frames[..] else { panic!("{frames:?}") };
    assert!(matches!(answer.turn, Turn::Answer { is_resumed: true, .. }));
    let moved: Vec<_> = said.entries.iter().map(|(site, held)| (*site, held.version)).collect();
    assert_eq!((said.is_on_ticket, moved), (true, vec![(site(2), 0), (site(3), 1)]));
    let entries = vec![(site(1), Held { version: 4, chain: Chain([4; 16]) })];
    say(&mut relay, Frame::Have(Have { is_on_ticket: true, entries, ..Have::default() }));
    let heard = events(&mut relay);
    let heard = heard.iter().find_map(|event| match event {
        Event::PeerHas { vector, .. } => Some(vector.clone()),
        _ => None,
    });
    assert_eq!(heard, Some(vector(&[(1, 4), (2, 2)])));
}

/// What the peer half has is asked for from where it ends.
#[test]
fn a_delta_in_part_goes_on() {
    let mut relay = live(Scopes::ALL, &[(2, 2)], &[(2, 2)]);
    let parts = parts(&[7; 100], 10);
    let partial = Partial { delta: parts[0].name(), of: 10, next: 4 };
    say(&mut relay, Frame::Have(Have { partials: vec![partial], ..Have::default() }));
    let asked = requests(&mut relay);
    let [Request::Export { partial: Some(found), .. }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(*found, partial);
    let to = Arc::new(vector(&[(2, 2)]));
    let exported = StoreEvent::Exported { part: parts[4].clone(), to };
    relay.handle_store_event(T, zero(), exported);
    for (number, part) in parts.iter().enumerate().skip(5) {
        let asked = requests(&mut relay);
        assert!(
            matches!(asked[..], [Request::ReadPart { number: found, .. }]
            if found as usize == number),
            "{asked:?}"
        );
        relay.handle_store_event(T, zero(), StoreEvent::Part(part.clone()));
    }
    assert_eq!(sent(&mut relay).len(), 6);
}

/// A vector of more sites than a frame takes.
#[test]
fn long_vectors_take_several_frames() {
    let mut long = VersionVector::new();
    for n in 0..10_000_u32 {
        let site = anabranch_core::site::SiteId::new(&n.to_be_bytes()).unwrap();
        long.set(site, Held { version: 1, chain: Chain([1; 16]) });
    }
    let mut relay = Session::new(T, Config::relay());
    say(&mut relay, hello(Role::Peer));
    relay.handle_token(T, zero(), Verdict::Granted { scopes: Scopes::ALL, ends: None });
    let vector = Arc::new(long.clone());
    let (partials, resumed) = (Vec::new(), None);
    let opened = StoreEvent::Opened { site: site(0xee), vector, partials, resumed };
    relay.handle_store_event(T, zero(), opened);
    let mut frames = sent(&mut relay);
    assert_eq!(frames.len(), 4);
    // The same said back is what the relay holds.
    frames.drain(1..).for_each(|frame| say(&mut relay, frame));
    let heard = events(&mut relay);
    assert!(heard.contains(&Event::PeerHas { channel: zero(), vector: long }));
    assert!(heard.contains(&Event::Converged { channel: zero() }), "{heard:?}");
}

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
        5 => session.handle_timer(now),
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
        11 => StoreEvent::Chains { question: Question::Compare, chains: vec![None] },
        12 => StoreEvent::Chains { question: Question::Bisect, chains: vec![None, None] },
        13 => StoreEvent::Chains { question: Question::Peer, chains: Vec::new() },
        14 => StoreEvent::Replaced { vector: some },
        15 => StoreEvent::Chunk { blob, chunk: None },
        16 => StoreEvent::ChunkStored { blob, index: rng.below(3), refusal: None },
        _ => StoreEvent::Ticket(Some(rng.bytes(9).into())),
    }
}
