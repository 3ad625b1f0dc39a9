//! Making a delta: everything held above a vector, from clocks, log and base rows.
//!
//! Invariant: vectors, headers, clocks and rows are read on one state of the file, so that
//! what comes out is a full cut.

use std::collections::VecDeque;
use std::rc::Rc;

use anabranch_core::delta::{Birth, CellDelta, Complete, DeltaDot, RowDelta, SiteIdx, TableFloor};
use anabranch_core::forest::{Difference, Reading};
use anabranch_core::key;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::{Held, VersionVector};
use anabranch_core::wire::Encoder;
use hashbrown::HashMap;
use smallvec::SmallVec;

mod held;

use held::HeldRows;

use super::DeltaError;
use super::parts::{Parts, SealedParts};
use crate::base::{RowReader, RowView};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{AuthorId, ColumnId, Key, LocalDot, Ordinal, TableId};
use crate::limits::{MAX_IMAGES, MAX_PART_BYTES_IN_MEMORY};
use crate::metadata::scan::LiveRecord;
use crate::registry::TableInfo;
use crate::snapshot;

/// The delta above `asked`, as sealed parts; `max_bytes` bounds their sum.
///
/// Where `asked` is ahead of this copy, the delta begins at what is held here: `from` is
/// never above `to`. To whoever does not hold the floor here it is complete.
///
/// # Errors
/// [`DeltaError::Uncommitted`], [`DeltaError::SiteReused`], [`DeltaError::TooLarge`];
/// [`StoreError::Temporary`] for a delta that is larger than memory should hold.
pub(super) fn export(
    cx: &Context,
    function: &'static str,
    asked: &VersionVector,
    max_bytes: usize,
) -> Result<SealedParts> {
    refuse_uncommitted(cx, function)?;
    cx.refresh()?;
    crate::crr::outrun_before_reading(cx);
    snapshot::read(cx, || Cut::new(cx, asked, max_bytes)?.run())
}

/// What this transaction wrote is no change yet: it has no version to be named by.
fn refuse_uncommitted(cx: &Context, function: &'static str) -> Result<()> {
    if cx.transaction.borrow().has_writes() {
        return Err(DeltaError::Uncommitted { function }.into());
    }
    Ok(())
}

/// The part of `asked` that is held here too.
fn held_of(cx: &Context, asked: &VersionVector, to: &VersionVector) -> Result<VersionVector> {
    let Reading { vector, forks } = super::names::read(cx, to, asked)?;
    if let Some(Difference { site, version, chain: theirs }) = forks.first().copied() {
        let ours = super::chain_at(cx, site, version)?;
        return Err(DeltaError::SiteReused { site, version, ours, theirs }.into());
    }
    let mut from = VersionVector::new();
    for (site, theirs) in vector.iter() {
        let version = theirs.version.min(to.version(site));
        if version == 0 {
            continue;
        }
        from.set(site, Held { version, chain: super::chain_at(cx, site, version)? });
        if let Some(branch) = to.branch(site) {
            from.set_branch(site, branch);
        }
    }
    Ok(from)
}

/// What is said of the floor here to someone who holds `from`; `None` if he holds the floor.
fn complete_for(cx: &Context, from: &VersionVector) -> Result<Option<Complete>> {
    let mut metadata = cx.metadata.borrow_mut();
    let floor = metadata.floor()?;
    if floor.is_at_or_below(from) {
        return Ok(None);
    }
    let mut restarts = metadata.restarts_by_name()?;
    drop(metadata);
    let mut tables: Vec<TableFloor> = Vec::new();
    for table in super::tables_by_name(cx) {
        let restart_length = restarts.remove(&table.name).unwrap_or(1);
        tables.push(TableFloor { name: table.name.clone(), restart_length, is_whole: true });
    }
    // Of tables that are not here (any more) nothing is known but this.
    tables.extend(restarts.into_iter().map(|(name, restart_length)| TableFloor {
        name,
        restart_length,
        is_whole: false,
    }));
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(Complete { floor, tables }))
}

