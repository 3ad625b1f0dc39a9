//! The head of a log row: the header of a change, with authors by local id.
//!
//! `[flags][version][time ms] (time counter) (author id) (author text) (message text) (deps)
//! (blobs: how many, hashes)`, numbers as varints; what follows the rest is the blobs. Flags:
//! bits 0-1 kind, 2 author id present (absent: this copy), 3 author text, 4 message, 5 deps,
//! 6 time counter (absent: 0), 7 short: this copy's, its version is the row's `dbv` and absent,
//! and its time is five bytes from 2020 on. The salt is not here: `ana_salt` keeps it, also when
//! headers are dropped.

use anabranch_core::change::ChangeKind;
use anabranch_core::clock::{Chain, Hlc};

use super::varint::{self, Corrupt, Decoded, Reader, put_bytes};
use crate::ids::AuthorId;

const FOREIGN: u8 = 4;
const AUTHOR: u8 = 8;
const MESSAGE: u8 = 16;
const DEPS: u8 = 32;
const COUNTER: u8 = 64;
const SHORT: u8 = 128;

/// Where the time of a short head begins: 2020-01-01 in Unix milliseconds.
const SHORT_TIME_START_MS: u64 = 1_577_836_800_000;
/// Bytes of the time of a short head: enough until 2054.
const SHORT_TIME_BYTES: usize = 5;

/// A dependency by local author id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredDep {
    pub(crate) author: AuthorId,
    pub(crate) version: u64,
    pub(crate) chain: Chain,
}

/// A header as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredHeader {
    pub(crate) author: AuthorId,
    pub(crate) version: u64,
    pub(crate) kind: ChangeKind,
    pub(crate) time: Hlc,
    pub(crate) deps: Vec<StoredDep>,
    pub(crate) author_text: Option<String>,
    pub(crate) message: Option<String>,
    /// Blobs that the change names, by hash.
    pub(crate) blobs: Vec<[u8; 32]>,
}

/// The time of a head that can be short, if its row has this `dbv`.
fn short_time(header: &StoredHeader, dbv: u64) -> Option<[u8; 8]> {
    let time = (header.time.0 >> 16).checked_sub(SHORT_TIME_START_MS)?;
    let is_short = header.author == AuthorId(0)
        && header.version == dbv
        && time >> (8 * SHORT_TIME_BYTES) == 0;
    is_short.then_some(time.to_le_bytes())
}

/// The bytes of a head. `dbv`: that of the row it is written to, where it is known.
pub(crate) fn encode(header: &StoredHeader, dbv: Option<u64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    put(&mut out, header, dbv);
    out
}

/// Appends what [`encode`] gives.
pub(crate) fn put(out: &mut Vec<u8>, header: &StoredHeader, dbv: Option<u64>) {
    let short = dbv.and_then(|dbv| short_time(header, dbv));
    let kind = match header.kind {
        ChangeKind::Edit => 0,
        ChangeKind::Import => 1,
        ChangeKind::Schema => 2,
        ChangeKind::Restore => 3,
    };
    let mut flags = kind;
    for (is_there, bit) in [
        (header.author != AuthorId(0), FOREIGN),
        (header.author_text.is_some(), AUTHOR),
        (header.message.is_some(), MESSAGE),
        (!header.deps.is_empty(), DEPS),
        (header.time.0 & 0xffff != 0, COUNTER),
        (short.is_some(), SHORT),
    ] {
        flags |= if is_there { bit } else { 0 };
    }
    out.push(flags);
    if let Some(time) = short {
        out.extend_from_slice(&time[..SHORT_TIME_BYTES]);
    } else {
        varint::put(out, header.version);
        varint::put(out, header.time.0 >> 16);
    }
    if header.time.0 & 0xffff != 0 {
        varint::put(out, header.time.0 & 0xffff);
    }
    if header.author != AuthorId(0) {
        varint::put(out, u64::from(header.author.0));
    }
    for text in [&header.author_text, &header.message].into_iter().flatten() {
        put_bytes(out, text.as_bytes());
    }
    if !header.deps.is_empty() {
        varint::put(out, header.deps.len() as u64);
        for dep in &header.deps {
            varint::put(out, u64::from(dep.author.0));
            varint::put(out, dep.version);
            out.extend_from_slice(&dep.chain.0);
        }
    }
    if !header.blobs.is_empty() {
        varint::put(out, header.blobs.len() as u64);
        header.blobs.iter().for_each(|blob| out.extend_from_slice(blob));
    }
}

/// Author and version only: what most readers of a head want to know. `dbv`: the row's.
pub(crate) fn decode_dot(head: &[u8], dbv: u64) -> Decoded<(AuthorId, u64)> {
    let mut reader = Reader::new(head);
    let (flags, version, _) = read_start(&mut reader, dbv)?;
    let author = if flags & FOREIGN != 0 { reader.number32()? } else { 0 };
    Ok((AuthorId(author), version))
}

/// Reads a head. `dbv`: the row's.
pub(crate) fn decode(head: &[u8], dbv: u64) -> Decoded<StoredHeader> {
    let mut reader = Reader::new(head);
    let (flags, version, time) = read_start(&mut reader, dbv)?;
    let author = AuthorId(if flags & FOREIGN != 0 { reader.number32()? } else { 0 });
    let author_text = (flags & AUTHOR != 0).then(|| read_text(&mut reader)).transpose()?;
    let message = (flags & MESSAGE != 0).then(|| read_text(&mut reader)).transpose()?;
    let mut deps = Vec::new();
    if flags & DEPS != 0 {
        for _ in 0..reader.count()? {
            let author = AuthorId(reader.number32()?);
            let version = reader.number()?;
            deps.push(StoredDep { author, version, chain: Chain(reader.array()?) });
        }
    }
    let mut blobs = Vec::new();
    if reader.len() > 0 {
        for _ in 0..reader.count()? {
            blobs.push(reader.array()?);
        }
    }
    reader.end()?;
    let kind = match flags & 3 {
        0 => ChangeKind::Edit,
        1 => ChangeKind::Import,
        2 => ChangeKind::Schema,
        _ => ChangeKind::Restore,
    };
    Ok(StoredHeader { author, version, kind, time, deps, author_text, message, blobs })
}

/// Flags, version and time.
fn read_start(reader: &mut Reader<'_>, dbv: u64) -> Decoded<(u8, u64, Hlc)> {
    let flags = reader.byte()?;
    if flags & SHORT != 0 && flags & FOREIGN != 0 {
        return Err(Corrupt("a short header of another copy"));
    }
    let (version, millis) = if flags & SHORT != 0 {
        let mut time = [0; 8];
        time[..SHORT_TIME_BYTES].copy_from_slice(reader.take(SHORT_TIME_BYTES)?);
        (dbv, SHORT_TIME_START_MS + u64::from_le_bytes(time))
    } else {
        (reader.number()?, reader.number()?)
    };
    let counter = if flags & COUNTER != 0 { reader.number()? } else { 0 };
    if millis >> 48 != 0 || counter >> 16 != 0 {
        return Err(Corrupt("a time out of bounds"));
    }
    Ok((flags, version, Hlc(millis << 16 | counter)))
}

fn read_text(reader: &mut Reader<'_>) -> Decoded<String> {
    let bytes = reader.bytes()?.to_vec();
    String::from_utf8(bytes).map_err(|_| Corrupt("a text that is not UTF-8"))
}
