//! One session and what a peer says to it, frame by frame: handshakes, refusals, rights.

use std::sync::Arc;

use anabranch_core::clock::Chain;
use anabranch_core::forest::{Difference, Reading};
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

use crate::toy::{parts, site};
use crate::world::name;

pub(crate) const T: Time = Time(1000);

pub(crate) fn zero() -> ChannelId {
    ChannelId::new(0).unwrap()
}

/// Gives a frame to a session on channel 0.
pub(crate) fn say(session: &mut Session, frame: Frame) {
    say_on(session, 0, frame);
}

pub(crate) fn say_on(session: &mut Session, channel: u32, frame: Frame) {
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
pub(crate) fn errors(frames: &[Frame]) -> Vec<(ErrorCode, Closes)> {
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
            let may_open = what == "good" || what.starts_with("no Have in time");
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
        "no Have in time, but something moves",
        &|relay| {
            say(relay, hello(Role::Peer));
            grant(relay, Scopes::ALL);
            relay.handle_store_event(T, zero(), opened(&[]));
            for at in [30_000, 45_000] {
                relay.handle_moving(Time(at));
                relay.handle_timer(Time(at + 1_500));
            }
        },
        &[],
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

/// On an address of one store a channel that ended is opened again under its number, and what
/// was on its way to the former one does no harm.
#[test]
fn the_only_channel_is_opened_again() {
    let only_store = Some(name());
    let mut client = Session::new(T, Config { only_store, ..Config::client() });
    let open = || Open { store: name(), site: site(1), token: Bytes::new(), ticket: None };
    let reason = || Refusal::new(ErrorCode::Closing, Retry::AfterMs(0), "again");
    for _ in 0..3 {
        assert_eq!(client.open(T, open()), Ok(zero()));
        assert_eq!(client.open(T, open()), Err(CommandError::NoChannel));
        say(&mut client, Frame::Ack(Ack::default()));
        say(&mut client, answer_hello(Scopes::ALL));
        client.handle_store_event(T, zero(), opened(&[]));
        say(&mut client, have(&[]));
        assert!(events(&mut client).iter().any(|event| matches!(event, Event::Opened { .. })));
        client.close(T, zero(), reason());
        let _ = (sent(&mut client), requests(&mut client), events(&mut client));
    }
    let other = Open { store: StoreName::new("other").unwrap(), ..open() };
    assert_eq!(client.open(T, other), Err(CommandError::NoChannel));
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
        let entries = vec![entry(byte, 1, 1)];
        Frame::Have(Have { has_more, is_on_ticket, entries, ..Have::default() })
    };
    let ask = || Frame::Chains(Chains::Ask { site: site(1), versions: vec![1] });
    let blob = BlobId([1; 32]);
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
    // Further disks are said apart, and later.
    assert_eq!(safe(&[(1, 2)], 2), [(2, 2)]);
    assert_eq!(safe(&[(1, 3)], 2), [(2, 3)]);
    assert_eq!(safe(&[(1, 3)], 2), []);
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
    assert!(heard.contains(&converged()), "{heard:?}");
}

/// A fork is found: both send from what is common, and go on under the names that follow.
#[test]
fn a_fork_is_found_and_the_exchange_goes_on() {
    let mut relay = live(Scopes::ALL, &[(1, 3)], &[(1, 3)]);
    let other = Held { version: 2, chain: Chain([0xbb; 16]) };
    say(&mut relay, Frame::Have(Have { entries: vec![(site(1), other)], ..Have::default() }));
    let asked = requests(&mut relay);
    assert!(matches!(asked[..], [Request::Read { .. }]), "{asked:?}");
    let chain = |version: u8| Some(Chain([version; 16]));
    let fork = Difference { site: site(1), version: 2, chain: other.chain };
    let reading = Reading { vector: VersionVector::new(), forks: vec![fork] };
    relay.handle_store_event(T, zero(), StoreEvent::Read(reading));
    let ask = Chains::Ask { site: site(1), versions: vec![1] };
    assert_eq!(sent(&mut relay), [Frame::Chains(ask)]);
    // While it is open nothing is sent, whatever is committed.
    let (from, to) = (Arc::new(vector(&[(1, 3)])), Arc::new(vector(&[(1, 4)])));
    relay.handle_store_event(T, zero(), StoreEvent::Committed { from, to, part: None });
    assert_eq!((requests(&mut relay), sent(&mut relay)), (vec![], vec![]));
    let tell = Chains::Tell { site: site(1), chains: vec![(1, chain(1))] };
    say(&mut relay, Frame::Chains(tell));
    assert!(matches!(requests(&mut relay)[..], [Request::Chains { .. }]));
    let (question, chains) = (Question::Bisect, vec![chain(1)]);
    relay.handle_store_event(T, zero(), StoreEvent::Chains { question, chains });
    let forked = Chains::Forked { site: site(1), common: 1, chain: Chain([1; 16]) };
    assert_eq!(sent(&mut relay), [Frame::Chains(forked)]);
    let asked = requests(&mut relay);
    let [Request::Export { above, .. }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(*above, vector(&[(1, 1)]));
    // The peer's delta shows the second history: the store renames, and says so.
    let renamed = Arc::new(vector(&[(1, 1), (7, 3), (8, 1)]));
    relay.handle_store_event(T, zero(), StoreEvent::NothingAbove);
    relay.handle_store_event(T, zero(), StoreEvent::Replaced { vector: renamed });
    assert!(matches!(sent(&mut relay)[..], [Frame::Have(_)]));
    // What crossed it is no fault.
    let entries = vec![(site(1), Held { version: 3, chain: Chain([3; 16]) })];
    say(&mut relay, Frame::Ack(Ack { entries, ..Ack::default() }));
    assert_eq!(errors(&sent(&mut relay)), []);
    requests(&mut relay);
    relay.handle_store_event(T, zero(), StoreEvent::NothingAbove);
    say(&mut relay, have(&[(1, 1), (7, 3), (8, 1)]));
    assert!(events(&mut relay).contains(&converged()));
}

/// What cannot be compared is refused by name, and presence goes on.
#[test]
fn a_fork_that_cannot_be_placed_is_reported() {
    let mut relay = live(Scopes::ALL, &[(1, 3)], &[(1, 3)]);
    let other = (site(1), Held { version: 2, chain: Chain([0xbb; 16]) });
    say(&mut relay, Frame::Have(Have { entries: vec![other], ..Have::default() }));
    let fork = Difference { site: site(1), version: 2, chain: other.1.chain };
    let reading = Reading { vector: VersionVector::new(), forks: vec![fork] };
    relay.handle_store_event(T, zero(), StoreEvent::Read(reading));
    let _ = sent(&mut relay);
    let tell = Chains::Tell { site: site(1), chains: vec![(1, None)] };
    say(&mut relay, Frame::Chains(tell));
    let frames = sent(&mut relay);
    assert_eq!(errors(&frames), [(ErrorCode::SiteReused, Closes::Nothing)]);
    let lost = Event::Forked { channel: zero(), site: site(1), common: None };
    assert!(events(&mut relay).contains(&lost));
    relay.set_presence(zero(), Some(Bytes::new())).unwrap();
    assert_eq!(sent(&mut relay).len(), 1);
}

/// Two deltas of the same change cross: neither is waited for any more.
#[test]
fn deltas_that_cross_acknowledge_each_other() {
    let mut relay = live(Scopes::ALL, &[(2, 1)], &[]);
    let to = Arc::new(vector(&[(2, 1)]));
    let all = parts(b"ours", 10);
    let exported = StoreEvent::Exported { part: all[0].clone(), to: to.clone() };
    relay.handle_store_event(T, zero(), exported);
    assert_eq!(sent(&mut relay).len(), 1);
    let theirs = parts(b"theirs", 10).remove(0);
    say(&mut relay, Frame::Delta(theirs.clone()));
    assert!(!events(&mut relay).contains(&converged()));
    let applied = StoreEvent::Applied { delta: theirs.name(), to: to.clone(), held: Vec::new() };
    relay.handle_store_event(T, zero(), applied);
    let durable = StoreEvent::Durable { replicas: 0, vector: to };
    relay.handle_store_event(T, zero(), durable);
    assert_eq!(sent(&mut relay), [], "it was said in Have");
    assert!(events(&mut relay).contains(&converged()));
}

/// Who passed an Ack over, for it crossed a change of names, sends the delta again: it is
/// acknowledged again, though it was said before and though it brings nothing.
#[test]
fn where_names_have_changed_all_that_comes_is_acknowledged() {
    for has_renamed in [false, true] {
        let mut relay = live(Scopes::ALL, &[(1, 2), (7, 3)], &[(1, 2)]);
        if has_renamed {
            let vector = Arc::new(vector(&[(1, 2), (7, 3)]));
            relay.handle_store_event(T, zero(), StoreEvent::Replaced { vector });
            sent(&mut relay);
        }
        let (delta, to) = (parts(b"again", 10).remove(0), Arc::new(vector(&[(7, 3)])));
        say(&mut relay, Frame::Delta(delta.clone()));
        let applied = StoreEvent::Applied { delta: delta.name(), to: to.clone(), held: Vec::new() };
        relay.handle_store_event(T, zero(), applied);
        let acks = sent(&mut relay);
        let entries = to.iter().filter(|_| has_renamed).collect();
        let ack = Frame::Ack(Ack { entries, ..Ack::default() });
        assert_eq!(acks, [ack].into_iter().filter(|_| has_renamed).collect::<Vec<_>>());
    }
}

/// The only channel has converged.
fn converged() -> Event {
    Event::Converged { channel: zero(), may_give: true }
}
