//! A session: one connection, many channels, one state machine for both ends.
//!
//! Inputs are `handle_*` and commands; after each, the driver drains `poll_request`,
//! `poll_event` and, as far as its socket takes them, `poll_transmit`; then it waits for the
//! next input or [`Session::poll_timeout`]. While [`Session::is_reading`] is false it leaves
//! frames in the socket.
//!
//! Invariant: whatever a peer sends, memory stays within `limits.rs`, nothing panics, and
//! nothing is said to be safe that the driver did not call durable.

use std::collections::{BTreeMap, VecDeque};

use anabranch_core::site::SiteId;
use bytes::Bytes;

use crate::channel::{Channel, ChannelId, Fault, Outputs, Progress, fault};
use crate::driver::{Event, Request, StoreEvent, Verdict};
use crate::frame::{
    About, Capabilities, Closes, Decoded, ErrorCode, ErrorFrame, Frame, FrameError, Hello, Retry,
    Role, StoreName, Transmit, Turn, decode, encode,
};
use crate::limits::{
    MAX_CHANNELS, MAX_EVENTS, MAX_FAREWELLS, MAX_OVERRUN, MAX_REQUESTS, MAX_TAKING_BYTES,
    MAX_TAKING_PARTS, MAX_UNVERIFIED_BYTES, MAX_UNVERIFIED_CHANNELS, UNVERIFIED_MS,
};

mod command;

pub use command::{CommandError, Open};

/// Milliseconds since a moment of the driver's choosing; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// So many milliseconds later.
    pub fn after(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; 0 if it is later.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It opens channels and shows tokens.
    Opens,
    /// It accepts channels and checks tokens.
    Accepts,
}

/// What a session is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which end this is.
    pub side: Side,
    /// What this end is to the stores it opens.
    pub role: Role,
    /// What this end can do.
    pub capabilities: Capabilities,
    /// The only store that channels may name, always on channel 0, as on the address
    /// `/sync/<store>`; `None`: any.
    pub only_store: Option<StoreName>,
    /// Most channels, at most [`MAX_CHANNELS`].
    pub max_channels: u32,
}

impl Config {
    /// A peer that opens channels.
    pub fn client() -> Config {
        Config {
            side: Side::Opens,
            role: Role::Peer,
            capabilities: Capabilities::ALL,
            only_store: None,
            max_channels: MAX_CHANNELS,
        }
    }

    /// A relay that accepts them.
    pub fn relay() -> Config {
        Config { side: Side::Accepts, role: Role::Relay, ..Config::client() }
    }
}

/// One connection; see the module.
#[derive(Debug)]
pub struct Session {
    config: Config,
    /// Boxed: a node of the map has room for eleven, and most connections have one.
    channels: BTreeMap<ChannelId, Box<Channel>>,
    out: Outputs,
    /// The latest time heard of.
    now: Time,
    opened: Time,
    /// Whether a token was found valid, or none is needed on this side.
    is_verified: bool,
    /// Bytes that came before that.
    n_unverified_bytes: usize,
    /// Channels that may have something to send, in turn.
    ready: VecDeque<ChannelId>,
    /// Last words of closed channels and of the connection.
    farewells: VecDeque<Transmit>,
    /// The number that the next channel gets.
    next_channel: u32,
    is_closed: bool,
}

impl Session {
    /// A connection that was just made.
    pub fn new(now: Time, config: Config) -> Session {
        Session {
            is_verified: config.side == Side::Opens,
            config,
            channels: BTreeMap::new(),
            out: Outputs::default(),
            now,
            opened: now,
            n_unverified_bytes: 0,
            ready: VecDeque::new(),
            farewells: VecDeque::new(),
            next_channel: 0,
            is_closed: false,
        }
    }

    /// Whether the connection has ended: send what [`Session::poll_transmit`] has left, and
    /// close the socket.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether frames may be given: if not, the store or the application is behind.
    pub fn is_reading(&self) -> bool {
        !self.is_closed
            && self.out.requests.len() < MAX_REQUESTS
            && self.out.events.len() < MAX_EVENTS
            && self.out.n_taking < MAX_TAKING_PARTS
            && self.out.n_taking_bytes < MAX_TAKING_BYTES
    }

    /// The channels there are.
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> + '_ {
        self.channels.keys().copied()
    }

    /// The store of a channel.
    pub fn store(&self, channel: ChannelId) -> Option<&StoreName> {
        self.channels.get(&channel).map(|channel| channel.store())
    }

    /// Site and role of the other end of a channel, once it has said Hello.
    pub fn peer(&self, channel: ChannelId) -> Option<(SiteId, Role)> {
        self.channels.get(&channel).and_then(|channel| channel.peer())
    }

    /// How far the exchange on a channel is.
    pub fn progress(&self, channel: ChannelId) -> Option<Progress> {
        self.channels.get(&channel).map(|channel| channel.progress())
    }
}

