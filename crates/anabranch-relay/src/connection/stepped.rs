//! A connection whose frames somebody carries, for the simulated world: no socket, no task.
//! What decides and what touches the storage is what ships.

use std::sync::Arc;

use anabranch_sync::ChannelId;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;

use super::Connection;
use crate::relay::Relay;

/// One connection, driven by its caller.
pub(crate) struct Stepped {
    connection: Connection,
    revoked: watch::Receiver<u64>,
}

impl Stepped {
    pub(crate) fn new(relay: Arc<Relay>) -> Stepped {
        let revoked = relay.revocations().subscribe();
        Stepped { connection: Connection::new(relay, None, None), revoked }
    }

    /// A frame came.
    pub(crate) fn take(&mut self, frame: Bytes) {
        let now = self.connection.relay.now();
        self.connection.session.handle_frame(now, frame);
        self.turn();
    }

    /// Looks at the clock, at what others committed and at what the storage answered, until
    /// nothing of it is left.
    pub(crate) fn turn(&mut self) {
        let connection = &mut self.connection;
        connection.session.handle_timer(connection.relay.now());
        loop {
            let mut is_quiet = !connection.serve();
            while let Some(Some(outcome)) = connection.jobs.next().now_or_never() {
                connection.done(outcome);
                is_quiet = false;
            }
            if self.revoked.has_changed().unwrap_or(false) {
                self.revoked.mark_unchanged();
                connection.recheck();
                is_quiet = false;
            }
            let wake = Arc::clone(&connection.wake);
            if wake.woken().now_or_never().is_some() {
                connection.hear_news();
                is_quiet = false;
            }
            if is_quiet {
                return;
            }
        }
    }

    /// Whether frames may be given.
    pub(crate) fn is_reading(&self) -> bool {
        self.connection.session.is_reading()
    }

    /// Whether the session has ended; it may have frames left.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.session.is_closed()
    }

    /// Whether its only channel is open.
    pub(crate) fn is_serving(&self) -> bool {
        ChannelId::new(0).is_some_and(|id| self.connection.session.progress(id).is_some())
    }

    /// The next frame to be sent.
    pub(crate) fn poll_frame(&mut self) -> Option<Bytes> {
        self.connection.session.poll_transmit().map(|frame| frame.into_bytes().into())
    }

    /// When [`Stepped::turn`] is due, in the relay's time, if nothing happens before.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.connection.session.poll_timeout().map(|at| at.0)
    }
}
