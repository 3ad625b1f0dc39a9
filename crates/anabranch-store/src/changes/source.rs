//! Where a scan's rows come from: pieces of the log in order, version by version or all of
//! it sorted, or the records of single rows.

use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use hashbrown::HashMap;

use super::filter::Filter;
use super::image::RowImages;
use super::order::{Order, Tie};
use super::{Column, SENTINEL_NAME};
use crate::context::Context;
use crate::error::Result;
use crate::ids::{ColumnId, Ordinal, TableId};
use crate::metadata::scan::{LiveRecord, Scan};
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
    place: u16,
}

impl TableView {
    fn new(info: Rc<TableInfo>) -> TableView {
        let columns = info.columns.iter().enumerate();
        let mut named: Vec<(&str, ColumnId, u16)> =
            columns.map(|(i, column)| (column.name.as_str(), column.id, i as u16)).collect();
        named.push((SENTINEL_NAME, ColumnId::SENTINEL, SENTINEL));
        named.sort_unstable();
        let last = named.iter().map(|(_, id, _)| usize::from(id.0)).max().unwrap_or(0);
        let mut columns = vec![None; last + 1];
        for (rank, (_, id, place)) in named.iter().enumerate() {
            let view = ColumnView { rank: rank as u16, place: *place };
            columns[usize::from(id.0)] = Some(view);
        }
        TableView { info, columns }
    }

    fn column(&self, id: ColumnId) -> Option<ColumnView> {
        self.columns.get(usize::from(id.0)).copied().flatten()
    }

    /// Name of a column as `cid` shows it.
    pub(super) fn name(&self, item: &Item) -> &str {
        item.position().map_or(SENTINEL_NAME, |position| &self.info.columns[position].name)
    }
}

/// A cell to show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Index of its record in the chunk.
    pub(super) record: u32,
    /// Place among the names of the table, by bytes.
    rank: u16,
    /// Place in the declaration; [`SENTINEL`] for the row itself.
    place: u16,
    version: u64,
    db_version: u64,
    seq: u64,
}

/// No place in the declaration. SQLite's own bound on columns is below it.
const SENTINEL: u16 = u16::MAX;

impl Item {
    /// Place of the column in the declaration; `None` for the sentinel.
    pub(super) fn position(&self) -> Option<usize> {
        (self.place != SENTINEL).then_some(usize::from(self.place))
    }
}

/// A record with what is needed to show it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) record: LiveRecord,
    pub(super) view: Rc<TableView>,
    site: SiteId,
}

impl Row {
    /// A column of a cell of this record, as far as the user's table need not be looked at.
    #[inline]
    pub(super) fn value<'v>(&'v self, item: &Item, pk: &'v [u8], column: Column) -> ValueRef<'v> {
        match column {
            Column::Table => ValueRef::Text(self.view.info.name.as_bytes()),
            Column::Pk => ValueRef::Blob(pk),
            Column::Cid => ValueRef::Text(self.view.name(item).as_bytes()),
            Column::Val => ValueRef::Null,
            Column::ColVersion => integer(item.version),
            Column::DbVersion => integer(item.db_version),
            Column::SiteId => ValueRef::Blob(self.site.as_bytes()),
            Column::Cl => integer(self.record.causal_length),
            Column::Seq => integer(item.seq),
        }
    }

    fn tie(&self, item: &Item) -> Tie {
        Tie { table: self.view.info.order, row: self.record.number, column: item.rank }
    }
}

/// Some rows of a scan, in order.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) rows: Vec<Row>,
    pub(super) items: Vec<Item>,
}

impl Chunk {
    /// The record of an item.
    pub(super) fn row(&self, item: &Item) -> &Row {
        &self.rows[item.record as usize]
    }

