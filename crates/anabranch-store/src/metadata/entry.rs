//! The body of a log row: the records of one transaction on one table, in order.

use super::mask::Mask;
use super::record::{Record, RecordKind};
use super::varint::{Corrupt, Decoded, Reader, put, put_bytes};
use crate::buffer::Superseded;
use crate::ids::{AuthorId, ColumnId, Key, LocalDot, Ordinal};
use anabranch_core::value::Value;

/// First byte of a body: records.
const TAG_RECORDS: u8 = 1;

/// An entry, decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Entry {
    pub(crate) records: Vec<Record>,
    /// Superseded cells by index of the record that superseded them.
    pub(crate) superseded: Vec<(u32, Superseded)>,
}

/// Appends a column set: the number of its words, then the words.
pub(crate) fn put_mask(out: &mut Vec<u8>, mask: &Mask) {
    put(out, mask.words().len() as u64);
    for word in mask.words() {
        put(out, *word);
    }
}

/// Reads a column set.
pub(crate) fn read_mask(reader: &mut Reader<'_>) -> Decoded<Mask> {
    let n_words = reader.count()?;
    if n_words > 1024 {
        return Err(Corrupt("a column set beyond 65,536 columns"));
    }
    let mut words = smallvec::SmallVec::<[u64; 4]>::new();
    for _ in 0..n_words {
        words.push(reader.number()?);
    }
    Ok(Mask::from_words(words))
}

/// The bytes of a body whose row's `dbv` is `dbv` and whose own change is `version`.
pub(crate) fn encode(entry: &Entry, own_version: u64, dbv: u64) -> Vec<u8> {
    let mut out = vec![TAG_RECORDS];
    put(&mut out, entry.records.len() as u64);
    put(&mut out, own_version);
    for record in &entry.records {
        let own = LocalDot { author: AuthorId(0), version: own_version };
        let is_plain = record.dot == own && record.origin.0 == 0 && record.db_version == dbv;
        let kind = match record.kind {
            RecordKind::Insert => 0,
            RecordKind::Update => 1,
            RecordKind::Delete => 2,
            RecordKind::Merged => 3,
        };
        out.push(kind | u8::from(record.is_birth) << 2 | u8::from(!is_plain) << 3);
        put_mask(&mut out, &record.mask);
        put(&mut out, record.first_seq);
        if !is_plain {
            put(&mut out, u64::from(record.dot.author.0));
            put(&mut out, record.dot.version);
            put(&mut out, u64::from(record.origin.0));
            put(&mut out, record.db_version);
        }
        put_bytes(&mut out, &record.key);
    }
    for (index, cell) in &entry.superseded {
        put(&mut out, u64::from(*index));
        put_superseded(&mut out, cell);
    }
    out
}

fn put_superseded(out: &mut Vec<u8>, cell: &Superseded) {
    put(out, u64::from(cell.column.0));
    put(out, cell.version);
    put(out, cell.causal_length);
    put(out, u64::from(cell.dot.author.0));
    put(out, cell.dot.version);
    put(out, u64::from(cell.origin.0));
    match &cell.value {
        Value::Null => out.push(5),
        Value::Integer(i) => {
            out.push(1);
            out.extend_from_slice(&i.to_le_bytes());
        }
        Value::Real(r) => {
            out.push(2);
            out.extend_from_slice(&r.to_bits().to_le_bytes());
        }
        Value::Text(text) => {
            out.push(3);
            put_bytes(out, text);
        }
        Value::Blob(blob) => {
            out.push(4);
            put_bytes(out, blob);
        }
    }
}

fn read_superseded(reader: &mut Reader<'_>) -> Decoded<Superseded> {
    let column = reader.number()?;
    let column = u16::try_from(column).map_err(|_| Corrupt("a column id beyond 16 bits"))?;
    let (version, causal_length) = (reader.number()?, reader.number()?);
    let dot = LocalDot { author: AuthorId(reader.number32()?), version: reader.number()? };
    let origin = AuthorId(reader.number32()?);
    let value = match reader.byte()? {
        1 => Value::Integer(i64::from_le_bytes(reader.array()?)),
        2 => Value::Real(f64::from_bits(u64::from_le_bytes(reader.array()?))),
        3 => Value::Text(reader.bytes()?.to_vec()),
        4 => Value::Blob(reader.bytes()?.to_vec()),
        5 => Value::Null,
        _ => return Err(Corrupt("a value of unknown type")),
    };
    Ok(Superseded { column: ColumnId(column), version, causal_length, dot, origin, value })
}

/// Reads a body.
pub(crate) fn decode(body: &[u8], dbv: u64) -> Decoded<Entry> {
    let mut reader = Reader::new(body);
    if reader.byte()? != TAG_RECORDS {
        return Err(Corrupt("an entry of unknown kind"));
    }
    let n_records = reader.count()?;
    let own_version = reader.number()?;
    let mut entry = Entry::default();
    for _ in 0..n_records {
        let flags = reader.byte()?;
        let kind = match flags & 3 {
            0 => RecordKind::Insert,
            1 => RecordKind::Update,
            2 => RecordKind::Delete,
            _ => RecordKind::Merged,
        };
        let mask = read_mask(&mut reader)?;
        let first_seq = reader.number()?;
        let mut dot = LocalDot { author: AuthorId(0), version: own_version };
        let (mut origin, mut db_version) = (Ordinal(0), dbv);
        if flags & 8 != 0 {
            dot = LocalDot { author: AuthorId(reader.number32()?), version: reader.number()? };
            origin = Ordinal(reader.number32()?);
            db_version = reader.number()?;
        }
        let key = Key::from_slice(reader.bytes()?);
        let is_birth = flags & 4 != 0;
        entry.records.push(Record {
            kind,
            key,
            mask,
            first_seq,
            dot,
            origin,
            db_version,
            is_birth,
        });
    }
    while reader.len() > 0 {
        let index = reader.number32()?;
        entry.superseded.push((index, read_superseded(&mut reader)?));
    }
    Ok(entry)
}
