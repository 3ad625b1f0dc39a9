//! The rows of a delta, handed to the merge one by one.

use std::rc::Rc;

use anabranch_core::change::ChangeHeader;
use anabranch_core::delta::{DeltaDot, RowDelta, SiteIdx, TableDelta};
use anabranch_core::key;
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use anabranch_core::vector::VersionVector;
use hashbrown::HashMap;

use super::DeltaError;
use crate::context::Context;
use crate::digest::refuse_stale;
use crate::error::Result;
use crate::ids::{AuthorId, ColumnId, LocalDot};
use crate::merge::{
    DeltaScope, IncomingBirth, IncomingCell, IncomingRow, RowEffect, merge_row_delta,
};
use crate::registry::TableInfo;
use crate::transaction;

/// A delta being taken.
pub(super) struct Intake<'a> {
    cx: &'a Context,
    /// The delta's dictionary; an author only for sites whose changes it brings.
    sites: Vec<(SiteId, Option<AuthorId>)>,
    /// What was held before the delta, by author.
    held: HashMap<AuthorId, u64>,
    db_version: u64,
    /// Next `seq`.
    seq: u64,
    n_changes: u64,
}

/// A table of the delta, by names of this copy.
struct Target {
    info: Rc<TableInfo>,
    key: Vec<key::KeyColumn>,
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
        let is_author = |site: SiteId| headers.iter().any(|header| header.site == site);
        let mut named = Vec::with_capacity(sites.len());
        let mut held = HashMap::new();
        for site in sites {
            let is_known = ours.version(*site) > 0 || is_author(*site);
            let author = match is_known {
                true => Some(cx.metadata.borrow_mut().author_of(*site)?),
                false => None,
            };
            if let Some(author) = author {
                held.insert(author, ours.version(*site));
            }
            named.push((*site, author));
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
        let target = Target::find(self.cx, table)?;
        let mut counts = [0; 3];
        for row in &table.rows {
            match self.row(&target, table, row)? {
                RowEffect::None => {}
                RowEffect::Inserted => counts[0] += 1,
                RowEffect::Updated => counts[1] += 1,
                RowEffect::Deleted => counts[2] += 1,
            }
        }
        self.count(&table.name, counts);
        Ok(())
    }

    fn row(&mut self, target: &Target, table: &TableDelta, row: &RowDelta) -> Result<RowEffect> {
        let refused = |error: key::KeyError| {
            let (table, row) = (table.name.clone(), row.key.clone());
            DeltaError::Key { table, row, source: error }
        };
        let spelled: Vec<ValueRef<'_>> = key::unpack(&row.key).map_err(refused)?;
        let folded = key::fold(&spelled, &target.key).map_err(refused)?;
        let mut births = Vec::with_capacity(row.births.len());
        for birth in &row.births {
            births
                .push(IncomingBirth { dot: self.dot(birth.dot)?, origin: self.site(birth.origin) });
        }
        let mut cells = Vec::with_capacity(row.cells.len());
        for cell in &row.cells {
            let Some(column) = target.columns[cell.column as usize] else {
                return Err(target.unknown_column(table, cell.column).into());
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
        let (cx, held) = (self.cx, &self.held);
        let scope = DeltaScope {
            db_version: self.db_version,
            is_held: &|dot| held.get(&dot.author).is_some_and(|version| *version >= dot.version),
            covers: &|later, earlier| cx.metadata.borrow_mut().context_covers(later, earlier),
        };
        let outcome = merge_row_delta(cx, &target.info, &incoming, &scope, &mut self.seq)?;
        cx.impacted.set(cx.impacted.get() + u64::from(outcome.won));
        Ok(outcome.effect)
    }

    fn dot(&self, dot: DeltaDot) -> Result<LocalDot> {
        let (site, author) = self.sites[dot.site.0 as usize];
        // The decoder knows that the delta spans each dot, so its author has a header.
        let author = author.ok_or(DeltaError::Missing { site, from: dot.version })?;
        Ok(LocalDot { author, version: dot.version })
    }

    fn site(&self, index: SiteIdx) -> SiteId {
        self.sites[index.0 as usize].0
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
    fn find(cx: &Context, table: &TableDelta) -> Result<Target> {
        let info = cx.registry.borrow().by_name(&table.name);
        let Some(info) = info else {
            let quoted = literal(&table.name);
            return Err(DeltaError::UnknownTable { table: table.name.clone(), quoted }.into());
        };
        refuse_stale(&info)?;
        let by_name: HashMap<&str, ColumnId> =
            info.columns.iter().map(|column| (column.name.as_str(), column.id)).collect();
        let mut names: Vec<&String> = table.columns.iter().collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let (table, column) = (table.name.clone(), pair[0].clone());
            return Err(DeltaError::ColumnTwice { table, column }.into());
        }
        let columns =
            table.columns.iter().map(|name| by_name.get(name.as_str()).copied()).collect();
        drop(by_name);
        let key = info.key.iter().map(|part| part.column).collect();
        Ok(Target { info, key, columns })
    }

    fn unknown_column(&self, table: &TableDelta, column: u32) -> DeltaError {
        DeltaError::UnknownColumn {
            table: table.name.clone(),
            column: table.columns[column as usize].clone(),
            quoted: literal(&table.name),
        }
    }
}

fn literal(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}
