//! Live rows of a delta whose maker has not seen all that was forgotten here: whether such a
//! row was deleted below the floor nobody here can tell (`docs/decisions/0008-forgetting.md`).

use super::{Decoded, Intake, Target};
use crate::buffer::{MergedRecord, Superseded};
use crate::error::{Result, StoreError};
use crate::ids::{ColumnId, Ordinal};
use crate::merge::{IncomingBirth, IncomingCell, IncomingRow, RowEffect, merge_row_delta};
use crate::metadata::mask::Mask;
use crate::metadata::row_clock::RowClock;
use crate::transaction;
use anabranch_core::delta::{DeltaDot, TableDelta};
use smallvec::SmallVec;

impl Intake<'_> {
    /// Whether a row that is not alive here may be dead because of what was forgotten.
    pub(super) fn is_doubtful(
        &self,
        target: &Target,
        row: &Decoded<'_>,
        clock: Option<&RowClock>,
    ) -> Result<bool> {
        let causal_length = row.row.causal_length;
        if !self.doubts || causal_length.is_multiple_of(2) || clock.is_some_and(RowClock::is_alive)
        {
            return Ok(false);
        }
        Ok(causal_length < self.cx.metadata.borrow_mut().restart(target.info.id)?)
    }

    /// A row that a change new here inserted begins a new life, in a change of this copy; of
    /// any other the cells are listed as conflicts. How many rows were inserted.
    pub(super) fn settle_doubt(
        &mut self,
        target: &Target,
        table: &TableDelta,
        row: &Decoded<'_>,
        clock: Option<RowClock>,
    ) -> Result<u64> {
        let restart = self.cx.metadata.borrow_mut().restart(target.info.id)?;
        if row.births.is_empty() {
            self.list_cells(target, row, clock, restart)?;
            return Ok(0);
        }
        let former = clock.as_ref().map_or(0, |clock| clock.causal_length);
        let (dot, origin) = {
            let metadata = self.cx.metadata.borrow();
            (metadata.pending_dot(), metadata.own_site())
        };
        let births = [IncomingBirth { dot, origin }];
        let mut cells: SmallVec<[IncomingCell<'_>; 4]> = row.cells.clone();
        cells.iter_mut().for_each(|cell| (cell.dot, cell.origin) = (dot, origin));
        let view = IncomingRow {
            causal_length: restart.max(former + 1),
            births: &births,
            cells: &cells,
            ..row.view()
        };
        let scope = self.scope();
        match merge_row_delta(self.cx, &target.info, &view, clock, scope, &mut self.seq) {
            Ok(outcome) => {
                self.count_won(outcome);
                Ok(u64::from(outcome.effect == RowEffect::Inserted))
            }
            Err(StoreError::Constraint(error)) => {
                let births = row.row.births.iter().map(|birth| birth.dot);
                let dots: Vec<DeltaDot> = births.filter(|dot| self.is_shown(*dot)).collect();
                self.blame(table, row.row, &dots, error)?;
                Ok(0)
            }
            Err(error) => Err(self.name_change(error, row.row)),
        }
    }

    fn list_cells(
        &self,
        target: &Target,
        row: &Decoded<'_>,
        clock: Option<RowClock>,
        restart: u64,
    ) -> Result<()> {
        let mut clock = Some(clock.unwrap_or_else(RowClock::unknown));
        for cell in &row.cells {
            let origin = self.cx.metadata.borrow_mut().author_of(cell.origin)?;
            let superseded = Superseded {
                column: cell.column,
                version: cell.version,
                causal_length: row.row.causal_length,
                stands: restart - 1,
                dot: cell.dot,
                origin,
                value: cell.value.into(),
            };
            let record = listed(self.cx.metadata.borrow().db_version(), superseded);
            let place = (target.info.id, row.key.as_slice());
            transaction::push_merged(self.cx, place, clock.take(), record, |_, _| ())?;
        }
        Ok(())
    }
}

/// A record that says nothing but that a cell does not stand.
pub(in crate::delta) fn listed(db_version: u64, cell: Superseded) -> MergedRecord {
    MergedRecord {
        row: 0,
        mask: Mask::new(),
        first_seq: 0,
        dot: Some(cell.dot),
        origin: Ordinal(0),
        db_version,
        is_birth: false,
        is_open: false,
        superseded: Some(Box::new(cell)),
    }
}

/// The columns of a clock that have a value, each with its version.
pub(in crate::delta) fn columns(clock: &RowClock) -> impl Iterator<Item = (ColumnId, u64)> + '_ {
    let groups = clock.groups.iter();
    groups
        .flat_map(|group| group.mask.iter().map(move |column| (column, group.version)))
        .filter(|(column, _)| *column != ColumnId::SENTINEL)
}
