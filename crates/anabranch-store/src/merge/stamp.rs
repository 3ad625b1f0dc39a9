//! Who last wrote a cell held here, and whether another writer knew of it.

use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;

use crate::buffer::Superseded;
use crate::context::Context;
use crate::error::Result;
use crate::ids::{ColumnId, EntryId, LocalDot, Ordinal};
use crate::metadata::row_clock::{Group, RowClock};

/// Who last wrote a cell, and the `seq` it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) dot: LocalDot,
    pub(super) origin: Ordinal,
    pub(super) seq: u64,
}

impl Stamp {
    /// The stamp of `column`, which is in `group` of the present clock of its row.
    pub(super) fn of(cx: &Context, group: &Group, column: ColumnId) -> Result<Stamp> {
        if group.at.entry != EntryId::PENDING {
            let (dot, origin, seq) = cx.metadata.borrow_mut().stamp(group.at, column)?;
            return Ok(Stamp { dot, origin, seq });
        }
        let transaction = cx.transaction.borrow();
        let record = &transaction.merged.records[group.at.index as usize];
        Ok(Stamp {
            dot: record.dot.unwrap_or_else(|| cx.metadata.borrow().pending_dot()),
            origin: record.origin,
            seq: record.first_seq + u64::from(record.mask.rank(column)),
        })
    }
}

/// Whether the change `later` knew of `earlier` for the one reason that needs no look-up:
/// one author's changes are made in order.
pub(super) fn is_same_author_later(later: LocalDot, earlier: LocalDot) -> bool {
    later.author == earlier.author && later.version >= earlier.version
}

/// The site of an ordinal, without a look-up for this copy.
pub(super) fn site_of(cx: &Context, origin: Ordinal) -> Result<SiteId> {
    cx.metadata.borrow_mut().origin_site(origin)
}

/// What is kept of a cell held here that gave way to a row of causal length `stands`.
pub(super) fn superseded(
    cx: &Context,
    clock: &RowClock,
    (column, version): (ColumnId, u64),
    stands: u64,
    stamp: Stamp,
    value: ValueRef<'_>,
) -> Result<Superseded> {
    let mut metadata = cx.metadata.borrow_mut();
    let site = metadata.origin_site(stamp.origin)?;
    Ok(Superseded {
        column,
        version,
        causal_length: clock.causal_length,
        stands,
        dot: stamp.dot,
        origin: metadata.author_of(site)?,
        value: value.into(),
    })
}
