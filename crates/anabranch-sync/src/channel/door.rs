//! How a channel is opened: who is at the other end, with which right, for how long.

use bytes::Bytes;

use crate::frame::{Capabilities, Role, StoreName};
use crate::scope::{Action, Direction, Scopes};
use crate::session::{Side, Time};
use crate::ticket::Ticket;
use anabranch_core::site::SiteId;

/// How far the handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepting: the driver looks at the token.
    Verifying,
    /// Accepting: the driver opens the store. Opening: the answer came, the store did not.
    OpeningStore,
    /// Opening: the answer has not come.
    Greeting,
    /// Both ends know each other.
    Live,
}

/// One end of a channel, as its Hello says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) site: SiteId,
    pub(crate) role: Role,
    pub(crate) capabilities: Capabilities,
}

#[derive(Debug)]
pub(super) struct Door {
    pub(super) side: Side,
    pub(super) phase: Phase,
    pub(super) store: StoreName,
    pub(super) me: End,
    pub(super) peer: Option<End>,
    /// What the token of who opened the channel allows.
    pub(super) grants: Scopes,
    /// When the token ends.
    pub(super) ends: Option<Time>,
    /// When the application is told that the token ends; opening side only.
    pub(super) renew_at: Option<Time>,
    /// Whether the driver looks at a new token.
    pub(super) is_renewing: bool,
    /// Until when the next step of the handshake must have come.
    pub(super) deadline: Option<Time>,
    /// The ticket that was shown: by us, with its basis; or by the peer.
    pub(super) ticket: Option<Ticket>,
    pub(super) shown_ticket: Bytes,
    /// Whether this end's store is open.
    pub(super) is_store_open: bool,
}

impl Door {
    /// Whether the token allows this end to receive `action`.
    pub(super) fn may_receive(&self, action: Action) -> bool {
        let direction = match self.side {
            Side::Accepts => Direction::FromHolder,
            Side::Opens => Direction::ToHolder,
        };
        self.grants.allow(action, direction)
    }

    /// Whether the token allows this end to send `action`.
    pub(super) fn may_send(&self, action: Action) -> bool {
        let direction = match self.side {
            Side::Accepts => Direction::ToHolder,
            Side::Opens => Direction::FromHolder,
        };
        self.phase == Phase::Live && self.grants.allow(action, direction)
    }

    /// Whether both ends have a capability.
    pub(super) fn both_have(&self, capability: Capabilities) -> bool {
        self.peer.is_some_and(|peer| peer.capabilities.and(self.me.capabilities).has(capability))
    }
}
