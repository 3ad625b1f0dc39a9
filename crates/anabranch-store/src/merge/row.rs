//! What a delta says of one row.
//!
//! The row's base is written in one statement (a new life of a live row: two), so that a
//! CHECK over two columns sees whole rows. Skipped is what the receiver's vector covers.

use std::cmp::Ordering;
use std::rc::Rc;

use anabranch_core::key::apply_affinity;
use anabranch_core::merge::{CellState, cell_wins};
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use smallvec::SmallVec;

use super::contest::Contest;
use super::edit::{self, RowEdit};
use super::records::{Stamped, add_births, group_cells, put_stamped, stamped_life};
use super::stamp::{self, Stamp};
use super::{DeltaScope, IncomingBirth, IncomingCell, IncomingRow, RowEffect, RowOutcome};
use crate::base;
use crate::buffer::{MergedRecord, Superseded};
use crate::context::Context;
use crate::error::Result;
use crate::ids::{ColumnId, LocalDot, Ordinal};
use crate::metadata::mask::Mask;
use crate::metadata::row_clock::{Group, RowClock};
use crate::registry::TableInfo;

/// Merges one row of a delta whose clock is `clock`. `seq` counts the cells stamped by the
/// delta.
///
/// # Errors
/// Constraints and triggers of the table, with table and row named, and SQLite's own; the
/// transaction must then be undone, for a new life takes two statements.
pub(crate) fn merge_row_delta(
    cx: &Context,
    table: &Rc<TableInfo>,
    incoming: &IncomingRow<'_>,
    clock: Option<RowClock>,
    scope: DeltaScope,
    seq: &mut u64,
) -> Result<RowOutcome> {
    let local = clock.as_ref().map_or(0, |clock| clock.causal_length);
    let merge = Merge::new(cx, table, incoming, clock, scope);
    let is_alive = incoming.causal_length % 2 == 1;
    match (incoming.causal_length.cmp(&local), is_alive) {
        (Ordering::Less, _) => merge.lose(),
        (Ordering::Equal, false) => Ok(RowOutcome::default()),
        (Ordering::Equal, true) => merge.compare(seq),
        (Ordering::Greater, false) => merge.delete(seq),
        (Ordering::Greater, true) => merge.begin_life(seq),
    }
}

/// Whether a row is alive and nothing is known of it here: then it may be merged beside others.
pub(crate) fn is_fresh(incoming: &IncomingRow<'_>, clock: Option<&RowClock>) -> bool {
    let says_something = !incoming.births.is_empty() || !incoming.cells.is_empty();
    clock.is_none() && incoming.causal_length % 2 == 1 && says_something
}

/// Merges rows that are fresh, all with cells of the same columns, in one statement. `None` if
/// one was refused, and nothing is changed: each may be tried by itself, and then named.
///
/// # Errors
/// As [`merge_row_delta`], and what ended the transaction.
pub(crate) fn merge_fresh_rows(
    cx: &Context,
    table: &Rc<TableInfo>,
    rows: &[IncomingRow<'_>],
    scope: DeltaScope,
    seq: &mut u64,
) -> Result<Option<RowOutcome>> {
    let mut values: Vec<ValueRef<'_>> = Vec::new();
    for row in rows {
        values.extend_from_slice(row.spelled);
        values.extend(row.cells.iter().map(|cell| cell.value));
    }
    let columns = rows[0].cells.iter().map(|cell| cell.column);
    let n_changes = cx.db.total_changes();
    if let Err(error) = base::insert_rows(cx, table, columns, rows.len(), &values) {
        // Outside of a transaction nothing may be tried again.
        if !cx.is_followed.get() {
            return Err(error);
        }
        if cx.db.total_changes() != n_changes {
            // RAISE(FAIL) and RAISE(IGNORE) keep rows, FAIL also the one that it refuses, which
            // would pass for one that is there.
            for row in rows {
                base::delete(cx, table, row.spelled)?;
            }
        }
        return Ok(None);
    }
    let mut won = 0;
    for row in rows {
        won += Merge::new(cx, table, row, None, scope).settle_life(Vec::new(), seq)?;
    }
    Ok(Some(RowOutcome { won, effect: RowEffect::Inserted }))
}

struct Merge<'a> {
    cx: &'a Context,
    table: &'a Rc<TableInfo>,
    incoming: &'a IncomingRow<'a>,
    scope: DeltaScope,
    clock: Option<RowClock>,
    births: &'a [IncomingBirth],
    cells: &'a [IncomingCell<'a>],
}

