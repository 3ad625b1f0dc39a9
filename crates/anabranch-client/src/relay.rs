//! A connection to a relay: one socket, one session, a channel for each store.
//!
//! The session decides what is said; here are socket, clock, randomness and the loop, all on
//! the caller's thread: each turn waits for at most the time given.

mod answers;
mod channel;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anabranch_core::vector::Dot;
use anabranch_sync::frame::{ErrorCode, ErrorFrame, Retry};
use anabranch_sync::{Refusal, Time};
use bytes::Bytes;
use tokio::runtime::Runtime;

use crate::backoff::Backoff;
use crate::limits::MAX_FRAMES_TOGETHER;
use crate::replica::StoreError;
use crate::report::{Event, Told};
use crate::socket::{ConnectError, Socket, Wake};
pub(crate) use channel::{Channel, State};
pub(crate) use talk::Talk;

/// A relay, and the stores that sync with it.
pub(crate) struct Relay<'a> {
    url: String,
    token: Bytes,
    channels: Vec<Channel<'a>>,
    runtime: Runtime,
    started: Instant,
    backoff: Backoff,
    link: Link,
    told: VecDeque<Told>,
}

/// The connection, or when there will be one.
enum Link {
    /// None before then.
    Waiting(Instant),
    /// There will be none: somebody must do something first.
    GivenUp,
    Live(Box<Live>),
}

struct Live {
    socket: Socket,
    talk: Talk,
}

impl Live {
    /// Takes a frame and those that came with it, until the turn is over: they are acknowledged
    /// together. What ended the connection, if it did.
    fn take(
        &mut self,
        now: Time,
        first: Wake,
        until: Instant,
        channels: &mut [Channel<'_>],
        told: &mut VecDeque<Told>,
    ) -> Result<Option<String>, StoreError> {
        let mut wake = Some(first);
        for n_left in (0..MAX_FRAMES_TOGETHER).rev() {
            match wake {
                Some(Wake::Frame(frame)) => self.talk.take(now, frame, channels, told)?,
                Some(Wake::Ended(why)) => return Ok(Some(why)),
                Some(Wake::Time) | None => break,
            }
            let goes_on = n_left > 0 && self.talk.session.is_reading() && Instant::now() < until;
            wake = goes_on.then(|| self.socket.next_here()).flatten();
        }
        Ok(None)
    }
}

impl<'a> Relay<'a> {
    /// Will connect in the first turn.
    pub(crate) fn new(
        url: String,
        token: String,
        channels: Vec<Channel<'a>>,
    ) -> std::io::Result<Relay<'a>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let started = Instant::now();
        Ok(Relay {
            url,
            token: token.into(),
            channels,
            runtime,
            started,
            backoff: Backoff::default(),
            link: Link::Waiting(started),
            told: VecDeque::new(),
        })
    }

    /// The stores' channels.
    pub(crate) fn channels(&self) -> &[Channel<'a>] {
        &self.channels
    }

