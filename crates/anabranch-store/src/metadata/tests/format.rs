//! The examples of docs/format.md, section 8: what the encoders make, and the decoders read.

use anabranch_core::change::ChangeKind;
use anabranch_core::clock::{Chain, Hlc};
use smallvec::smallvec;

use super::*;
use crate::ids::{Address, AuthorId, EntryId, Key, LocalDot, Ordinal};
use crate::metadata::block;
use crate::metadata::entry::{self, Stamp, Writer};
use crate::metadata::header::{self, StoredDep, StoredHeader};
use crate::metadata::record::RecordKind;
use crate::metadata::row_clock::{Group, RowClock};
use crate::metadata::rows::{BlockRow, Rows};

const FORMAT: &str = include_str!("../../../../../docs/format.md");

/// The examples of a kind: names and bytes.
fn examples(kind: &str) -> Vec<(String, Vec<u8>)> {
    let fence = format!("```bytes {kind}\n");
    FORMAT
        .split(&fence)
        .skip(1)
        .map(|rest| {
            let text = &rest[..rest.find("```").expect("a fence that is closed")];
            let (name, lines) = text.split_once('\n').expect("a name and its bytes");
            let digits: String = lines
                .lines()
                .flat_map(|line| line.split('|').next())
                .flat_map(str::chars)
                .filter(|c| !c.is_whitespace())
                .collect();
            let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            (name.trim().to_string(), (0..digits.len()).step_by(2).map(byte).collect())
        })
        .collect()
}

/// Each example of the kind is one of these, and each of these an example.
fn check(kind: &str, made: &[(&str, Vec<u8>)]) {
    let made: Vec<_> = made.iter().map(|(name, bytes)| (name.to_string(), bytes.clone())).collect();
    assert_eq!(examples(kind), made);
}

#[test]
fn heads() {
    let own = StoredHeader {
        author: AuthorId(0),
        version: 300,
        kind: ChangeKind::Edit,
        time: Hlc(1_700_000_000_000 << 16),
        deps: Vec::new(),
        author_text: None,
        message: None,
        blobs: Vec::new(),
    };
    let naming = StoredHeader { blobs: vec![[0xbb; 32]], ..own.clone() };
    let dep = StoredDep { author: AuthorId(0), version: 300, chain: Chain([0xcc; 16]) };
    let foreign = StoredHeader {
        author: AuthorId(2),
        version: 1,
        kind: ChangeKind::Import,
        time: Hlc(1_700_000_000_000 << 16 | 5),
        deps: vec![dep],
        author_text: None,
        message: Some("hi".into()),
        blobs: Vec::new(),
    };
    check(
        "head",
        &[
            ("an edit of this copy", header::encode(&own, Some(301))),
            ("the same in a row whose dbv is its version", header::encode(&own, Some(300))),
            ("an import of author 2", header::encode(&foreign, Some(1))),
            ("an edit that names a blob", header::encode(&naming, Some(300))),
        ],
    );
    for (head, dbv) in [(&own, 301), (&own, 300), (&foreign, 1), (&naming, 300)] {
        let bytes = header::encode(head, Some(dbv));
        assert_eq!(header::decode(&bytes, dbv).as_ref(), Ok(head));
        assert_eq!(header::decode_dot(&bytes, dbv), Ok((head.author, head.version)));
    }
    // Times that five bytes do not hold.
    for time in [0, 1_577_836_799_999, 1_577_836_800_000 + (1 << 40)] {
        let head = StoredHeader { time: Hlc(time << 16 | 7), ..own.clone() };
        assert_eq!(header::decode(&header::encode(&head, Some(300)), 300), Ok(head));
    }
}

fn stamp(mask: &Mask, kind: RecordKind, first_seq: u64) -> Stamp<'_> {
    let dot = LocalDot { author: AuthorId(0), version: 300 };
    let is_birth = kind != RecordKind::Update;
    Stamp { kind, is_birth, mask, first_seq, dot, origin: Ordinal(0), db_version: 301 }
}

#[test]
fn entries() {
    let (three, second) = (columns(3), Mask::of(ColumnId(2)));
    let mut one = Writer::default();
    one.push(&stamp(&three, RecordKind::Insert, 0), &int_key(77), 8);
    let mut many = Writer::default();
    for (i, key) in [b"\x13\x05apple", b"\x13\x05berry", b"\x13\x05cacao"].iter().enumerate() {
        many.push(&stamp(&three, RecordKind::Insert, 3 * i as u64), *key, 4 + i % 2 * 3);
    }
    many.push(&stamp(&second, RecordKind::Update, 9), b"\x13\x05apple", 4);
    let (one, many) = (one.finish(300, false, 301), many.finish(300, true, 301));
    check(
        "entry",
        &[("one row inserted", one.clone()), ("three rows inserted, one updated", many.clone())],
    );
    assert_eq!(entry::decode(&one, 300, 301).unwrap().len(), 1);
    assert_eq!(
        entry::decode(&many, 0, 301).unwrap().stamp(3),
        Some(stamp(&second, RecordKind::Update, 9))
    );
}

fn row(key: i64, update: Option<u64>) -> BlockRow {
    let at = |linear: u64| Address { entry: EntryId(linear >> 12), index: (linear & 0xfff) as u32 };
    let mut inserted = columns(3);
    let mut groups = smallvec![];
    let linear = 7 * 4096 + key as u64;
    if update.is_some() {
        inserted.remove(ColumnId(2));
    }
    groups.push(Group { mask: inserted, version: 1, at: at(linear), is_birth: true });
    if let Some(update) = update {
        let mask = Mask::of(ColumnId(2));
        groups.push(Group { mask, version: 2, at: at(update * 4096), is_birth: false });
    }
    (Key::from_slice(&int_key(key)), RowClock { number: key as u64 + 1, causal_length: 1, groups })
}

#[test]
fn blocks() {
    let rows = [row(0, None), row(1, None), row(2, Some(9)), row(3, None)];
    let mut body = Vec::new();
    let sheet = Rows::of(&rows);
    block::Encoder::default().encode(&sheet, 0..rows.len(), &mut body);
    check("block", &[("four rows, one updated", body.clone())]);
    assert_eq!(block::decode(&rows[0].0, &body).unwrap(), rows);
}
