//! A clock block: some rows of one table, sorted by key, with their clocks.

use smallvec::SmallVec;

use super::entry::{put_mask, read_mask};
use super::row_clock::{Group, RowClock};
use super::varint::{Decoded, Reader, put, put_bytes};
use crate::ids::{Address, EntryId, Key};

/// A row of a block.
pub(crate) type BlockRow = (Key, RowClock);

/// The bytes of a block.
pub(crate) fn encode(rows: &[BlockRow]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, rows.len() as u64);
    for (key, clock) in rows {
        put_bytes(&mut out, key);
        put(&mut out, clock.number);
        put(&mut out, clock.causal_length);
        put(&mut out, clock.groups.len() as u64);
        for group in &clock.groups {
            put_mask(&mut out, &group.mask);
            put(&mut out, group.version << 1 | u64::from(group.is_birth));
            put(&mut out, group.at.entry.0);
            put(&mut out, u64::from(group.at.index));
        }
    }
    out
}

/// Reads a block.
pub(crate) fn decode(body: &[u8]) -> Decoded<Vec<BlockRow>> {
    let mut reader = Reader::new(body);
    let n_rows = reader.count()?;
    let mut rows = Vec::with_capacity(n_rows.min(128));
    for _ in 0..n_rows {
        let key = Key::from_slice(reader.bytes()?);
        let (number, causal_length) = (reader.number()?, reader.number()?);
        let mut groups = SmallVec::new();
        for _ in 0..reader.count()? {
            let mask = read_mask(&mut reader)?;
            let raw = reader.number()?;
            let at = Address { entry: EntryId(reader.number()?), index: reader.number32()? };
            groups.push(Group { mask, version: raw >> 1, at, is_birth: raw & 1 == 1 });
        }
        rows.push((key, RowClock { number, causal_length, groups }));
    }
    reader.end()?;
    Ok(rows)
}
