//! Digests as six words a person can read aloud: proquints (Wilkerson 2009).

/// Six pronounceable words of the first 12 bytes, 16 bits a word, separated by spaces;
/// shorter input is taken as if zeros followed.
pub fn words(_bytes: &[u8]) -> String {
    todo!()
}
