//! A connection between a copy and a relay, and the network under it: whole frames in order,
//! late, until it is cut at some byte; and then each end hears of it in its own time.

use std::collections::VecDeque;

use anabranch_client::testing::Client;
use anabranch_relay::testing::Connection;
use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;

/// Bytes under way in one direction before the sender must wait.
const PIPE_BYTES: usize = 32 << 10;

/// One direction.
#[derive(Default)]
pub(super) struct Pipe {
    /// When each arrives.
    frames: VecDeque<(u64, Bytes)>,
    n_bytes: usize,
    last_ms: u64,
    /// What is sent from here on goes nowhere.
    is_cut: bool,
}

impl Pipe {
    /// Whether the sender's socket takes more.
    pub(super) fn has_room(&self) -> bool {
        self.n_bytes < PIPE_BYTES
    }

    /// Sends a frame; when it arrives.
    pub(super) fn send(&mut self, now_ms: u64, latency_ms: u64, frame: Bytes) -> Option<u64> {
        if self.is_cut {
            return None;
        }
        self.last_ms = self.last_ms.max(now_ms + latency_ms);
        self.n_bytes += frame.len();
        self.frames.push_back((self.last_ms, frame));
        Some(self.last_ms)
    }

    /// The next frame that has arrived.
    pub(super) fn receive(&mut self, now_ms: u64) -> Option<Bytes> {
        let (at, _) = self.frames.front()?;
        if *at > now_ms {
            return None;
        }
        let (_, frame) = self.frames.pop_front()?;
        self.n_bytes -= frame.len();
        Some(frame)
    }

    /// Cuts it at any byte of what is under way: frames behind it, and the one in which it
    /// falls, never arrive.
    fn cut(&mut self, rng: &mut StdRng) {
        self.is_cut = true;
        let mut left = rng.random_range(0..=self.n_bytes);
        let mut n_whole = 0;
        for (_, frame) in &self.frames {
            if frame.len() > left {
                break;
            }
            left -= frame.len();
            n_whole += 1;
        }
        self.frames.truncate(n_whole);
        self.n_bytes = self.frames.iter().map(|(_, frame)| frame.len()).sum();
    }

    /// No more is sent; what is under way arrives.
    fn close(&mut self) {
        self.is_cut = true;
    }

    /// When the last of what is under way arrives.
    pub(super) fn drained_ms(&self, now_ms: u64) -> u64 {
        if self.frames.is_empty() { now_ms } else { self.last_ms.max(now_ms) }
    }
}

/// See the module.
pub(super) struct Link<'a> {
    pub(super) site: usize,
    pub(super) relay: usize,
    /// `None` once that end knows that the connection is gone.
    pub(super) client: Option<Client<'a>>,
    pub(super) server: Option<Connection>,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    /// How long a frame takes at least.
    pub(super) latency_ms: u64,
    /// When both ends look at clock and store next, if it is known.
    pub(super) turns_ms: Option<u64>,
    pub(super) is_cut: bool,
    /// Whose token opened it, if it may be revoked, and when that ends by the relay's clock.
    pub(super) pass: Option<Pass>,
}

/// A token that does not live as long as the world.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) subject: String,
    pub(super) token: Bytes,
    pub(super) ends_ms: u64,
}

impl Link<'_> {
    /// Cuts both directions.
    pub(super) fn cut(&mut self, rng: &mut StdRng) {
        self.is_cut = true;
        self.up.cut(rng);
        self.down.cut(rng);
    }

    /// An end closes it: what is under way arrives.
    pub(super) fn close(&mut self) {
        self.is_cut = true;
        self.up.close();
        self.down.close();
    }

    /// Whether nobody knows of it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.client.is_none() && self.server.is_none()
    }
}
