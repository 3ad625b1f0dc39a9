//! How long to wait before connecting again: exponential, with full jitter (Brooker 2015,
//! "Exponential Backoff And Jitter"): each wait is drawn evenly from zero to a bound that
//! doubles, so that clients that lost a relay together do not come back together.

use crate::limits::{FIRST_WAIT_MS, LONGEST_WAIT_MS};

/// Attempts that failed since the last one that did not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    n_failed: u32,
}

impl Backoff {
    /// The next wait in milliseconds; `random` is any number, `at_least` what the peer asked
    /// for.
    pub(crate) fn next(&mut self, random: u64, at_least_ms: u64) -> u64 {
        let doublings = self.n_failed.min(LONGEST_WAIT_MS.ilog2());
        let bound = (FIRST_WAIT_MS << doublings).min(LONGEST_WAIT_MS);
        self.n_failed = self.n_failed.saturating_add(1);
        at_least_ms.saturating_add(random % (bound + 1))
    }

    /// The peer was reached.
    pub(crate) fn reset(&mut self) {
        self.n_failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew() {
        let mut backoff = Backoff::default();
        let mut longest = Vec::new();
        for _ in 0..9 {
            let mut copy = backoff;
            assert_eq!(copy.next(0, 0), 0);
            let mut copy = backoff;
            assert_eq!(copy.next(0, 7_000), 7_000);
            longest.push(
                (0..100_000)
                    .map(|random| {
                        let mut copy = backoff;
                        copy.next(random, 0)
                    })
                    .max()
                    .unwrap(),
            );
            backoff.next(0, 0);
        }
        let expected = [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        assert_eq!(longest, expected);
        for _ in 0..100 {
            assert!(backoff.next(u64::MAX, 0) <= LONGEST_WAIT_MS);
        }
        backoff.reset();
        assert!(backoff.next(u64::MAX, 0) <= FIRST_WAIT_MS);
    }
}
