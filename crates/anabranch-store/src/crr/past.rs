//! What is known of a table that vanished (dropped, renamed, or made anew by the twelve steps
//! of SQLite's documentation), carried over to the table that now has its name.
//!
//! Other copies hold its clocks, so the new table's must stand above them (decision 4). Nobody
//! tells what was written meanwhile: a row that is there counts as written, one that is not as
//! deleted. Everything is stamped anew, tombstones too: who asked for changes while the table
//! was gone got their headers only.

use std::rc::Rc;

use anabranch_core::key::{self, KeyColumn, apply_affinity};
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::VersionVector;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{columns, key_code};
use crate::base;
use crate::buffer::MergedRecord;
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{Address, ColumnId, Key, Ordinal, TableId};
use crate::limits::MAX_COLUMN_VERSION;
use crate::metadata::mask::Mask;
use crate::metadata::row_clock::{Group, RowClock};
use crate::metadata::scan::LiveRecord;
use crate::registry::TableInfo;
use crate::shape::{TableShape, integer};
use crate::transaction::{self, Buffered};

/// Clocks of rows of a table that had a name before.
pub(super) struct Past {
    pub(super) table: TableId,
    /// As its folded keys were made.
    key: Vec<KeyColumn>,
    /// They were those of another name, which keeps them too.
    pub(super) is_renamed: bool,
}

/// What a table of this name had, or else the table that was renamed to it. Keys of another
/// number of columns are keys of other rows everywhere.
pub(super) fn find(
    cx: &Context,
    shape: &TableShape,
    renamed: Option<&TableInfo>,
) -> Result<Option<Past>> {
    let sql = "SELECT id, keys FROM main.ana_registry WHERE name = ?1 ORDER BY id DESC";
    for row in cx.db.query_rows(sql, &[ValueRef::Text(shape.name.as_bytes())])? {
        let table = TableId(u32::try_from(integer(&row[0])).unwrap_or(0));
        let key = match &row[1] {
            Value::Blob(bytes) => key_code::decode(bytes),
            _ => None,
        };
        let damaged = || StoreError::Damaged {
            place: format!("ana_registry, id {}", table.0),
            what: "no key columns",
        };
        let key = key.ok_or_else(damaged)?;
        if key.len() == shape.key.len() {
            return Ok(Some(Past { table, key, is_renamed: false }));
        }
    }
    Ok(renamed.filter(|table| table.key.len() == shape.key.len()).map(|table| Past {
        table: table.id,
        key: table.key_columns.clone(),
        is_renamed: true,
    }))
}

impl Past {
    /// Gives the rows of `table` clocks above those they had. Rows that had none are left.
    pub(super) fn carry(
        &self,
        cx: &Context,
        table: &Rc<TableInfo>,
        shape: &TableShape,
    ) -> Result<()> {
        let places = self.places(cx, table)?;
        let defaults = defaults(cx, table, shape)?;
        let carry = Carry { cx, table, places, defaults };
        cx.transaction.borrow_mut().change_mut().is_edit = true;
        let mut scan =
            cx.metadata.borrow_mut().scan_above(&VersionVector::new(), &HashMap::new())?;
        let mut row: Option<Former> = None;
        loop {
            // The borrow ends before the user's rows are read.
            let batch = scan.next_batch(&mut cx.metadata.borrow_mut())?;
            if batch.is_empty() {
                break;
            }
            for record in batch.into_iter().filter(|record| record.table == self.table) {
                if row.as_ref().is_none_or(|row| row.key != record.key) {
                    self.finish(&carry, row.take())?;
                    row = Some(Former::new(&record));
                }
                row.iter_mut().for_each(|row| row.add(&record));
            }
        }
        self.finish(&carry, row)
    }

