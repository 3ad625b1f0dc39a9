//! What the application wants of a session: channels, tokens, blobs, presence, receipts.

use anabranch_core::site::SiteId;
use anabranch_core::vector::Dot;
use bytes::Bytes;

use super::{Config, Session, Side, Time};
use crate::channel::{Channel, ChannelId, End, Outputs};
use crate::driver::Refusal;
use crate::frame::{BlobId, Closes, Participant, Receipt, StoreName};
use crate::limits::{MAX_CHANNELS, MAX_PRESENCE_BYTES, MAX_TOKEN_BYTES};
use crate::ticket::Ticket;

/// What [`Session::open`] opens.
#[derive(Clone, Debug)]
pub struct Open {
    /// The store, as the other end knows it.
    pub store: StoreName,
    /// The site of the store here.
    pub site: SiteId,
    /// At most [`MAX_TOKEN_BYTES`]; empty if the transport has carried one.
    pub token: Bytes,
    /// What the other end gave last time ([`crate::Event::TicketGiven`]).
    pub ticket: Option<Ticket>,
}

/// Why a command is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The connection or the channel has ended: open another.
    #[error("the channel has ended")]
    Closed,
    /// All channels are in use: close one.
    #[error("all channels are in use")]
    NoChannel,
    /// Only the side that opens channels may.
    #[error("this side of the connection does not open channels")]
    NotOpening,
    /// More than the protocol carries.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// What.
        what: &'static str,
        /// The bound in bytes.
        limit: usize,
    },
    /// Later, when some of it is done.
    #[error("too much at once; later")]
    Busy,
    /// The token or the peer does not allow it.
    #[error("the token or the peer does not allow it")]
    NotAllowed,
}

impl Session {
    /// Opens a channel for a store.
    ///
    /// # Errors
    /// [`CommandError`]: on the accepting side, with all channels in use, for another store
    /// than the only one, with a token that is too long.
    pub fn open(&mut self, now: Time, open: Open) -> Result<ChannelId, CommandError> {
        self.now = self.now.max(now);
        if self.is_closed {
            return Err(CommandError::Closed);
        }
        if self.config.side != Side::Opens {
            return Err(CommandError::NotOpening);
        }
        check_len("token", &open.token, MAX_TOKEN_BYTES)?;
        let max = match &self.config.only_store {
            None => self.config.max_channels.clamp(1, MAX_CHANNELS),
            Some(only) if *only == open.store => 1,
            Some(_) => return Err(CommandError::NoChannel),
        };
        let numbers = (0..max).map(|n| (self.next_channel + n) % max);
        let free = numbers.filter_map(ChannelId::new).find(|id| !self.channels.contains_key(id));
        let id = free.ok_or(CommandError::NoChannel)?;
        self.next_channel = (id.number() + 1) % max;
        let Config { role, capabilities, .. } = self.config;
        let me = End { site: open.site, role, capabilities };
        let (token, ticket) = (open.token, open.ticket);
        let channel = Channel::open(self.now, id, me, open.store, token, ticket, &mut self.out);
        self.channels.insert(id, Box::new(channel));
        self.with(id, |_, _| Ok(()));
        Ok(id)
    }

    /// Closes a channel, and says why.
    pub fn close(&mut self, now: Time, channel: ChannelId, reason: Refusal) {
        self.now = self.now.max(now);
        if self.channels.contains_key(&channel) {
            self.remove(channel, Box::new(reason.frame(Closes::Channel)), false);
        }
    }

    /// Closes the connection, and says why: a relay that stops says when to come back.
    pub fn close_all(&mut self, now: Time, reason: Refusal) {
        self.now = self.now.max(now);
        if !self.is_closed {
            self.end(reason.frame(Closes::Connection), false);
        }
    }

    /// Shows a new token on a channel before the old one ends.
    ///
    /// # Errors
    /// [`CommandError`]
    pub fn renew_token(&mut self, channel: ChannelId, token: Bytes) -> Result<(), CommandError> {
        check_len("token", &token, MAX_TOKEN_BYTES)?;
        self.command(channel, |channel, _, _| {
            channel.renew_token(token);
            Ok(())
        })
    }

    /// Sends again what the peer had refused for good: somebody did something about it.
    ///
    /// # Errors
    /// [`CommandError::Closed`]
    pub fn retry(&mut self, channel: ChannelId) -> Result<(), CommandError> {
        self.command(channel, |channel, now, out| {
            channel.retry(now, out);
            Ok(())
        })
    }

    /// Wants a blob of the peer, from chunk `first` on, where an earlier try has ended.
    ///
    /// # Errors
    /// [`CommandError::Busy`] if too many are wanted; ask again after [`crate::Event::BlobDone`].
    /// [`CommandError::NotAllowed`] if the token or the peer does not allow it.
    pub fn want_blob(
        &mut self,
        channel: ChannelId,
        blob: BlobId,
        first: u64,
    ) -> Result<(), CommandError> {
        self.command(channel, |channel, now, out| channel.want_blob(now, blob, first, out))
    }

    /// Shows this end's presence until it is taken back by `None`; repeats it by itself.
    ///
    /// # Errors
    /// [`CommandError`]
    pub fn set_presence(
        &mut self,
        channel: ChannelId,
        state: Option<Bytes>,
    ) -> Result<(), CommandError> {
        check_len("presence", state.as_deref().unwrap_or(&[]), MAX_PRESENCE_BYTES)?;
        self.command(channel, |channel, _, _| {
            channel.set_presence(state);
            Ok(())
        })
    }

    /// Passes another participant's presence on. Only the latest of each is sent.
    ///
    /// # Errors
    /// [`CommandError`]
    pub fn pass_presence(
        &mut self,
        channel: ChannelId,
        who: Participant,
        state: Option<Bytes>,
    ) -> Result<(), CommandError> {
        check_len("presence", state.as_deref().unwrap_or(&[]), MAX_PRESENCE_BYTES)?;
        self.command(channel, |channel, _, _| {
            channel.pass_presence(who, state).then_some(()).ok_or(CommandError::Busy)
        })
    }

    /// Asks how far changes got; answered by [`crate::Event::Receipts`].
    ///
    /// # Errors
    /// [`CommandError::NotAllowed`] if the token or the peer does not allow it.
    pub fn ask_receipts(
        &mut self,
        channel: ChannelId,
        changes: Vec<Dot>,
    ) -> Result<(), CommandError> {
        self.command(channel, |channel, _, _| {
            channel.ask_receipts(changes).then_some(()).ok_or(CommandError::NotAllowed)
        })
    }

    /// Tells receipts that were not asked for.
    ///
    /// # Errors
    /// [`CommandError::Busy`] if the peer does not read.
    pub fn tell_receipts(
        &mut self,
        channel: ChannelId,
        receipts: Vec<Receipt>,
    ) -> Result<(), CommandError> {
        self.command(channel, |channel, _, _| {
            channel.tell_receipts(receipts).map_err(|_| CommandError::Busy)
        })
    }

    fn command(
        &mut self,
        id: ChannelId,
        work: impl FnOnce(&mut Channel, Time, &mut Outputs) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let now = self.now;
        let mut result = Err(CommandError::Closed);
        self.with(id, |channel, out| {
            result = work(channel, now, out);
            Ok(())
        });
        result
    }
}

fn check_len(what: &'static str, bytes: &[u8], limit: usize) -> Result<(), CommandError> {
    if bytes.len() > limit { Err(CommandError::TooLong { what, limit }) } else { Ok(()) }
}