/// Inputs.
impl Session {
    /// A frame came. Whatever it is, the session stays sound; what is wrong with it shows in
    /// errors to the peer and in events.
    pub fn handle_frame(&mut self, now: Time, bytes: Bytes) {
        self.now = self.now.max(now);
        if self.is_closed {
            return;
        }
        if !self.is_verified {
            self.n_unverified_bytes = self.n_unverified_bytes.saturating_add(bytes.len());
            if self.n_unverified_bytes > MAX_UNVERIFIED_BYTES {
                let text = "too many bytes before a valid token";
                return self.end(*fault(ErrorCode::Unauthorized, text), false);
            }
        }
        let (id, frame) = match decode(&bytes) {
            Ok(Decoded::Frame(id, frame)) => (id, frame),
            Ok(Decoded::Ignored { .. }) => return,
            Err(error) => return self.end(frame_error(&error), false),
        };
        if self.channels.contains_key(&id) {
            self.route(id, frame);
        } else if let Frame::Hello(hello) = frame {
            self.greet(id, hello);
        } else if let Frame::Error(ErrorFrame { closes: Closes::Connection, .. }) = &frame {
            self.route(id, frame);
        } else if !self.is_verified {
            self.end(*fault(ErrorCode::Unauthorized, "the first frame must be Hello"), false);
        }
        // Else it was under way when its channel closed.
    }

    fn route(&mut self, id: ChannelId, frame: Frame) {
        if let Frame::Error(error) = &frame
            && error.closes != Closes::Nothing
        {
            return match error.closes {
                Closes::Connection => self.end(error.clone(), true),
                _ => self.remove(id, Box::new(error.clone()), true),
            };
        }
        let now = self.now;
        self.with(id, |channel, out| channel.handle_frame(now, frame, out));
        let is_overrun = self.out.n_taking > MAX_OVERRUN * MAX_TAKING_PARTS
            || self.out.n_taking_bytes > MAX_OVERRUN * MAX_TAKING_BYTES;
        if is_overrun {
            self.end(*fault(ErrorCode::OverLimit, "more parts than the store can take"), false);
        }
    }

    fn greet(&mut self, id: ChannelId, hello: Hello) {
        let is_opening = matches!(hello.turn, Turn::Open { .. });
        if self.config.side == Side::Opens || !is_opening {
            // An answer to a channel that is gone, or a peer that mistakes its side.
            return;
        }
        let is_named = match &self.config.only_store {
            None => id.number() < self.config.max_channels,
            Some(only) => id.number() == 0 && *only == hello.store,
        };
        if !is_named {
            return self.refuse_channel(id, ErrorCode::NoStore, "not on this connection");
        }
        let n_waiting = self.channels.values().filter(|channel| !channel.is_verified()).count();
        if n_waiting >= MAX_UNVERIFIED_CHANNELS {
            return self.refuse_channel(id, ErrorCode::Busy, "too many channels at once");
        }
        if self.channels.len() >= self.config.max_channels as usize {
            return self.refuse_channel(id, ErrorCode::OverLimit, "too many channels");
        }
        let me = (self.config.role, self.config.capabilities);
        let channel = Channel::accept(self.now, id, me, hello, &mut self.out);
        self.channels.insert(id, Box::new(channel));
    }

    fn refuse_channel(&mut self, id: ChannelId, code: ErrorCode, text: &str) {
        let mut error = fault(code, text);
        if code == ErrorCode::Busy {
            error.retry = Retry::AfterMs(1000);
        }
        self.say_farewell(id, &error);
    }

    /// The store of a channel has answered, or something happened in it. News of a channel
    /// that is gone are dropped.
    pub fn handle_store_event(&mut self, now: Time, channel: ChannelId, event: StoreEvent) {
        self.now = self.now.max(now);
        let now = self.now;
        self.with(channel, |channel, out| channel.handle_store_event(now, event, out));
    }

    /// The driver has looked at a token; or takes its word back at any time later.
    pub fn handle_token(&mut self, now: Time, channel: ChannelId, verdict: Verdict) {
        self.now = self.now.max(now);
        let now = self.now;
        let is_granted = matches!(verdict, Verdict::Granted { .. });
        self.is_verified |= is_granted && self.channels.contains_key(&channel);
        self.with(channel, |channel, out| channel.handle_token(now, verdict, out));
    }

    /// Bytes came or left, if no whole frame: on a slow line the next step of a handshake
    /// may be behind a long part of another channel, and is not late. To be said before
    /// [`Session::handle_timer`].
    pub fn handle_moving(&mut self, now: Time) {
        self.now = self.now.max(now);
        let now = self.now;
        self.channels.values_mut().for_each(|channel| channel.wait_on(now));
    }

