//! What is known of how far each change of one store got.
//!
//! Kept by who drives the sessions of a store: a relay, or a client that shows its outbox.
//! It learns from acknowledgements only, and forgets nothing that was acknowledged, so what
//! it says is never ahead of the truth. Bounded: beyond [`MAX_RECEIPT_SITES`] places the one
//! that was heard of longest ago is forgotten, which only makes receipts say less.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, VersionVector};

use crate::frame::codec::{Reader, put_dots};
use crate::frame::{Ack, FrameError, Place, Reach, Receipt, Role};
use crate::limits::{MAX_FRAME_DOTS, MAX_PLACES, MAX_RECEIPT_HELD, MAX_RECEIPT_SITES};
use crate::session::Time;
use crate::ticket::{put_vector, read_vector};

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

    /// The newest changes of a site that some place holds and does not show, at most as many as
    /// one frame names.
    pub fn held_of(&self, site: SiteId) -> Vec<Dot> {
        let held = self.places.values().flat_map(|known| &known.held);
        let held: BTreeSet<Dot> = held.filter(|dot| dot.site == site).copied().collect();
        held.into_iter().rev().take(MAX_FRAME_DOTS).collect()
    }

    /// What is known of a place, to be kept across a restart; `None`: nothing.
    pub fn remember(&self, site: SiteId) -> Option<Vec<u8>> {
        let known = self.places.get(&site)?;
        let mut out = vec![u8::from(known.role == Role::Relay), u8::from(known.has_more_held)];
        put_vector(&mut out, &known.disk);
        let held: Vec<Dot> = known.held.iter().copied().collect();
        put_dots(&mut out, &held);
        Some(out)
    }

    /// Takes [`ReceiptBook::remember`] back, below what was heard since.
    ///
    /// # Errors
    /// [`FrameError`] for anything else; nothing is taken then.
    pub fn recall(&mut self, now: Time, site: SiteId, bytes: &[u8]) -> Result<(), FrameError> {
        let mut reader = Reader::new(bytes, "what is known of a place");
        let is_relay = reader.flag("role")?;
        let has_more_held = reader.flag("more held")?;
        let disk = read_vector(&mut reader)?;
        let held = reader.dots("changes that are held", MAX_RECEIPT_HELD)?;
        reader.finish()?;
        let role = if is_relay { Role::Relay } else { Role::Peer };
        let known = self.known(now, site, role);
        known.disk.join(&disk);
        known.held.extend(held);
        known.has_more_held |= has_more_held;
        Ok(())
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