    /// The table of the item at an index.
    pub(super) fn view(&self, item: usize) -> &TableView {
        &self.row(&self.items[item]).view
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
        chunk.rows.reserve(records.len());
        chunk.items.reserve(records.iter().map(|record| record.cells.len()).sum());
        for record in records {
            // Tables of others' names, and dropped ones, are not shown.
            let Some(view) = self.view(record.table) else { continue };
            let site = self.site(record.origin)?;
            let row = Row { record, view, site };
            let before = chunk.items.len();
            self.list(&mut chunk.items, &row, chunk.rows.len() as u32);
            if chunk.items.len() > before {
                chunk.rows.push(row);
            }
        }
        self.sort(&mut chunk)?;
        Ok(chunk)
    }

    /// Lists the cells of a record that pass.
    fn list(&self, items: &mut Vec<Item>, row: &Row, at: u32) {
        let passes_all = self.filter.is_empty();
        for cell in &row.record.cells {
            let Some(column) = row.view.column(cell.column) else { continue };
            let item = Item {
                record: at,
                rank: column.rank,
                place: column.place,
                version: cell.version,
                db_version: row.record.db_version,
                seq: cell.seq,
            };
            if passes_all || self.filter.passes(|column| row.value(&item, &[], column)) {
                items.push(item);
            }
        }
    }

    fn sort(&self, chunk: &mut Chunk) -> Result<()> {
        let pks = match self.order.has(Column::Pk) {
            true => self.pks(chunk)?,
            false => Vec::new(),
        };
        let Chunk { rows, items } = chunk;
        let row = |item: &Item| &rows[item.record as usize];
        if self.order.is_natural() {
            // Mostly sorted already: the stable sort sees that in one pass.
            let stamp = |item: &Item| (item.db_version, item.seq);
            items.sort_by(|a, b| {
                stamp(a).cmp(&stamp(b)).then_with(|| row(a).tie(a).cmp(&row(b).tie(b)))
            });
            return Ok(());
        }
        items.sort_by(|a, b| {
            let [a_value, b_value] = [a, b].map(|item| {
                let pk = pks.get(item.record as usize).map_or(&[][..], Vec::as_slice);
                move |column| row(item).value(item, pk, column)
            });
            self.order.compare(a_value, b_value, (row(a).tie(a), row(b).tie(b)))
        });
        Ok(())
    }

    /// The packed keys of a chunk's records, whose items stand in their order.
    fn pks(&self, chunk: &Chunk) -> Result<Vec<Vec<u8>>> {
        let mut images = RowImages::default();
        let mut pks: Vec<Vec<u8>> = Vec::with_capacity(chunk.rows.len());
        for (at, item) in chunk.items.iter().enumerate() {
            if item.record as usize == pks.len() {
                let mut pk = Vec::new();
                pks.push(shown_pk(&self.cx, chunk, at, &mut images, &mut pk)?.to_vec());
            }
        }
        Ok(pks)
    }

    fn view(&mut self, id: TableId) -> Option<Rc<TableView>> {
        let cx = &self.cx;
        let known = self.tables.entry(id).or_insert_with(|| {
            let info = cx.registry.borrow().by_id(id);
            info.map(|info| Rc::new(TableView::new(info)))
        });
        known.clone()
    }

    fn site(&mut self, origin: Ordinal) -> Result<SiteId> {
        if let Some(site) = self.sites.get(&origin) {
            return Ok(*site);
        }
        let site = self.cx.metadata.borrow_mut().origin_site(origin)?;
        self.sites.insert(origin, site);
        Ok(site)
    }
}

fn integer(number: u64) -> ValueRef<'static> {
    ValueRef::Integer(number as i64)
}

/// The packed key of an item's row as `crsql_changes` shows it: as stored, or folded (then
/// in `folded`) if the row is gone.
pub(super) fn shown_pk<'a>(
    cx: &Context,
    chunk: &Chunk,
    item: usize,
    images: &'a mut RowImages,
    folded: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    let row = chunk.row(&chunk.items[item]);
    let table = &row.view.info;
    if table.has_spellings && row.record.causal_length % 2 == 1 {
        let image = images.of(cx, chunk, item, false)?;
        if image.is_there() {
            return Ok(image.pk());
        }
    }
    folded.clear();
    table.pack_folded_into(&row.record.key, folded)?;
    Ok(folded)
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