    /// The time of [`Session::poll_timeout`] has come; harmless at any other.
    pub fn handle_timer(&mut self, now: Time) {
        self.now = self.now.max(now);
        if self.is_closed {
            return;
        }
        if !self.is_verified && self.now >= self.opened.after(UNVERIFIED_MS) {
            return self.end(*fault(ErrorCode::TimedOut, "no valid token in time"), false);
        }
        let now = self.now;
        let due = |channel: &Channel| channel.deadline().is_some_and(|at| at <= now);
        let late: Vec<ChannelId> =
            self.channels.values().filter(|channel| due(channel)).map(|c| c.id).collect();
        for id in late {
            self.with(id, |channel, out| channel.handle_timer(now, out));
        }
    }
}

/// Outputs.
impl Session {
    /// The next question to the driver.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.out.requests.pop_front()
    }

    /// The next thing the application may want to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// The next frame to be sent; asked for only when the socket takes one. Taking a frame
    /// makes room, so there may be new requests afterwards.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if let Some(transmit) = self.farewells.pop_front() {
            return Some(transmit);
        }
        let now = self.now;
        while let Some(id) = self.ready.pop_front() {
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            channel.is_ready = false;
            let before = channel.queued_bytes();
            let Some(frame) = channel.transmit(now) else { continue };
            self.out.n_queued_bytes -= before - channel.queued_bytes();
            let transmit = encode(id, &frame);
            self.advance(id);
            if let Some(starved) = self.out.starved.pop_front() {
                self.advance(starved);
            }
            return Some(transmit);
        }
        None
    }

    /// When [`Session::handle_timer`] is to be called, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.is_closed {
            return None;
        }
        let unverified = (!self.is_verified).then(|| self.opened.after(UNVERIFIED_MS));
        let deadlines = self.channels.values().filter_map(|channel| channel.deadline());
        deadlines.chain(unverified).min()
    }
}

/// What the above share.
impl Session {
    /// Works on a channel, keeps the sums, and closes it if it cannot go on.
    fn with(
        &mut self,
        id: ChannelId,
        work: impl FnOnce(&mut Channel, &mut Outputs) -> Result<(), Fault>,
    ) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let before = (channel.queued_bytes(), channel.taking());
        let result = work(channel, &mut self.out);
        let after = (channel.queued_bytes(), channel.taking());
        self.out.n_queued_bytes = self.out.n_queued_bytes + after.0 - before.0;
        self.out.n_taking = self.out.n_taking + after.1.0 - before.1.0;
        self.out.n_taking_bytes = self.out.n_taking_bytes + after.1.1 - before.1.1;
        if !std::mem::replace(&mut channel.is_ready, true) {
            self.ready.push_back(id);
        }
        if let Err(error) = result {
            self.remove(id, error, false);
        }
    }

    fn advance(&mut self, id: ChannelId) {
        let now = self.now;
        self.with(id, |channel, out| {
            channel.advance(now, out);
            Ok(())
        });
    }

    /// Ends a channel.
    fn remove(&mut self, id: ChannelId, error: Fault, by_peer: bool) {
        let Some(mut channel) = self.channels.remove(&id) else { return };
        self.out.n_queued_bytes -= channel.queued_bytes();
        let (n, n_bytes) = channel.taking();
        self.out.n_taking -= n;
        self.out.n_taking_bytes -= n_bytes;
        channel.close(&mut self.out);
        if !by_peer {
            self.say_farewell(id, &error);
        }
        self.out.event(Event::Closed { channel: Some(id), error: *error, by_peer });
    }

    /// Ends the connection.
    fn end(&mut self, mut error: ErrorFrame, by_peer: bool) {
        self.is_closed = true;
        for mut channel in std::mem::take(&mut self.channels).into_values() {
            channel.close(&mut self.out);
        }
        (self.out.n_queued_bytes, self.out.n_taking, self.out.n_taking_bytes) = (0, 0, 0);
        error.closes = Closes::Connection;
        if !by_peer && let Some(first) = ChannelId::new(0) {
            self.farewells.push_back(encode(first, &Frame::Error(error.clone())));
        }
        self.out.event(Event::Closed { channel: None, error, by_peer });
    }

    fn say_farewell(&mut self, id: ChannelId, error: &ErrorFrame) {
        if self.farewells.len() >= MAX_FAREWELLS {
            return self.end(*fault(ErrorCode::OverLimit, "refusals that nobody reads"), false);
        }
        self.farewells.push_back(encode(id, &Frame::Error(error.clone())));
    }
}

fn frame_error(error: &FrameError) -> ErrorFrame {
    let code = match error {
        FrameError::Malformed { .. } => ErrorCode::Malformed,
        FrameError::OverLimit { .. } => ErrorCode::OverLimit,
        FrameError::UnknownType { .. } => ErrorCode::UnknownType,
        FrameError::Protocol { .. } => ErrorCode::Protocol,
        FrameError::Part(_) => ErrorCode::Damaged,
    };
    let (retry, about) = (Retry::Never, About::Nothing);
    ErrorFrame { code, retry, closes: Closes::Connection, about, text: error.to_string() }
}
