//! The keys of a section's rows: a mode, then a stretch of keys.
//!
//! ```text
//! mode 0: bytes shared with the key before; how many others; those
//! mode 1: keys of one INTEGER each, packed minimally: zigzag deltas
//! ```

use super::WireError;
use super::headers::spend;
use super::varint::{Reader, put_bytes, put_varint, room, unzigzag, zigzag};
use crate::delta::RowDelta;
use crate::key::pack;
use crate::value::ValueRef;

const KEYS_SHARED: u8 = 0;
const KEYS_INTEGER: u8 = 1;

/// Keys both ways until one is no single minimal integer.
#[derive(Clone, Debug)]
pub(super) struct KeyWriter {
    is_integer: bool,
    integers: Vec<u8>,
    integer: i64,
    shared: Vec<u8>,
    previous: Vec<u8>,
    /// Bytes of all keys.
    pub(super) n_full_bytes: usize,
}

impl Default for KeyWriter {
    fn default() -> KeyWriter {
        KeyWriter {
            is_integer: true,
            integers: Vec::new(),
            integer: 0,
            shared: Vec::new(),
            previous: Vec::new(),
            n_full_bytes: 0,
        }
    }
}

impl KeyWriter {
    pub(super) fn push(&mut self, key: &[u8]) {
        self.n_full_bytes += key.len();
        if self.is_integer {
            match single_integer(key) {
                Some(integer) => {
                    put_varint(&mut self.integers, zigzag(integer.wrapping_sub(self.integer)));
                    self.integer = integer;
                }
                None => self.is_integer = false,
            }
        }
        let n_shared = self.previous.iter().zip(key).take_while(|(a, b)| a == b).count();
        put_varint(&mut self.shared, n_shared as u64);
        put_bytes(&mut self.shared, &key[n_shared..]);
        self.previous.truncate(n_shared);
        self.previous.extend_from_slice(&key[n_shared..]);
    }

    /// The larger of both ways, so an upper bound whichever is taken.
    pub(super) fn len(&self) -> usize {
        self.shared.len().max(self.integers.len())
    }

    pub(super) fn finish_into(&mut self, out: &mut Vec<u8>) {
        if self.is_integer {
            out.push(KEYS_INTEGER);
            put_bytes(out, &self.integers);
        } else {
            out.push(KEYS_SHARED);
            put_bytes(out, &self.shared);
        }
        self.integers.clear();
        self.shared.clear();
        self.previous.clear();
        (self.is_integer, self.integer, self.n_full_bytes) = (true, 0, 0);
    }
}

/// The integer that a key consists of, if its packing is the one [`pack`] gives.
fn single_integer(key: &[u8]) -> Option<i64> {
    let [1, tag, digits @ ..] = key else { return None };
    let n = usize::from(tag >> 3);
    if tag & 7 != 1 || n != digits.len() || n > 8 || digits.first() == Some(&0) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |sum, digit| sum << 8 | u64::from(*digit)) as i64)
}

/// Rows that have their keys and nothing else yet.
pub(super) fn read(
    section: &mut Reader<'_>,
    n_rows: usize,
    budget: &mut usize,
) -> Result<Vec<RowDelta>, WireError> {
    let mode = section.byte("key mode")?;
    let mut keys = section.stretch("keys")?;
    // A key takes a byte at least, so a false number of rows costs no memory.
    let mut rows: Vec<RowDelta> = room(n_rows.min(keys.len()))?;
    let mut integer = 0_i64;
    for row in 0..n_rows {
        let key = match mode {
            KEYS_INTEGER => {
                integer = integer.wrapping_add(unzigzag(keys.varint("key")?));
                pack(&[ValueRef::Integer(integer)]).expect("one value is not too many")
            }
            KEYS_SHARED => {
                let previous = row.checked_sub(1).map_or(&[][..], |last| &rows[last].key);
                read_shared(&mut keys, previous, budget)?
            }
            _ => return Err(section.malformed("key mode")),
        };
        rows.push(RowDelta { key, causal_length: 0, births: Vec::new(), cells: Vec::new() });
    }
    keys.finish("bytes after the keys")?;
    Ok(rows)
}

fn read_shared(
    keys: &mut Reader<'_>,
    previous: &[u8],
    budget: &mut usize,
) -> Result<Vec<u8>, WireError> {
    let n_shared = keys.index("bytes shared with the key before", previous.len() + 1)? as usize;
    let suffix = keys.stretch("key")?.remainder();
    spend(budget, n_shared + suffix.len())?;
    let mut key = room(n_shared + suffix.len())?;
    key.extend_from_slice(&previous[..n_shared]);
    key.extend_from_slice(suffix);
    Ok(key)
}
