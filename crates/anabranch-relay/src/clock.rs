//! The clock: the only place of this crate that reads it. Under the feature `testing` a thread
//! may be told the time.

#[cfg(feature = "testing")]
use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

#[cfg(feature = "testing")]
thread_local! {
    static TOLD_MS: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// From here on this thread's wall clock shows `wall_ms` (Unix), and `since_ms` have passed
/// since whatever began.
#[cfg(feature = "testing")]
pub(crate) fn tell(wall_ms: u64, since_ms: u64) {
    TOLD_MS.set(Some((wall_ms, since_ms)));
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    #[cfg(feature = "testing")]
    if let Some((wall_ms, _)) = TOLD_MS.get() {
        return wall_ms;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Unix seconds.
pub(crate) fn now_s() -> u64 {
    now_ms() / 1000
}

/// Milliseconds since `began`; never fewer than before.
pub(crate) fn since_ms(began: Instant) -> u64 {
    #[cfg(feature = "testing")]
    if let Some((_, since_ms)) = TOLD_MS.get() {
        return since_ms;
    }
    began.elapsed().as_millis() as u64
}
