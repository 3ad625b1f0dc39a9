//! The records a row of a delta makes: cells grouped by who wrote them, and births.

use anabranch_core::site::SiteId;
use smallvec::SmallVec;

use super::edit;
use super::{IncomingBirth, IncomingCell};
use crate::ids::{Address, LocalDot};
use crate::metadata::mask::Mask;
use crate::metadata::row_clock::{Group, RowClock};

/// Cells written by one change and first by one site: one record.
pub(super) struct Stamped<'a> {
    pub(super) dot: LocalDot,
    pub(super) origin: SiteId,
    pub(super) has_sentinel: bool,
    pub(super) is_birth: bool,
    pub(super) cells: SmallVec<[&'a IncomingCell<'a>; 8]>,
}

pub(super) fn stamped_life<'a>(birth: &IncomingBirth, has_sentinel: bool) -> Stamped<'a> {
    Stamped {
        dot: birth.dot,
        origin: birth.origin,
        has_sentinel,
        is_birth: true,
        cells: SmallVec::new(),
    }
}

/// Cells by the change and the site that wrote them, in order of their first cells.
pub(super) fn group_cells<'a>(
    cells: impl IntoIterator<Item = &'a IncomingCell<'a>>,
) -> Vec<Stamped<'a>> {
    let mut records: Vec<Stamped<'a>> = Vec::new();
    for cell in cells {
        let known = records.iter_mut().find(|r| r.dot == cell.dot && r.origin == cell.origin);
        match known {
            Some(record) => record.cells.push(cell),
            None => records.push(Stamped {
                dot: cell.dot,
                origin: cell.origin,
                has_sentinel: false,
                is_birth: false,
                cells: SmallVec::from_slice(&[cell]),
            }),
        }
    }
    records
}

/// Marks the records of births; a birth without cells becomes a record of its own, first.
pub(super) fn add_births<'a>(records: &mut Vec<Stamped<'a>>, births: &[IncomingBirth]) {
    for birth in births.iter().rev() {
        match records.iter_mut().find(|r| r.dot == birth.dot && r.origin == birth.origin) {
            Some(record) => record.is_birth = true,
            None => records.insert(0, stamped_life(birth, false)),
        }
    }
}

/// Puts what a record stamped into the clock: cells of one version are one group.
pub(super) fn put_stamped(clock: &mut RowClock, stamped: &Stamped<'_>, at: Address) {
    if stamped.has_sentinel {
        edit::put_sentinel(clock, at);
    }
    // The sentinel's group is never overwritten in this life: it remembers the birth.
    let is_birth = stamped.is_birth && !stamped.has_sentinel;
    let mut rest = stamped.cells.as_slice();
    let mut masks: SmallVec<[(u64, Mask); 2]> = SmallVec::new();
    while let Some((cell, after)) = rest.split_first() {
        match masks.iter_mut().find(|(version, _)| *version == cell.version) {
            Some((_, mask)) => mask.insert(cell.column),
            None => masks.push((cell.version, Mask::of(cell.column))),
        }
        rest = after;
    }
    if masks.is_empty() && is_birth {
        masks.push((0, Mask::new()));
    }
    for (index, (version, mask)) in masks.into_iter().enumerate() {
        edit::put(clock, Group { mask, version, at, is_birth: is_birth && index == 0 });
    }
}
