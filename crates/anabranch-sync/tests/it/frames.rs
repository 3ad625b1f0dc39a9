//! Laws of frames: what is written is read again, and nothing else that was damaged.

use anabranch_core::branch::Branch;
use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, Held};
use anabranch_sync::ChannelId;
use anabranch_sync::frame::*;
use anabranch_sync::limits::{MAX_HELLO_BYTES, MAX_PRESENCE_BYTES};
use anabranch_sync::scope::{Scope, Scopes};
use bytes::Bytes;

use crate::toy::{Rng, parts};

fn any_site(rng: &mut Rng) -> SiteId {
    let len = 1 + rng.below(16) as usize;
    SiteId::new(&[rng.next() as u8; 16][..len]).unwrap()
}

fn any_dot(rng: &mut Rng) -> Dot {
    Dot { site: any_site(rng), version: 1 + (rng.next() >> rng.below(53) >> 11) }
}

fn any_dots(rng: &mut Rng) -> Vec<Dot> {
    (0..rng.below(4)).map(|_| any_dot(rng)).collect()
}

fn any_chain(rng: &mut Rng) -> Chain {
    Chain([rng.next() as u8; 16])
}

fn any_entries(rng: &mut Rng, least: u64) -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..rng.below(4))
        .map(|_| {
            let version = least + (rng.next() >> rng.below(53) >> 11);
            let chain = if version == 0 { Chain::default() } else { any_chain(rng) };
            (any_site(rng), Held { version, chain })
        })
        .collect();
    entries.sort_by_key(|entry| entry.0);
    entries.dedup_by_key(|entry| entry.0);
    entries
}

fn any_bytes(rng: &mut Rng, max: u64) -> Bytes {
    rng.bytes(max).into()
}

fn any_name(rng: &mut Rng) -> DeltaName {
    DeltaName([rng.next() as u8; 16])
}

fn any_hello(rng: &mut Rng) -> Hello {
    let role = if rng.one_in(2) { Role::Peer } else { Role::Relay };
    let turn = match rng.one_in(2) {
        true => Turn::Open { token: any_bytes(rng, 30), ticket: any_bytes(rng, 30) },
        false => Turn::Answer {
            grants: Scopes::from_words(Scope::ALL.iter().map(|scope| scope.word()).take(1)),
            expires_in_ms: rng.next() >> rng.below(64),
            is_resumed: rng.one_in(2),
        },
    };
    let capabilities = Capabilities(rng.below(32));
    let store = StoreName::new(["a", "notes", "x.y~z"][rng.below(3) as usize]).unwrap();
    Hello { capabilities, role, site: any_site(rng), store, turn }
}

fn any_have(rng: &mut Rng) -> Have {
    let is_on_ticket = rng.one_in(3);
    let entries = any_entries(rng, u64::from(!is_on_ticket));
    let has_more = rng.one_in(3) && !entries.is_empty();
    let n_partials = if has_more { 0 } else { rng.below(3) };
    let partial = |rng: &mut Rng| {
        let of = 1 + rng.below(1 << 20) as u32;
        Partial { delta: any_name(rng), of, next: rng.below(of.into()) as u32 }
    };
    let partials = (0..n_partials).map(|_| partial(rng)).collect();
    let root = SiteId::new(&[9; 9]).unwrap();
    let branch = |rng: &mut Rng| Branch { root, base: rng.below(1 << 20), chain: any_chain(rng) };
    let branches = entries.iter().filter(|entry| entry.0 != root).map(|entry| entry.0);
    let branches: Vec<_> = branches.filter(|_| rng.one_in(3)).collect();
    let branches = branches.into_iter().map(|site| (site, branch(rng))).collect();
    Have { has_more, is_on_ticket, entries, branches, partials }
}

fn any_chains(rng: &mut Rng) -> Chains {
    let site = any_site(rng);
    let mut versions: Vec<u64> = (0..rng.below(5)).map(|_| 1 + rng.below(1 << 20)).collect();
    versions.sort_unstable();
    versions.dedup();
    match rng.below(3) {
        0 => Chains::Ask { site, versions },
        1 => {
            let tell = |version| (version, rng.one_in(2).then(|| any_chain(rng)));
            Chains::Tell { site, chains: versions.into_iter().map(tell).collect() }
        }
        _ => Chains::Forked { site, common: rng.below(9), chain: any_chain(rng) },
    }
}