fn begin_complete(
    cx: &Context,
    complete: &Complete,
    to: &VersionVector,
    sites: &[SiteId],
) -> Result<Encoder> {
    let mut encoder = Encoder::complete(complete, to, sites).map_err(damaged)?;
    for run in cx.metadata.borrow_mut().salts_to_floor()? {
        encoder.salts(&run).map_err(damaged)?;
    }
    Ok(encoder)
}

/// A delta being made.
struct Cut<'a> {
    cx: &'a Context,
    from: VersionVector,
    sites: HashMap<SiteId, SiteIdx>,
    /// The same by index.
    site_list: Vec<SiteId>,
    /// Some operations are held and not shown.
    has_held: bool,
    /// The last table begun, by name.
    last_table: String,
    authors: HashMap<AuthorId, SiteIdx>,
    origins: HashMap<Ordinal, SiteIdx>,
    encoder: Encoder,
    parts: Parts,
    n_bytes: usize,
    max_bytes: usize,
}

/// A table being written.
struct TableCut {
    info: Rc<TableInfo>,
    /// Index in the delta's list of columns, by column id.
    places: HashMap<ColumnId, u32>,
    /// Rows that are not written yet; into the last of them records are joined.
    rows: Vec<RowCut>,
    reader: RowReader,
    /// The delta's list of columns.
    columns: Vec<String>,
    /// What is held of the table, not written yet.
    held: Option<HeldRows>,
}

/// What the records of one row say.
struct RowCut {
    key: Key,
    causal_length: u64,
    births: Vec<Birth>,
    /// By place; the values come from the base row.
    cells: Vec<CellDelta>,
}

impl RowCut {
    /// Whether the base row has something to say.
    fn is_read(&self, table: &TableInfo) -> bool {
        self.causal_length % 2 == 1 && (table.has_spellings || !self.cells.is_empty())
    }

