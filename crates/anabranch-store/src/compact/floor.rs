//! Up to where the past may be forgotten: a vector that the caller names, or what every listed
//! peer has acknowledged.

use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::{Held, VersionVector};

use crate::context::Context;
use crate::delta::DeltaError;
use crate::error::{Result, StoreError};

/// A floor, at or above the one that there is.
pub(super) struct Floor {
    pub(super) vector: VersionVector,
    /// Peers for which no more can be forgotten, with the reason.
    pub(super) waits: Vec<String>,
}

impl Floor {
    /// The floor that is named, or else the default.
    ///
    /// # Errors
    /// It is above what is held here, or of another history; nobody knows who all the peers
    /// are.
    pub(super) fn choose(cx: &Context, named: Option<&VersionVector>) -> Result<Floor> {
        let (mut vector, waits) = match named {
            Some(named) => (held_here(cx, named)?, Vec::new()),
            None => acknowledged(cx)?,
        };
        vector.join(&cx.metadata.borrow_mut().floor()?);
        Ok(Floor { vector, waits })
    }
}

/// The named vector, if all of it is held here.
fn held_here(cx: &Context, named: &VersionVector) -> Result<VersionVector> {
    let mut metadata = cx.metadata.borrow_mut();
    let ours = metadata.vector();
    for (site, held) in named.iter() {
        if held.version > ours.version(site) {
            return Err(StoreError::Refused(format!(
                "ana_compact: the floor names version {} of site {site}, and {} is what is held \
                 here; sync first",
                held.version,
                ours.version(site)
            )));
        }
        let chain = metadata.chain_at(site, held.version)?.unwrap_or_default();
        if chain != held.chain {
            let (version, theirs) = (held.version, held.chain);
            return Err(DeltaError::SiteReused { site, version, ours: chain, theirs }.into());
        }
    }
    Ok(named.clone())
}

/// What every listed peer has acknowledged, each counted once all of it is held here.
fn acknowledged(cx: &Context) -> Result<(VersionVector, Vec<String>)> {
    let (ours, is_unlisted) = {
        let metadata = cx.metadata.borrow();
        (metadata.vector(), metadata.has_unlisted_peer())
    };
    if is_unlisted {
        return Err(StoreError::Refused(
            "ana_compact: changes came through crsql_changes, from a peer that is not listed; \
             name a floor, a version vector that all peers hold"
                .into(),
        ));
    }
    let own = cx.metadata.borrow().own_site();
    let peers = cx.db.query_rows("SELECT url, held FROM main.ana_peer ORDER BY url", &[])?;
    if peers.is_empty() {
        if ours.iter().any(|(site, held)| site != own && held.version > 0) {
            return Err(StoreError::Refused(
                "ana_compact: other copies wrote here and no peer is listed; name a floor, a \
                 version vector that all copies hold"
                    .into(),
            ));
        }
        return Ok((ours, Vec::new()));
    }
    let mut floor = ours.clone();
    let mut waits = Vec::new();
    for peer in &peers {
        let url = match &peer[0] {
            Value::Text(url) => String::from_utf8_lossy(url).into_owned(),
            _ => String::new(),
        };
        let held = vector_in(peer[1].as_ref());
        if held.is_empty() && !ours.is_empty() {
            waits.push(format!("{url} has acknowledged nothing"));
            floor = VersionVector::new();
        } else if !held.is_at_or_below(&ours) {
            waits.push(format!("{url} holds changes that are not here; sync first"));
            floor = VersionVector::new();
        } else {
            floor = lower(cx, &floor, &held)?;
        }
    }
    Ok((floor, waits))
}

/// For each site the lower version of both; where they are not one history, nothing.
fn lower(cx: &Context, floor: &VersionVector, held: &VersionVector) -> Result<VersionVector> {
    let mut lower = VersionVector::new();
    for (site, high) in floor.iter() {
        let Some(theirs) = held.get(site) else { continue };
        let version = high.version.min(theirs.version);
        let Some(chain) = cx.metadata.borrow_mut().chain_at(site, version)? else { continue };
        if version == theirs.version && chain != theirs.chain {
            continue;
        }
        lower.set(site, Held { version, chain });
    }
    Ok(lower)
}

/// What a peer is noted to hold; nothing where that cannot be read.
fn vector_in(value: ValueRef<'_>) -> VersionVector {
    match value {
        ValueRef::Text(json) => std::str::from_utf8(json)
            .ok()
            .and_then(|json| VersionVector::from_json(json).ok())
            .unwrap_or_default(),
        _ => VersionVector::new(),
    }
}
