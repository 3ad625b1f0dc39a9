//! Sequences of numbers, of a length that the reader knows, in few bytes.
//!
//! `[form]` then, for form
//! 0 (pieces): until all are there `[count - 1][first, signed from the last value][step, signed,
//! absent if count is 1]`;
//! 1 (packed): `[least][shift << 6 | width - 1, one number][width bits each, low first,
//! to the next byte]`, a value is `least + (bits << shift)`; width 1 to 64;
//! 2 and 3 (beside): `[signed offset]`, a value is the number beside it, times 1 (form 2) or
//! 4,096 (form 3), plus the offset.
//! All arithmetic wraps at 64 bits.

use std::cmp::Ordering;

use super::varint::{Corrupt, Decoded, Reader, put, put_signed};

const PIECES: u8 = 0;
const PACKED: u8 = 1;
const BESIDE: u8 = 2;
const BESIDE_SCALED: u8 = 3;
/// So many values in one progression are never fewer bytes packed.
const LONG: usize = 16;
/// Scale of form 3: what one log row is in addresses.
const SCALE: u64 = 4096;

/// Appends the values; `beside`: numbers the reader has already, one for each value.
pub(crate) fn put_stream(out: &mut Vec<u8>, values: &[u64], beside: Option<&[u64]>) {
    let Some(first) = values.first() else { return };
    if let Some(beside) = beside {
        for (form, scale) in [(BESIDE, 1), (BESIDE_SCALED, SCALE)] {
            let offset = |i: usize| values[i].wrapping_sub(beside[i].wrapping_mul(scale));
            let base = offset(0);
            if values.len() > 1 && (1..values.len()).all(|i| offset(i) == base) {
                out.push(form);
                return put_signed(out, base as i64);
            }
        }
    }
    if values.len() >= LONG {
        let step = values[1].wrapping_sub(*first);
        if values.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step) {
            out.push(PIECES);
            put(out, values.len() as u64 - 1);
            put_signed(out, *first as i64);
            return put_signed(out, step as i64);
        }
    }
    let least = values.iter().copied().min().unwrap_or(*first);
    let all = values.iter().fold(0, |all, value| all | (value - least));
    let shift = if all == 0 { 0 } else { all.trailing_zeros() };
    let width = (64 - (all >> shift).leading_zeros()).max(1);
    let n_packed = (values.len() * width as usize).div_ceil(8) + 4;
    if pieces_len(values, n_packed) <= n_packed {
        out.push(PIECES);
        return put_pieces(out, values);
    }
    out.push(PACKED);
    put(out, least);
    put(out, u64::from(shift) << 6 | u64::from(width - 1));
    put_packed(out, values.iter().map(|value| (value - least) >> shift), width);
}

/// Calls `take` with count, first value beyond the last before, and step of each piece,
/// until it says `false`.
#[inline]
fn each_piece(values: &[u64], mut take: impl FnMut(usize, u64, u64) -> bool) {
    let (mut i, mut last) = (0, 0u64);
    while i < values.len() {
        let step = values.get(i + 1).map_or(0, |next| next.wrapping_sub(values[i]));
        let steps = values[i..].windows(2);
        let n_steps = steps.take_while(|pair| pair[1].wrapping_sub(pair[0]) == step).count();
        // Two values alone are no progression: the second may begin a longer one.
        let is_pair = n_steps == 1 && i + 2 < values.len();
        let count = if is_pair { 1 } else { n_steps + 1 };
        if !take(count, values[i].wrapping_sub(last), step) {
            return;
        }
        i += count;
        last = values[i - 1];
    }
}

/// Bytes of the values as pieces, or anything above `limit` if they are more than that.
fn pieces_len(values: &[u64], limit: usize) -> usize {
    let mut len = 0;
    each_piece(values, |count, first, step| {
        len += number_len(count as u64 - 1) + number_len(zigzag(first));
        len += if count > 1 { number_len(zigzag(step)) } else { 0 };
        len <= limit
    });
    len
}

fn put_pieces(out: &mut Vec<u8>, values: &[u64]) {
    each_piece(values, |count, first, step| {
        put(out, count as u64 - 1);
        put_signed(out, first as i64);
        if count > 1 {
            put_signed(out, step as i64);
        }
        true
    });
}

#[inline]
fn zigzag(value: u64) -> u64 {
    value << 1 ^ (value as i64 >> 63) as u64
}

