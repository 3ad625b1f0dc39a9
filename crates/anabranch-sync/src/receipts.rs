//! What is known of how far each change of one store got.
//!
//! Kept by who drives the sessions of a store: a relay, or a client that shows its outbox.
//! It learns from acknowledgements only, and forgets nothing that was acknowledged, so what
//! it says is never ahead of the truth. Bounded: beyond [`MAX_RECEIPT_SITES`] places the one
//! that was heard of longest ago is forgotten, which only makes receipts say less.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, VersionVector};

use crate::frame::{Ack, Place, Reach, Receipt, Role};
use crate::limits::{MAX_PLACES, MAX_RECEIPT_HELD, MAX_RECEIPT_SITES};
use crate::session::Time;

/// Places and what each has on its disk.
#[derive(Clone, Debug, Default)]
pub struct ReceiptBook {
    places: BTreeMap<SiteId, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    role: Role,
    /// On its disk.
    disk: VersionVector,
    /// Of those, stored and not shown.
    held: BTreeSet<Dot>,
    /// Whether more are held than are listed: then nothing is said to be shown.
    has_more_held: bool,
    /// The largest number of further disks that it vouched for, and up to where.
    replicated: (u64, VersionVector),
    heard: Time,
}

impl ReceiptBook {
    /// Knows nothing.
    pub fn new() -> ReceiptBook {
        ReceiptBook::default()
    }

    /// Notes what a place has said to have on its disk: its Have, or an Ack.
    pub fn note(&mut self, now: Time, site: SiteId, role: Role, ack: &Ack) {
        let known = self.known(now, site, role);
        for (site, held) in &ack.entries {
            if known.disk.version(*site) < held.version {
                known.disk.set(*site, *held);
            }
        }
        if ack.replicas >= known.replicated.0 && ack.replicas > 0 {
            known.replicated.0 = ack.replicas;
            ack.entries.iter().for_each(|(site, held)| known.replicated.1.set(*site, *held));
        }
        known.held.extend(ack.held.iter().copied());
        for dot in &ack.shown {
            known.held.remove(dot);
        }
        while known.held.len() > MAX_RECEIPT_HELD {
            known.held.pop_first();
            known.has_more_held = true;
        }
    }

    /// Forgets what a place had: its disk was replaced by an older one.
    pub fn forget(&mut self, site: SiteId) {
        self.places.remove(&site);
    }

    /// How far a change got. At most [`MAX_PLACES`] places, relays first.
    pub fn receipt(&self, change: Dot) -> Receipt {
        let has_it = self.places.iter().filter(|(_, known)| known.disk.covers(change));
        let mut places: Vec<Place> = has_it
            .map(|(site, known)| {
                let is_held = known.has_more_held || known.held.contains(&change);
                let reach = if is_held { Reach::Held } else { Reach::Shown };
                Place { site: *site, role: known.role, reach }
            })
            .collect();
        places.sort_by_key(|place| place.role == Role::Peer);
        places.truncate(MAX_PLACES);
        Receipt { change, places }
    }

    /// How many further disks a relay vouches for.
    pub fn replicas(&self, relay: SiteId, change: Dot) -> u64 {
        let known = self.places.get(&relay).filter(|known| known.replicated.1.covers(change));
        known.map_or(0, |known| known.replicated.0)
    }

    /// What is on no other disk that we know of: versions above which nobody has acknowledged,
    /// for each site of `mine`.
    pub fn unacknowledged(&self, mine: &VersionVector) -> Vec<(SiteId, u64)> {
        let best = |site| self.places.values().map(|known| known.disk.version(site)).max();
        let beyond = mine.iter().map(|(site, held)| (site, best(site).unwrap_or(0), held.version));
        beyond.filter(|(_, best, mine)| best < mine).map(|(site, best, _)| (site, best)).collect()
    }

    fn known(&mut self, now: Time, site: SiteId, role: Role) -> &mut Known {
        if self.places.len() >= MAX_RECEIPT_SITES && !self.places.contains_key(&site) {
            let oldest = self.places.iter().min_by_key(|(_, known)| known.heard);
            if let Some(oldest) = oldest.map(|(site, _)| *site) {
                self.places.remove(&oldest);
            }
        }
        let known = self.places.entry(site).or_insert_with(|| Known {
            role,
            disk: VersionVector::new(),
            held: BTreeSet::new(),
            has_more_held: false,
            replicated: (0, VersionVector::new()),
            heard: now,
        });
        (known.role, known.heard) = (role, now);
        known
    }
}