    /// The row with its key as stored and the values of its cells.
    fn filled(mut self, table: &TableInfo, base: Option<&RowView<'_>>) -> Result<RowDelta> {
        let damaged = |what| StoreError::Damaged { place: format!("table {}", table.name), what };
        let base = base.ok_or_else(|| damaged("a row that the clocks call alive is missing"))?;
        for cell in &mut self.cells {
            cell.value = base.value(cell.column as usize).into();
        }
        let spelled: SmallVec<[ValueRef<'_>; 4]> =
            (0..table.key.len()).map(|i| base.key(i)).collect();
        let key = key::pack(&spelled)
            .map_err(|_| damaged("more key columns than a packed key can hold"))?;
        Ok(self.with_key(key))
    }

    fn unfilled(self, table: &TableInfo) -> Result<RowDelta> {
        let key = table.pack_folded(&self.key)?;
        Ok(self.with_key(key))
    }

    fn with_key(mut self, key: Vec<u8>) -> RowDelta {
        self.births.sort_unstable_by_key(|birth| birth.dot);
        self.births.dedup_by_key(|birth| birth.dot);
        self.cells.sort_unstable_by_key(|cell| cell.column);
        let RowCut { causal_length, births, cells, .. } = self;
        RowDelta { key, causal_length, births, cells }
    }
}

impl<'a> Cut<'a> {
    fn new(cx: &'a Context, asked: &VersionVector, max_bytes: usize) -> Result<Cut<'a>> {
        let to = cx.metadata.borrow().vector();
        let mut from = held_of(cx, asked, &to)?;
        let complete = complete_for(cx, &from)?;
        if complete.is_some() {
            from = VersionVector::new();
        }
        let start = complete.as_ref().map_or(&from, |complete| &complete.floor);
        let mut headers = cx.metadata.borrow_mut().headers_above(start)?;
        let has_rows = !headers.is_empty() || complete.is_some();
        let has_held = has_rows && super::held::is_any(cx)?;
        let mut sites: Vec<SiteId> = headers.sites().collect();
        if has_rows {
            if complete.is_some() {
                sites.extend(to.iter().map(|(site, _)| site));
            }
            sites.extend(origins(cx)?);
            sites.extend(held::sites(cx, has_held)?);
        }
        sites.sort_unstable();
        sites.dedup();
        let encoder = match &complete {
            None => Encoder::new(&from, &to, &sites).map_err(damaged)?,
            Some(complete) => begin_complete(cx, complete, &to, &sites)?,
        };
        let site_list = sites;
        let sites = site_list.iter().copied().zip((0..).map(SiteIdx)).collect();
        let mut cut = Cut {
            cx,
            from,
            sites,
            site_list,
            has_held,
            last_table: String::new(),
            authors: HashMap::new(),
            origins: HashMap::new(),
            encoder,
            parts: Parts::new(MAX_PART_BYTES_IN_MEMORY),
            n_bytes: 0,
            max_bytes,
        };
        while let Some(header) = cx.metadata.borrow_mut().next_header(&mut headers)? {
            cut.encoder.header(&header).map_err(damaged)?;
            cut.keep_parts()?;
        }
        Ok(cut)
    }

    fn run(mut self) -> Result<SealedParts> {
        let by_name = super::tables_by_name(self.cx);
        let rank = by_name.iter().map(|table| table.id).zip(0..).collect();
        let mut scan = self.cx.metadata.borrow_mut().scan_above(&self.from, &rank)?;
        let mut table: Option<TableCut> = None;
        loop {
            // The borrow ends before base rows are read.
            let batch = scan.next_batch(&mut self.cx.metadata.borrow_mut())?;
            if batch.is_empty() {
                break;
            }
            for record in batch {
                if table.as_ref().is_none_or(|table| table.info.id != record.table) {
                    self.write_rows(table.as_mut())?;
                    self.end_table(table.as_mut())?;
                    table = self.start_table(record.table)?;
                }
                if let Some(table) = &mut table {
                    self.take(table, record)?;
                }
            }
        }
        self.write_rows(table.as_mut())?;
        self.end_table(table.as_mut())?;
        self.write_held_tables(None)?;
        let (rest, of_all) = self.encoder.finish().map_err(damaged)?;
        let n_bytes = self.n_bytes + rest.iter().map(Vec::len).sum::<usize>();
        refuse_too_large(n_bytes, self.max_bytes)?;
        let mut parts = self.parts;
        rest.into_iter().try_for_each(|part| parts.push(part))?;
        parts.sealed(of_all)
    }

    /// `None` for a table that was dropped: its changes travel as headers only.
    fn start_table(&mut self, id: TableId) -> Result<Option<TableCut>> {
        let Some(info) = self.cx.registry.borrow().by_id(id) else { return Ok(None) };
        info.refuse_stale()?;
        self.write_held_tables(Some(&info.name))?;
        self.last_table.clone_from(&info.name);
        let mut columns: Vec<String> =
            info.columns.iter().map(|column| column.name.clone()).collect();
        let held = self.held_of(&info.name, &mut columns)?;
        self.encoder.table(&info.name, &columns).map_err(damaged)?;
        let places = info.columns.iter().map(|column| column.id).zip(0..).collect();
        let (rows, reader) = (Vec::new(), RowReader::by_key());
        Ok(Some(TableCut { info, places, rows, reader, columns, held }))
    }

    /// Joins a record with the others of its row.
    fn take(&mut self, table: &mut TableCut, record: LiveRecord) -> Result<()> {
        if table.rows.last().is_none_or(|row| row.key != record.key) {
            if table.rows.len() == MAX_IMAGES {
                self.write_rows(Some(table))?;
            }
            table.rows.push(RowCut {
                key: record.key.clone(),
                causal_length: record.causal_length,
                births: Vec::new(),
                cells: Vec::new(),
            });
        }
        let (dot, origin) = (self.dot(record.dot)?, self.origin(record.origin)?);
        let Some(row) = table.rows.last_mut() else { return Ok(()) };
        if record.is_birth {
            row.births.push(Birth { dot, origin });
        }
        for cell in record.cells {
            // Cells that a raise left behind at version 0 never travel, nor do those of a
            // column that was dropped. The sentinel has no place either: it is the birth.
            if let Some(column) = table.places.get(&cell.column).copied()
                && cell.version > 0
            {
                let (version, value) = (cell.version, Value::Null);
                row.cells.push(CellDelta { column, version, dot, origin, value });
            }
        }
        Ok(())
    }

    /// Writes the rows that are complete: those of which a base row is shown are read one
    /// after the other, the others need none.
    fn write_rows(&mut self, table: Option<&mut TableCut>) -> Result<()> {
        let Some(TableCut { info, rows, reader, columns, held, .. }) = table else {
            return Ok(());
        };
        let mut rows: VecDeque<RowCut> = std::mem::take(rows).into();
        rows.retain(|row| !row.births.is_empty() || !row.cells.is_empty());
        let keys: Vec<Key> =
            rows.iter().filter(|row| row.is_read(info)).map(|row| row.key.clone()).collect();
        reader.read(self.cx, info, keys.iter().map(Key::as_slice), |base| {
            while let Some(row) = rows.pop_front() {
                let is_read = row.is_read(info);
                let key = held.as_ref().map_or_else(Key::new, |_| row.key.clone());
                let row = if is_read { row.filled(info, base)? } else { row.unfilled(info)? };
                self.write_joined(held.as_mut(), columns, &key, row)?;
                if is_read {
                    break;
                }
            }
            Ok(true)
        })?;
        rows.into_iter().try_for_each(|row| {
            let key = held.as_ref().map_or_else(Key::new, |_| row.key.clone());
            self.write_joined(held.as_mut(), columns, &key, row.unfilled(info)?)
        })
    }

    fn write_row(&mut self, row: RowDelta) -> Result<()> {
        self.encoder.row(&row).map_err(damaged)?;
        self.keep_parts()
    }

    fn keep_parts(&mut self) -> Result<()> {
        while let Some(part) = self.encoder.take_part() {
            self.n_bytes += part.len();
            refuse_too_large(self.n_bytes, self.max_bytes)?;
            self.parts.push(part)?;
        }
        Ok(())
    }

    fn dot(&mut self, dot: LocalDot) -> Result<DeltaDot> {
        let site = match self.authors.get(&dot.author) {
            Some(index) => *index,
            None => {
                let site = self.cx.metadata.borrow_mut().author_site(dot.author)?;
                let index = self.index_of(site)?;
                self.authors.insert(dot.author, index);
                index
            }
        };
        Ok(DeltaDot { site, version: dot.version })
    }

    fn origin(&mut self, origin: Ordinal) -> Result<SiteIdx> {
        if let Some(index) = self.origins.get(&origin) {
            return Ok(*index);
        }
        let site = self.cx.metadata.borrow_mut().origin_site(origin)?;
        let index = self.index_of(site)?;
        self.origins.insert(origin, index);
        Ok(index)
    }

    fn index_of(&self, site: SiteId) -> Result<SiteIdx> {
        self.sites.get(&site).copied().ok_or_else(|| StoreError::Damaged {
            place: format!("site {site}"),
            what: "cells of a site that wrote no change above the vector",
        })
    }
}

/// All sites that cells may come from.
fn origins(cx: &Context) -> Result<Vec<SiteId>> {
    let rows = cx.db.query_rows("SELECT site_id FROM main.crsql_site_id", &[])?;
    let site = |row: &Vec<Value>| match row.first() {
        Some(Value::Blob(bytes)) => SiteId::new(bytes),
        _ => None,
    };
    Ok(rows.iter().filter_map(site).collect())
}

fn refuse_too_large(n_bytes: usize, max_bytes: usize) -> Result<()> {
    if n_bytes > max_bytes {
        return Err(DeltaError::TooLarge { max_mib: max_bytes >> 20 }.into());
    }
    Ok(())
}

/// What cannot be encoded is not what this store writes.
fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged {
        place: format!("the log or the clocks ({error})"),
        what: "what they say makes no delta",
    }
}
