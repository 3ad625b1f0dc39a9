//! The first section of a delta: its vectors and its dictionary of sites.
//!
//! ```text
//! n_to, then by site: site, version, chain (16), from version (0: none),
//!                     and if that is above 0 and below version: from chain (16)
//! n_sites, then each: index in `to` + 1, or 0 and a site
//! of a complete delta what [`super::complete`] draws
//! of a joined delta whose makers had not seen all of `from`: n_seen, then each: index in
//!                     `to`, the version that all had seen; by index
//! absent where no site is a branch: n_branches, then each: index in `to`, root (site),
//!                     base version, chain at base (16); by index
//! site: length (1 to 16), bytes
//! ```

use std::collections::BTreeMap;

use super::WireError;
use super::complete;
use super::section::{BOUNDS, COMPLETE, JOINED};
use super::varint::{Reader, put_bytes, put_varint, room};
use crate::branch::Branch;
use crate::clock::Chain;
use crate::delta::Complete;
use crate::limits::{MAX_SITES, MAX_VERSION};
use crate::site::SiteId;
use crate::vector::{Held, VersionVector};

/// What a delta spans; its first part says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// What the receiver must hold already.
    pub from: VersionVector,
    /// What it holds afterwards.
    pub to: VersionVector,
    /// As [`crate::delta::Delta::seen`].
    pub seen: Option<VersionVector>,
    /// Dictionary of the sites that dots and origins name.
    pub sites: Vec<SiteId>,
    /// Of a complete delta what its maker forgot.
    pub complete: Option<Complete>,
}

impl Bounds {
    /// What whoever takes the delta as an ordinary one must hold: `from`, or the floor of a
    /// complete delta.
    pub fn start(&self) -> &VersionVector {
        self.complete.as_ref().map_or(&self.from, |complete| &complete.floor)
    }
}

/// Whether a section of this kind is the first of a delta.
pub(super) fn is_bounds(kind: u64) -> bool {
    matches!(kind, BOUNDS | COMPLETE | JOINED)
}

pub(super) fn put(out: &mut Vec<u8>, from: &VersionVector, to: &VersionVector, sites: &[SiteId]) {
    put_varint(out, to.len() as u64);
    for (site, held) in to.iter() {
        put_bytes(out, site.as_bytes());
        put_varint(out, held.version);
        out.extend_from_slice(&held.chain.0);
        match from.get(site) {
            None => put_varint(out, 0),
            Some(low) => {
                put_varint(out, low.version);
                if low.version < held.version {
                    out.extend_from_slice(&low.chain.0);
                }
            }
        }
    }
    let places: BTreeMap<SiteId, u64> = (1..).zip(to.iter()).map(|(i, (s, _))| (s, i)).collect();
    put_varint(out, sites.len() as u64);
    for site in sites {
        match places.get(site) {
            Some(place) => put_varint(out, *place),
            None => {
                put_varint(out, 0);
                put_bytes(out, site.as_bytes());
            }
        }
    }
}

/// Writes what the makers of a joined delta had seen of `from`.
pub(super) fn put_seen(out: &mut Vec<u8>, seen: &VersionVector, to: &VersionVector) {
    put_varint(out, seen.len() as u64);
    for (place, (site, _)) in (0..).zip(to.iter()) {
        if let Some(held) = seen.get(site) {
            put_varint(out, place);
            put_varint(out, held.version);
        }
    }
}

fn read_seen(
    section: &mut Reader<'_>,
    order: &[(SiteId, Held)],
) -> Result<VersionVector, WireError> {
    let (mut seen, mut next) = (VersionVector::new(), 0);
    for _ in 0..section.count("sites", order.len())? {
        let place = section.index("site that was seen", order.len())?;
        let version = read_version(section)?;
        if place < next || version == 0 {
            return Err(section.malformed("what was seen"));
        }
        next = place + 1;
        seen.set(order[place as usize].0, Held { version, chain: Chain::default() });
    }
    Ok(seen)
}