    /// The columns of the new table by the ids that the old one gave them; those that it does
    /// not have are numbered there, so that what is known of them stays.
    fn places(&self, cx: &Context, table: &TableInfo) -> Result<HashMap<ColumnId, ColumnId>> {
        let mut places = HashMap::new();
        for column in columns::all(cx, self.table)? {
            let id = match table.column_named(&column.name) {
                Some(there) => there.id,
                None => columns::add_gone(cx, table.id, &column.name)?,
            };
            places.insert(column.id, id);
        }
        Ok(places)
    }

    fn finish(&self, carry: &Carry<'_>, row: Option<Former>) -> Result<()> {
        let Some(row) = row else { return Ok(()) };
        let values = key::unfold(&row.key, &self.key).map_err(|_| StoreError::Damaged {
            place: format!("a key of table {}", carry.table.name),
            what: "not a folded key of its columns",
        })?;
        let values: SmallVec<[ValueRef<'_>; 4]> = values.iter().map(Value::as_ref).collect();
        // A key that the table cannot hold any more is no row of it.
        match key::fold(&values, &carry.table.key_columns) {
            Ok(key) => carry.row(&key, &row),
            Err(_) => Ok(()),
        }
    }
}

/// What was known of a row.
struct Former {
    key: Key,
    causal_length: u64,
    has_sentinel: bool,
    /// Versions, by the old table's columns.
    cells: SmallVec<[(ColumnId, u64); 8]>,
}

impl Former {
    fn new(record: &LiveRecord) -> Former {
        Former {
            key: record.key.clone(),
            causal_length: record.causal_length,
            has_sentinel: false,
            cells: SmallVec::new(),
        }
    }

    fn add(&mut self, record: &LiveRecord) {
        for cell in &record.cells {
            match cell.column {
                ColumnId::SENTINEL => self.has_sentinel = true,
                column => self.cells.push((column, cell.version)),
            }
        }
    }
}

struct Carry<'a> {
    cx: &'a Context,
    table: &'a Rc<TableInfo>,
    /// See [`Past::places`].
    places: HashMap<ColumnId, ColumnId>,
    /// What each of the table's columns holds if nobody writes it, as far as that is known.
    defaults: Vec<Option<Value>>,
}

