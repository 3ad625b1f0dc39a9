//! One row of `crsql_changes`, merged as cr-sqlite 0.16.3 merges it: a row by causal length
//! (Yu, Rostad 2020), a cell by version, then value.
//!
//! What a raised row leaves behind keeps its values at version 0: such cells are shown in
//! `crsql_changes` and never travel in deltas. A deviation: a sentinel's version is always
//! the causal length, whatever `col_version` came with it.

use std::cmp::Ordering;
use std::rc::Rc;

use anabranch_core::key::apply_affinity;
use anabranch_core::merge::{CellState, Incoming, RowVerdict, cell_wins, merge_row};

use super::edit::{self, RowEdit};
use super::recent;
use super::stamp::{self, Stamp};
use super::{IncomingChange, IncomingColumn};
use crate::base;
use crate::buffer::{MergedRecord, Superseded};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{ColumnId, Ordinal};
use crate::metadata::mask::Mask;
use crate::metadata::row_clock::{Group, RowClock};
use crate::registry::TableInfo;
use crate::transaction;

/// Merges one change; answers how much `crsql_rows_impacted` grows.
///
/// # Errors
/// An unknown column, a base row that is missing where its value decides, constraints and
/// triggers of the table (with table and row named), and SQLite's own. Nothing is changed
/// then.
pub(crate) fn merge_change(
    cx: &Context,
    table: &Rc<TableInfo>,
    incoming: &IncomingChange<'_>,
) -> Result<u32> {
    let clock = transaction::row_clock(cx, table.id, incoming.key)?;
    let local = clock.as_ref().map_or(0, |clock| clock.causal_length);
    let what = match incoming.column {
        IncomingColumn::Row => Incoming::Row,
        IncomingColumn::Known(_) | IncomingColumn::Unknown(_) => Incoming::Cell,
    };
    let merge = Merge { cx, table, incoming, clock };
    match merge_row(local, incoming.causal_length, what) {
        RowVerdict::Stale => Ok(0),
        RowVerdict::Delete => merge.delete(),
        RowVerdict::Raise => merge.raise(),
        RowVerdict::Born => merge.bear(),
        RowVerdict::CompareCells => merge.compare(),
    }
}

struct Merge<'a> {
    cx: &'a Context,
    table: &'a Rc<TableInfo>,
    incoming: &'a IncomingChange<'a>,
    clock: Option<RowClock>,
}

impl<'a> Merge<'a> {
    fn delete(self) -> Result<u32> {
        let superseded = self.superseded_by_delete()?;
        transaction::enrol(self.cx)?;
        base::delete(self.cx, self.table, self.incoming.spelled)?;
        let (db_version, origin) = self.stamp()?;
        let causal_length = self.incoming.causal_length;
        let sentinel = self.record(Mask::of(ColumnId::SENTINEL), db_version, origin);
        let mut row = self.edit();
        for superseded in superseded {
            let record = MergedRecord {
                mask: Mask::new(),
                is_open: false,
                superseded: Some(Box::new(superseded)),
                ..sentinel.clone()
            };
            row.push(record, |_, _| ())?;
        }
        row.push(MergedRecord { is_birth: true, ..sentinel }, |clock, at| {
            edit::begin_life(clock, causal_length);
            edit::put_sentinel(clock, at);
        })?;
        Ok(1)
    }

    /// A new life: cells of the former one stay, at version 0, except the one that came.
    fn raise(self) -> Result<u32> {
        let cell = match self.incoming.column {
            IncomingColumn::Row => None,
            IncomingColumn::Known(column) => Some(column),
            IncomingColumn::Unknown(name) => return Err(self.unknown(name)),
        };
        let superseded = match cell {
            Some(column) => self.superseded_cell(column)?,
            None => None,
        };
        let leftovers = self.leftovers(cell)?;
        transaction::enrol(self.cx)?;
        self.write_raised(cell)?;
        let (db_version, origin) = self.stamp()?;
        let (causal_length, version) = (self.incoming.causal_length, self.incoming.version);
        let record = self.record(Mask::of(ColumnId::SENTINEL), db_version, origin);
        let mut row = self.edit();
        row.push(MergedRecord { is_birth: true, ..record.clone() }, |clock, at| {
            edit::begin_life(clock, causal_length);
            edit::put_sentinel(clock, at);
        })?;
        for (column, first_seq, origin) in leftovers {
            let mask = Mask::of(column);
            let left = MergedRecord {
                mask: mask.clone(),
                first_seq,
                origin,
                is_open: false,
                ..record.clone()
            };
            row.push(left, |clock, at| {
                edit::put(clock, Group { mask, version: 0, at, is_birth: false });
            })?;
        }
        let Some(column) = cell else { return Ok(1) };
        let mask = Mask::of(column);
        let record = MergedRecord { mask: mask.clone(), superseded, ..record };
        row.push(record, |clock, at| {
            edit::put(clock, Group { mask, version, at, is_birth: false });
        })?;
        Ok(2)
    }

