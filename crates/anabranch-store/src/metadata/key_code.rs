//! The bytes of keys: each key against the one before it.
//!
//! Keys of eight bytes each are numbers and stand in a [`super::stream`].
//!
//! Other keys: one byte `shared << 5 | len`, where shared 7 and len 31 go on in a number
//! (what is beyond 7, beyond 31), then `len` bytes: the key is the first `shared` bytes of
//! the one before it and these.

use super::varint::{Corrupt, Decoded, Reader, put};

/// Longest key that is read: SQLite's own bound on a blob is about this.
const MAX_KEY_BYTES: u64 = 1 << 31;

/// Number of leading bytes that are equal.
#[inline]
pub(crate) fn shared_len(a: &[u8], b: &[u8]) -> usize {
    // Eight at a time; the first byte that differs is the lowest in little-endian order.
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let mut len = 0;
    for (a, b) in words {
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return len + differ.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + a[len..].iter().zip(&b[len..]).take_while(|(a, b)| a == b).count()
}

/// Appends a key that follows `before`.
pub(crate) fn put_key(out: &mut Vec<u8>, before: &[u8], key: &[u8]) {
    let shared = shared_len(before, key);
    let len = key.len() - shared;
    out.push((shared.min(7) << 5 | len.min(31)) as u8);
    if shared >= 7 {
        put(out, shared as u64 - 7);
    }
    if len >= 31 {
        put(out, len as u64 - 31);
    }
    out.extend_from_slice(&key[shared..]);
}

/// Reads how a key follows `before`: how many bytes it shares, and its own.
#[inline]
pub(crate) fn read_key<'a>(
    reader: &mut Reader<'a>,
    before_len: usize,
) -> Decoded<(usize, &'a [u8])> {
    let head = reader.byte()?;
    let mut shared = u64::from(head >> 5);
    let mut len = u64::from(head & 31);
    if shared == 7 {
        shared = reader.number()?.saturating_add(7);
    }
    if len == 31 {
        len = reader.number()?.saturating_add(31);
    }
    if shared > before_len as u64 || len > MAX_KEY_BYTES {
        return Err(Corrupt("a key that shares more than there is"));
    }
    Ok((shared as usize, reader.take(len as usize)?))
}

/// An eight-byte key as a number.
#[inline]
pub(crate) fn as_number(key: &[u8]) -> Option<u64> {
    <[u8; 8]>::try_from(key).ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        let long = vec![7; 5000];
        let keys: [&[u8]; 8] =
            [b"", b"a", b"abcdefgh", b"abcdefghi", &long, &long[..4000], b"x", b""];
        let mut out = Vec::new();
        let mut before: &[u8] = b"";
        for key in keys {
            put_key(&mut out, before, key);
            before = key;
        }
        let (mut reader, mut key) = (Reader::new(&out), Vec::new());
        for expected in keys {
            let (shared, suffix) = read_key(&mut reader, key.len()).unwrap();
            key.truncate(shared);
            key.extend_from_slice(suffix);
            assert_eq!(key, expected);
        }
        assert_eq!(reader.end(), Ok(()));
    }
}