impl Carry<'_> {
    fn row(&self, key: &[u8], former: &Former) -> Result<()> {
        let known = transaction::row_clock(self.cx, self.table.id, key)?;
        let written = base::read_with(self.cx, self.table, key, |row| self.written(row))?;
        let cells = self.cells(former, known.as_ref(), written.as_ref());
        let longest = former.causal_length.max(known.as_ref().map_or(0, |row| row.causal_length));
        // Odd if the row is there, even if not.
        let mut causal_length = longest + u64::from((longest % 2 == 1) != written.is_some());
        if longest.is_multiple_of(2) && written.is_some() {
            let restart = self.cx.metadata.borrow_mut().restart(self.table.id)?;
            causal_length = causal_length.max(restart);
        }
        let has_sentinel = causal_length > 1 || cells.is_empty() || former.has_sentinel;
        self.push(key, known, causal_length, has_sentinel, &cells)
    }

    /// Columns whose cell is not what an unwritten one would be.
    fn written(&self, row: &base::RowView<'_>) -> Mask {
        let mut mask = Mask::new();
        for (place, column) in self.table.columns.iter().enumerate() {
            let default = self.defaults[place].as_ref();
            if !default.is_some_and(|default| default.as_ref().is_same(row.value(place))) {
                mask.insert(column.id);
            }
        }
        mask
    }

    /// The cells of the row with their new versions; none of a row that is not there.
    fn cells(
        &self,
        former: &Former,
        known: Option<&RowClock>,
        written: Option<&Mask>,
    ) -> Vec<(ColumnId, u64)> {
        let Some(written) = written else { return Vec::new() };
        let mut cells: Vec<(ColumnId, u64)> = Vec::new();
        for (column, version) in &former.cells {
            let Some(id) = self.places.get(column).copied() else { continue };
            let is_there = self.table.mask.contains(id);
            let version = (version + u64::from(is_there)).min(MAX_COLUMN_VERSION);
            cells.push((id, version));
        }
        // Two keys of the old table may be one of the new.
        let groups = known.iter().flat_map(|clock| &clock.groups);
        let held = groups.flat_map(|group| group.mask.iter().map(move |id| (id, group.version)));
        for (id, version) in held.filter(|(id, _)| *id != ColumnId::SENTINEL) {
            match cells.iter_mut().find(|(column, _)| *column == id) {
                Some(cell) => cell.1 = cell.1.max(version),
                None => cells.push((id, version)),
            }
        }
        let is_bare = !cells.iter().any(|(id, _)| self.table.mask.contains(*id));
        for column in &self.table.columns {
            let is_new = !cells.iter().any(|(id, _)| *id == column.id);
            if is_new && (is_bare || written.contains(column.id)) {
                cells.push((column.id, 1));
            }
        }
        cells
    }

    fn push(
        &self,
        key: &[u8],
        before: Option<RowClock>,
        causal_length: u64,
        has_sentinel: bool,
        cells: &[(ColumnId, u64)],
    ) -> Result<()> {
        let mut mask = Mask::new();
        cells.iter().for_each(|(column, _)| mask.insert(*column));
        if has_sentinel {
            mask.insert(ColumnId::SENTINEL);
        }
        transaction::enrol(self.cx)?;
        transaction::make_room(self.cx, Buffered::Merged)?;
        let db_version = transaction::raise_db_version(self.cx, 0)?;
        let first_seq = {
            let mut transaction = self.cx.transaction.borrow_mut();
            let change = transaction.change_mut();
            let first = change.next_seq;
            change.next_seq += u64::from(mask.len());
            first
        };
        let number = before.as_ref().map_or(0, |clock| clock.number);
        let record = MergedRecord {
            row: 0,
            mask,
            first_seq,
            dot: None,
            origin: Ordinal(0),
            db_version,
            is_birth: true,
            is_open: false,
            superseded: None,
        };
        let row = (self.table.id, key);
        transaction::push_merged(self.cx, row, before, record, |after, at| {
            *after = clock(number, causal_length, has_sentinel, cells, at);
        })
    }
}

/// The clock of a row all of which one record stamped.
fn clock(
    number: u64,
    causal_length: u64,
    has_sentinel: bool,
    cells: &[(ColumnId, u64)],
    at: Address,
) -> RowClock {
    let mut clock = RowClock { number, causal_length, groups: SmallVec::new() };
    let mut put = |version: u64, column: ColumnId, is_birth: bool| match clock
        .groups
        .iter_mut()
        .find(|g| g.version == version && !g.is_birth && !is_birth)
    {
        Some(group) => group.mask.insert(column),
        None => {
            let mask = Mask::of(column);
            clock.groups.push(Group { mask, version, at, is_birth });
        }
    };
    if has_sentinel {
        put(causal_length, ColumnId::SENTINEL, true);
    }
    cells.iter().for_each(|(column, version)| put(*version, *column, false));
    clock.groups.sort_by_key(|group| (group.at, group.version));
    if !has_sentinel && let Some(first) = clock.groups.first_mut() {
        first.is_birth = true;
    }
    clock
}

/// What the columns of a table hold in a row that gives them no value; `None` where the
/// default is no constant.
fn defaults(cx: &Context, table: &TableInfo, shape: &TableShape) -> Result<Vec<Option<Value>>> {
    let mut defaults = Vec::with_capacity(table.columns.len());
    for column in &table.columns {
        let there = shape.replicated().find(|there| there.name == column.name);
        let Some(there) = there else {
            defaults.push(None);
            continue;
        };
        let text = there.default.as_deref().unwrap_or("NULL");
        let value = cx.db.query_value(&format!("SELECT ({text})"), &[])?;
        defaults.push(value.map(|value| apply_affinity(value.as_ref(), there.affinity)));
    }
    Ok(defaults)
}