/// Writes what the sites of `to` branched from: the end of the bounds.
pub(super) fn put_branches(out: &mut Vec<u8>, to: &VersionVector) {
    if !to.has_branches() {
        return;
    }
    put_varint(out, to.branches().count() as u64);
    for (place, (site, _)) in (0..).zip(to.iter()) {
        if let Some(Branch { root, base, chain }) = to.branch(site) {
            put_varint(out, place);
            put_bytes(out, root.as_bytes());
            put_varint(out, base);
            out.extend_from_slice(&chain.0);
        }
    }
}

/// Reads the content of a section of one of the three kinds of bounds.
pub(super) fn read(mut section: Reader<'_>, kind: u64) -> Result<Bounds, WireError> {
    let mut bounds = Bounds::default();
    let n_to = section.count("sites", MAX_SITES)?;
    let mut order: Vec<(SiteId, Held)> = room(n_to.min(section.len()))?;
    for _ in 0..n_to {
        let site = read_site(&mut section)?;
        if order.last().is_some_and(|(last, _)| *last >= site) {
            return Err(section.malformed("order of sites"));
        }
        let held = Held { version: read_version(&mut section)?, chain: read_chain(&mut section)? };
        order.push((site, held));
        let low = section.varint("version of from")?;
        if held.version == 0 || low > held.version {
            return Err(section.malformed("version of from"));
        }
        bounds.to.set(site, held);
        if low == held.version {
            bounds.from.set(site, held);
        } else if low > 0 {
            bounds.from.set(site, Held { version: low, chain: read_chain(&mut section)? });
        }
    }
    let n_sites = section.count("sites", MAX_SITES)?;
    bounds.sites = room(n_sites.min(section.len()))?;
    for _ in 0..n_sites {
        let place = section.index("site", n_to + 1)?;
        bounds.sites.push(match place.checked_sub(1) {
            Some(index) => order[index as usize].0,
            None => read_site(&mut section)?,
        });
    }
    match kind {
        COMPLETE => bounds.complete = Some(complete::read(&mut section, &order)?),
        JOINED => bounds.seen = Some(read_seen(&mut section, &order)?),
        _ => {}
    }
    if !section.is_empty() {
        read_branches(&mut section, &order, &mut bounds)?;
    }
    section.finish("bytes after the bounds")?;
    Ok(bounds)
}

fn read_branches(
    section: &mut Reader<'_>,
    order: &[(SiteId, Held)],
    bounds: &mut Bounds,
) -> Result<(), WireError> {
    let mut next = 0;
    for _ in 0..section.count("branches", MAX_SITES)? {
        let place = section.index("branch", order.len())?;
        if place < next {
            return Err(section.malformed("order of branches"));
        }
        next = place + 1;
        let site = order[place as usize].0;
        let root = read_site(section)?;
        let base = read_version(section)?;
        let branch = Branch { root, base, chain: read_chain(section)? };
        if root == site || base > MAX_VERSION - bounds.to.version(site) {
            return Err(section.malformed("what a branch goes on from"));
        }
        bounds.to.set_branch(site, branch);
        bounds.from.set_branch(site, branch);
        if let Some(complete) = &mut bounds.complete {
            complete.floor.set_branch(site, branch);
        }
    }
    Ok(())
}

fn read_site(section: &mut Reader<'_>) -> Result<SiteId, WireError> {
    let bytes = section.stretch("site")?;
    SiteId::new(bytes.remainder()).ok_or_else(|| bytes.malformed("site"))
}

fn read_version(section: &mut Reader<'_>) -> Result<u64, WireError> {
    let version = section.varint("version")?;
    if version > MAX_VERSION {
        let limit = MAX_VERSION;
        return Err(WireError::OverLimit { what: "versions of a site", found: version, limit });
    }
    Ok(version)
}

fn read_chain(section: &mut Reader<'_>) -> Result<Chain, WireError> {
    section.array("chain").map(Chain)
}