fn any_error(rng: &mut Rng) -> ErrorFrame {
    let retry = if rng.one_in(2) { Retry::Never } else { Retry::AfterMs(rng.below(1 << 40)) };
    let closes = [Closes::Nothing, Closes::Channel, Closes::Connection][rng.below(3) as usize];
    let about = match rng.below(3) {
        0 => About::Nothing,
        1 => About::Delta(any_name(rng)),
        _ => About::Change(any_dot(rng)),
    };
    let code = ErrorCode::of(rng.below(30));
    ErrorFrame { code, retry, closes, about, text: "é".repeat(rng.below(9) as usize) }
}

fn any_receipts(rng: &mut Rng) -> Receipts {
    if rng.one_in(2) {
        return Receipts::Ask(any_dots(rng));
    }
    let place = |rng: &mut Rng| Place {
        site: any_site(rng),
        role: if rng.one_in(2) { Role::Peer } else { Role::Relay },
        reach: if rng.one_in(2) { Reach::Held } else { Reach::Shown },
    };
    let receipt = |rng: &mut Rng| Receipt {
        change: any_dot(rng),
        places: (0..rng.below(3)).map(|_| place(rng)).collect(),
    };
    Receipts::Tell((0..rng.below(3)).map(|_| receipt(rng)).collect())
}

fn any_chunk(rng: &mut Rng) -> BlobChunk {
    let blob = BlobId([rng.next() as u8; 32]);
    let chunk = rng.one_in(2).then(|| Chunk {
        blob_bytes: rng.below(1 << 40),
        index: rng.below(1 << 24),
        path: (0..rng.below(4)).map(|_| [rng.next() as u8; 32]).collect(),
        bytes: any_bytes(rng, 40),
    });
    BlobChunk { blob, chunk }
}

/// Any frame, on any channel.
pub(crate) fn any_frame(rng: &mut Rng) -> (ChannelId, Frame) {
    let last = if rng.one_in(4) { 1024 } else { 2 };
    let channel = ChannelId::new(rng.below(last) as u32).unwrap();
    let frame = match rng.below(11) {
        0 => Frame::Hello(any_hello(rng)),
        1 => Frame::Have(any_have(rng)),
        2 => {
            let content = [&[0][..], &rng.bytes(60)].concat();
            let parts = parts(&content, 20);
            Frame::Delta(parts[rng.below(parts.len() as u64) as usize].clone())
        }
        3 => Frame::Ack(Ack {
            replicas: rng.below(256),
            entries: any_entries(rng, 1),
            held: any_dots(rng),
            shown: any_dots(rng),
        }),
        4 => Frame::Chains(any_chains(rng)),
        5 => {
            let (first, count) = (rng.below(1 << 24), 1 + rng.below(16));
            Frame::BlobWant(BlobWant { blob: BlobId([rng.next() as u8; 32]), first, count })
        }
        6 => Frame::BlobChunk(any_chunk(rng)),
        7 => Frame::Error(any_error(rng)),
        8 => {
            let ticket = [&[1][..], &rng.bytes(20)].concat().into();
            Frame::Resume(Resume { ticket, yours: [1; 16], mine: [rng.next() as u8; 16] })
        }
        9 => {
            let from = rng.one_in(2).then(|| Participant {
                site: any_site(rng),
                instance: rng.next() >> rng.below(64),
            });
            Frame::Presence(Presence { from, state: rng.one_in(2).then(|| any_bytes(rng, 20)) })
        }
        _ => Frame::Receipts(any_receipts(rng)),
    };
    (channel, frame)
}

#[test]
fn what_is_written_is_read() {
    for seed in 0..5_000 {
        let (channel, frame) = any_frame(&mut Rng::new(seed));
        let bytes = Bytes::from(encode(channel, &frame).into_bytes());
        let read = decode(&bytes);
        assert_eq!(read, Ok(Decoded::Frame(channel, frame)), "seed {seed}");
    }
}

/// Every truncation is refused; every flipped bit is refused or gives another frame that is
/// written with those very bytes: there is one spelling.
#[test]
fn damage_is_refused_or_another_frame() {
    for seed in 0..300 {
        let (channel, frame) = any_frame(&mut Rng::new(seed));
        let bytes = encode(channel, &frame).into_bytes();
        for end in 0..bytes.len() {
            let cut = Bytes::copy_from_slice(&bytes[..end]);
            let read = decode(&cut);
            let is_ignored = matches!(read, Ok(Decoded::Ignored { .. }));
            assert!(read.is_err() || is_ignored, "seed {seed}, {end} bytes: {read:?}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match decode(&Bytes::from(flipped.clone())) {
                Ok(Decoded::Frame(channel, frame)) => {
                    let again = encode(channel, &frame).into_bytes();
                    assert_eq!(again, flipped, "seed {seed}, bit {bit}");
                }
                Ok(Decoded::Ignored { .. }) | Err(_) => {}
            }
        }
    }
}

