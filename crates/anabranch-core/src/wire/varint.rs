//! Numbers of one to ten bytes, and the reader that all sections are read with.
//!
//! Unsigned LEB128: seven bits a byte, lowest first, the high bit set on all but the last.
//! Only the shortest form is accepted. Signed numbers are zigzag coded first.

use super::WireError;

type Result<T> = std::result::Result<T, WireError>;

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Small numbers of either sign as small unsigned ones: 0, -1, 1, -2, 2 …
pub(super) fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Reads forward through a stretch of a decoded part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Offset in the decoded part of the end of `rest`.
    end: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, end: bytes.len() }
    }

    /// A reader of nothing.
    pub(super) fn empty() -> Reader<'a> {
        Reader::new(&[])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes left.
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn malformed(&self, what: &'static str) -> WireError {
        WireError::Malformed { what, at: self.end - self.rest.len() }
    }

    /// Ends the stretch: nothing may be left.
    pub(super) fn finish(&self, what: &'static str) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(self.malformed(what)) }
    }

    pub(super) fn varint(&mut self, what: &'static str) -> Result<u64> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first))
            }
            _ => self.long_varint(what),
        }
    }

    fn long_varint(&mut self, what: &'static str) -> Result<u64> {
        let mut number = 0;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                break;
            }
            number |= bits << (7 * i);
            if byte & 0x80 == 0 {
                if bits == 0 && i > 0 {
                    break;
                }
                self.rest = &self.rest[i + 1..];
                return Ok(number);
            }
        }
        Err(self.malformed(what))
    }

    /// A number that counts things, at most `limit`.
    pub(super) fn count(&mut self, what: &'static str, limit: usize) -> Result<usize> {
        let found = self.varint(what)?;
        if found > limit as u64 {
            return Err(WireError::OverLimit { what, found, limit: limit as u64 });
        }
        Ok(found as usize)
    }

    /// A number below `end`.
    pub(super) fn index(&mut self, what: &'static str, end: usize) -> Result<u32> {
        let before = *self;
        let found = self.varint(what)?;
        if found >= end as u64 {
            return Err(before.malformed(what));
        }
        u32::try_from(found).map_err(|_| before.malformed(what))
    }

    pub(super) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8]> {
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.malformed(what));
        };
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.malformed(what));
        };
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    /// A length, then that many bytes as a reader of their own.
    pub(super) fn stretch(&mut self, what: &'static str) -> Result<Reader<'a>> {
        let len = self.varint(what)?;
        let len = usize::try_from(len).map_err(|_| self.malformed(what))?;
        let rest = self.take(len, what)?;
        Ok(Reader { rest, end: self.end - self.rest.len() })
    }

    /// A length, then that many bytes of UTF-8.
    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str> {
        let stretch = self.stretch(what)?;
        std::str::from_utf8(stretch.rest).map_err(|_| stretch.malformed(what))
    }

    /// All that is left.
    pub(super) fn remainder(&self) -> &'a [u8] {
        self.rest
    }
}

/// Copies bytes whose number an outsider chose.
pub(super) fn copied(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| WireError::OutOfMemory)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// An empty vector with room for `len`, a number that was checked against its bound.
pub(super) fn room<T>(len: usize) -> Result<Vec<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(len).map_err(|_| WireError::OutOfMemory)?;
    Ok(room)
}

pub(super) fn copied_text(text: &str) -> Result<String> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).map_err(|_| WireError::OutOfMemory)?;
    copy.push_str(text);
    Ok(copy)
}
