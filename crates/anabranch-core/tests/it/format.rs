//! The examples of `docs/format.md`: the encoder gives these bytes, the decoder reads them.
//!
//! A fenced block `bytes KIND` names its case on the first line; on each other line hex
//! digits stand before a `|`, and what they mean after it.

use ValueRef::{Blob, Integer, Null, Real, Text};
use anabranch_core::branch::{Branch, branch_site};
use anabranch_core::change::{ChangeHeader, ChangeKind};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::{
    Birth, CellDelta, Complete, Delta, DeltaDot, RowDelta, SaltRun, SiteIdx, TableDelta, TableFloor,
};
use anabranch_core::key::{Affinity, Collation, KeyColumn, fold, pack, unpack};
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::{Held, VersionVector};
use anabranch_core::wire::{body, decode, decode_body, encode, part_head};

use crate::key::{hex, unhex};

const FORMAT: &str = include_str!("../../../../docs/format.md");

/// The blocks of one kind: name and bytes.
fn examples(kind: &str) -> Vec<(String, Vec<u8>)> {
    let fence = format!("```bytes {kind}\n");
    FORMAT
        .split(&fence)
        .skip(1)
        .map(|block| {
            let block = block.split("```").next().expect("split gives one piece at least");
            let (name, lines) = block.split_once('\n').expect("a block has a name");
            let digits = lines.lines().map(|line| line.split('|').next().unwrap_or(""));
            (name.trim().to_owned(), unhex(&digits.collect::<String>()))
        })
        .collect()
}

fn example(kind: &str, name: &str) -> Vec<u8> {
    let found = examples(kind).into_iter().find(|(found, _)| found == name);
    found.unwrap_or_else(|| panic!("no example `bytes {kind}` named {name}")).1
}

#[test]
fn packed_keys() {
    let check = |name: &str, values: &[ValueRef<'_>]| {
        let bytes = example("key", name);
        assert_eq!(hex(&pack(values).unwrap()), hex(&bytes), "{name}");
        let back = unpack(&bytes).unwrap();
        assert!(back.iter().zip(values).all(|(a, b)| a.is_same(*b)), "{name}");
    };
    check("('k', 1)", &[Text(b"k"), Integer(1)]);
    check("(256, -1)", &[Integer(256), Integer(-1)]);
    check("(1.5, x'00', NULL)", &[Real(1.5), Blob(&[0]), Null]);
    check("('', 0)", &[Text(b""), Integer(0)]);
    assert_eq!(examples("key").len(), 4, "an example that no test checks");
}

#[test]
fn folded_keys() {
    let column = |affinity, collation, is_rowid| KeyColumn { affinity, collation, is_rowid };
    let check = |name: &str, values: &[ValueRef<'_>], columns: &[KeyColumn]| {
        assert_eq!(hex(&fold(values, columns).unwrap()), hex(&example("folded", name)), "{name}");
    };
    let rowid = column(Affinity::Integer, Collation::Binary, true);
    check("-1 of an INTEGER PRIMARY KEY", &[Integer(-1)], &[rowid]);
    let columns = [
        column(Affinity::Text, Collation::NoCase, false),
        column(Affinity::Blob, Collation::Binary, false),
    ];
    check("('Ab', 5.0) of (TEXT COLLATE NOCASE, no type)", &[Text(b"Ab"), Real(5.0)], &columns);
    assert_eq!(examples("folded").len(), 2, "an example that no test checks");
}

fn site() -> SiteId {
    SiteId::new(&[0x51; 16]).expect("16 bytes")
}

#[test]
fn chains() {
    let chain = Chain::default().next(site(), 1, 9);
    assert_eq!(hex(&chain.0), hex(&example("chain", "version 1 of site 5151…51 with salt 9")));
    assert_eq!(examples("chain").len(), 1, "an example that no test checks");
}

