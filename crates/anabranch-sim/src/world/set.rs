//! Sets of changes, each known by its number in the book.

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Set(Vec<u64>);

impl Set {
    pub(super) fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.word(number / 64) & 1 << (number % 64) != 0
    }

    pub(super) fn add(&mut self, other: &Set) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }

    /// Keeps what `other` has too.
    pub(super) fn keep(&mut self, other: &Set) {
        (0..self.0.len()).for_each(|n| self.0[n] &= other.word(n));
    }

    pub(super) fn without(&self, other: &Set) -> Set {
        Set(self.0.iter().enumerate().map(|(n, word)| word & !other.word(n)).collect())
    }

    pub(super) fn is_within(&self, other: &Set) -> bool {
        self.without(other).is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 64).filter(|number| self.contains(*number))
    }

    fn word(&self, n: usize) -> u64 {
        self.0.get(n).copied().unwrap_or(0)
    }
}

impl PartialEq for Set {
    fn eq(&self, other: &Set) -> bool {
        self.is_within(other) && other.is_within(self)
    }
}
