//! The clocks of those who drive sync: what time it is, and how much has passed. Under the
//! feature `testing` a thread may be told both, and then nothing here asks the system.
//!
//! Invariant: passed time never goes back, whatever the wall clock does.
#![forbid(unsafe_code)]

#[cfg(feature = "testing")]
use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(feature = "testing")]
thread_local! {
    static TOLD_MS: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// From here on this thread's wall clock shows `wall_ms` (Unix), and `since_ms` have passed
/// since whatever began.
#[cfg(feature = "testing")]
pub fn tell(wall_ms: u64, since_ms: u64) {
    TOLD_MS.set(Some((wall_ms, since_ms)));
}

/// What this thread was told: wall clock, and passed time.
fn told_ms() -> Option<(u64, u64)> {
    #[cfg(feature = "testing")]
    return TOLD_MS.get();
    #[cfg(not(feature = "testing"))]
    None
}

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    let read = || SystemTime::now().duration_since(UNIX_EPOCH);
    told_ms().map_or_else(|| read().map_or(0, |age| age.as_millis() as u64), |(wall, _)| wall)
}

/// Unix seconds.
pub fn now_s() -> u64 {
    now_ms() / 1000
}

/// Milliseconds that have passed since something began, which `elapsed` measures.
pub fn since_ms(elapsed: impl FnOnce() -> Duration) -> u64 {
    told_ms().map_or_else(|| elapsed().as_millis() as u64, |(_, since)| since)
}

/// A moment to measure from.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    at: Instant,
    /// Where the thread was told the time.
    told_ms: Option<u64>,
}

impl Moment {
    /// This one.
    pub fn now() -> Moment {
        Moment { at: Instant::now(), told_ms: told_ms().map(|(_, since)| since) }
    }

    /// Milliseconds that have passed since.
    pub fn elapsed_ms(self) -> u64 {
        match (self.told_ms, told_ms()) {
            (Some(then), Some((_, now))) => now.saturating_sub(then),
            _ => self.at.elapsed().as_millis() as u64,
        }
    }
}
