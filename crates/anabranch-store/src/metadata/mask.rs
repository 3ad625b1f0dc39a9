//! A set of columns of one table: bit 0 is the sentinel, bit n the column with id n.

use smallvec::SmallVec;

use crate::ids::ColumnId;

/// A set of columns. Trailing zero words are never kept, so equality is equality of sets.
#[derive(Debug, Default, Eq)]
pub(crate) struct Mask {
    words: SmallVec<[u64; 2]>,
}

impl PartialEq for Mask {
    /// Word by word, in place: nearly all masks are one word.
    #[inline]
    fn eq(&self, other: &Mask) -> bool {
        self.words.len() == other.words.len()
            && self.words.iter().zip(&other.words).all(|(a, b)| a == b)
    }
}

impl std::hash::Hash for Mask {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.words.hash(state);
    }
}

impl Clone for Mask {
    /// A copy of memory: a derived clone goes word by word, and masks are copied with every
    /// row that is read.
    #[inline]
    fn clone(&self) -> Mask {
        let words = match self.words.as_slice() {
            [] => SmallVec::new(),
            [only] => SmallVec::from_buf_and_len([*only, 0], 1),
            words => SmallVec::from_slice(words),
        };
        Mask { words }
    }
}

impl Mask {
    /// The empty set.
    pub(crate) fn new() -> Mask {
        Mask::default()
    }

    /// One column.
    pub(crate) fn of(column: ColumnId) -> Mask {
        let mut mask = Mask::new();
        mask.insert(column);
        mask
    }

    /// Adds a column.
    pub(crate) fn insert(&mut self, column: ColumnId) {
        let (word, bit) = (usize::from(column.0) / 64, column.0 % 64);
        match self.words.get_mut(word) {
            Some(bits) => *bits |= 1 << bit,
            None if word == 0 => *self = Mask::of_word(1 << bit),
            None => {
                self.words.resize(word + 1, 0);
                self.words[word] |= 1 << bit;
            }
        }
    }

    /// Removes a column.
    pub(crate) fn remove(&mut self, column: ColumnId) {
        let (word, bit) = (usize::from(column.0) / 64, column.0 % 64);
        if let Some(bits) = self.words.get_mut(word) {
            *bits &= !(1 << bit);
        }
        self.trim();
    }

    /// Whether the column is in it.
    pub(crate) fn contains(&self, column: ColumnId) -> bool {
        let (word, bit) = (usize::from(column.0) / 64, column.0 % 64);
        self.words.get(word).is_some_and(|bits| bits & (1 << bit) != 0)
    }

    /// Whether no column is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Number of columns.
    pub(crate) fn len(&self) -> u32 {
        self.words.iter().map(|bits| bits.count_ones()).sum()
    }

    /// The lowest column.
    pub(crate) fn first(&self) -> Option<ColumnId> {
        self.iter().next()
    }

    /// The highest column.
    pub(crate) fn last(&self) -> Option<ColumnId> {
        let (word, bits) = self.words.iter().enumerate().next_back()?;
        Some(ColumnId((word * 64) as u16 + 63 - bits.leading_zeros() as u16))
    }

    /// Number of columns in it below `column`: its place in `seq` order.
    pub(crate) fn rank(&self, column: ColumnId) -> u32 {
        let (word, bit) = (usize::from(column.0) / 64, column.0 % 64);
        let whole: u32 = self.words.iter().take(word).map(|bits| bits.count_ones()).sum();
        let partial = self.words.get(word).map_or(0, |bits| bits & ((1 << bit) - 1));
        whole + partial.count_ones()
    }

    /// The set as one word, if it is in one: columns below 64, as in most tables.
    #[inline]
    fn word(&self) -> Option<u64> {
        match self.words.as_slice() {
            [] => Some(0),
            [word] => Some(*word),
            _ => None,
        }
    }

    #[inline]
    fn of_word(word: u64) -> Mask {
        let words = match word {
            0 => SmallVec::new(),
            _ => SmallVec::from_buf_and_len([word, 0], 1),
        };
        Mask { words }
    }

    /// Whether all columns of `other` are in it.
    #[inline]
    pub(crate) fn includes(&self, other: &Mask) -> bool {
        match (self.word(), other.word()) {
            (Some(a), Some(b)) => b & !a == 0,
            _ => self.intersection(other) == *other,
        }
    }

    /// Removes all columns of `other`.
    pub(crate) fn subtract(&mut self, other: &Mask) {
        if let (Some(a), Some(b)) = (self.word(), other.word()) {
            *self = Mask::of_word(a & !b);
            return;
        }
        for (bits, theirs) in self.words.iter_mut().zip(&other.words) {
            *bits &= !theirs;
        }
        self.trim();
    }

    /// Adds all columns of `other`.
    pub(crate) fn unite(&mut self, other: &Mask) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (bits, theirs) in self.words.iter_mut().zip(&other.words) {
            *bits |= theirs;
        }
    }

    /// The columns that are in both.
    pub(crate) fn intersection(&self, other: &Mask) -> Mask {
        if let (Some(a), Some(b)) = (self.word(), other.word()) {
            return Mask::of_word(a & b);
        }
        let mut both = Mask::new();
        for (a, b) in self.words.iter().zip(&other.words) {
            both.words.push(a & b);
        }
        both.trim();
        both
    }

    /// The words, 64 columns each, lowest first; the last is not zero.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The set with these words.
    pub(crate) fn from_words(words: impl IntoIterator<Item = u64>) -> Mask {
        let mut mask = Mask::new();
        for word in words {
            mask.words.push(word);
        }
        mask.trim();
        mask
    }

    /// The columns from `start` up to, not with, `end`.
    pub(crate) fn range(start: u32, end: u32) -> Mask {
        let words = (0..end.div_ceil(64)).map(|word| {
            let bit = |column: u32| column.clamp(word * 64, word * 64 + 64) - word * 64;
            let below = |bits: u32| if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            below(bit(end)) & !below(bit(start))
        });
        Mask::from_words(words)
    }

    /// Its columns, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ColumnId> + '_ {
        self.words.iter().enumerate().flat_map(|(word, bits)| {
            let mut rest = *bits;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    ColumnId((word * 64) as u16 + bit as u16)
                })
            })
        })
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }
}
