//! Variable-length integers (LEB128: seven bits a byte, low first) and a reader that never
//! runs past its bytes. Every blob of ours is read through [`Reader`].

/// What is wrong with bytes that no version of ours writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt(pub(crate) &'static str);

/// What decoders return.
pub(crate) type Decoded<T> = std::result::Result<T, Corrupt>;

/// Appends `value` in 1 to 10 bytes.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number: 0, -1, 1, -2 … as 0, 1, 2, 3 ….
#[inline]
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes yet to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Number of bytes left.
    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    /// The bytes left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One byte.
    #[inline]
    pub(crate) fn byte(&mut self) -> Decoded<u8> {
        let (first, rest) = self.rest.split_first().ok_or(Corrupt("ends early"))?;
        self.rest = rest;
        Ok(*first)
    }

    /// A number.
    #[inline]
    pub(crate) fn number(&mut self) -> Decoded<u64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let (mut value, mut shift) = (u64::from(first & 0x7f), 7);
        loop {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(Corrupt("a number beyond 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                if byte == 0 {
                    return Err(Corrupt("a number in more bytes than it needs"));
                }
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// A signed number.
    #[inline]
    pub(crate) fn signed(&mut self) -> Decoded<i64> {
        let raw = self.number()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A number that fits 32 bits.
    #[inline]
    pub(crate) fn number32(&mut self) -> Decoded<u32> {
        u32::try_from(self.number()?).map_err(|_| Corrupt("a number beyond 32 bits"))
    }

    /// A count of things of which each takes at least one byte, so that what is allocated
    /// for them is bounded by the bytes at hand.
    pub(crate) fn count(&mut self) -> Decoded<usize> {
        let count = self.number()?;
        if count > self.len() as u64 {
            return Err(Corrupt("a count beyond the bytes"));
        }
        Ok(count as usize)
    }

    /// Exactly `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        if len > self.rest.len() {
            return Err(Corrupt("ends early"));
        }
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(taken)
    }

    /// A length and that many bytes.
    pub(crate) fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let len = self.count()?;
        self.take(len)
    }

    /// Exactly `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Decoded<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(Corrupt("goes on after its end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put(&mut out, value);
                put_signed(&mut out, value as i64);
                put_signed(&mut out, (value as i64).wrapping_neg());
                let mut reader = Reader::new(&out);
                assert_eq!(reader.number(), Ok(value));
                assert_eq!(reader.signed(), Ok(value as i64));
                assert_eq!(reader.signed(), Ok((value as i64).wrapping_neg()));
                assert_eq!(reader.end(), Ok(()));
            }
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bytes in [&[][..], &[0x80], &[0x80, 0], &[0xff; 10], &[0xff; 11]] {
            assert!(Reader::new(bytes).number().is_err(), "{bytes:?}");
        }
        assert!(Reader::new(&[5, 1, 2]).bytes().is_err());
        assert!(Reader::new(&[0xff, 0xff, 3, 1]).count().is_err());
    }
}
