//! Where a scan's rows come from: pieces of the log in order, version by version or all of
//! it sorted, or the records of single rows.

use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use hashbrown::HashMap;

use super::filter::Filter;
use super::image::RowImage;
use super::order::{Order, Tie};
use super::{Column, SENTINEL_NAME};
use crate::context::Context;
use crate::error::Result;
use crate::ids::{ColumnId, Ordinal, TableId};
use crate::metadata::scan::{LiveCell, LiveRecord, Scan};
use crate::registry::TableInfo;

/// A table as scans need it.
#[derive(Debug)]
pub(super) struct TableView {
    pub(super) info: Rc<TableInfo>,
    /// By column id: place among the names by bytes, and place in the declaration; `None`
    /// for ids that are no column any more.
    columns: Vec<Option<ColumnView>>,
}

#[derive(Clone, Copy, Debug)]
struct ColumnView {
    rank: u16,
    /// `None`: the sentinel.
    position: Option<usize>,
}

impl TableView {
    fn new(info: Rc<TableInfo>) -> TableView {
        let columns = info.columns.iter().enumerate();
        let mut named: Vec<(&str, ColumnId, Option<usize>)> =
            columns.map(|(i, column)| (column.name.as_str(), column.id, Some(i))).collect();
        named.push((SENTINEL_NAME, ColumnId::SENTINEL, None));
        named.sort_unstable();
        let last = named.iter().map(|(_, id, _)| usize::from(id.0)).max().unwrap_or(0);
        let mut columns = vec![None; last + 1];
        for (rank, (_, id, position)) in named.iter().enumerate() {
            let view = ColumnView { rank: rank as u16, position: *position };
            columns[usize::from(id.0)] = Some(view);
        }
        TableView { info, columns }
    }

    fn column(&self, id: ColumnId) -> Option<ColumnView> {
        self.columns.get(usize::from(id.0)).copied().flatten()
    }

    /// Place of a column in the declaration; `None` for the sentinel.
    pub(super) fn position(&self, id: ColumnId) -> Option<usize> {
        self.column(id).and_then(|column| column.position)
    }

    /// Name of a column as `cid` shows it.
    pub(super) fn name(&self, id: ColumnId) -> &str {
        self.position(id).map_or(SENTINEL_NAME, |position| &self.info.columns[position].name)
    }
}

/// A cell to show: indexes into the records of its chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    record: u32,
    cell: u32,
    tie: Tie,
    /// `(db_version, seq)`: the default order, without a look at the record.
    stamp: (u64, u64),
}

/// Some rows of a scan, in order.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    records: Vec<LiveRecord>,
    views: Vec<Rc<TableView>>,
    pub(super) items: Vec<Item>,
    /// Packed keys by record; filled in only when they are sorted by.
    pks: Vec<Vec<u8>>,
}

impl Chunk {
    pub(super) fn record(&self, item: &Item) -> &LiveRecord {
        &self.records[item.record as usize]
    }

    pub(super) fn cell(&self, item: &Item) -> LiveCell {
        self.record(item).cells[item.cell as usize]
    }

    pub(super) fn view(&self, item: &Item) -> &Rc<TableView> {
        &self.views[item.record as usize]
    }
}

/// The rows of a scan, chunk by chunk.
pub(super) struct Source {
    cx: Rc<Context>,
    filter: Filter,
    order: Order,
    rest: Rest,
    /// Records of a version that may not have been read whole.
    held: Vec<LiveRecord>,
    tables: HashMap<TableId, Option<Rc<TableView>>>,
    sites: HashMap<Ordinal, SiteId>,
}

/// What has not been read yet.
enum Rest {
    /// The log from here on.
    Log(Scan),
    /// Single rows.
    Rows(Vec<LiveRecord>),
    Nothing,
}

impl Source {
    /// Starts a scan; reads nothing but what a seek finds.
    pub(super) fn start(cx: Rc<Context>, filter: Filter, order: Order) -> Result<Source> {
        let rest = match filter.equals(Column::Pk) {
            Some(pk) => Rest::Rows(seek(&cx, &filter, pk)?),
            None => Rest::Log(cx.metadata.borrow_mut().scan_since(filter.versions().0)?),
        };
        let (tables, sites) = (HashMap::new(), HashMap::new());
        Ok(Source { cx, filter, order, rest, held: Vec::new(), tables, sites })
    }

