//! The clocks of what is known of peers: when it was, and how long ago. Under the feature
//! `testing` a thread may be told the time.

#[cfg(feature = "testing")]
use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64)
}

/// A moment to measure from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: Instant,
    /// Where the thread was told the time.
    #[cfg(feature = "testing")]
    told_ms: Option<u64>,
}

impl Moment {
    /// This one.
    pub(crate) fn now() -> Moment {
        Moment {
            at: Instant::now(),
            #[cfg(feature = "testing")]
            told_ms: TOLD_MS.get().map(|(_, since_ms)| since_ms),
        }
    }

    /// Milliseconds that have passed since.
    pub(crate) fn elapsed_ms(self) -> u64 {
        #[cfg(feature = "testing")]
        if let (Some(then), Some((_, now))) = (self.told_ms, TOLD_MS.get()) {
            return now.saturating_sub(then);
        }
        self.at.elapsed().as_millis() as u64
    }
}
