//! The examples of `docs/protocol.md`: the encoder gives these bytes, the decoder reads them.
//!
//! A fenced block `bytes KIND` names its case on the first line; on each other line hex
//! digits stand before a `|`, and what they mean after it.

use anabranch_core::branch::Branch;
use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, Held};
use anabranch_sync::ChannelId;
use anabranch_sync::frame::*;
use anabranch_sync::scope::{Action, Direction, Need, Scopes, required};
use bytes::Bytes;

const PROTOCOL: &str = include_str!("../../../../docs/protocol.md");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

/// The blocks of one kind: name and bytes.
fn examples(kind: &str) -> Vec<(String, Vec<u8>)> {
    let fence = format!("```bytes {kind}\n");
    let blocks = PROTOCOL.split(&fence).skip(1);
    blocks
        .map(|block| {
            let block = block.split("```").next().expect("split gives one piece at least");
            let (name, lines) = block.split_once('\n').expect("a block has a name");
            let digits = lines.lines().map(|line| line.split('|').next().unwrap_or(""));
            (name.trim().to_owned(), unhex(&digits.collect::<String>()))
        })
        .collect()
}

fn site(byte: u8) -> SiteId {
    SiteId::new(&[byte; 16]).unwrap()
}

fn held(version: u64, chain: u8) -> Held {
    Held { version, chain: Chain([chain; 16]) }
}

fn dot(byte: u8, version: u64) -> Dot {
    Dot { site: site(byte), version }
}

/// What the document draws: kind, name, channel, frame.
fn drawn() -> Vec<(&'static str, &'static str, u32, Frame)> {
    let store = StoreName::new("notes").unwrap();
    let hello = |site, role, turn| {
        let capabilities = Capabilities::ALL;
        Frame::Hello(Hello { capabilities, role, site, store: store.clone(), turn })
    };
    let token = Bytes::from_static(b"e30.e30.c2ln");
    let open = Turn::Open { token, ticket: Bytes::new() };
    let grants = Scopes::from_words(["write"]);
    let answer = Turn::Answer { grants, expires_in_ms: 3_600_000, is_resumed: false };
    let have = Have {
        has_more: false,
        is_on_ticket: false,
        entries: vec![(site(0x51), held(3, 0xc3))],
        branches: Vec::new(),
        partials: vec![Partial { delta: DeltaName([0xd1; 16]), of: 40, next: 7 }],
    };
    let branch = Branch { root: site(0x51), base: 3, chain: Chain([0xc3; 16]) };
    let branched = Have {
        entries: vec![(site(0x51), held(3, 0xc3)), (site(0x61), held(2, 0xc5))],
        branches: vec![(site(0x61), branch)],
        ..Have::default()
    };
    let on_ticket = Have {
        has_more: false,
        is_on_ticket: true,
        entries: vec![(site(0x51), held(4, 0xc4)), (site(0x52), held(0, 0))],
        ..Have::default()
    };
    let ack = Ack {
        replicas: 0,
        entries: vec![(site(0x51), held(4, 0xc4))],
        held: vec![dot(0x51, 4)],
        shown: Vec::new(),
    };
    let ask = Chains::Ask { site: site(0x51), versions: vec![1, 2] };
    let known = Some(Chain([0xc1; 16]));
    let tell = Chains::Tell { site: site(0x51), chains: vec![(1, known), (2, None)] };
    let forked = Chains::Forked { site: site(0x51), common: 1, chain: Chain([0xc1; 16]) };
    let blob = BlobId([0xbb; 32]);
    let chunk = Chunk {
        blob_bytes: 65_538,
        index: 1,
        path: vec![[0xaa; 32]],
        bytes: Bytes::from_static(b"hi"),
    };
    let clock = ErrorFrame {
        code: ErrorCode::ClockAhead,
        retry: Retry::AfterMs(60_000),
        closes: Closes::Nothing,
        about: About::Delta(DeltaName([0xd1; 16])),
        text: "ClockAhead".to_owned(),
    };
    let closing = ErrorFrame {
        code: ErrorCode::Closing,
        retry: Retry::AfterMs(0),
        closes: Closes::Connection,
        about: About::Nothing,
        text: String::new(),
    };
    let ticket = Bytes::from_static(b"tick");
    let resume = Resume { ticket, yours: [0x11; 16], mine: [0x22; 16] };
    let own = Presence { from: None, state: Some(Bytes::from_static(b"{}")) };
    let from = Some(Participant { site: site(0x51), instance: 3 });
    let left = Presence { from, state: None };
    let place = Place { site: site(0x77), role: Role::Relay, reach: Reach::Shown };
    let receipt = Receipt { change: dot(0x51, 4), places: vec![place] };
    let delta = unhex(DELTA);
    vec![
        ("hello", "a peer opens channel 0", 0, hello(site(0x51), Role::Peer, open)),
        ("hello", "the relay answers", 0, hello(site(0x77), Role::Relay, answer)),
        ("have", "one site, and a delta of which parts 0 to 6 are here", 0, Frame::Have(have)),
        ("have", "a branch of a site", 0, Frame::Have(branched)),
        ("have", "on top of a ticket", 0, Frame::Have(on_ticket)),
        ("delta", "a delta of one part", 0, Frame::Delta(Delta::new(delta.into()).unwrap())),
        ("ack", "on disk, and held", 0, Frame::Ack(ack)),
        ("chains", "asks", 2, Frame::Chains(ask)),
        ("chains", "tells", 2, Frame::Chains(tell)),
        ("chains", "forked", 2, Frame::Chains(forked)),
        ("blob", "wants", 0, Frame::BlobWant(BlobWant { blob, first: 1, count: 16 })),
        ("blob", "a chunk", 0, Frame::BlobChunk(BlobChunk { blob, chunk: Some(chunk) })),
        ("blob", "not here", 0, Frame::BlobChunk(BlobChunk { blob, chunk: None })),
        ("error", "a delta is refused until a minute has passed", 0, Frame::Error(clock)),
        ("error", "the relay stops; come back at once", 0, Frame::Error(closing)),
        ("resume", "a ticket", 0, Frame::Resume(resume)),
        ("presence", "of the sender", 300, Frame::Presence(own)),
        ("presence", "somebody left", 300, Frame::Presence(left)),
        ("receipts", "asks", 0, Frame::Receipts(Receipts::Ask(vec![dot(0x51, 4)]))),
        ("receipts", "tells", 0, Frame::Receipts(Receipts::Tell(vec![receipt]))),
    ]
}