    /// The next rows; a chunk without items is the end.
    pub(super) fn next_chunk(&mut self) -> Result<Chunk> {
        loop {
            let records = self.read()?;
            if records.is_empty() {
                return Ok(Chunk::default());
            }
            let chunk = self.chunk(records)?;
            if !chunk.items.is_empty() {
                return Ok(chunk);
            }
        }
    }

    /// The site of an origin that a chunk showed.
    pub(super) fn site(&self, origin: Ordinal) -> &[u8] {
        self.sites.get(&origin).map_or(&[], |site| site.as_bytes())
    }

    fn read(&mut self) -> Result<Vec<LiveRecord>> {
        match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Nothing => Ok(Vec::new()),
            Rest::Rows(records) => Ok(records),
            Rest::Log(scan) if self.order.is_natural() => self.read_batch(scan),
            Rest::Log(scan) if self.order.is_by_version() => self.read_versions(scan),
            Rest::Log(scan) => self.read_all(scan),
        }
    }

    fn read_batch(&mut self, mut scan: Scan) -> Result<Vec<LiveRecord>> {
        let batch = scan.next_batch(&mut self.cx.metadata.borrow_mut())?;
        let last = self.filter.versions().1;
        // Past the last version asked for nothing can match.
        if batch.last().is_some_and(|record| record.db_version <= last) {
            self.rest = Rest::Log(scan);
        }
        Ok(batch)
    }

    /// All records of some whole versions.
    fn read_versions(&mut self, scan: Scan) -> Result<Vec<LiveRecord>> {
        let mut next = Some(scan);
        while let Some(scan) = next {
            let mut batch = self.read_batch(scan)?;
            let Some(newest) = batch.iter().map(|record| record.db_version).max() else { break };
            self.held.append(&mut batch);
            let Rest::Log(scan) = std::mem::replace(&mut self.rest, Rest::Nothing) else { break };
            if self.held.iter().any(|record| record.db_version < newest) {
                let held = std::mem::take(&mut self.held);
                let (whole, begun) =
                    held.into_iter().partition(|record| record.db_version < newest);
                (self.held, self.rest) = (begun, Rest::Log(scan));
                return Ok(whole);
            }
            next = Some(scan);
        }
        Ok(std::mem::take(&mut self.held))
    }

    fn read_all(&self, mut scan: Scan) -> Result<Vec<LiveRecord>> {
        let last = self.filter.versions().1;
        let mut records = Vec::new();
        loop {
            let mut batch = scan.next_batch(&mut self.cx.metadata.borrow_mut())?;
            let is_end = batch.last().is_none_or(|record| record.db_version > last);
            records.append(&mut batch);
            if is_end {
                return Ok(records);
            }
        }
    }

    /// Filters and sorts the cells of some records.
    fn chunk(&mut self, records: Vec<LiveRecord>) -> Result<Chunk> {
        let mut chunk = Chunk::default();
        chunk.items.reserve(records.iter().map(|record| record.cells.len()).sum());
        for record in records {
            // Tables of others' names, and dropped ones, are not shown.
            let Some(view) = self.view(record.table) else { continue };
            self.resolve(record.origin)?;
            let before = chunk.items.len();
            self.list(&mut chunk.items, &record, &view, chunk.records.len() as u32);
            if chunk.items.len() > before {
                chunk.records.push(record);
                chunk.views.push(view);
            }
        }
        self.sort(&mut chunk)?;
        Ok(chunk)
    }

    /// Lists the cells of a record that pass.
    fn list(&self, items: &mut Vec<Item>, record: &LiveRecord, view: &TableView, at: u32) {
        for (index, cell) in record.cells.iter().enumerate() {
            let Some(column) = view.column(cell.column) else { continue };
            let value = |column| self.value(record, *cell, view, &[], column);
            if self.filter.is_empty() || self.filter.passes(value) {
                items.push(Item {
                    record: at,
                    cell: index as u32,
                    tie: Tie { table: view.info.order, row: record.number, column: column.rank },
                    stamp: (record.db_version, cell.seq),
                });
            }
        }
    }

    fn sort(&self, chunk: &mut Chunk) -> Result<()> {
        if self.order.is_natural() {
            // Mostly sorted already: the stable sort sees that in one pass.
            chunk.items.sort_by_key(|item| (item.stamp, item.tie));
            return Ok(());
        }
        chunk.pks = match self.order.has(Column::Pk) {
            true => self.pks(chunk)?,
            false => Vec::new(),
        };
        let mut items = std::mem::take(&mut chunk.items);
        let unsorted: &Chunk = chunk;
        items.sort_by(|a, b| {
            let [a_value, b_value] = [*a, *b].map(|item| {
                move |column| {
                    let pk = unsorted.pks.get(item.record as usize).map_or(&[][..], Vec::as_slice);
                    let (record, view) = (unsorted.record(&item), unsorted.view(&item));
                    self.value(record, unsorted.cell(&item), view, pk, column)
                }
            });
            self.order.compare(a_value, b_value, (a.tie, b.tie))
        });
        chunk.items = items;
        Ok(())
    }

    fn pks(&self, chunk: &Chunk) -> Result<Vec<Vec<u8>>> {
        let mut image = RowImage::default();
        let rows = chunk.records.iter().zip(&chunk.views);
        rows.map(|(record, view)| shown_pk(&self.cx, &view.info, record, &mut image)).collect()
    }

    fn value<'v>(
        &'v self,
        record: &'v LiveRecord,
        cell: LiveCell,
        view: &'v TableView,
        pk: &'v [u8],
        column: Column,
    ) -> ValueRef<'v> {
        match column {
            Column::Table => ValueRef::Text(view.info.name.as_bytes()),
            Column::Pk => ValueRef::Blob(pk),
            Column::Cid => ValueRef::Text(view.name(cell.column).as_bytes()),
            Column::Val => ValueRef::Null,
            Column::ColVersion => integer(cell.version),
            Column::DbVersion => integer(record.db_version),
            Column::SiteId => ValueRef::Blob(self.site(record.origin)),
            Column::Cl => integer(record.causal_length),
            Column::Seq => integer(cell.seq),
        }
    }

    /// The columns of a row that need no look at the user's table.
    pub(super) fn column<'v>(
        &'v self,
        chunk: &'v Chunk,
        item: &Item,
        column: Column,
    ) -> ValueRef<'v> {
        self.value(chunk.record(item), chunk.cell(item), chunk.view(item), &[], column)
    }

    fn view(&mut self, id: TableId) -> Option<Rc<TableView>> {
        let cx = &self.cx;
        let known = self.tables.entry(id).or_insert_with(|| {
            let info = cx.registry.borrow().by_id(id);
            info.map(|info| Rc::new(TableView::new(info)))
        });
        known.clone()
    }

    fn resolve(&mut self, origin: Ordinal) -> Result<()> {
        if !self.sites.contains_key(&origin) {
            let site = self.cx.metadata.borrow_mut().origin_site(origin)?;
            self.sites.insert(origin, site);
        }
        Ok(())
    }
}