/// The delta that the document draws.
fn drawn() -> Delta {
    let mut delta = Delta { sites: vec![site()], ..Delta::default() };
    delta.to.set(site(), Held { version: 1, chain: Chain::default().next(site(), 1, 9) });
    delta.headers.push(ChangeHeader {
        site: site(),
        version: 1,
        salt: 9,
        time: Hlc(1 << 16),
        deps: Vec::new(),
        author: Some("Ada".to_owned()),
        message: None,
        kind: ChangeKind::Edit,
        blobs: Vec::new(),
    });
    let dot = DeltaDot { site: SiteIdx(0), version: 1 };
    let births = vec![Birth { dot, origin: SiteIdx(0) }];
    let cell = |column, value| CellDelta { column, version: 1, dot, origin: SiteIdx(0), value };
    let cells = vec![cell(0, Value::Text(b"hi".to_vec())), cell(1, Value::Integer(5))];
    let rows = vec![
        RowDelta { key: vec![1, 9, 7], causal_length: 1, births: births.clone(), cells },
        RowDelta { key: vec![1, 9, 8], causal_length: 2, births, cells: Vec::new() },
    ];
    let columns = vec!["title".to_owned(), "n".to_owned()];
    delta.tables.push(TableDelta { name: "note".to_owned(), columns, rows });
    delta
}

#[test]
fn deltas() {
    let delta = drawn();
    delta.check_invariants().unwrap();
    delta.verify_chains().unwrap();
    let parts = encode(&delta);
    assert_eq!(parts.len(), 1);
    let written = body(&parts[0]).unwrap();
    let drawn_body = example("body", "one change of two rows");
    assert_eq!(hex(&written), hex(&drawn_body));
    let piece = decode_body(&drawn_body).unwrap();
    assert_eq!((piece.headers, piece.tables), (delta.headers.clone(), delta.tables.clone()));
    // The frame is zstd's, whose bytes differ by its version: read, not compared.
    let drawn_part = example("part", "the same delta as one part");
    part_head(&drawn_part).unwrap();
    assert_eq!(decode(&[&drawn_part]).unwrap(), delta);
}

#[test]
fn complete_deltas() {
    let mut delta = drawn();
    let held = delta.to.get(site()).unwrap();
    let chain = held.chain.next(site(), 2, 9);
    delta.to.set(site(), Held { version: 2, chain });
    delta.headers[0].version = 2;
    delta.salts.push(SaltRun { site: site(), version: 1, salt: 9 });
    let mut complete = Complete::default();
    complete.floor.set(site(), held);
    let table = |name: &str, restart_length, is_whole| TableFloor {
        name: name.into(),
        restart_length,
        is_whole,
    };
    complete.tables = vec![table("gone", 5, false), table("note", 3, true)];
    delta.complete = Some(complete);
    delta.tables[0].rows.truncate(1);
    delta.check_invariants().unwrap();
    delta.verify_chains().unwrap();
    let written = body(&encode(&delta)[0]).unwrap();
    let drawn = example("body", "a complete delta of one row");
    assert_eq!(hex(&written), hex(&drawn));
    let piece = decode_body(&drawn).unwrap();
    assert_eq!(
        (piece.salts, piece.headers, piece.tables),
        (delta.salts, delta.headers, delta.tables)
    );
    assert_eq!(piece.bounds.unwrap().complete, delta.complete);
    assert_eq!(examples("body").len(), 4, "an example that no test checks");
}

#[test]
fn joined_deltas() {
    let chain = |version| (1..=version).fold(Chain::default(), |c, v| c.next(site(), v, 9));
    let mut delta = Delta { sites: vec![site()], ..Delta::default() };
    delta.to.set(site(), Held { version: 3, chain: chain(3) });
    delta.from = delta.to.clone();
    let mut seen = VersionVector::new();
    seen.set(site(), Held { version: 2, chain: Chain::default() });
    delta.seen = Some(seen.clone());
    delta.check_invariants().unwrap();
    let drawn = example("body", "a joined delta of no changes");
    assert_eq!(hex(&body(&encode(&delta)[0]).unwrap()), hex(&drawn));
    assert_eq!(decode_body(&drawn).unwrap().bounds.unwrap().seen, delta.seen);
    seen.set(site(), Held { version: 4, chain: Chain::default() });
    delta.seen = Some(seen);
    assert!(delta.check_invariants().unwrap_err().to_string().contains("had seen of its from"));
    let above = hex(&drawn).replace("01010002", "01010004");
    assert!(decode_body(&unhex(&above)).is_err(), "more than there is");
}

