//! The rows of a delta, handed to the merge one by one, or several that are new together.

use std::rc::Rc;

use anabranch_core::delta::{Birth, DeltaDot, RowDelta, SiteIdx, TableDelta};
use anabranch_core::key;
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use anabranch_sqlite::SqlError;
use smallvec::{SmallVec, smallvec};

use super::DeltaError;
use super::complete::Lacking;
use super::error::ChangeName;
use super::headers::Headers;
use super::names::Names;
use crate::base::quote_text;
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{AuthorId, ColumnId, Key, LocalDot};
use crate::limits::{MAX_ROWS_AT_ONCE, MAX_VALUES_AT_ONCE};
use crate::merge::{
    self, DeltaScope, IncomingBirth, IncomingCell, IncomingRow, RowEffect, RowOutcome,
    merge_fresh_rows, merge_row_delta,
};
use crate::metadata::row_clock::RowClock;
use crate::registry::TableInfo;
use crate::transaction;

mod blame;
mod doubt;

use blame::mark_held;
pub(super) use doubt::{columns, listed};

/// Rows after which what they made is written to the log: they come sorted, so waiting
/// longer saves no block, and what is buffered stays within a processor's cache.
const ROWS_PER_FLUSH: usize = 8192;
/// Rows of one table from which on reading clocks block by block pays.
const MIN_ASCENDING_ROWS: usize = 64;

/// A delta being taken.
pub(super) struct Intake<'a> {
    cx: &'a Context,
    /// The delta's dictionary.
    sites: Vec<Named>,
    db_version: u64,
    /// Next `seq`.
    seq: u64,
    n_changes: u64,
    /// Some changes are left out.
    leaves_out: bool,
    /// What comes is held already: nothing of it is skipped or refused.
    is_again: bool,
    /// Rows of the delta that are not alive here may have been forgotten here.
    pub(super) doubts: bool,
    /// What must be known of rows that a complete delta may lack.
    pub(super) lacking: Option<Lacking>,
}

/// A site that the delta names.
struct Named {
    site: SiteId,
    /// Who its changes are here, by the last version as the delta counts; the last one stands
    /// for all that follow. Only of sites whose changes the delta brings, or are held.
    authors: SmallVec<[Author; 1]>,
    /// What was held of it before the delta.
    held: u64,
}

#[derive(Clone, Copy)]
struct Author {
    last: u64,
    site: SiteId,
    id: AuthorId,
    /// To be added to a version of the delta's.
    shift: i64,
}

impl Named {
    /// Who a change is of, and its version.
    fn author(&self, version: u64) -> Option<(Author, u64)> {
        let author = match self.authors.as_slice() {
            [only] => only,
            several => several
                .get(several.partition_point(|author| author.last < version))
                .or(several.last())?,
        };
        Some((*author, version.saturating_add_signed(author.shift)))
    }
}

/// A table of the delta, by names of this copy.
struct Target {
    info: Rc<TableInfo>,
    /// By index in the delta's list; `None` for a name that is not replicated here.
    columns: Vec<Option<ColumnId>>,
}