fn integer(number: u64) -> ValueRef<'static> {
    ValueRef::Integer(number as i64)
}

/// The packed key as `crsql_changes` shows it: as stored, or folded if the row is gone.
pub(super) fn shown_pk(
    cx: &Context,
    table: &Rc<TableInfo>,
    record: &LiveRecord,
    image: &mut RowImage,
) -> Result<Vec<u8>> {
    if table.has_spellings && record.causal_length % 2 == 1 {
        image.load(cx, table, &record.key)?;
        if image.is_there() {
            return Ok(image.pk().to_vec());
        }
    }
    table.pack_folded(&record.key)
}

/// The records of the rows with a key, in one table or in all.
fn seek(cx: &Context, filter: &Filter, pk: ValueRef<'_>) -> Result<Vec<LiveRecord>> {
    // A column of blobs equals nothing else, and what does not unpack is no key of ours.
    let ValueRef::Blob(pk) = pk else { return Ok(Vec::new()) };
    let Ok(values) = key::unpack(pk) else { return Ok(Vec::new()) };
    let tables = match filter.equals(Column::Table) {
        Some(ValueRef::Text(name)) => {
            let registry = cx.registry.borrow();
            let name = std::str::from_utf8(name).ok();
            name.and_then(|name| registry.by_name(name)).into_iter().collect()
        }
        _ => cx.registry.borrow().all(),
    };
    let mut records = Vec::new();
    for table in tables {
        if let Ok(folded) = key::fold(&values, &table.key_columns) {
            records.extend(cx.metadata.borrow_mut().row_records(table.id, &folded)?);
        }
    }
    Ok(records)
}