/// The part that `docs/format.md` draws.
const DELTA: &str = "616e614401000000 05fa0b62bbbfb8a396e1025ddd08c75f 0000000001000000
    7b0000009d000000 d33b75ff69fe7d06dc2fc693f19bcd1f 0bfe119f4d186bf4
    28b52ffd20 9d95030082061722902bc301ffff78567dbfea8ec46231e7511bf7
    0dab4001ffb457 0b677ffef7de32c92407df583b893a273b802def89ed6dffd4
    42af7b4d5e7baaeb515c8220322259a8c0f350f027fa7434369d0be1c0c05834
    150e8265 7e18561c07003a9ba734d26cc0032f884332c56a1dd002";

#[test]
fn frames_are_as_drawn() {
    for (kind, name, channel, frame) in drawn() {
        let found = examples(kind).into_iter().find(|(found, _)| found == name);
        let channel = ChannelId::new(channel).unwrap();
        let written = encode(channel, &frame).into_bytes();
        let (_, bytes) = found.unwrap_or_else(|| panic!("{kind} {name}: {}", hex(&written)));
        assert_eq!(hex(&written), hex(&bytes), "{kind} {name}");
        assert_eq!(decode(&bytes.into()), Ok(Decoded::Frame(channel, frame)), "{kind} {name}");
    }
    let n_drawn = PROTOCOL.matches("```bytes ").count();
    assert_eq!(n_drawn, drawn().len(), "an example that no test checks");
}

/// The table of scopes in the document is the table of the code.
#[test]
fn scopes_are_as_drawn() {
    let table = PROTOCOL.split("| frame | from its holder | to its holder |\n|---|---|---|\n");
    let table = table.last().expect("the document has the table");
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), Action::ALL.len());
    let word = |need: Option<Need>| match need {
        None => "nothing allows it",
        Some(Need::AnyToken) => "any token",
        Some(Need::Scope(scope)) => scope.word(),
    };
    for (row, action) in rows.into_iter().zip(Action::ALL) {
        let from = word(required(action, Direction::FromHolder));
        let to = word(required(action, Direction::ToHolder));
        assert_eq!(row, format!("| {} | {from} | {to} |", action.name()));
    }
}