/// Bytes of a number.
#[inline]
fn number_len(value: u64) -> usize {
    ((63 - (value | 1).leading_zeros()) / 7 + 1) as usize
}

/// Appends values of `width` bits, the lowest bits first.
pub(crate) fn put_packed(out: &mut Vec<u8>, values: impl Iterator<Item = u64>, width: u32) {
    let (mut held, mut n_held) = (0u128, 0);
    for value in values {
        held |= u128::from(value) << n_held;
        n_held += width;
        if n_held >= 64 {
            out.extend_from_slice(&(held as u64).to_le_bytes());
            held >>= 64;
            n_held -= 64;
        }
    }
    out.extend_from_slice(&(held as u64).to_le_bytes()[..n_held.div_ceil(8) as usize]);
}

/// A value of packed ones.
#[inline]
pub(crate) fn packed_at(bytes: &[u8], width: u32, index: usize) -> u64 {
    let bit = index * width as usize;
    let start = bit / 8;
    // With what is left of a byte, 57 bits are at most eight bytes.
    if let Some(window) = bytes[start..].first_chunk::<8>().filter(|_| width <= 57) {
        return u64::from_le_bytes(*window) >> (bit % 8) & ((1 << width) - 1);
    }
    let mut window = [0; 16];
    let end = bytes.len().min(start + 9);
    window[..end - start].copy_from_slice(&bytes[start..end]);
    let bits = (u128::from_le_bytes(window) >> (bit % 8)) as u64;
    if width == 64 { bits } else { bits & ((1 << width) - 1) }
}