impl<'a> Intake<'a> {
    /// `headers`: those of the delta, of changes that are held here too.
    pub(super) fn new(
        cx: &'a Context,
        sites: &[SiteId],
        headers: &Headers,
        names: &Names,
    ) -> Result<Intake<'a>> {
        let mut named = Vec::with_capacity(sites.len());
        for site in sites {
            let mut authors = SmallVec::new();
            for (last, name, shift) in names.names(*site) {
                let id = cx.metadata.borrow_mut().author_of(name)?;
                authors.push(Author { last, site: name, id, shift });
            }
            named.push(Named { site: *site, authors, held: names.held(*site) });
        }
        mark_held(cx, headers, names)?;
        let n_changes = headers.n_new(names);
        Intake::start(cx, named, n_changes, false)
    }

    /// To take what is held once more; say its sites by [`Intake::speak`].
    pub(super) fn again(cx: &'a Context) -> Result<Intake<'a>> {
        let mut intake = Intake::start(cx, Vec::new(), 1, true)?;
        intake.doubts = true;
        Ok(intake)
    }

    fn start(
        cx: &'a Context,
        sites: Vec<Named>,
        n_changes: u64,
        is_again: bool,
    ) -> Result<Intake<'a>> {
        let db_version = transaction::next_db_version(cx)?;
        let leaves_out = !cx.delta.holding.borrow().is_empty();
        Ok(Intake {
            cx,
            sites,
            db_version,
            seq: 0,
            n_changes,
            leaves_out,
            is_again,
            doubts: false,
            lacking: None,
        })
    }

    /// Takes another dictionary of sites, all of whose changes are held.
    pub(super) fn speak(&mut self, sites: &[SiteId]) -> Result<()> {
        self.sites.clear();
        for site in sites {
            let id = self.cx.metadata.borrow_mut().author_of(*site)?;
            let author = Author { last: u64::MAX, site: *site, id, shift: 0 };
            self.sites.push(Named { site: *site, authors: smallvec![author], held: 0 });
        }
        Ok(())
    }

    /// Ends the delta: looks at the rows that a complete one lacks. The number of changes that
    /// are new.
    ///
    /// # Errors
    /// Constraints and triggers of the tables, and what befell SQLite.
    pub(super) fn finish(mut self) -> Result<u64> {
        if let Some(lacking) = self.lacking.take() {
            let n_changes = self.n_changes + lacking.n_adopted;
            lacking.settle(self.cx, self.db_version, &mut self.seq)?;
            return Ok(n_changes);
        }
        Ok(self.n_changes)
    }

    /// Merges the rows of one table; a table may come in several pieces.
    ///
    /// Rows that a constraint refuses are noted, and with them the changes that wrote them:
    /// the whole must then be undone.
    ///
    /// # Errors
    /// Names that this copy lacks, and what befell SQLite.
    pub(super) fn table(&mut self, table: &TableDelta) -> Result<()> {
        if let Some(lacking) = &mut self.lacking {
            lacking.note(self.cx, table)?;
        } else if self.n_changes == 0 {
            // All of it is held.
            return Ok(());
        }
        let first = table.rows.iter().find(|row| self.is_news(row));
        let Some(first) = first else { return Ok(()) };
        let target = match Target::find(self.cx, table, self.change_of(first)) {
            Err(error) if self.is_again => return self.put_back(table, &error),
            target => target?,
        };
        // Rows of a delta are sorted by folded key, unless it is a join.
        let ascending = (table.rows.len() >= MIN_ASCENDING_ROWS).then_some(target.info.id);
        self.cx.metadata.borrow_mut().expect_ascending(ascending);
        let counts = self.rows(&target, table);
        self.cx.metadata.borrow_mut().expect_ascending(None);
        self.count(&table.name, counts?);
        Ok(())
    }

    /// Rows inserted, updated, deleted.
    fn rows(&mut self, target: &Target, table: &TableDelta) -> Result<[u64; 3]> {
        let mut counts = [0; 3];
        let mut fresh: Vec<Decoded<'_>> = Vec::new();
        for (row, n) in table.rows.iter().zip(1_usize..) {
            if !self.is_news(row) {
                continue;
            }
            if self.leaves_out {
                self.keep(Some(&target.info), table, row, |dot| self.is_left_out(dot))?;
            }
            let row = match self.decode(target, table, row) {
                Ok(Some(row)) => row,
                Ok(None) => continue,
                Err(error) => {
                    self.blame_all(table, row, error)?;
                    continue;
                }
            };
            let is_flush = n.is_multiple_of(ROWS_PER_FLUSH);
            // A row that does not come after those that wait may be one of them.
            let follows = fresh.last().is_none_or(|last| last.is_like(&row) && last.key < row.key);
            if is_flush || !follows {
                counts[0] += self.insert_fresh(target, table, &mut fresh)?;
            }
            if is_flush {
                transaction::flush(self.cx)?;
            }
            let clock = transaction::row_clock(self.cx, target.info.id, &row.key)?;
            if self.waits(table, &row, clock.as_ref())? {
                let is_shown = |dot| !self.is_left_out(dot);
                self.keep(Some(&target.info), table, row.row, is_shown)?;
                continue;
            }
            if self.is_doubtful(target, &row, clock.as_ref())? {
                counts[0] += self.insert_fresh(target, table, &mut fresh)?;
                counts[0] += self.settle_doubt(target, table, &row, clock)?;
                continue;
            }
            self.refuse_unborn(table, &row, clock.as_ref())?;
            if merge::is_fresh(&row.view(), clock.as_ref()) {
                fresh.push(row);
                if fresh.len() == target.rows_at_once(&fresh[0]) {
                    counts[0] += self.insert_fresh(target, table, &mut fresh)?;
                }
                continue;
            }
            counts[0] += self.insert_fresh(target, table, &mut fresh)?;
            match self.merge(target, table, &row, clock)? {
                RowEffect::None => {}
                RowEffect::Inserted => counts[0] += 1,
                RowEffect::Updated => counts[1] += 1,
                RowEffect::Deleted => counts[2] += 1,
            }
        }
        counts[0] += self.insert_fresh(target, table, &mut fresh)?;
        Ok(counts)
    }

    /// Merges rows that nothing is known of here, as many together as were waited for; how
    /// many they are. When one is refused, each is tried by itself.
    fn insert_fresh(
        &mut self,
        target: &Target,
        table: &TableDelta,
        fresh: &mut Vec<Decoded<'_>>,
    ) -> Result<u64> {
        let n_rows = fresh.len() as u64;
        let is_full = fresh.first().is_some_and(|row| fresh.len() == target.rows_at_once(row));
        if is_full && n_rows > 1 && self.insert_together(target, fresh)? {
            fresh.clear();
        }
        for row in fresh.drain(..) {
            self.merge(target, table, &row, None)?;
        }
        Ok(n_rows)
    }

    /// Whether rows could be merged in one statement; if not, nothing is changed.
    fn insert_together(&mut self, target: &Target, rows: &[Decoded<'_>]) -> Result<bool> {
        let rows: SmallVec<[IncomingRow<'_>; MAX_ROWS_AT_ONCE]> =
            rows.iter().map(Decoded::view).collect();
        let (cx, scope) = (self.cx, self.scope());
        let outcome = merge_fresh_rows(cx, &target.info, &rows, scope, &mut self.seq)?;
        outcome.into_iter().for_each(|outcome| self.count_won(outcome));
        Ok(outcome.is_some())
    }

    /// What of the row is to be shown, by names of this copy; `None`: nothing.
    fn decode<'d>(
        &self,
        target: &Target,
        table: &TableDelta,
        row: &'d RowDelta,
    ) -> Result<Option<Decoded<'d>>> {
        if !self.has(row, |dot| self.is_shown(dot)) {
            return Ok(None);
        }
        let refused = |source: key::KeyError| DeltaError::Key {
            table: table.name.clone(),
            change: self.change_of(row),
            row: row.key.clone(),
            source,
        };
        let mut spelled = SmallVec::new();
        key::walk_packed(&row.key, |value| spelled.push(value)).map_err(refused)?;
        let folded = key::fold(&spelled, &target.info.key_columns).map_err(refused)?;
        let mut births = SmallVec::new();
        for Birth { dot, origin } in row.births.iter().filter(|birth| self.is_shown(birth.dot)) {
            births.push(IncomingBirth { dot: self.dot(*dot)?, origin: self.site(*origin) });
        }
        let mut cells: SmallVec<[IncomingCell<'_>; 4]> = SmallVec::new();
        for cell in row.cells.iter().filter(|cell| self.is_shown(cell.dot)) {
            let Some(column) = target.columns[cell.column as usize] else {
                let change = self.change_of(row);
                return Err(target.unknown_column(table, cell.column, change).into());
            };
            let (dot, origin) = (self.dot(cell.dot)?, self.site(cell.origin));
            let (version, value) = (cell.version, cell.value.as_ref());
            cells.push(IncomingCell { column, version, value, dot, origin });
        }
        if !cells.is_sorted_by_key(|cell| cell.column) {
            cells.sort_unstable_by_key(|cell| cell.column);
        }
        Ok(Some(Decoded { row, key: Key::from_slice(&folded), spelled, births, cells }))
    }

    /// Refuses cells of a life that is not known here and that nothing in the delta begins: an
    /// insert above `from` is always named, and one below it is held.
    fn refuse_unborn(
        &self,
        table: &TableDelta,
        row: &Decoded<'_>,
        clock: Option<&RowClock>,
    ) -> Result<()> {
        let causal_length = row.row.causal_length;
        let is_known = clock.is_some_and(|clock| clock.causal_length >= causal_length);
        if is_known || !row.births.is_empty() || self.is_again || self.lacking.is_some() {
            return Ok(());
        }
        let (table, change) = (table.name.clone(), self.change_of(row.row));
        Err(DeltaError::Unborn { table, change, row: row.row.key.clone() }.into())
    }

    fn scope(&self) -> DeltaScope {
        DeltaScope { db_version: self.db_version }
    }

    fn merge(
        &mut self,
        target: &Target,
        table: &TableDelta,
        row: &Decoded<'_>,
        clock: Option<RowClock>,
    ) -> Result<RowEffect> {
        let (scope, view) = (self.scope(), row.view());
        match merge_row_delta(self.cx, &target.info, &view, clock, scope, &mut self.seq) {
            Ok(outcome) => {
                self.count_won(outcome);
                Ok(outcome.effect)
            }
            Err(StoreError::Constraint(error)) => {
                self.find_blame(target, table, row, error)?;
                Ok(RowEffect::None)
            }
            Err(error) => Err(self.name_change(error, row.row)),
        }
    }

    /// Counts for `crsql_rows_impacted`.
    fn count_won(&self, outcome: RowOutcome) {
        self.cx.impacted.set(self.cx.impacted.get() + u64::from(outcome.won));
    }

    /// Whether the row says something that was not held before the delta.
    fn is_news(&self, row: &RowDelta) -> bool {
        self.has(row, |dot| !self.is_held(dot))
    }

    fn has(&self, row: &RowDelta, is_it: impl Fn(DeltaDot) -> bool) -> bool {
        row.cells.iter().any(|cell| is_it(cell.dot))
            || row.births.iter().any(|birth| is_it(birth.dot))
    }

    fn is_held(&self, dot: DeltaDot) -> bool {
        self.sites[dot.site.0 as usize].held >= dot.version
    }

    /// A change that writes to a row.
    fn change_of(&self, row: &RowDelta) -> ChangeName {
        let dots = row.cells.iter().map(|cell| cell.dot).chain(row.births.iter().map(|b| b.dot));
        let dot = dots.max_by_key(|dot| !self.is_held(*dot));
        let dot = dot.unwrap_or(DeltaDot { site: SiteIdx(0), version: 0 });
        self.name(dot)
    }

    /// SQLite's errors name table and row; the change is ours to name.
    fn name_change(&self, error: StoreError, row: &RowDelta) -> StoreError {
        match error {
            StoreError::Sql(SqlError { code, message }) => StoreError::Sql(SqlError {
                code,
                message: format!("{message}, in {}", self.change_of(row)),
            }),
            other => other,
        }
    }

    pub(super) fn name(&self, dot: DeltaDot) -> ChangeName {
        match self.sites[dot.site.0 as usize].author(dot.version) {
            Some((author, version)) => ChangeName { site: author.site, version },
            None => ChangeName { site: self.site(dot.site), version: dot.version },
        }
    }

    fn dot(&self, dot: DeltaDot) -> Result<LocalDot> {
        let named = &self.sites[dot.site.0 as usize];
        // The decoder knows that the delta spans each dot, so its author has a header.
        let missing = DeltaError::Missing { site: named.site, from: dot.version };
        let (author, version) = named.author(dot.version).ok_or(missing)?;
        Ok(LocalDot { author: author.id, version })
    }

    fn site(&self, index: SiteIdx) -> SiteId {
        self.sites[index.0 as usize].site
    }

    /// Counts for `ana_internal_applied`.
    fn count(&self, name: &str, counts: [u64; 3]) {
        if counts == [0; 3] {
            return;
        }
        let mut applied = self.cx.delta.applied.borrow_mut();
        match applied.tables.last_mut().filter(|(last, _)| last == name) {
            Some((_, sums)) => sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n),
            None => applied.tables.push((name.to_owned(), counts)),
        }
    }
}