    /// What happened, oldest first.
    pub(crate) fn poll_told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// Whether there is a connection.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.link, Link::Live(_))
    }

    /// Whether connecting again makes no sense.
    pub(crate) fn has_given_up(&self) -> bool {
        matches!(self.link, Link::GivenUp)
    }

    /// Connects again at once, whatever the last wait was.
    pub(crate) fn hurry(&mut self) {
        if let Link::Waiting(until) = &mut self.link {
            *until = Instant::now();
        }
    }

    /// Does what is to be done, then waits until something happens or `until`.
    ///
    /// # Errors
    /// What is wrong with a store's own file; the connection is closed then.
    pub(crate) fn turn(&mut self, until: Instant) -> Result<(), StoreError> {
        match &mut self.link {
            Link::GivenUp => {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
                Ok(())
            }
            Link::Waiting(at) if *at > Instant::now() => {
                let until = until.min(*at);
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
                Ok(())
            }
            Link::Waiting(_) => self.connect(),
            Link::Live(_) => {
                let turned = self.converse(until);
                if turned.is_err() {
                    self.link = Link::GivenUp;
                }
                turned
            }
        }
    }

    fn connect(&mut self) -> Result<(), StoreError> {
        match self.runtime.block_on(Socket::connect(&self.url)) {
            Ok(socket) => {
                let talk = Talk::begin(self.time(), &self.token, &mut self.channels)?;
                self.link = Link::Live(Box::new(Live { socket, talk }));
                Ok(())
            }
            Err(ConnectError::Offline(why)) => self.lost(why, 0),
            Err(ConnectError::Refused(why)) => self.give_up(why),
        }
    }

    fn time(&self) -> Time {
        Time(self.started.elapsed().as_millis() as u64)
    }

    /// One round of the loop that the session's documentation draws.
    fn converse(&mut self, until: Instant) -> Result<(), StoreError> {
        let now = self.time();
        let Link::Live(live) = &mut self.link else { return Ok(()) };
        let Live { socket, talk } = &mut **live;
        talk.turn(now, &mut self.channels, &mut self.told)?;
        let session = &mut talk.session;
        let deadline = session.poll_timeout().map(|at| self.started + Duration::from_millis(at.0));
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        let is_reading = session.is_reading();
        let wake = self.runtime.block_on(socket.wait(is_reading, until.into(), &mut || {
            session.poll_transmit().map(|frame| frame.into_bytes())
        }));
        let now = Time(self.started.elapsed().as_millis() as u64);
        if socket.has_moved() {
            session.handle_moving(now);
        }
        let ended = match wake {
            Wake::Time => {
                session.handle_timer(now);
                None
            }
            wake => live.take(now, wake, until, &mut self.channels, &mut self.told)?,
        };
        live.talk.drain(now, &mut self.channels, &mut self.told)?;
        if let Some(why) = ended {
            return self.lost(why, 0);
        }
        let ending = live.talk.ending.take();
        let is_accepted =
            |channel: &Channel<'_>| matches!(channel.state(), State::Exchanging | State::Converged);
        if self.channels.iter().any(is_accepted) {
            self.backoff.reset();
        }
        match ending {
            Some(error) => self.end(&error),
            None => Ok(()),
        }
    }

    /// The session has ended: sends its last words, closes the socket, and decides whether to
    /// come back.
    fn end(&mut self, error: &ErrorFrame) -> Result<(), StoreError> {
        self.hang_up();
        let why = words(error);
        match error.retry {
            Retry::Never => self.give_up(why),
            Retry::AfterMs(ms) => self.lost(why, ms),
        }
    }

    /// Shows a new token on all channels, and on connections to come.
    pub(crate) fn renew_token(&mut self, token: &str) {
        self.token = Bytes::copy_from_slice(token.as_bytes());
        if let Link::Live(live) = &mut self.link {
            for id in live.talk.places.keys() {
                // A token that is too long is refused with the next connection.
                let _ = live.talk.session.renew_token(*id, self.token.clone());
            }
        }
    }

    /// Shows this to others on a store, or nothing any more.
    pub(crate) fn set_presence(&mut self, store: &str, state: Option<Bytes>) {
        let is_it = |channel: &Channel<'_>| channel.name() == store || store.is_empty();
        let Some(place) = self.channels.iter().position(is_it) else { return };
        self.channels[place].set_presence(state.clone());
        if let Link::Live(live) = &mut self.link {
            let id = live.talk.places.iter().find(|(_, at)| **at == place).map(|(id, _)| *id);
            // A channel that is gone shows it when it is opened again.
            let _ = id.map(|id| live.talk.session.set_presence(id, state));
        }
    }

    /// Asks how far changes of a store got, once both ends hold the same.
    pub(crate) fn ask_receipts(&mut self, store: &str, changes: &[Dot]) {
        let is_it = |channel: &&mut Channel<'_>| channel.name() == store || store.is_empty();
        if let Some(channel) = self.channels.iter_mut().find(is_it) {
            channel.ask(changes);
        }
    }

    /// Closes all channels politely. What was to be said and is not sent is lost, which
    /// loses nothing.
    ///
    /// # Errors
    /// What peers hold cannot be written down.
    pub(crate) fn close(&mut self) -> Result<(), StoreError> {
        let now = self.time();
        if let Link::Live(live) = &mut self.link {
            let reason = Refusal::new(ErrorCode::Closing, Retry::AfterMs(0), "");
            live.talk.session.close_all(now, reason);
            self.hang_up();
        }
        self.link = Link::GivenUp;
        self.channels.iter_mut().try_for_each(|channel| channel.write_down(true))
    }

    fn hang_up(&mut self) {
        let link = std::mem::replace(&mut self.link, Link::GivenUp);
        let Link::Live(live) = link else { return };
        let Live { mut socket, talk: Talk { mut session, .. } } = *live;
        self.runtime.block_on(async {
            // As much as goes out at once.
            let until = Instant::now();
            let mut next = || session.poll_transmit().map(|frame| frame.into_bytes());
            socket.wait(false, until.into(), &mut next).await;
            socket.close().await;
        });
    }

    /// The connection is gone, or could not be made; it is tried again.
    fn lost(&mut self, why: String, at_least_ms: u64) -> Result<(), StoreError> {
        let mut random = [0; 8];
        // Without randomness the clock's last digits must do.
        if getrandom::fill(&mut random).is_err() {
            random =
                self.started.elapsed().as_nanos().to_le_bytes()[..8].try_into().unwrap_or(random);
        }
        let wait_ms = self.backoff.next(u64::from_le_bytes(random), at_least_ms);
        self.link = Link::Waiting(Instant::now() + Duration::from_millis(wait_ms));
        for channel in &mut self.channels {
            channel.lost(&why)?;
            self.told.extend(channel.everybody_left());
            let event = Event::Offline { why: why.clone(), retry_in_ms: Some(wait_ms) };
            self.told.push_back(channel.told(event));
        }
        Ok(())
    }

    fn give_up(&mut self, why: String) -> Result<(), StoreError> {
        self.link = Link::GivenUp;
        for channel in &mut self.channels {
            channel.lost(&why)?;
            self.told.extend(channel.everybody_left());
            self.told.push_back(channel.told(Event::Refused(why.clone())));
        }
        Ok(())
    }
}

/// `Unauthorized: the token has ended`.
pub(super) fn words(error: &ErrorFrame) -> String {
    match (error.code, error.text.is_empty()) {
        (ErrorCode::Closing, true) => "the relay closed the connection".into(),
        (ErrorCode::Closing, false) => format!("the relay closed the connection: {}", error.text),
        (code, true) => format!("{code:?}"),
        (code, false) if error.text.starts_with(&format!("{code:?}")) => error.text.clone(),
        (code, false) => format!("{code:?}: {}", error.text),
    }
}
