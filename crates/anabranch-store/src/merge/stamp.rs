//! Who last wrote a cell held here, and whether another writer knew of it.

use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;

use crate::buffer::Superseded;
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{ColumnId, EntryId, LocalDot, Ordinal, TableId};
use crate::metadata::row_clock::{Group, RowClock};

/// Who last wrote a cell, and the `seq` it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) dot: LocalDot,
    pub(super) origin: Ordinal,
    pub(super) seq: u64,
}

/// The stamps of one row's cells; resolved when first asked for.
pub(super) struct Stamps<'a> {
    cx: &'a Context,
    table: TableId,
    key: &'a [u8],
    /// Stamps of cells in the log, once read.
    logged: Option<Vec<(ColumnId, Stamp)>>,
}

impl<'a> Stamps<'a> {
    pub(super) fn new(cx: &'a Context, table: TableId, key: &'a [u8]) -> Stamps<'a> {
        Stamps { cx, table, key, logged: None }
    }

    /// The stamp of `column`, which is in `group` of the row's present clock.
    pub(super) fn of(&mut self, group: &Group, column: ColumnId) -> Result<Stamp> {
        if group.at.entry == EntryId::PENDING {
            return Ok(self.buffered(group, column));
        }
        let logged = match &self.logged {
            Some(logged) => logged,
            None => {
                let read = self.read_log()?;
                self.logged.insert(read)
            }
        };
        let found = logged.iter().find(|(logged, _)| *logged == column);
        found.map(|(_, stamp)| *stamp).ok_or_else(|| StoreError::Damaged {
            place: format!("clock of table {}, column {}", self.table.0, column.0),
            what: "points at no record",
        })
    }

    fn buffered(&self, group: &Group, column: ColumnId) -> Stamp {
        let transaction = self.cx.transaction.borrow();
        let record = &transaction.merged.records[group.at.index as usize];
        Stamp {
            dot: record.dot.unwrap_or_else(|| self.cx.metadata.borrow().pending_dot()),
            origin: record.origin,
            seq: record.first_seq + u64::from(record.mask.rank(column)),
        }
    }

    fn read_log(&self) -> Result<Vec<(ColumnId, Stamp)>> {
        let records = self.cx.metadata.borrow_mut().row_records(self.table, self.key)?;
        let cells = records.iter().flat_map(|record| {
            record.cells.iter().map(|cell| {
                let stamp = Stamp { dot: record.dot, origin: record.origin, seq: cell.seq };
                (cell.column, stamp)
            })
        });
        Ok(cells.collect())
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

/// What is kept of a cell held here that gave way.
pub(super) fn superseded(
    cx: &Context,
    clock: &RowClock,
    column: ColumnId,
    version: u64,
    stamp: Stamp,
    value: ValueRef<'_>,
) -> Result<Superseded> {
    let mut metadata = cx.metadata.borrow_mut();
    let site = metadata.origin_site(stamp.origin)?;
    Ok(Superseded {
        column,
        version,
        causal_length: clock.causal_length,
        dot: stamp.dot,
        origin: metadata.author_of(site)?,
        value: value.into(),
    })
}
