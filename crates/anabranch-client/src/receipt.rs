//! How far each change is known to have got: this disk, the disks of peers, other copies.
//!
//! A peer's word is what it acknowledged; a copy's word is its own later change, whose context
//! covers what it had seen. So a receipt is never ahead of the truth, and often behind it.

use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;

use crate::peer::{self, Peer};
use crate::replica::{Replica, StoreError, vector_in};

/// All that is known of how far changes got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipts {
    /// Peers, and what each has on its disk.
    pub peers: Vec<Peer>,
    /// Other copies, and what each had seen of the others when it wrote its last change that
    /// is held here. Chains are zeros.
    pub seen: Vec<(SiteId, VersionVector)>,
}

impl Receipts {
    /// What is known now.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn of(connection: &rusqlite::Connection) -> Result<Receipts, StoreError> {
        let replica = Replica::new(connection);
        let own = replica.site()?;
        let mut seen = Vec::new();
        for (site, _) in replica.vector()?.iter().filter(|(site, _)| *site != own) {
            let mut statement = connection.prepare_cached("SELECT ana_internal_seen(?1)")?;
            let vector =
                statement.query_row([site.as_bytes()], |row| Ok(vector_in(row.get_ref(0)?)))?;
            seen.push((site, vector.ok_or(StoreError::Answer("ana_internal_seen"))?));
        }
        Ok(Receipts { peers: peer::all(replica)?, seen })
    }

    /// The peers that have a change on their disk.
    pub fn on_disk_of(&self, site: SiteId, version: u64) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(move |peer| peer.held.version(site) >= version)
    }

    /// The copies that are known to have seen a change; its author not among them.
    pub fn seen_by(&self, site: SiteId, version: u64) -> impl Iterator<Item = SiteId> + '_ {
        let seen = self
            .seen
            .iter()
            .filter(move |(by, vector)| *by != site && vector.version(site) >= version);
        seen.map(|(by, _)| *by)
    }

    /// For each site of `held`: the highest version that is known to be on another disk than
    /// this one. A change that another copy made, or had seen, was on that copy's disk.
    pub fn elsewhere(&self, own: SiteId, held: &VersionVector) -> VersionVector {
        let mut elsewhere = VersionVector::new();
        for (site, entry) in held.iter().filter(|(site, _)| *site != own) {
            elsewhere.set(site, entry);
        }
        self.peers.iter().for_each(|peer| elsewhere.join(&peer.held));
        self.seen.iter().for_each(|(_, vector)| elsewhere.join(vector));
        elsewhere
    }
}