/// A stream of a block: parsed, so that its end is known, and read by index.
pub(crate) enum Stream<'a> {
    Pieces { bytes: Reader<'a>, len: usize },
    Packed { least: u64, shift: u32, width: u32, bytes: &'a [u8] },
    Beside { scale: u64, offset: u64 },
}

impl<'a> Stream<'a> {
    /// Takes a stream of `len` values off the reader.
    pub(crate) fn read(reader: &mut Reader<'a>, len: usize) -> Decoded<Stream<'a>> {
        if len == 0 {
            return Ok(Stream::Beside { scale: 0, offset: 0 });
        }
        match reader.byte()? {
            PIECES => {
                let bytes = *reader;
                let mut done = 0;
                while done < len {
                    done += read_piece(reader, len - done)?.0;
                }
                Ok(Stream::Pieces { bytes, len })
            }
            PACKED => {
                let least = reader.number()?;
                let head = reader.number()?;
                let (shift, width) = ((head >> 6) as u32, (head & 63) as u32 + 1);
                if head >> 12 != 0 {
                    return Err(Corrupt("a packed stream of unknown form"));
                }
                let bytes = reader.take((len * width as usize).div_ceil(8))?;
                Ok(Stream::Packed { least, shift, width, bytes })
            }
            form @ (BESIDE | BESIDE_SCALED) => {
                let scale = if form == BESIDE { 1 } else { SCALE };
                Ok(Stream::Beside { scale, offset: reader.signed()? as u64 })
            }
            _ => Err(Corrupt("a stream of unknown form")),
        }
    }

    /// The value at `index`, below the length; `beside`: the number beside it.
    #[inline]
    pub(crate) fn at(&self, index: usize, beside: u64) -> Decoded<u64> {
        match self {
            Stream::Pieces { bytes, len } => {
                let (mut reader, mut start, mut last) = (*bytes, 0, 0u64);
                loop {
                    let (count, base, step) = read_piece(&mut reader, len - start)?;
                    let first = last.wrapping_add(base);
                    if index < start + count {
                        return Ok(first.wrapping_add(step.wrapping_mul((index - start) as u64)));
                    }
                    last = first.wrapping_add(step.wrapping_mul(count as u64 - 1));
                    start += count;
                }
            }
            Stream::Packed { least, shift, width, bytes } => {
                let bits = packed_at(bytes, *width, index);
                Ok(least.wrapping_add(bits.wrapping_shl(*shift)))
            }
            Stream::Beside { scale, offset } => {
                Ok(beside.wrapping_mul(*scale).wrapping_add(*offset))
            }
        }
    }

    /// Where a value stands, if the values ascend; if not, it may be missed. Nothing is
    /// beside them.
    pub(crate) fn find_ascending(&self, len: usize, wanted: u64) -> Decoded<Option<usize>> {
        let Stream::Pieces { bytes, .. } = self else {
            let (mut start, mut end) = (0, len);
            while start < end {
                let middle = start + (end - start) / 2;
                match self.at(middle, 0)?.cmp(&wanted) {
                    Ordering::Equal => return Ok(Some(middle)),
                    Ordering::Less => start = middle + 1,
                    Ordering::Greater => end = middle,
                }
            }
            return Ok(None);
        };
        let (mut reader, mut start, mut last) = (*bytes, 0, 0u64);
        while start < len {
            let (count, base, step) = read_piece(&mut reader, len - start)?;
            let beyond = wanted.wrapping_sub(last.wrapping_add(base));
            let index = beyond.checked_div(step).unwrap_or(0);
            if index < count as u64 && step.wrapping_mul(index) == beyond {
                return Ok(Some(start + index as usize));
            }
            last = last.wrapping_add(base).wrapping_add(step.wrapping_mul(count as u64 - 1));
            start += count;
        }
        Ok(None)
    }

    /// Hands all values to `take`, in order; `beside(i)`: the number beside the i-th.
    #[inline]
    pub(crate) fn each(
        &self,
        len: usize,
        beside: impl Fn(usize) -> u64,
        mut take: impl FnMut(usize, u64),
    ) -> Decoded<()> {
        match self {
            Stream::Pieces { bytes, .. } => {
                let (mut reader, mut i, mut last) = (*bytes, 0, 0u64);
                while i < len {
                    let (count, base, step) = read_piece(&mut reader, len - i)?;
                    last = last.wrapping_add(base);
                    take(i, last);
                    for k in 1..count {
                        last = last.wrapping_add(step);
                        take(i + k, last);
                    }
                    i += count;
                }
            }
            Stream::Packed { .. } => (0..len).try_for_each(|i| {
                take(i, self.at(i, 0)?);
                Ok(())
            })?,
            Stream::Beside { scale, offset } => {
                let value = |i: usize| beside(i).wrapping_mul(*scale).wrapping_add(*offset);
                (0..len).for_each(|i| take(i, value(i)));
            }
        }
        Ok(())
    }
}

/// Count, first and step of a piece of at most `left` values.
#[inline]
fn read_piece(reader: &mut Reader<'_>, left: usize) -> Decoded<(usize, u64, u64)> {
    let more = reader.number()?;
    if more >= left as u64 {
        return Err(Corrupt("a stream longer than its rows"));
    }
    let first = reader.signed()? as u64;
    let step = if more > 0 { reader.signed()? as u64 } else { 0 };
    Ok((more as usize + 1, first, step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn round(values: &[u64], beside: Option<&[u64]>) -> usize {
        let mut out = Vec::new();
        put_stream(&mut out, values, beside);
        let mut reader = Reader::new(&out);
        let stream = Stream::read(&mut reader, values.len()).unwrap();
        assert_eq!(reader.end(), Ok(()));
        let beside = |i: usize| beside.map_or(0, |beside| beside[i]);
        let mut all = Vec::new();
        stream.each(values.len(), beside, |_, value| all.push(value)).unwrap();
        assert_eq!(all, values);
        for (i, value) in values.iter().enumerate() {
            assert_eq!(stream.at(i, beside(i)), Ok(*value));
        }
        out.len()
    }

    #[test]
    fn what_is_regular_is_small() {
        let run: Vec<u64> = (0..128).map(|i| 70_000 + i).collect();
        let scaled: Vec<u64> = run.iter().map(|i| (i + 5) * 4096).collect();
        assert_eq!(round(&run, None), 6);
        assert_eq!(round(&scaled, None), 9);
        assert_eq!(round(&scaled, Some(&run)), 4);
        assert_eq!(round(&[run.clone(), scaled].concat(), None), 14);
        assert!(round(&[9], None) <= 3);
        round(&[u64::MAX, 0, u64::MAX, 1, 1 << 63], None);
    }

    #[test]
    fn random_values_come_back() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..300 {
            let len = rng.random_range(1..130);
            let width = rng.random_range(1..64);
            let values: Vec<u64> = (0..len).map(|_| rng.random::<u64>() >> width).collect();
            let beside: Vec<u64> = (0..len).map(|_| rng.random::<u64>() >> width).collect();
            let len = round(&values, Some(&beside));
            assert!(len <= values.len() * (64 - width as usize).div_ceil(1).max(1) / 8 + 20);
        }
    }
}