/// Frames that nobody writes, and what is said of them.
#[test]
fn bad_frames_are_named() {
    let check = |hex: &str, expected: &str| {
        let digits: Vec<char> = hex.chars().filter(|c| *c != ' ').collect();
        let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        let error = decode(&bytes.into()).expect_err(hex).to_string();
        assert!(error.contains(expected), "{hex}: {error}, not {expected}");
    };
    check("", "malformed unnamed frame: type at byte 0");
    check("09 00", "a frame of type 9, which this version does not know and may not ignore");
    check("02 80 08 00", "Have frame: 1024 as channel, at most 1023 is accepted");
    check("02 80 00 00", "malformed Have frame: channel at byte 1");
    check("02 00 08", "malformed Have frame: flags");
    check("02 00 01 00", "no entries and more to follow");
    check("02 00 00 81 20", "4097 as entries of a vector, at most 4096 is accepted");
    check("02 00 00 80 20", "malformed Have frame: entries of a vector");
    check("02 00 00 01 01 51 00 00", "malformed Have frame: version");
    check("02 00 00 00 11", "17 as deltas in part, at most 16 is accepted");
    check("02 00 00 00 00 00", "bytes after the end");
    check("04 00 80 02 00 00 00", "256 as replicas, at most 255 is accepted");
    check("04 00 00 01 01 51 81 80 80 80 80 80 80 10", "as version, at most 9007199254740992");
    check("04 00 ff ff ff ff ff ff ff ff ff 02", "malformed Ack frame: replicas");
    check("04 00 00 ff ff ff ff ff ff ff ff 7f", "9223372036854775807 as entries of a vector");
    check("04 00 00 01 00", "malformed Ack frame: entries of a vector");
    check(
        "04 00 00 02 01 52 01 00000000000000000000000000000000 01 51 01 00000000000000000000000000000000",
        "order of sites",
    );
    check("05 00 00 01 51 02 02 02", "order of versions");
    check("05 00 03 01 51", "malformed Chains frame: turn");
    check("03 00 03 61 6e 61", "delta frame: the part of a delta has 3 bytes of 64");
    check("03 00 03 62 6e 61", "delta frame: these bytes are no part of a delta");
    check("03 00 81 80 80 02", "4194305 as part, at most 4194304 is accepted");
    check("01 00 02", "the peer speaks protocol 2, this version speaks 1");
    check("01 00 01 00 02", "malformed Hello frame: role");
    check("01 00 01 00 00 01 51 02 2e 61", "malformed Hello frame: name of the store");
    check("01 00 01 00 00 01 51 01 61 01 02 00 00", "malformed Hello frame: grants");
    check("82 00 00 01 81 20", "4097 as presence, at most 4096 is accepted");
    check("83 00 02", "malformed Receipts frame: turn");
    let hello = [&[1, 0, 1, 0, 0, 1, 0x51, 1, 0x61, 0][..], &[0; MAX_HELLO_BYTES]].concat();
    let error = decode(&hello.into()).unwrap_err().to_string();
    assert!(error.contains("Hello frame: 8202 as length, at most 8192"), "{error}");
    assert_eq!(MAX_PRESENCE_BYTES, 4096);
}

#[test]
fn unknown_frames_that_may_be_ignored_are() {
    for kind in [0x80_u8, 0x84, 0xff] {
        assert_eq!(decode(&vec![kind, 1, 2].into()), Ok(Decoded::Ignored { kind }));
    }
}

#[test]
fn store_names_have_one_spelling() {
    let long = "x".repeat(128);
    for good in ["a", "Notes-2026_v1.2~b", long.as_str()] {
        assert!(StoreName::new(good).is_some(), "{good}");
    }
    let too_long = "x".repeat(129);
    for bad in ["", ".", "..", ".x", "a/b", "a%2e", "ä", "a b", "a\0", "*", too_long.as_str()] {
        assert!(StoreName::new(bad).is_none(), "{bad}");
    }
}
