//! What a delta says before its rows, from its first bytes until all of it is known and
//! written.

use anabranch_core::change::ChangeHeader;
use anabranch_core::clock::Chain;
use anabranch_core::delta::{self, SaltRun};
use anabranch_core::forest::{Arrival, Track};
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{Bounds, WireError};

use super::error::ChangeName;
use super::headers::Headers;
use super::intake::Intake;
use super::names::Names;
use super::{Applied, DeltaError, complete, names};
use crate::context::Context;
use crate::error::Result;

/// Bounds, salts and headers, as they come.
pub(super) struct Start {
    bounds: Bounds,
    /// Of a complete delta.
    salts: Vec<SaltRun>,
    /// What the salts lead to, of each site of `to`, in order.
    arrivals: Vec<Arrival>,
    headers: Headers,
}

impl Start {
    pub(super) fn new(bounds: Bounds) -> Start {
        let arrival = |site: SiteId| {
            let (origin, from) = (bounds.to.origin(site), bounds.from.get(site));
            let chain = from.map_or(origin.chain, |held| held.chain);
            Arrival { site, track: Track::new(origin, from.map_or(0, |held| held.version), chain) }
        };
        let arrivals = bounds.to.iter().map(|(site, _)| arrival(site)).collect();
        let headers = Headers::new(bounds.start(), &bounds.to);
        Start { bounds, salts: Vec::new(), arrivals, headers }
    }

    /// Takes what a part says, as the decoder checked it.
    ///
    /// # Errors
    /// [`crate::error::StoreError::Temporary`].
    pub(super) fn take(&mut self, salts: Vec<SaltRun>, headers: Vec<ChangeHeader>) -> Result<()> {
        self.salts.extend(salts);
        if headers.is_empty() {
            return Ok(());
        }
        self.follow_salts();
        for header in headers {
            if let Some(track) = track(&mut self.arrivals, header.site) {
                track.push(header.salt);
            }
            self.headers.push(header)?;
        }
        Ok(())
    }

    /// Follows the salts of a complete delta to its floor; before its first header, or if
    /// there are none.
    fn follow_salts(&mut self) {
        let Some(complete) = &self.bounds.complete else { return };
        let next = self.salts.iter().skip(1).map(Some).chain([None]);
        for (run, next) in self.salts.iter().zip(next) {
            let floor = complete.floor.version(run.site);
            let next = next.filter(|next| next.site == run.site);
            let end = next.map_or(floor, |next| floor.min(next.version - 1));
            if let Some(track) = track(&mut self.arrivals, run.site) {
                // Nothing, where headers came before.
                (track.last()..end).for_each(|_| track.push(run.salt));
            }
        }
    }

    /// Checks the headers, writes those that are new, and moves the vector.
    ///
    /// # Errors
    /// [`DeltaError`], and what befell SQLite.
    pub(super) fn finish(mut self, cx: &Context) -> Result<Intake<'_>> {
        self.follow_salts();
        self.verify_chains()?;
        let Start { bounds, salts, arrivals, headers } = self;
        let ours = cx.metadata.borrow().vector();
        let names = names::of(cx, &arrivals, &ours)?;
        refuse_future(&headers, &names, (cx.clock)())?;
        names.heal(cx)?;
        names.begin_branches(cx, &ours)?;
        let mut intake = Intake::new(cx, &bounds.sites, &headers, &names)?;
        let after = super::log_position(cx)?;
        cx.delta.applied.replace(Applied { after, tables: Vec::new() });
        let doubts = has_unseen(&cx.metadata.borrow_mut().floor()?, &bounds, &names);
        let lacking = complete::begin(cx, &bounds, &salts, &names)?;
        if headers.n_new(&names) > 0 {
            cx.metadata.borrow_mut().append_headers(headers.by_time(&names)?)?;
        }
        intake.doubts = doubts;
        intake.lacking = lacking;
        Ok(intake)
    }

    /// Whether the salts lead from the chains of `from` to those of the floor and of `to`.
    fn verify_chains(&self) -> Result<()> {
        let leads = |site: SiteId, version: u64, chain: Chain| {
            let place = self.arrivals.binary_search_by_key(&site, |arrival| arrival.site);
            place.is_ok_and(|at| self.arrivals[at].track.chain(version) == Some(chain))
        };
        let floor = self.bounds.complete.iter().flat_map(|complete| complete.floor.iter());
        for (site, held) in floor.chain(self.bounds.to.iter()) {
            if !leads(site, held.version, held.chain) {
                let version = held.version;
                let error = WireError::from(delta::DeltaError::Chain { site, version });
                return Err(DeltaError::from(error).into());
            }
        }
        Ok(())
    }
}

/// Whether a maker of the delta had not seen all that was forgotten here, and may not have known
/// that a row is dead. What is above `from` the delta tells itself.
fn has_unseen(floor: &VersionVector, bounds: &Bounds, names: &Names) -> bool {
    let is_unseen = |seen: &VersionVector| {
        let (seen, from) = (names.vector(seen), names.vector(&bounds.from));
        let told = |site, version: u64| version.min(from.version(site));
        floor.iter().any(|(site, low)| seen.version(site) < told(site, low.version))
    };
    !floor.is_at_or_below(&names.vector(&bounds.to)) || bounds.seen.as_ref().is_some_and(is_unseen)
}

fn track(arrivals: &mut [Arrival], site: SiteId) -> Option<&mut Track> {
    let place = arrivals.binary_search_by_key(&site, |arrival| arrival.site).ok()?;
    Some(&mut arrivals[place].track)
}

fn refuse_future(headers: &Headers, names: &Names, now_ms: u64) -> Result<()> {
    if headers.newest().check_ahead(now_ms).is_ok() {
        return Ok(());
    }
    for header in headers.as_given(names) {
        let ChangeHeader { site, version, time, .. } = header?;
        let change = ChangeName { site, version };
        time.check_ahead(now_ms).map_err(|source| DeltaError::ClockAhead { change, source })?;
    }
    Ok(())
}
