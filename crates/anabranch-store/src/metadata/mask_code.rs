//! The bytes of a column set.
//!
//! A number whose two low bits say the form: 0, the rest is the set as bits (62 columns
//! at most); 1, the rest is the lowest column of a range, whose length follows; 2, the rest
//! is a number of 64-bit words, which follow, lowest first. The writer takes the first form
//! that fits, but a range before bits that take more than three bytes.

use super::mask::Mask;
use super::varint::{Corrupt, Decoded, Reader, put};

/// Most words of a set: 65,536 columns.
const MAX_WORDS: u64 = 1024;

/// Appends a column set.
pub(crate) fn put_mask(out: &mut Vec<u8>, mask: &Mask) {
    let word = match mask.words() {
        [] => return put(out, 0),
        [word] => *word,
        _ => u64::MAX,
    };
    if word >> 19 == 0 {
        return put(out, word << 2);
    }
    let lowest = mask.iter().next().map_or(0, |column| u64::from(column.0));
    let len = u64::from(mask.len());
    if is_range(mask, lowest + len) {
        put(out, lowest << 2 | 1);
        put(out, len);
        return;
    }
    if word >> 62 == 0 {
        return put(out, word << 2);
    }
    put(out, (mask.words().len() as u64) << 2 | 2);
    for word in mask.words() {
        put(out, *word);
    }
}

/// Whether the highest column is `end - 1`: then as many columns as there are fill the range.
fn is_range(mask: &Mask, end: u64) -> bool {
    let words = mask.words();
    let top = words.last().map_or(0, |word| 64 - u64::from(word.leading_zeros()));
    (words.len() as u64 - 1) * 64 + top == end
}

/// Reads a column set.
pub(crate) fn read_mask(reader: &mut Reader<'_>) -> Decoded<Mask> {
    let head = reader.number()?;
    let rest = head >> 2;
    match head & 3 {
        0 => Ok(Mask::from_words([rest])),
        1 => {
            let len = reader.number()?;
            if rest > 0xffff || len > 0x10000 || rest + len > 0x10000 {
                return Err(Corrupt("a column beyond 65,535"));
            }
            Ok(Mask::range(rest as u32, (rest + len) as u32))
        }
        2 if rest <= MAX_WORDS => {
            let mut words = smallvec::SmallVec::<[u64; 4]>::new();
            for _ in 0..rest {
                words.push(reader.number()?);
            }
            Ok(Mask::from_words(words))
        }
        _ => Err(Corrupt("a column set of unknown form")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ColumnId;

    fn round(columns: &[u16]) -> usize {
        let mut mask = Mask::new();
        columns.iter().for_each(|id| mask.insert(ColumnId(*id)));
        let mut out = Vec::new();
        put_mask(&mut out, &mask);
        let mut reader = Reader::new(&out);
        assert_eq!(read_mask(&mut reader), Ok(mask), "{columns:?}");
        assert_eq!(reader.end(), Ok(()));
        out.len()
    }

    #[test]
    fn sets_come_back_and_are_small() {
        let all: Vec<u16> = (1..=2000).collect();
        let most: Vec<u16> = (0..=2000).filter(|id| *id != 77).collect();
        for (columns, len) in [
            (&[][..], 1),
            (&[0], 1),
            (&[1, 2, 3, 4], 1),
            (&[61], 3),
            (&[1, 61], 10),
            (&[62], 3),
            (&[63, 64], 3),
            (&[5, 70], 3),
            (&[65535], 4),
            (&all, 3),
        ] {
            assert_eq!(round(columns), len, "{columns:?}");
        }
        round(&most);
    }
}
