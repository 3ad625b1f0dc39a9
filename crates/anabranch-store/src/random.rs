//! Random numbers, asked for in one place: under the feature `testing` a thread may draw them
//! from a seed, so that what it does can be repeated to the byte.

#[cfg(feature = "testing")]
use std::cell::Cell;

#[cfg(feature = "testing")]
thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From here on this thread's random numbers follow from `seed`; `None`: the system's.
#[cfg(feature = "testing")]
pub fn set_seed(seed: Option<u64>) {
    SEED.set(seed);
}

/// Fills `bytes`.
///
/// # Errors
/// The system's.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    #[cfg(feature = "testing")]
    if let Some(mut state) = SEED.get() {
        for chunk in bytes.chunks_mut(8) {
            // splitmix64 (Steele, Lea, Flood, 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
        SEED.set(Some(state));
        return Ok(());
    }
    getrandom::fill(bytes)
}

/// A number of 64 random bits.
///
/// # Errors
/// The system's.
pub(crate) fn number() -> Result<u64, getrandom::Error> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
