//! Hybrid logical time (Kulkarni et al. 2014) and the chain that names a site's history.

use crate::limits::MAX_CLOCK_AHEAD_MS;
use crate::site::SiteId;

/// Hybrid logical clock: 48 bits of Unix milliseconds, then 16 bits of counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// Milliseconds since the Unix epoch.
    pub fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// The next time of a site whose latest known time is `self`, at wall clock `now_ms`.
    pub fn next(self, now_ms: u64) -> Hlc {
        Hlc((now_ms << 16).max(self.0 + 1))
    }

    /// Whether a change of this time may be taken at wall clock `now_ms`.
    ///
    /// # Errors
    /// [`ClockAhead`] if it lies more than [`MAX_CLOCK_AHEAD_MS`] ahead.
    pub fn check_ahead(self, now_ms: u64) -> Result<(), ClockAhead> {
        let retry_at_ms = self.millis().saturating_sub(MAX_CLOCK_AHEAD_MS);
        if retry_at_ms > now_ms {
            return Err(ClockAhead { time_ms: self.millis(), now_ms, retry_at_ms });
        }
        Ok(())
    }
}

/// A change's time lies too far ahead: refused, never clamped, and welcome later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "ClockAhead: a change of time {time_ms} ms is more than 10 minutes ahead of this \
     clock ({now_ms} ms): try again at {retry_at_ms} ms"
)]
pub struct ClockAhead {
    /// The change's time, Unix milliseconds.
    pub time_ms: u64,
    /// The receiver's clock, Unix milliseconds.
    pub now_ms: u64,
    /// From when on the change would be taken, Unix milliseconds.
    pub retry_at_ms: u64,
}

const _: () = assert!(MAX_CLOCK_AHEAD_MS == 600_000, "the message says 10 minutes");

/// Names a site's history up to one version: equal chains mean equal changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(pub [u8; 16]);

impl Chain {
    /// `chain(v) = BLAKE3(chain(v-1), site, v, salt)`, first 16 bytes; `chain(0)` is zeros.
    ///
    /// The hash input is: 16 bytes of chain, the site's length as one byte, its bytes,
    /// `version` and `salt` as u64 little-endian.
    pub fn next(self, site: SiteId, version: u64, salt: u64) -> Chain {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&[site.as_bytes().len() as u8]);
        hasher.update(site.as_bytes());
        hasher.update(&version.to_le_bytes());
        hasher.update(&salt.to_le_bytes());
        let mut chain = [0; 16];
        chain.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Chain(chain)
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
