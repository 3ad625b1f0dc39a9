//! The rows of a delta, handed to the merge one by one.

use std::rc::Rc;

use anabranch_core::change::ChangeHeader;
use anabranch_core::delta::{Birth, DeltaDot, RowDelta, SiteIdx, TableDelta};
use anabranch_core::key;
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use anabranch_core::vector::VersionVector;
use anabranch_sqlite::SqlError;
use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::DeltaError;
use super::error::ChangeName;
use crate::base::quote_text;
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{AuthorId, ColumnId, LocalDot};
use crate::merge::{
    DeltaScope, IncomingBirth, IncomingCell, IncomingRow, RowEffect, merge_row_delta,
};
use crate::registry::TableInfo;
use crate::transaction;

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
    /// What was held before the delta, by author.
    held: HashMap<AuthorId, u64>,
    db_version: u64,
    /// Next `seq`.
    seq: u64,
    n_changes: u64,
}

/// A site that the delta names.
#[derive(Clone, Copy)]
struct Named {
    site: SiteId,
    /// Only for sites whose changes the delta brings, or are held.
    author: Option<AuthorId>,
    /// What was held of it before the delta.
    held: u64,
}

/// A table of the delta, by names of this copy.
struct Target {
    info: Rc<TableInfo>,
    /// By index in the delta's list; `None` for a name that is not replicated here.
    columns: Vec<Option<ColumnId>>,
}

impl<'a> Intake<'a> {
    /// `headers`: the changes that are new here; `ours`: what was held before.
    pub(super) fn new(
        cx: &'a Context,
        sites: &[SiteId],
        headers: &[ChangeHeader],
        ours: &VersionVector,
    ) -> Result<Intake<'a>> {
        let authors: HashSet<SiteId> = headers.iter().map(|header| header.site).collect();
        let mut named = Vec::with_capacity(sites.len());
        let mut held = HashMap::new();
        for site in sites {
            let is_known = ours.version(*site) > 0 || authors.contains(site);
            let author = match is_known {
                true => Some(cx.metadata.borrow_mut().author_of(*site)?),
                false => None,
            };
            if let Some(author) = author {
                held.insert(author, ours.version(*site));
            }
            named.push(Named { site: *site, author, held: ours.version(*site) });
        }
        let db_version = transaction::next_db_version(cx)?;
        let n_changes = headers.len() as u64;
        Ok(Intake { cx, sites: named, held, db_version, seq: 0, n_changes })
    }

    /// The number of changes that are new.
    pub(super) fn finish(self) -> u64 {
        self.n_changes
    }

    /// Merges the rows of one table; a table may come in several pieces.
    ///
    /// # Errors
    /// Names that this copy lacks, keys that are none of the table's, and what constraints
    /// and triggers say.
    pub(super) fn table(&mut self, table: &TableDelta) -> Result<()> {
        if self.n_changes == 0 {
            // All of it is held.
            return Ok(());
        }
        let first = table.rows.iter().find(|row| self.is_news(row));
        let Some(first) = first else { return Ok(()) };
        let target = Target::find(self.cx, table, self.change_of(first))?;
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
        for (row, n) in table.rows.iter().zip(1_usize..) {
            if !self.is_news(row) {
                continue;
            }
            if n.is_multiple_of(ROWS_PER_FLUSH) {
                transaction::flush(self.cx)?;
            }
            match self.row(target, table, row)? {
                RowEffect::None => {}
                RowEffect::Inserted => counts[0] += 1,
                RowEffect::Updated => counts[1] += 1,
                RowEffect::Deleted => counts[2] += 1,
            }
        }
        Ok(counts)
    }

    fn row(&mut self, target: &Target, table: &TableDelta, row: &RowDelta) -> Result<RowEffect> {
        let refused = |source: key::KeyError| DeltaError::Key {
            table: table.name.clone(),
            change: self.change_of(row),
            row: row.key.clone(),
            source,
        };
        let spelled: Vec<ValueRef<'_>> = key::unpack(&row.key).map_err(refused)?;
        let folded = key::fold(&spelled, &target.info.key_columns).map_err(refused)?;
        let mut births: SmallVec<[IncomingBirth; 2]> = SmallVec::new();
        for Birth { dot, origin } in &row.births {
            births.push(IncomingBirth { dot: self.dot(*dot)?, origin: self.site(*origin) });
        }
        let mut cells: SmallVec<[IncomingCell<'_>; 8]> = SmallVec::new();
        for cell in row.cells.iter().filter(|cell| !self.is_held(cell.dot)) {
            let Some(column) = target.columns[cell.column as usize] else {
                let change = self.change_of(row);
                return Err(target.unknown_column(table, cell.column, change).into());
            };
            let (dot, origin) = (self.dot(cell.dot)?, self.site(cell.origin));
            let (version, value) = (cell.version, cell.value.as_ref());
            cells.push(IncomingCell { column, version, value, dot, origin });
        }
        cells.sort_unstable_by_key(|cell| cell.column);
        let incoming = IncomingRow {
            key: &folded,
            spelled: &spelled,
            causal_length: row.causal_length,
            births: &births,
            cells: &cells,
        };
        self.merge(target, &incoming).map_err(|error| self.name_change(error, row))
    }

    fn merge(&mut self, target: &Target, incoming: &IncomingRow<'_>) -> Result<RowEffect> {
        let (cx, held) = (self.cx, &self.held);
        let scope = DeltaScope {
            db_version: self.db_version,
            is_held: &|dot| held.get(&dot.author).is_some_and(|version| *version >= dot.version),
            covers: &|later, earlier| cx.metadata.borrow_mut().context_covers(later, earlier),
        };
        let outcome = merge_row_delta(cx, &target.info, incoming, &scope, &mut self.seq)?;
        cx.impacted.set(cx.impacted.get() + u64::from(outcome.won));
        Ok(outcome.effect)
    }

    /// Whether the row says something that was not held before the delta.
    fn is_news(&self, row: &RowDelta) -> bool {
        row.cells.iter().any(|cell| !self.is_held(cell.dot))
            || row.births.iter().any(|birth| !self.is_held(birth.dot))
    }

    fn is_held(&self, dot: DeltaDot) -> bool {
        self.sites[dot.site.0 as usize].held >= dot.version
    }

    /// A change that writes to a row.
    fn change_of(&self, row: &RowDelta) -> ChangeName {
        let dots = row.cells.iter().map(|cell| cell.dot).chain(row.births.iter().map(|b| b.dot));
        let dot = dots.max_by_key(|dot| !self.is_held(*dot));
        let dot = dot.unwrap_or(DeltaDot { site: SiteIdx(0), version: 0 });
        ChangeName { site: self.site(dot.site), version: dot.version }
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

    fn dot(&self, dot: DeltaDot) -> Result<LocalDot> {
        let Named { site, author, .. } = self.sites[dot.site.0 as usize];
        // The decoder knows that the delta spans each dot, so its author has a header.
        let author = author.ok_or(DeltaError::Missing { site, from: dot.version })?;
        Ok(LocalDot { author, version: dot.version })
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

impl Target {
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