    /// An unknown row, born with its first cell; a cell alone makes no sentinel.
    fn bear(self) -> Result<u32> {
        let column = self.known_column()?;
        transaction::enrol(self.cx)?;
        let cells = [(column, self.incoming.value)];
        base::insert(self.cx, self.table, self.incoming.spelled, &cells)?;
        let (db_version, origin) = self.stamp()?;
        let mask = Mask::of(column);
        let version = self.incoming.version;
        let record = self.record(mask.clone(), db_version, origin);
        self.edit().push(MergedRecord { is_birth: true, ..record }, |clock, at| {
            edit::begin_life(clock, 1);
            edit::put(clock, Group { mask, version, at, is_birth: true });
        })?;
        Ok(1)
    }

    fn compare(self) -> Result<u32> {
        let column = self.known_column()?;
        if !self.wins(column)? {
            return Ok(0);
        }
        let superseded = self.superseded_cell(column)?;
        transaction::enrol(self.cx)?;
        let cells = [(column, self.incoming.value)];
        if !base::update(self.cx, self.table, self.incoming.spelled, &cells)? {
            base::insert(self.cx, self.table, self.incoming.spelled, &cells)?;
        }
        let (db_version, origin) = self.stamp()?;
        let mask = Mask::of(column);
        let version = self.incoming.version;
        let record = self.record(mask.clone(), db_version, origin);
        self.edit().push(MergedRecord { superseded, ..record }, |clock, at| {
            edit::put(clock, Group { mask, version, at, is_birth: false });
        })?;
        Ok(1)
    }

    /// Whether the incoming cell replaces the one held, both at one causal length.
    fn wins(&self, column: ColumnId) -> Result<bool> {
        let Some(held) = self.held(column) else { return Ok(true) };
        match self.incoming.version.cmp(&held.version) {
            Ordering::Greater => return Ok(true),
            Ordering::Less => return Ok(false),
            Ordering::Equal => {}
        }
        let ties = self.cx.settings.ties(&self.cx.db)?;
        let local_origin = match ties {
            anabranch_core::merge::Ties::KeepLocal => self.cx.metadata.borrow().own_site(),
            anabranch_core::merge::Ties::LargerSite => {
                stamp::site_of(self.cx, Stamp::of(self.cx, held, column)?.origin)?
            }
        };
        let origin = self.origin_site();
        let incoming =
            CellState { version: self.incoming.version, value: self.incoming.value, origin };
        let key = (self.incoming.key, self.incoming.spelled);
        let wins = recent::with_value(self.cx, self.table, key, column, |value| {
            let local = CellState { version: held.version, value, origin: local_origin };
            cell_wins(Some(local), incoming, ties)
        })?;
        wins.ok_or_else(|| {
            StoreError::Refused(format!(
                "could not find row to merge with for tbl {}",
                self.table.name
            ))
        })
    }

    /// Writes the base row of a new life.
    fn write_raised(&self, cell: Option<ColumnId>) -> Result<()> {
        let cells: &[base::Cell<'_>] = match cell {
            Some(column) => &[(column, self.incoming.value)],
            None => &[],
        };
        let spelled = self.incoming.spelled;
        let is_alive = self.clock.as_ref().is_some_and(RowClock::is_alive);
        let same_spelling = match is_alive {
            true => base::read_row(self.cx, self.table, spelled, |row| self.is_spelled_as(row))?,
            false => None,
        };
        match same_spelling {
            None => base::insert(self.cx, self.table, spelled, cells)?,
            Some(false) => {
                base::respell(self.cx, self.table, spelled, cells)?;
            }
            Some(true) if cells.is_empty() => {}
            Some(true) => {
                base::update(self.cx, self.table, spelled, cells)?;
            }
        }
        Ok(())
    }

    fn is_spelled_as(&self, row: &base::RowView<'_>) -> bool {
        !self.table.has_spellings
            || self.table.key.iter().zip(self.incoming.spelled).enumerate().all(
                |(index, (part, value))| {
                    let stored = apply_affinity(*value, part.column.affinity);
                    stored.as_ref().is_same(row.key(index))
                },
            )
    }

