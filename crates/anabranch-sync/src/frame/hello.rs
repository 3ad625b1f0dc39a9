//! Hello: who speaks, about which store, with which right.
//!
//! ```text
//! protocol (varint) | capabilities (varint) | role (1: 0 peer, 1 relay) | site (bytes)
//! store (text) | turn (1)
//!   0 opens:    token (bytes, none: 0) | ticket (bytes, none: 0)
//!   1 answers:  grants (1) | ms until the token ends (varint, 0: it does not) | resumed (1: 0, 1)
//! ```

use anabranch_core::site::SiteId;
use bytes::Bytes;

use super::FrameError;
use super::codec::{Reader, put_bytes, put_site, put_varint};
use crate::limits::{MAX_STORE_NAME_BYTES, MAX_TICKET_BYTES, MAX_TOKEN_BYTES};
use crate::scope::Scopes;

/// The protocol that this version speaks.
pub const PROTOCOL: u64 = 1;

/// What a connection is about: the name of one store, as tokens and URLs spell it.
///
/// 1 to 128 letters, digits and `-`, `_`, `.`, `~` of ASCII, the first of them no dot: one
/// spelling in URLs, file names and tokens, and none that climbs out of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreName(String);

impl StoreName {
    /// Takes a name; `None` if it is none.
    pub fn new(name: &str) -> Option<StoreName> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let is_name = (1..=MAX_STORE_NAME_BYTES).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(is_letter);
        is_name.then(|| StoreName(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for StoreName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an end of a connection is to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A copy that people write to.
    Peer,
    /// A server (or a listed peer) that answers for a disk and forwards to others.
    Relay,
}

/// Optional abilities; what both ends have is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Serves and takes blobs.
    pub const BLOBS: Capabilities = Capabilities(1);
    /// Understands Presence.
    pub const PRESENCE: Capabilities = Capabilities(2);
    /// Answers questions about receipts.
    pub const RECEIPTS: Capabilities = Capabilities(4);
    /// Keeps tickets.
    pub const TICKETS: Capabilities = Capabilities(8);
    /// All that this version knows.
    pub const ALL: Capabilities = Capabilities(15);

    /// Whether all of `other` are among these.
    pub fn has(self, other: Capabilities) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that both have.
    pub fn and(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }
}

/// The first frame of a channel, from either side; a later one with a token renews it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the sender can do; bits that are not known are kept and mean nothing.
    pub capabilities: Capabilities,
    /// What the sender is.
    pub role: Role,
    /// The sender's site.
    pub site: SiteId,
    /// The store that the channel is about.
    pub store: StoreName,
    /// Whether it opens the channel or answers.
    pub turn: Turn,
}

/// Which of the two Hellos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The first, with what gives the right to be here.
    Open {
        /// A JWT; empty if the transport carried one.
        token: Bytes,
        /// From an earlier [`super::Resume`]; empty if there is none.
        ticket: Bytes,
    },
    /// The answer of who accepted.
    Answer {
        /// What the token allows.
        grants: Scopes,
        /// Milliseconds until the token ends; 0: it does not.
        expires_in_ms: u64,
        /// Whether the ticket was taken: Haves then say what differs from it.
        is_resumed: bool,
    },
}

impl Hello {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, PROTOCOL);
        put_varint(out, self.capabilities.0);
        out.push(match self.role {
            Role::Peer => 0,
            Role::Relay => 1,
        });
        put_site(out, self.site);
        put_bytes(out, self.store.as_str().as_bytes());
        match &self.turn {
            Turn::Open { token, ticket } => {
                assert!(token.len() <= MAX_TOKEN_BYTES && ticket.len() <= MAX_TICKET_BYTES);
                out.push(0);
                put_bytes(out, token);
                put_bytes(out, ticket);
            }
            Turn::Answer { grants, expires_in_ms, is_resumed } => {
                out.push(1);
                out.push(grants.bits());
                put_varint(out, *expires_in_ms);
                out.push(u8::from(*is_resumed));
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, frame: &Bytes) -> Result<Hello, FrameError> {
        let found = reader.varint("protocol")?;
        if found != PROTOCOL {
            return Err(FrameError::Protocol { found });
        }
        let capabilities = Capabilities(reader.varint("capabilities")?);
        let role = if reader.flag("role")? { Role::Relay } else { Role::Peer };
        let site = reader.site()?;
        let name = reader.text("name of the store", MAX_STORE_NAME_BYTES)?;
        let store = StoreName::new(name).ok_or_else(|| reader.malformed("name of the store"))?;
        let turn = match reader.flag("turn")? {
            false => Turn::Open {
                token: frame.slice_ref(reader.bytes("token", MAX_TOKEN_BYTES)?),
                ticket: frame.slice_ref(reader.bytes("ticket", MAX_TICKET_BYTES)?),
            },
            true => {
                let grants = Scopes::from_bits(reader.byte("grants")?);
                Turn::Answer {
                    grants: grants.ok_or_else(|| reader.malformed("grants"))?,
                    expires_in_ms: reader.varint("end of the token")?,
                    is_resumed: reader.flag("resumed")?,
                }
            }
        };
        Ok(Hello { capabilities, role, site, store, turn })
    }
}
