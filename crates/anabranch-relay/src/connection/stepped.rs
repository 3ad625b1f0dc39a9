//! A connection whose frames somebody carries, for the simulated world: no socket, no task.
//! What decides and what touches the storage is what ships.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use super::Connection;
use crate::relay::Relay;

/// One connection, driven by its caller.
pub(crate) struct Stepped(Connection);

impl Stepped {
    pub(crate) fn new(relay: Arc<Relay>) -> Stepped {
        Stepped(Connection::new(relay, None, None))
    }

    /// A frame came.
    pub(crate) fn take(&mut self, frame: Bytes) {
        let now = self.0.relay.now();
        self.0.session.handle_frame(now, frame);
        self.turn();
    }

    /// Looks at the clock, at what others committed and at what the storage answered, until
    /// nothing of it is left.
    pub(crate) fn turn(&mut self) {
        let connection = &mut self.0;
        connection.session.handle_timer(connection.relay.now());
        loop {
            let mut is_quiet = !connection.serve();
            while let Some(Some(outcome)) = connection.jobs.next().now_or_never() {
                connection.done(outcome);
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
        self.0.session.is_reading()
    }

    /// Whether the session has ended; it may have frames left.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.session.is_closed()
    }

    /// The next frame to be sent.
    pub(crate) fn poll_frame(&mut self) -> Option<Bytes> {
        self.0.session.poll_transmit().map(|frame| frame.into_bytes().into())
    }

    /// When [`Stepped::turn`] is due, in the relay's time, if nothing happens before.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.0.session.poll_timeout().map(|at| at.0)
    }
}