    /// Column, `seq` and origin of all cells of the present life but `winner`.
    fn leftovers(&self, winner: Option<ColumnId>) -> Result<Vec<(ColumnId, u64, Ordinal)>> {
        let mut leftovers = Vec::new();
        for (group, column) in self.cells() {
            if Some(column) != winner {
                let stamp = Stamp::of(self.cx, group, column)?;
                leftovers.push((column, stamp.seq, stamp.origin));
            }
        }
        Ok(leftovers)
    }

    /// The cell that the incoming one overwrites, unless it knew of it.
    fn superseded_cell(&self, column: ColumnId) -> Result<Option<Box<Superseded>>> {
        let (Some(clock), Some(group)) = (&self.clock, self.held(column)) else { return Ok(None) };
        if group.version == 0 {
            return Ok(None);
        }
        let stamp = Stamp::of(self.cx, group, column)?;
        if stamp::site_of(self.cx, stamp.origin)? == self.origin_site() {
            return Ok(None);
        }
        let stands = self.incoming.causal_length;
        let kept = base::read_cell(self.cx, self.table, self.incoming.spelled, column, |value| {
            if value.is_same(self.incoming.value) {
                return Ok(None);
            }
            stamp::superseded(self.cx, clock, (column, group.version), stands, stamp, value)
                .map(|superseded| Some(Box::new(superseded)))
        })?;
        kept.unwrap_or(Ok(None))
    }

    /// The cells that a delete drops, except those it knew of.
    fn superseded_by_delete(&self) -> Result<Vec<Superseded>> {
        let Some(clock) = &self.clock else { return Ok(Vec::new()) };
        let origin = self.origin_site();
        let mut dropped = Vec::new();
        // A column that is gone has a clock still, and no value that could be kept.
        let has_value = |(group, column): &(&Group, ColumnId)| {
            group.version > 0 && self.table.column(*column).is_some()
        };
        for (group, column) in self.cells().filter(has_value) {
            let stamp = Stamp::of(self.cx, group, column)?;
            if stamp::site_of(self.cx, stamp.origin)? != origin {
                dropped.push((column, group.version, stamp));
            }
        }
        let mut superseded = Vec::new();
        let stands = self.incoming.causal_length;
        for (column, version, stamp) in dropped {
            let kept =
                base::read_cell(self.cx, self.table, self.incoming.spelled, column, |value| {
                    stamp::superseded(self.cx, clock, (column, version), stands, stamp, value)
                })?;
            superseded.extend(kept.transpose()?);
        }
        Ok(superseded)
    }

    /// Groups and columns of the present life, the sentinel left out.
    fn cells(&self) -> impl Iterator<Item = (&Group, ColumnId)> {
        let groups = self.clock.iter().flat_map(|clock| &clock.groups);
        groups
            .flat_map(|group| group.mask.iter().map(move |column| (group, column)))
            .filter(|(_, column)| *column != ColumnId::SENTINEL)
    }

    fn held(&self, column: ColumnId) -> Option<&Group> {
        self.clock.as_ref().and_then(|clock| clock.column(column))
    }

    fn known_column(&self) -> Result<ColumnId> {
        match self.incoming.column {
            IncomingColumn::Known(column) => Ok(column),
            IncomingColumn::Row => unreachable!("a row is never compared by cells"),
            IncomingColumn::Unknown(name) => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, column: &str) -> StoreError {
        StoreError::Refused(format!("table {} has no column {column}", self.table.name))
    }

    fn origin_site(&self) -> anabranch_core::site::SiteId {
        self.incoming.origin.unwrap_or_else(|| self.cx.metadata.borrow().own_site())
    }

    /// `db_version` and origin of a winner; taken only after the base row is written, for a
    /// refused change must leave no trace.
    fn stamp(&self) -> Result<(u64, Ordinal)> {
        let db_version = transaction::raise_db_version(self.cx, self.incoming.db_version)?;
        let origin = match self.incoming.origin {
            None => Ordinal(0),
            Some(site) => self.cx.metadata.borrow_mut().ordinal_of(site)?,
        };
        Ok((db_version, origin))
    }

    fn record(&self, mask: Mask, db_version: u64, origin: Ordinal) -> MergedRecord {
        MergedRecord {
            row: 0,
            mask,
            first_seq: self.incoming.seq,
            dot: None,
            origin,
            db_version,
            is_birth: false,
            is_open: true,
            superseded: None,
        }
    }

    fn edit(self) -> RowEdit<'a> {
        RowEdit::new(self.cx, self.table.id, self.incoming.key, self.clock)
    }
}