/// What a row of a delta says that was not held before, by names of this copy.
struct Decoded<'d> {
    row: &'d RowDelta,
    /// Folded.
    key: Key,
    spelled: SmallVec<[ValueRef<'d>; 2]>,
    births: SmallVec<[IncomingBirth; 1]>,
    /// By ascending column.
    cells: SmallVec<[IncomingCell<'d>; 4]>,
}

impl Decoded<'_> {
    fn view(&self) -> IncomingRow<'_> {
        IncomingRow {
            key: &self.key,
            spelled: &self.spelled,
            causal_length: self.row.causal_length,
            births: &self.births,
            cells: &self.cells,
        }
    }

    /// Whether both rows have cells of the same columns.
    fn is_like(&self, other: &Decoded<'_>) -> bool {
        self.cells.len() == other.cells.len()
            && self.cells.iter().zip(&other.cells).all(|(a, b)| a.column == b.column)
    }
}

impl Target {
    /// How many rows of this form one statement takes.
    fn rows_at_once(&self, row: &Decoded<'_>) -> usize {
        let n_values = row.spelled.len() + row.cells.len();
        (MAX_VALUES_AT_ONCE / n_values).clamp(1, MAX_ROWS_AT_ONCE)
    }

    fn find(cx: &Context, table: &TableDelta, change: ChangeName) -> Result<Target> {
        let info = cx.registry.borrow().by_name(&table.name);
        let Some(info) = info else {
            let (quoted, table) = (quote_text(&table.name), table.name.clone());
            return Err(DeltaError::UnknownTable { table, change, quoted }.into());
        };
        info.refuse_stale()?;
        let id = |name: &String| info.column_named(name).map(|column| column.id);
        let columns = table.columns.iter().map(id).collect();
        Ok(Target { info, columns })
    }

    fn unknown_column(&self, table: &TableDelta, column: u32, change: ChangeName) -> DeltaError {
        DeltaError::UnknownColumn {
            table: table.name.clone(),
            change,
            column: table.columns[column as usize].clone(),
            quoted: quote_text(&table.name),
        }
    }
}
