//! What is held and not shown, among the rows that are: a peer without the constraint shows it.

use std::collections::VecDeque;

use anabranch_core::delta::{Birth, CellDelta, DeltaDot, RowDelta};
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;

use super::{Cut, TableCut, damaged};
use crate::context::Context;
use crate::delta::error::ChangeName;
use crate::delta::held::{self, HeldRow};
use crate::error::{Result, StoreError};

/// The held rows of one table above a vector, by key.
pub(super) struct HeldRows {
    table: String,
    page: VecDeque<HeldRow>,
    /// The last key read.
    after: Vec<u8>,
    is_at_end: bool,
}

impl HeldRows {
    fn of(table: &str) -> HeldRows {
        let (page, after) = (VecDeque::new(), Vec::new());
        HeldRows { table: table.to_owned(), page, after, is_at_end: false }
    }

    fn peek(&mut self, cx: &Context, from: &VersionVector) -> Result<Option<&HeldRow>> {
        while self.page.is_empty() && !self.is_at_end {
            let rows = held::rows_after(cx, &self.table, &self.after)?;
            match rows.last() {
                Some(last) => self.after.clone_from(&last.key),
                None => self.is_at_end = true,
            }
            self.page.extend(rows.into_iter().filter_map(|mut row| {
                row.retain(|change| change.version > from.version(change.site));
                (!row.is_empty()).then_some(row)
            }));
        }
        Ok(self.page.front())
    }
}

impl Cut<'_> {
    /// The held rows of a table that is being started, and its columns that only they have.
    pub(super) fn held_of(
        &self,
        table: &str,
        columns: &mut Vec<String>,
    ) -> Result<Option<HeldRows>> {
        if !self.has_held {
            return Ok(None);
        }
        let mut rows = HeldRows::of(table);
        if rows.peek(self.cx, &self.from)?.is_none() {
            return Ok(None);
        }
        let held = held::columns(self.cx, table)?;
        columns.extend(held.into_iter().filter(|name| !columns.contains(name)).collect::<Vec<_>>());
        Ok(Some(rows))
    }

    /// Writes the tables before `name` (`None`: all that are left) of which nothing is shown.
    pub(super) fn write_held_tables(&mut self, name: Option<&str>) -> Result<()> {
        while self.has_held {
            let next = held::next_table(self.cx, &self.last_table)?;
            let is_before = |next: &String| name.is_none_or(|name| next.as_str() < name);
            let Some(table) = next.filter(is_before) else { break };
            self.last_table.clone_from(&table);
            let mut columns = Vec::new();
            if let Some(mut rows) = self.held_of(&table, &mut columns)? {
                self.encoder.table(&table, &columns).map_err(damaged)?;
                self.write_held_before(&mut rows, &columns, None)?;
            }
        }
        Ok(())
    }

    /// Writes what is held of a table after the last row that is shown.
    pub(super) fn end_table(&mut self, table: Option<&mut TableCut>) -> Result<()> {
        let Some(TableCut { columns, held: Some(rows), .. }) = table else { return Ok(()) };
        self.write_held_before(rows, columns, None)
    }

    /// Writes a row that is shown, joined with what is held of it, and before it the held
    /// rows with lower keys.
    pub(super) fn write_joined(
        &mut self,
        held: Option<&mut HeldRows>,
        columns: &[String],
        key: &[u8],
        mut row: RowDelta,
    ) -> Result<()> {
        if let Some(rows) = held {
            self.write_held_before(rows, columns, Some(key))?;
            let is_it = rows.peek(self.cx, &self.from)?.is_some_and(|held| held.key == key);
            if let Some(held) = rows.page.pop_front_if(|_| is_it) {
                row.join(self.held_row(&held, columns)?, &self.site_list);
            }
        }
        self.write_row(row)
    }

    fn write_held_before(
        &mut self,
        rows: &mut HeldRows,
        columns: &[String],
        key: Option<&[u8]>,
    ) -> Result<()> {
        while let Some(row) = rows.peek(self.cx, &self.from)? {
            if key.is_some_and(|key| row.key.as_slice() >= key) {
                break;
            }
            let row = self.held_row(row, columns)?;
            rows.page.pop_front();
            self.write_row(row)?;
        }
        Ok(())
    }

    fn held_row(&self, row: &HeldRow, columns: &[String]) -> Result<RowDelta> {
        let mut births = Vec::with_capacity(row.births.len());
        for birth in &row.births {
            births.push(Birth {
                dot: self.held_dot(birth.change)?,
                origin: self.index_of(birth.origin)?,
            });
        }
        births.sort_unstable_by_key(|birth| birth.dot);
        let mut cells = Vec::with_capacity(row.cells.len());
        for cell in &row.cells {
            let column = columns.iter().position(|name| *name == cell.column);
            let column = column.ok_or_else(|| StoreError::Damaged {
                place: format!("ana_held_cell, column {}", cell.column),
                what: "a column that came while it was read",
            })?;
            cells.push(CellDelta {
                column: column as u32,
                version: cell.version,
                dot: self.held_dot(cell.change)?,
                origin: self.index_of(cell.origin)?,
                value: cell.value.clone(),
            });
        }
        cells.sort_unstable_by_key(|cell| cell.column);
        Ok(RowDelta { key: row.pk.clone(), causal_length: row.causal_length, births, cells })
    }

    fn held_dot(&self, change: ChangeName) -> Result<DeltaDot> {
        Ok(DeltaDot { site: self.index_of(change.site)?, version: change.version })
    }
}

/// All sites that held operations name, for the dictionary.
pub(super) fn sites(cx: &Context, has_held: bool) -> Result<Vec<SiteId>> {
    if has_held { held::sites(cx) } else { Ok(Vec::new()) }
}
