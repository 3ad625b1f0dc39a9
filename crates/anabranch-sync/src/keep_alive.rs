//! Signs of life: whether the other end of a connection is there, and when this one must show
//! that it is.
//!
//! A line may be slow: one part of a delta takes minutes on some, and no message comes whole
//! meanwhile. So bytes count, in both directions:
//!
//! - bytes that came are life;
//! - bytes that left after the transport had refused some are life too: it takes more only
//!   when the other end has taken what was before them;
//! - who sends nothing for a while asks for a sign of life, whatever comes: an end that only
//!   sends may not see its bytes leave, for the system can take many at once, and would wait
//!   for a word in vain.
//!
//! Both drivers use it; the clock is an argument.

use crate::session::Time;

/// What a driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Nothing.
    Nothing,
    /// Ask the other end for a sign of life (a ping of the transport).
    Ask,
    /// The other end is gone: close the connection.
    Gone,
}

/// Bytes of a connection so far, as its transport counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Came.
    pub n_read: u64,
    /// Left: the system has taken them.
    pub n_written: u64,
    /// Whether bytes wait that the system does not take.
    pub is_blocked: bool,
}

/// Watches one connection.
#[derive(Clone, Debug)]
pub struct KeepAlive {
    ask_after_ms: u64,
    gone_after_ms: u64,
    /// As of the last look.
    traffic: Traffic,
    /// When the other end was known to live.
    lived: Time,
    /// When this end sent something.
    spoke: Time,
    /// Whether the other end was asked since it lived.
    is_asked: bool,
}

impl KeepAlive {
    /// A connection that was just made. After `ask_after_ms` of silence, of either end, the
    /// other is asked for a sign of life; after `gone_after_ms` without one it is gone.
    pub fn new(now: Time, ask_after_ms: u64, gone_after_ms: u64) -> KeepAlive {
        let (traffic, is_asked) = (Traffic::default(), false);
        KeepAlive { ask_after_ms, gone_after_ms, traffic, lived: now, spoke: now, is_asked }
    }

    /// Looks at what has moved; whether bytes did, and what is to be done. May be called at
    /// any time, and must be at [`KeepAlive::poll_timeout`].
    ///
    /// `is_reading`: whether this end takes what comes; who is not listened to is not silent.
    pub fn look(&mut self, now: Time, traffic: Traffic, is_reading: bool) -> (bool, Sign) {
        let before = std::mem::replace(&mut self.traffic, traffic);
        let has_come = traffic.n_read > before.n_read;
        let has_left = traffic.n_written > before.n_written;
        let has_moved = has_come || (has_left && before.is_blocked);
        if has_moved || !is_reading {
            (self.lived, self.is_asked) = (now, false);
        }
        if has_left {
            self.spoke = now;
        }
        (has_moved, self.sign(now))
    }

    fn sign(&mut self, now: Time) -> Sign {
        let silence_ms = now.since(self.lived);
        if silence_ms >= self.gone_after_ms {
            return Sign::Gone;
        }
        let is_silent = silence_ms >= self.ask_after_ms && !self.is_asked;
        let has_been_silent = now.since(self.spoke) >= self.ask_after_ms;
        if !is_silent && !has_been_silent {
            return Sign::Nothing;
        }
        self.is_asked |= is_silent;
        self.spoke = now;
        match self.traffic.is_blocked {
            // It would wait behind what waits already, and prove nothing.
            true => Sign::Nothing,
            false => Sign::Ask,
        }
    }

    /// When to look again.
    pub fn poll_timeout(&self) -> Time {
        let silence_ms = if self.is_asked { self.gone_after_ms } else { self.ask_after_ms };
        self.lived.after(silence_ms).min(self.spoke.after(self.ask_after_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When it is looked, at what, and whether frames are being read.
    type Look = (u64, Traffic, bool);

    /// Bytes that came, that left, and whether some wait.
    fn traffic(n_read: u64, n_written: u64, is_blocked: bool) -> Traffic {
        Traffic { n_read, n_written, is_blocked }
    }

    /// Looks at each time, as a driver with 30 s and 75 s does: what it is told.
    fn told(looks: &[Look]) -> Vec<Sign> {
        let mut alive = KeepAlive::new(Time(0), 30, 75);
        let look =
            |(at, traffic, is_reading): &Look| alive.look(Time(*at), *traffic, *is_reading).1;
        looks.iter().map(look).collect()
    }

    #[test]
    fn who_moves_lives_and_who_is_silent_is_asked() {
        use Sign::{Ask, Gone, Nothing};
        let still = |at| (at, traffic(0, 0, false), true);
        let cases: [(&str, Vec<Look>, Vec<Sign>); 8] = [
            (
                "nothing comes",
                vec![still(29), still(30), still(31), still(74), still(75)],
                vec![Nothing, Ask, Nothing, Ask, Gone],
            ),
            (
                "a byte now and then, and this end has nothing to say",
                (1..6).map(|n| (n * 25, traffic(n, 0, false), true)).collect(),
                vec![Nothing, Ask, Nothing, Ask, Nothing],
            ),
            (
                "a long message leaves slowly, and nothing comes",
                (1..6).map(|n| (n * 60, traffic(0, n, true), true)).collect(),
                vec![Nothing; 5],
            ),
            (
                "it leaves no more",
                [30, 60, 90, 105, 135].map(|at| (at, traffic(0, at.min(60), true), true)).into(),
                vec![Nothing, Nothing, Nothing, Nothing, Gone],
            ),
            (
                "what the system takes at once proves nothing",
                (1..4).map(|n| (n * 25, traffic(0, n, false), true)).collect(),
                vec![Nothing, Ask, Gone],
            ),
            (
                "who is not listened to",
                (1..4).map(|n| (n * 70, traffic(0, n, false), false)).collect(),
                vec![Nothing; 3],
            ),
            (
                "an answer",
                vec![still(30), (31, traffic(2, 2, false), true), still(60), still(62)],
                vec![Ask, Nothing, Nothing, Ask],
            ),
            (
                "both talk",
                (1..9).map(|n| (n * 29, traffic(n, n, false), true)).collect(),
                vec![Nothing; 8],
            ),
        ];
        for (what, looks, expected) in cases {
            assert_eq!(told(&looks), expected, "{what}");
        }
    }
}
