//! Digests as six words a person can read aloud: proquints (Wilkerson 2009).

/// Consonants and vowels of a word: consonant, vowel, consonant, vowel, consonant take
/// 4, 2, 4, 2 and 4 bits of 16, the highest first.
const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
const VOWELS: &[u8; 4] = b"aiou";
const N_WORDS: usize = 6;

/// Six pronounceable words of the first 12 bytes, 16 bits a word, separated by spaces;
/// shorter input is taken as if zeros followed.
pub fn words(bytes: &[u8]) -> String {
    let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or(0));
    let words: [String; N_WORDS] =
        std::array::from_fn(|i| word(byte(2 * i) << 8 | byte(2 * i + 1)));
    words.join(" ")
}

fn word(bits: u16) -> String {
    let consonant = |shift: u32| char::from(CONSONANTS[usize::from(bits >> shift & 15)]);
    let vowel = |shift: u32| char::from(VOWELS[usize::from(bits >> shift & 3)]);
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].iter().collect()
}
