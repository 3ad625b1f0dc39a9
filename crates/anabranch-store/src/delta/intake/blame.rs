//! Rows of a delta that are not shown: which changes are at fault, and what is kept of them.

use anabranch_core::change::ChangeHeader;
use anabranch_core::delta::{DeltaDot, RowDelta, TableDelta};
use anabranch_sqlite::SqlError;

use super::{Decoded, Intake, Target};
use crate::context::Context;
use crate::delta::DeltaError;
use crate::delta::error::ChangeName;
use crate::delta::headers::Headers;
use crate::delta::held::{self, HeldRow};
use crate::delta::holding::Reason;
use crate::delta::names::Names;
use crate::error::{Result, StoreError};
use crate::merge::{IncomingRow, merge_row_delta};
use crate::metadata::row_clock::RowClock;
use crate::registry::TableInfo;
use crate::transaction;

/// Notes of the changes that are new which of them are left out.
pub(super) fn mark_held(cx: &Context, headers: &Headers, names: &Names) -> Result<()> {
    let holding = cx.delta.holding.borrow();
    if holding.is_empty() {
        return Ok(());
    }
    let now_ms = (cx.clock)();
    for header in headers.as_given(names) {
        let ChangeHeader { site, version, .. } = header?;
        let change = ChangeName { site, version };
        if let Some(reason) = holding.reason(change) {
            held::mark(cx, change, reason, now_ms)?;
        }
    }
    Ok(())
}

