//! Who wrote: the 16-byte id of a copy, or the 1 to 16 bytes a foreign peer calls itself.

use crate::limits::MAX_SITE_ID_BYTES;

/// The id of a site: 1 to 16 bytes; sites of ours have exactly 16.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId {
    len: u8,
    bytes: [u8; MAX_SITE_ID_BYTES],
}

impl SiteId {
    /// Takes 1 to 16 bytes; `None` otherwise.
    pub fn new(bytes: &[u8]) -> Option<SiteId> {
        if bytes.is_empty() || bytes.len() > MAX_SITE_ID_BYTES {
            return None;
        }
        let mut id = SiteId { len: bytes.len() as u8, bytes: [0; MAX_SITE_ID_BYTES] };
        id.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(id)
    }

    /// Makes a UUIDv4 of 16 random bytes (RFC 9562, section 5.4).
    pub fn from_random(mut random: [u8; 16]) -> SiteId {
        random[6] = (random[6] & 0x0f) | 0x40;
        random[8] = (random[8] & 0x3f) | 0x80;
        SiteId { len: 16, bytes: random }
    }

    /// The bytes, 1 to 16.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Display for SiteId {
    /// Lower-case hexadecimal, two digits a byte.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for SiteId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SiteId({self})")
    }
}