impl<'a> Merge<'a> {
    fn new(
        cx: &'a Context,
        table: &'a Rc<TableInfo>,
        incoming: &'a IncomingRow<'a>,
        clock: Option<RowClock>,
        scope: DeltaScope,
    ) -> Merge<'a> {
        let (births, cells) = (incoming.births, incoming.cells);
        Merge { cx, table, incoming, scope, clock, births, cells }
    }

    /// The row has a longer life here: what came is kept if nobody here had seen it.
    fn lose(self) -> Result<RowOutcome> {
        if self.cells.is_empty() {
            return Ok(RowOutcome::default());
        }
        let winner = self.sentinel_origin()?;
        let lost: Vec<_> = self.cells.iter().filter(|cell| Some(cell.origin) != winner).collect();
        let mut row = self.edit();
        for cell in lost {
            self.push_lost(&mut row, cell)?;
        }
        Ok(RowOutcome::default())
    }

    fn delete(self, seq: &mut u64) -> Result<RowOutcome> {
        let Some(birth) = self.births.first() else { return Ok(RowOutcome::default()) };
        let superseded = self.superseded_by(birth)?;
        let was_there = base::delete(self.cx, self.table, self.incoming.spelled)?;
        let mut row = self.edit();
        for superseded in superseded {
            self.push_superseded(&mut row, birth.dot, superseded)?;
        }
        self.push_life(&mut row, vec![stamped_life(birth, true)], seq)?;
        let effect = if was_there { RowEffect::Deleted } else { RowEffect::None };
        Ok(RowOutcome { won: 1, effect })
    }

    /// The row rises to a longer life: cells of the former one go, as if the delete had been
    /// seen.
    fn begin_life(self, seq: &mut u64) -> Result<RowOutcome> {
        if self.births.is_empty() && self.cells.is_empty() {
            return Ok(RowOutcome::default());
        }
        let superseded = match self.births.first() {
            Some(birth) => self.superseded_by(birth)?,
            None => Vec::new(),
        };
        let is_alive = self.clock.as_ref().is_some_and(RowClock::is_alive);
        let was_there = is_alive && base::delete(self.cx, self.table, self.incoming.spelled)?;
        let cells: SmallVec<[_; 8]> =
            self.cells.iter().map(|cell| (cell.column, cell.value)).collect();
        base::insert(self.cx, self.table, self.incoming.spelled, &cells)?;
        let won = self.settle_life(superseded, seq)?;
        let effect = if was_there { RowEffect::Updated } else { RowEffect::Inserted };
        Ok(RowOutcome { won, effect })
    }

    /// Buffers what a new life stamps; how many cells (and a sentinel) stand.
    fn settle_life(self, superseded: Vec<Superseded>, seq: &mut u64) -> Result<u32> {
        let mut row = self.edit();
        if let Some(birth) = self.births.first() {
            for superseded in superseded {
                self.push_superseded(&mut row, birth.dot, superseded)?;
            }
        }
        let records = self.records_of_life();
        let won = self.cells.len() + records.iter().filter(|record| record.has_sentinel).count();
        self.push_life(&mut row, records, seq)?;
        Ok(won as u32)
    }

    /// One causal length on both sides: cells decide, births unite.
    fn compare(self, seq: &mut u64) -> Result<RowOutcome> {
        if self.cells.is_empty() && self.births.is_empty() {
            return Ok(RowOutcome::default());
        }
        let mut contest = Contest::new(self.cx, self.table, self.incoming.spelled);
        let mut winners: SmallVec<[&IncomingCell<'_>; 8]> = SmallVec::new();
        let mut superseded = Vec::new();
        let mut lost = Vec::new();
        for cell in self.cells {
            match self.decide(&mut contest, cell)? {
                Verdict::Wins(gone) => {
                    winners.push(cell);
                    superseded.extend(gone.map(|gone| (cell.dot, gone)));
                }
                Verdict::Loses => lost.push(cell),
                Verdict::Ties => {}
            }
        }
        let left = self.leftovers(&winners);
        let effect = self.write_compared(&mut contest, &winners, &left)?;
        let mut row = self.edit();
        for (dot, gone) in superseded {
            self.push_superseded(&mut row, dot, gone)?;
        }
        for cell in lost {
            self.push_lost(&mut row, cell)?;
        }
        let mut records = group_cells(winners.iter().copied());
        add_births(&mut records, self.births);
        self.push_compared(&mut row, records, &left, seq)?;
        Ok(RowOutcome { won: winners.len() as u32, effect })
    }

    fn decide(&self, contest: &mut Contest<'_>, cell: &IncomingCell<'_>) -> Result<Verdict> {
        let Some(group) = self.clock.as_ref().and_then(|clock| clock.column(cell.column)) else {
            return Ok(Verdict::Wins(None));
        };
        if group.version == 0 && cell.version > 0 {
            return Ok(Verdict::Wins(None));
        }
        let stamp = Stamp::of(self.cx, group, cell.column)?;
        let origin = stamp::site_of(self.cx, stamp.origin)?;
        // Nobody here can have known a change that was not held here: a loser is known to its
        // winner only if both first came from one site.
        let by_version = cell.version.cmp(&group.version);
        let is_sequel = origin == cell.origin
            || by_version != Ordering::Less && self.knew(cell.dot, stamp.dot)?;
        match by_version {
            Ordering::Greater if is_sequel => return Ok(Verdict::Wins(None)),
            Ordering::Less if is_sequel => return Ok(Verdict::Ties),
            _ => {}
        }
        let value = contest.value(cell.column)?;
        let local = CellState { version: group.version, value, origin };
        let incoming = CellState { version: cell.version, value: cell.value, origin: cell.origin };
        let is_same = value.is_same(cell.value);
        match cell_wins(Some(local), incoming, self.cx.settings.ties(&self.cx.db)?) {
            true if is_same || is_sequel => Ok(Verdict::Wins(None)),
            true => Ok(Verdict::Wins(Some(self.gone(cell.column, group, stamp, value)?))),
            false if is_same || origin == cell.origin => Ok(Verdict::Ties),
            false => Ok(Verdict::Loses),
        }
    }

    /// Columns that a raise through `crsql_changes` left behind and nothing overwrites: the
    /// insert that gave the row its life clears them.
    fn leftovers(&self, winners: &[&IncomingCell<'_>]) -> Mask {
        let mut left = Mask::new();
        if self.births.is_empty() {
            return left;
        }
        let groups = self.clock.iter().flat_map(|clock| &clock.groups);
        groups.filter(|group| group.version == 0).for_each(|group| left.unite(&group.mask));
        winners.iter().for_each(|cell| left.remove(cell.column));
        left
    }

    fn write_compared(
        &self,
        contest: &mut Contest<'_>,
        winners: &[&IncomingCell<'_>],
        left: &Mask,
    ) -> Result<RowEffect> {
        let cells: SmallVec<[base::Cell<'_>; 8]> =
            winners.iter().map(|cell| (cell.column, cell.value)).collect();
        let spelled = self.incoming.spelled;
        let respells = self.respells(contest)?;
        if !left.is_empty() {
            return self.rewrite(contest, &cells, left, respells);
        }
        let found = match (respells, cells.is_empty()) {
            (false, true) => return Ok(RowEffect::None),
            (true, _) => base::respell(self.cx, self.table, spelled, &cells)?,
            (false, false) => base::update(self.cx, self.table, spelled, &cells)?,
        };
        if found {
            return Ok(RowEffect::Updated);
        }
        base::insert(self.cx, self.table, spelled, &cells)?;
        Ok(RowEffect::Inserted)
    }

    /// Writes the row anew, so that columns in `left` take their defaults.
    fn rewrite(
        &self,
        contest: &mut Contest<'_>,
        cells: &[base::Cell<'_>],
        left: &Mask,
        respells: bool,
    ) -> Result<RowEffect> {
        let Some(row) = contest.row()? else { return Ok(RowEffect::None) };
        let mut all: SmallVec<[base::Cell<'_>; 8]> = SmallVec::new();
        for (column, value) in self.table.columns.iter().zip(&row.values) {
            let won = cells.iter().find(|(won, _)| *won == column.id);
            match won {
                Some(cell) => all.push(*cell),
                None if left.contains(column.id) => {}
                None => all.push((column.id, value.as_ref())),
            }
        }
        let stored: SmallVec<[ValueRef<'_>; 4]> = row.key.iter().map(Value::as_ref).collect();
        let key = if respells { self.incoming.spelled } else { &stored };
        base::delete(self.cx, self.table, self.incoming.spelled)?;
        base::insert(self.cx, self.table, key, &all)?;
        Ok(RowEffect::Updated)
    }

    /// Whether the incoming spelling of the key is the larger one.
    fn respells(&self, contest: &mut Contest<'_>) -> Result<bool> {
        if !self.table.has_spellings || self.births.is_empty() {
            return Ok(false);
        }
        let Some(row) = contest.row()? else { return Ok(false) };
        let pairs = self.table.key.iter().zip(self.incoming.spelled).zip(&row.key);
        let order = pairs.fold(Ordering::Equal, |order, ((part, incoming), stored)| {
            let incoming = apply_affinity(*incoming, part.column.affinity);
            order.then_with(|| incoming.as_ref().order(stored.as_ref()))
        });
        Ok(order == Ordering::Greater)
    }

    /// The cells held here that a new state of the row drops without having known them.
    fn superseded_by(&self, birth: &IncomingBirth) -> Result<Vec<Superseded>> {
        let mut contest = Contest::new(self.cx, self.table, self.incoming.spelled);
        let mut gone = Vec::new();
        for group in self.clock.iter().flat_map(|clock| &clock.groups) {
            if group.version == 0 {
                continue;
            }
            // The sentinel, and a column that is gone, have no value that could be kept.
            for column in group.mask.iter().filter(|id| self.table.column(*id).is_some()) {
                let stamp = Stamp::of(self.cx, group, column)?;
                let is_known = stamp::site_of(self.cx, stamp.origin)? == birth.origin
                    || self.knew(birth.dot, stamp.dot)?;
                if !is_known {
                    let value = contest.value(column)?;
                    gone.push(self.gone(column, group, stamp, value)?);
                }
            }
        }
        Ok(gone)
    }

    fn gone(
        &self,
        column: ColumnId,
        group: &Group,
        stamp: Stamp,
        value: ValueRef<'_>,
    ) -> Result<Superseded> {
        let clock = self.clock.as_ref().expect("only a row with a clock has groups");
        let stands = self.incoming.causal_length;
        stamp::superseded(self.cx, clock, (column, group.version), stands, stamp, value)
    }

    fn knew(&self, later: LocalDot, earlier: LocalDot) -> Result<bool> {
        if stamp::is_same_author_later(later, earlier) {
            return Ok(true);
        }
        // Whether the context of the later change covers the earlier: then it overwrote it
        // knowingly.
        self.cx.metadata.borrow_mut().context_covers(later, earlier)
    }

    /// Where the state of the row that is held here came from.
    fn sentinel_origin(&self) -> Result<Option<SiteId>> {
        let sentinel = self.clock.as_ref().and_then(|clock| clock.column(ColumnId::SENTINEL));
        let Some(group) = sentinel else { return Ok(None) };
        let stamp = Stamp::of(self.cx, group, ColumnId::SENTINEL)?;
        Ok(Some(stamp::site_of(self.cx, stamp.origin)?))
    }

    /// The records of a new life: the cells by who wrote them, and a sentinel where
    /// `crsql_changes` must show one.
    fn records_of_life(&self) -> Vec<Stamped<'a>> {
        let mut records = group_cells(self.cells);
        add_births(&mut records, self.births);
        let needs_sentinel = self.incoming.causal_length > 1 || self.cells.is_empty();
        if needs_sentinel {
            // Of births at once the first by its dot, so that all copies show one origin.
            let first = self.births.first().map(|birth| (birth.dot, birth.origin));
            match records.iter_mut().find(|r| r.is_birth && first == Some((r.dot, r.origin))) {
                Some(record) => record.has_sentinel = true,
                // Its birth was forgotten here: the first cell stands for it.
                None => records.first_mut().into_iter().for_each(|first| first.has_sentinel = true),
            }
        }
        records
    }

    fn push_life(
        &self,
        row: &mut RowEdit<'_>,
        records: Vec<Stamped<'_>>,
        seq: &mut u64,
    ) -> Result<()> {
        let causal_length = self.incoming.causal_length;
        for (index, stamped) in records.iter().enumerate() {
            let record = self.record(stamped, seq)?;
            row.push(record, |clock, at| {
                if index == 0 {
                    edit::begin_life(clock, causal_length);
                }
                put_stamped(clock, stamped, at);
            })?;
        }
        Ok(())
    }

    fn push_compared(
        &self,
        row: &mut RowEdit<'_>,
        records: Vec<Stamped<'_>>,
        left: &Mask,
        seq: &mut u64,
    ) -> Result<()> {
        for stamped in &records {
            let record = self.record(stamped, seq)?;
            row.push(record, |clock, at| {
                for group in &mut clock.groups {
                    group.mask.subtract(left);
                }
                clock.groups.retain(|group| !group.mask.is_empty() || group.is_birth);
                put_stamped(clock, stamped, at);
            })?;
        }
        Ok(())
    }

    fn push_superseded(
        &self,
        row: &mut RowEdit<'_>,
        dot: LocalDot,
        superseded: Superseded,
    ) -> Result<()> {
        let record = MergedRecord {
            superseded: Some(Box::new(superseded)),
            ..self.empty_record(dot, Ordinal(0))
        };
        row.push(record, |_, _| ())
    }

    /// Keeps an incoming cell that does not stand.
    fn push_lost(&self, row: &mut RowEdit<'_>, cell: &IncomingCell<'_>) -> Result<()> {
        let causal_length = self.incoming.causal_length;
        let superseded = Superseded {
            column: cell.column,
            version: cell.version,
            causal_length,
            stands: self.clock.as_ref().map_or(causal_length, |clock| clock.causal_length),
            dot: cell.dot,
            origin: self.cx.metadata.borrow_mut().author_of(cell.origin)?,
            value: cell.value.into(),
        };
        self.push_superseded(row, cell.dot, superseded)
    }

    fn record(&self, stamped: &Stamped<'_>, seq: &mut u64) -> Result<MergedRecord> {
        let origin = self.cx.metadata.borrow_mut().ordinal_of(stamped.origin)?;
        let mut mask = Mask::new();
        stamped.cells.iter().for_each(|cell| mask.insert(cell.column));
        if stamped.has_sentinel {
            mask.insert(ColumnId::SENTINEL);
        }
        let first_seq = *seq;
        *seq += u64::from(mask.len());
        let mut record = self.empty_record(stamped.dot, origin);
        if !mask.is_empty() {
            record.db_version = self.scope.db_version;
        }
        Ok(MergedRecord { mask, first_seq, is_birth: stamped.is_birth, ..record })
    }

    fn empty_record(&self, dot: LocalDot, origin: Ordinal) -> MergedRecord {
        MergedRecord {
            row: 0,
            mask: Mask::new(),
            first_seq: 0,
            dot: Some(dot),
            origin,
            // What is not shown takes no `db_version`.
            db_version: self.cx.metadata.borrow().db_version(),
            is_birth: false,
            is_open: false,
            superseded: None,
        }
    }

    fn edit(&self) -> RowEdit<'a> {
        RowEdit::new(self.cx, self.table.id, self.incoming.key, self.clock.clone())
    }
}

/// What becomes of an incoming cell.
enum Verdict {
    /// It stands; with what it overwrote without having known it.
    Wins(Option<Superseded>),
    /// It goes, and must be kept for whoever asks.
    Loses,
    /// It goes, and nothing is lost.
    Ties,
}