impl Intake<'_> {
    /// Whether an operation is new and its change left out.
    pub(super) fn is_left_out(&self, dot: DeltaDot) -> bool {
        self.leaves_out
            && !self.is_held(dot)
            && self.cx.delta.holding.borrow().reason(self.name(dot)).is_some()
    }

    /// Whether an operation is new and its change not left out.
    pub(super) fn is_shown(&self, dot: DeltaDot) -> bool {
        !self.is_held(dot) && !self.is_left_out(dot)
    }

    /// Keeps what `is_kept` chooses of the new operations of a row.
    pub(super) fn keep(
        &self,
        info: Option<&TableInfo>,
        table: &TableDelta,
        row: &RowDelta,
        is_kept: impl Fn(DeltaDot) -> bool,
    ) -> Result<()> {
        let is_kept = |dot| !self.is_held(dot) && is_kept(dot);
        if !self.has(row, is_kept) {
            return Ok(());
        }
        let key = held::key_of(info, &row.key);
        let kept = HeldRow::of(key, row, |site| self.site(site), &table.columns, is_kept);
        held::put(self.cx, &table.name, kept)
    }

    /// Whether cells are of a life that is not shown here, since the insert that began it is
    /// held.
    pub(super) fn waits(
        &self,
        table: &TableDelta,
        row: &Decoded<'_>,
        clock: Option<&RowClock>,
    ) -> Result<bool> {
        let causal_length = row.row.causal_length;
        let is_shown = clock.is_some_and(|clock| clock.causal_length >= causal_length);
        if !row.births.is_empty() || is_shown {
            return Ok(false);
        }
        if row.row.births.iter().any(|birth| self.is_left_out(birth.dot)) {
            return Ok(true);
        }
        held::has_life(self.cx, &table.name, &row.key, causal_length)
    }

    /// Blames the changes that wrote a row, each for what it wrote if it can be told apart.
    pub(super) fn find_blame(
        &mut self,
        target: &Target,
        table: &TableDelta,
        row: &Decoded<'_>,
        error: SqlError,
    ) -> Result<()> {
        let mut dots: Vec<DeltaDot> = Vec::new();
        let births = row.row.births.iter().map(|birth| birth.dot);
        let mut cells: Vec<DeltaDot> = row.row.cells.iter().map(|cell| cell.dot).collect();
        cells.sort_unstable_by_key(|dot| (dot.version, dot.site));
        for dot in births.chain(cells).filter(|dot| self.is_shown(*dot)) {
            if !dots.contains(&dot) {
                dots.push(dot);
            }
        }
        if !self.cx.is_followed.get() && !row.births.is_empty() {
            // Nothing can be tried any more; most likely it is the insert.
            dots.retain(|dot| row.row.births.iter().any(|birth| birth.dot == *dot));
        }
        let mut is_found = false;
        if dots.len() > 1 && self.cx.is_followed.get() {
            for dot in &dots {
                if let Some(error) = self.merge_part(target, row, *dot)? {
                    is_found = true;
                    self.blame(table, row.row, &[*dot], error)?;
                }
            }
        }
        if is_found { Ok(()) } else { self.blame(table, row.row, &dots, error) }
    }

    /// Merges what one change wrote of a row; what refuses it. The pass will be undone: what a
    /// refusal leaves half done does not stand.
    fn merge_part(
        &mut self,
        target: &Target,
        row: &Decoded<'_>,
        dot: DeltaDot,
    ) -> Result<Option<SqlError>> {
        let dot = self.dot(dot)?;
        let clock = transaction::row_clock(self.cx, target.info.id, &row.key)?;
        let births: Vec<_> = row.births.iter().filter(|birth| birth.dot == dot).copied().collect();
        let cells: Vec<_> = row.cells.iter().filter(|cell| cell.dot == dot).copied().collect();
        let is_alive = clock.as_ref().is_some_and(|c| c.causal_length >= row.row.causal_length);
        if births.is_empty() && !is_alive {
            // The insert is at fault; or all of them.
            return Ok(None);
        }
        let part = IncomingRow { births: &births, cells: &cells, ..row.view() };
        let scope = self.scope();
        match merge_row_delta(self.cx, &target.info, &part, clock, scope, &mut self.seq) {
            Ok(_) => Ok(None),
            // Refused: the part before it left no row to compare with.
            Err(error @ (StoreError::Constraint(_) | StoreError::Refused(_))) => {
                Ok(Some(error.into()))
            }
            Err(error) => Err(error),
        }
    }

    /// Blames all changes whose operations of a row are to be shown, if they may be held for
    /// this error.
    ///
    /// # Errors
    /// It, if not.
    pub(super) fn blame_all(
        &self,
        table: &TableDelta,
        row: &RowDelta,
        error: StoreError,
    ) -> Result<()> {
        let is_of_row = match &error {
            StoreError::Constraint(_) | StoreError::Delta(DeltaError::Key { .. }) => true,
            StoreError::Delta(DeltaError::UnknownColumn { .. }) => self.is_again,
            _ => false,
        };
        if !is_of_row {
            return Err(error);
        }
        let dots: Vec<DeltaDot> = self.shown_dots(row).collect();
        self.blame(table, row, &dots, error.into())
    }

    fn shown_dots(&self, row: &RowDelta) -> impl Iterator<Item = DeltaDot> {
        let births = row.births.iter().map(|birth| birth.dot);
        births.chain(row.cells.iter().map(|cell| cell.dot)).filter(|dot| self.is_shown(*dot))
    }

    /// # Errors
    /// The error itself, if the transaction was undone: nothing more can be tried in it.
    pub(super) fn blame(
        &self,
        table: &TableDelta,
        row: &RowDelta,
        dots: &[DeltaDot],
        error: SqlError,
    ) -> Result<()> {
        let is_undone = !self.cx.is_followed.get();
        let mut reason = Reason::new(&table.name, &row.key, error.message.clone());
        reason.undoes = is_undone;
        let mut blamed = self.cx.delta.blamed.borrow_mut();
        dots.iter().for_each(|dot| blamed.blame(self.name(*dot), reason.clone()));
        if is_undone { Err(StoreError::Constraint(error)) } else { Ok(()) }
    }

    /// Puts rows of a table that is not there (any more) back to what is held.
    pub(super) fn put_back(&self, table: &TableDelta, error: &StoreError) -> Result<()> {
        let message = error.to_string();
        for row in &table.rows {
            let dots: Vec<DeltaDot> = self.shown_dots(row).collect();
            self.blame(table, row, &dots, SqlError::new(message.clone()))?;
            self.keep(None, table, row, |_| true)?;
        }
        Ok(())
    }
}
