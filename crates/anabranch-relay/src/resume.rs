//! Resume tickets: what a peer shows next time, so that neither end repeats a long vector.
//!
//! A ticket holds both vectors itself, authenticated with a key that follows from the
//! relay's own: nothing is kept for it, and who loses it says its vector again.
//!
//! ```text
//! BLAKE3 keyed, over the store's name, the peer's site and the rest (32)
//! 1: both vectors are the same, 0: they are not (1) | the vectors, as `Basis` writes them
//! ```

use anabranch_core::site::SiteId;
use anabranch_sync::limits::MAX_TICKET_BYTES;
use anabranch_sync::ticket::Basis;
use bytes::Bytes;

use crate::store_id::StoreId;

/// Makes and reads tickets.
pub(crate) struct ResumeKey([u8; 32]);

impl std::fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResumeKey")
    }
}

impl ResumeKey {
    /// A key that follows from the relay's own.
    pub(crate) fn new(own_key: &[u8]) -> ResumeKey {
        ResumeKey(blake3::derive_key("anabranch relay 1: resume tickets", own_key))
    }

    /// A ticket for a peer; `None` where the vectors do not fit one.
    pub(crate) fn issue(&self, store: &StoreId, peer: SiteId, basis: &Basis) -> Option<Bytes> {
        let is_same = basis.mine == basis.theirs;
        let mut rest = vec![u8::from(is_same)];
        match is_same {
            // The second vector would double it.
            true => rest.extend(Basis { theirs: Default::default(), ..basis.clone() }.to_bytes()),
            false => rest.extend(basis.to_bytes()),
        }
        let mut ticket = self.mac(store, peer, &rest).as_bytes().to_vec();
        ticket.extend(rest);
        (ticket.len() <= MAX_TICKET_BYTES).then(|| ticket.into())
    }

    /// What a ticket stands for; `None` if it is not one of ours, for this store and peer.
    pub(crate) fn open(&self, store: &StoreId, peer: SiteId, ticket: &[u8]) -> Option<Basis> {
        let (mac, rest) = ticket.split_first_chunk::<32>()?;
        // Compared in constant time.
        if self.mac(store, peer, rest) != blake3::Hash::from_bytes(*mac) {
            return None;
        }
        let (is_same, vectors) = rest.split_first()?;
        let mut basis = Basis::from_bytes(vectors).ok()?;
        if *is_same == 1 {
            basis.theirs = basis.mine.clone();
        }
        Some(basis)
    }

    fn mac(&self, store: &StoreId, peer: SiteId, rest: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for field in [store.as_str().as_bytes(), peer.as_bytes(), rest] {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use anabranch_core::clock::Chain;
    use anabranch_core::vector::{Held, VersionVector};

    use super::*;

    fn vector(n_sites: u8, version: u64) -> VersionVector {
        let mut vector = VersionVector::new();
        for site in 0..n_sites {
            let held = Held { version, chain: Chain([site; 16]) };
            vector.set(SiteId::new(&[site; 16]).unwrap(), held);
        }
        vector
    }

    #[test]
    fn tickets_lead_back_to_their_vectors() {
        let (key, other) = (ResumeKey::new(b"one"), ResumeKey::new(b"other"));
        let (store, peer) = (StoreId::new("s").unwrap(), SiteId::new(&[9; 16]).unwrap());
        for (mine, theirs, fits) in [
            (vector(0, 1), vector(0, 1), true),
            (vector(3, 5), vector(3, 5), true),
            (vector(3, 5), vector(2, 4), true),
            (vector(28, 300), vector(28, 300), true),
            (vector(28, 300), vector(28, 299), false),
            (vector(200, 1), vector(200, 1), false),
        ] {
            let basis = Basis { mine, theirs };
            let ticket = key.issue(&store, peer, &basis);
            assert_eq!(ticket.is_some(), fits, "{basis:?}");
            let Some(ticket) = ticket else { continue };
            assert_eq!(key.open(&store, peer, &ticket), Some(basis));
            assert_eq!(other.open(&store, peer, &ticket), None, "another relay's");
            assert_eq!(key.open(&StoreId::new("t").unwrap(), peer, &ticket), None);
            assert_eq!(key.open(&store, SiteId::new(&[8; 16]).unwrap(), &ticket), None);
            for at in 0..ticket.len() {
                let mut forged = ticket.to_vec();
                forged[at] ^= 1;
                assert_eq!(key.open(&store, peer, &forged), None, "byte {at}");
                assert_eq!(key.open(&store, peer, &ticket[..at]), None, "cut at {at}");
            }
        }
    }
}
