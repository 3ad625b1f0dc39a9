//! The body of a log row: the records of one transaction on one table, in order.
//!
//! ```text
//! [tag 1][form][n records][first seq]   if form has bit 7, only [form]: 1 record, seq 0
//! [own version, if form has bit 2]
//! ops      until n: [records - 1 << 3 | is birth << 2 | kind][columns]
//! seqs     (form bit 3) [n runs], each [records before it][records - 1][signed: seqs that
//!          are consumed before each of them, beyond the columns of the one before]
//! dots     (bit 4) until n: [records - 1][author][version]
//! origins  (bit 5) until n: [records - 1][ordinal]
//! arrivals (bit 6) until n: [records - 1][dbv - db_version]
//! keys     form bits 0-1: 1 numbers: stream of the keys, sign bit flipped;
//!          2 whole: each key against the one before;
//!          3 prefixes: likewise, then [n whole] and of these [records before it];
//!          0 (with bit 7 only) the key, to the end
//! ```
//!
//! Kinds: 0 insert, 1 update, 2 delete, 3 merged. What is absent is this copy's: author and
//! origin 0, the version of the row's head (or the one stated), the row's `dbv`. After the
//! records other sections may follow, each with a tag: 2 superseded cells; 3 parked
//! operations, 4 undo images, 5 states of kinds, 6 document updates are reserved, and who
//! does not know a tag refuses the entry.
//!
//! A prefix stands for a key when the rows were folded as the entry was written. It is as
//! long as tells the row from its neighbours, and two bytes more. Who reads it looks at all
//! rows that begin with it and takes the one whose clock names the record; if none does, the
//! record is superseded.

mod read;
mod superseded;
mod write;

use super::mask::Mask;
use super::record::RecordKind;
use crate::ids::{LocalDot, Ordinal};

pub(crate) use read::{Entry, KeyOf, decode, first_seq, strip};
pub(crate) use write::Writer;

const TAG_RECORDS: u8 = 1;
const TAG_SUPERSEDED: u8 = 2;

/// Names of the sections that later versions will write.
const RESERVED: [(u8, &str); 4] = [
    (3, "a parked operation, which only a newer version reads"),
    (4, "an undo image, which only a newer version reads"),
    (5, "the state of a kind, which only a newer version reads"),
    (6, "a document update, which only a newer version reads"),
];

const KEYS: u8 = 3;
const KEYS_REST: u8 = 0;
const KEYS_NUMBERS: u8 = 1;
const KEYS_WHOLE: u8 = 2;
const KEYS_PREFIXES: u8 = 3;
const HAS_VERSION: u8 = 4;
const HAS_SEQS: u8 = 8;
const HAS_DOTS: u8 = 16;
const HAS_ORIGINS: u8 = 32;
const HAS_ARRIVALS: u8 = 64;
/// One record, whose `seq` is 0: the change of one row. No tag has this bit, so that none
/// needs to stand before it.
const IS_SINGLE: u8 = 128;

/// A record without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) is_birth: bool,
    pub(crate) mask: &'a Mask,
    pub(crate) first_seq: u64,
    pub(crate) dot: LocalDot,
    pub(crate) origin: Ordinal,
    pub(crate) db_version: u64,
}

#[cfg(test)]
mod tests;