/// A change of a branch, for somebody who holds what the branch goes on from.
#[test]
fn deltas_of_branches() {
    let mut delta = drawn();
    let held = delta.to.get(site()).unwrap();
    let branch = Branch { root: site(), base: 1, chain: held.chain };
    let first = branch.next(held.chain, 1, 7);
    let name = branch_site(site(), 2, first);
    assert_eq!(hex(name.as_bytes()), hex(&example("branch", "of the change with salt 7")));
    assert_eq!(examples("branch").len(), 1, "an example that no test checks");
    delta.from = delta.to.clone();
    delta.to.set(name, Held { version: 1, chain: first });
    delta.to.set_branch(name, branch);
    (delta.headers[0].site, delta.headers[0].salt) = (name, 7);
    delta.tables.clear();
    delta.sites = vec![name];
    delta.check_invariants().unwrap();
    delta.verify_chains().unwrap();
    let written = body(&encode(&delta)[0]).unwrap();
    let drawn = example("body", "a change of a branch");
    assert_eq!(hex(&written), hex(&drawn));
    let bounds = decode_body(&drawn).unwrap().bounds.unwrap();
    assert_eq!((bounds.from, bounds.to), (delta.from, delta.to));
}

/// A section of blobs, as it stands in a body.
#[test]
fn named_blobs() {
    let mut delta = Delta::default();
    let chain = |version| {
        (1..=version).fold(Chain::default(), |chain, version| chain.next(site(), version, 9))
    };
    delta.to.set(site(), Held { version: 2, chain: chain(2) });
    let header = |version, blobs| ChangeHeader { version, blobs, ..drawn().headers.remove(0) };
    delta.headers = vec![header(1, Vec::new()), header(2, vec![[0xbb; 32]])];
    let parts = encode(&delta);
    let section = example("section", "the second of two headers names a blob");
    let written = body(&parts[0]).unwrap();
    assert!(hex(&written).contains(&hex(&section)), "{}", hex(&written));
    assert_eq!(decode(&[&parts[0]]).unwrap(), delta);
    assert_eq!(examples("section").len(), 1, "an example that no test checks");
    // The same section with what it may not say.
    let at = written.len() - section.len();
    assert_eq!(written[at..], section);
    for (offset, byte, what) in [
        (2, 3, "more headers than there are"),
        (3, 2, "a header behind the last"),
        (4, 0, "no blob"),
        (4, 2, "a blob that is not there"),
    ] {
        let mut broken = written.clone();
        broken[at + offset] = byte;
        assert!(decode_body(&broken).is_err(), "{what}");
    }
    let twice = [&written[..], &section[..]].concat();
    assert!(decode_body(&twice).is_err(), "named again");
}

/// The drawn body with one stretch of bytes replaced: what the decoder says of it.
#[test]
fn says_what_is_wrong_with_a_body() {
    let whole = hex(&example("body", "one change of two rows"));
    let check = |old: &str, new: &str, expected: &str| {
        assert_eq!(whole.matches(old).count(), 1, "{old} is not unique");
        let error = decode_body(&unhex(&whole.replace(old, new))).unwrap_err().to_string();
        assert!(error.contains(expected), "{old} as {new}: {error}, not {expected}");
    };
    // Bounds: another version, a second place, a site of no bytes.
    check("01a16815", "02a16815", "break off before version 2");
    check("0001010218", "0001020218", "site at byte 39");
    check("105151", "005151", "site at byte");
    // Headers: of another version, of an unknown kind, cut short, texts beyond their bound.
    check("0218010001", "0218010002", "break off before version 1");
    check("0201010900", "0201050900", "kind of a change");
    check("0218010001", "0217010001", "dependencies");
    check("0541646100", "ffff3f6100", "bytes of text, at most 1026 are accepted");
    // Rows: names, counts, key mode, births, shapes, cells.
    check("0201020e02", "0301020e02", "key");
    check("0201020e02", "0202020e02", "key mode");
    check("0401010102", "0401010100", "causal length is not within");
    check("0401010102", "0401010202", "causal length");
    check("0401020100", "0401040100", "a change that the delta does not span");
    check("06010200000100", "06010300000100", "cells of a row");
    check("06010200000100", "06010200010100", "column of a cell");
    check("06010200000100", "06000200000100", "rows of a shape");
    check("06010200000100", "06030200000100", "rows of a shape");
    check("0201030000", "0201050000", "a value of an unknown type");
    check("0102026869", "0103026869", "bytes of a value");
    check("0102026869", "0101026869", "bytes of values");
    check("010a000000", "0000010a00", "integer at byte");
}
