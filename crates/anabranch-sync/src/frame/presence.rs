//! Presence: what is never stored.
//!
//! ```text
//! from (1: 0 the sender, 1 another: site (bytes) | instance (varint))
//! state (1: 0 gone, 1 here: bytes)
//! ```

use anabranch_core::site::SiteId;
use bytes::Bytes;

use super::FrameError;
use super::codec::{Reader, put_bytes, put_site, put_varint};
use crate::limits::MAX_PRESENCE_BYTES;

/// Somebody who is here: a connection of a site, as the relay numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Participant {
    /// The site.
    pub site: SiteId,
    /// Which of the site's connections.
    pub instance: u64,
}

/// Somebody came, changed, is still here, or left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// `None`: the sender. A relay says who; a peer that says so is refused.
    pub from: Option<Participant>,
    /// At most [`MAX_PRESENCE_BYTES`], opaque; `None`: left.
    pub state: Option<Bytes>,
}

impl Presence {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.from.is_some()));
        if let Some(from) = self.from {
            put_site(out, from.site);
            put_varint(out, from.instance);
        }
        out.push(u8::from(self.state.is_some()));
        if let Some(state) = &self.state {
            assert!(state.len() <= MAX_PRESENCE_BYTES);
            put_bytes(out, state);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, frame: &Bytes) -> Result<Presence, FrameError> {
        let from = match reader.flag("who is present")? {
            false => None,
            true => {
                Some(Participant { site: reader.site()?, instance: reader.varint("instance")? })
            }
        };
        let state = match reader.flag("whether somebody is present")? {
            false => None,
            true => Some(frame.slice_ref(reader.bytes("presence", MAX_PRESENCE_BYTES)?)),
        };
        Ok(Presence { from, state })
    }
}
