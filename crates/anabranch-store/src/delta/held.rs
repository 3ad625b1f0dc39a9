//! What is held and not shown, in the file: `ana_held`, a row for each change, and
//! `ana_held_cell`, a row for each operation of theirs and for each that waits with them.
//!
//! Invariant: of a row of a user's table there is one life, each cell of it once: what comes
//! later joins by the rule of deltas. Sites and columns stand by name, so that what is held
//! outlives the ids of this file.

use anabranch_core::delta::{Birth, CellDelta, DeltaDot, RowDelta, SiteIdx, TableDelta};
use anabranch_core::key;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::Statement;

use super::error::ChangeName;
use super::holding::{Holding, Reason};
use crate::atomic::{Bracket, atomically};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::limits::{MAX_HELD_ROWS_READ, MAX_IMAGE_BYTES};
use crate::registry::TableInfo;
use crate::shape::{integer, text};

/// The `cid` of a birth; no column has this name.
const BIRTH: &str = "-1";

/// What is held of one row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeldRow {
    /// Its identity: see [`key_of`].
    pub(super) key: Vec<u8>,
    /// The packed key as its birth spells it.
    pub(super) pk: Vec<u8>,
    pub(super) causal_length: u64,
    pub(super) births: Vec<HeldBirth>,
    pub(super) cells: Vec<HeldCell>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeldBirth {
    pub(super) change: ChangeName,
    pub(super) origin: SiteId,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeldCell {
    pub(super) column: String,
    pub(super) version: u64,
    pub(super) change: ChangeName,
    pub(super) origin: SiteId,
    pub(super) value: Value,
}

/// A row by the names of sites and columns that are met: a small dictionary.
#[derive(Default)]
pub(super) struct Words {
    pub(super) sites: Vec<SiteId>,
    pub(super) columns: Vec<String>,
}

impl Words {
    fn site(&mut self, site: SiteId) -> SiteIdx {
        let known = self.sites.iter().position(|known| *known == site);
        SiteIdx(known.unwrap_or_else(|| {
            self.sites.push(site);
            self.sites.len() - 1
        }) as u32)
    }

    fn column(&mut self, name: &str) -> u32 {
        let known = self.columns.iter().position(|known| known == name);
        known.unwrap_or_else(|| {
            self.columns.push(name.to_owned());
            self.columns.len() - 1
        }) as u32
    }

    fn row(&mut self, row: &HeldRow) -> RowDelta {
        let mut births = Vec::with_capacity(row.births.len());
        for HeldBirth { change, origin } in &row.births {
            let dot = DeltaDot { site: self.site(change.site), version: change.version };
            births.push(Birth { dot, origin: self.site(*origin) });
        }
        births.sort_unstable_by_key(|birth| birth.dot);
        let mut cells = Vec::with_capacity(row.cells.len());
        for cell in &row.cells {
            let dot = DeltaDot { site: self.site(cell.change.site), version: cell.change.version };
            cells.push(CellDelta {
                column: self.column(&cell.column),
                version: cell.version,
                dot,
                origin: self.site(cell.origin),
                value: cell.value.clone(),
            });
        }
        cells.sort_unstable_by_key(|cell| cell.column);
        RowDelta { key: row.pk.clone(), causal_length: row.causal_length, births, cells }
    }

    /// Rows of one table as a delta has them.
    pub(super) fn table(&mut self, name: &str, rows: &[HeldRow]) -> TableDelta {
        let rows = rows.iter().map(|row| self.row(row)).collect();
        TableDelta { name: name.to_owned(), columns: self.columns.clone(), rows }
    }
}

impl HeldRow {
    /// What `is_kept` chooses of a row of a delta.
    pub(super) fn of(
        key: Vec<u8>,
        row: &RowDelta,
        site: impl Fn(SiteIdx) -> SiteId,
        columns: &[String],
        is_kept: impl Fn(DeltaDot) -> bool,
    ) -> HeldRow {
        let change = |dot: DeltaDot| ChangeName { site: site(dot.site), version: dot.version };
        let births = row.births.iter().filter(|birth| is_kept(birth.dot));
        let births =
            births.map(|birth| HeldBirth { change: change(birth.dot), origin: site(birth.origin) });
        let cells = row.cells.iter().filter(|cell| is_kept(cell.dot)).map(|cell| HeldCell {
            column: columns[cell.column as usize].clone(),
            version: cell.version,
            change: change(cell.dot),
            origin: site(cell.origin),
            value: cell.value.clone(),
        });
        let (births, cells) = (births.collect(), cells.collect());
        HeldRow { key, pk: row.key.clone(), causal_length: row.causal_length, births, cells }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.births.is_empty() && self.cells.is_empty()
    }

    /// Drops what `is_kept` does not choose.
    pub(super) fn retain(&mut self, is_kept: impl Fn(ChangeName) -> bool) {
        self.births.retain(|birth| is_kept(birth.change));
        self.cells.retain(|cell| is_kept(cell.change));
    }

    fn join(self, other: &HeldRow) -> HeldRow {
        let mut words = Words::default();
        let mut joined = words.row(&self);
        let other = words.row(other);
        joined.join(other, &words.sites);
        let site = |index: SiteIdx| words.sites[index.0 as usize];
        HeldRow::of(self.key, &joined, site, &words.columns, |_| true)
    }

    fn n_bytes(&self) -> usize {
        let value = |cell: &HeldCell| match &cell.value {
            Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        self.pk.len() + self.cells.iter().map(value).sum::<usize>()
    }
}

/// What a row is kept under: its folded key, so that rows of one table stand in the order in
/// which deltas have them; of a key that the table cannot have, nine bytes FF and the packed
/// key, which no folded key begins with.
pub(super) fn key_of(table: Option<&TableInfo>, pk: &[u8]) -> Vec<u8> {
    let folded = table.and_then(|table| key::fold(&key::unpack(pk).ok()?, &table.key_columns).ok());
    folded.unwrap_or_else(|| [&[0xff; 9], pk].concat())
}

/// Keeps a row, joined with what is held of it.
pub(super) fn put(cx: &Context, table: &str, row: HeldRow) -> Result<()> {
    let row = match get(cx, table, &row.key)? {
        Some(held) => {
            delete(cx, table, &row.key)?;
            held.join(&row)
        }
        None => row,
    };
    let mut insert = cx.db.prepare(
        "INSERT INTO main.ana_held_cell(tbl, \"key\", pk, cl, cid, col_version, site, version,
         origin, value) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let mut operation = |cid: &str, version, change: ChangeName, origin: SiteId, value| {
        insert.execute(&[
            ValueRef::Text(table.as_bytes()),
            ValueRef::Blob(&row.key),
            ValueRef::Blob(&row.pk),
            number(row.causal_length),
            ValueRef::Text(cid.as_bytes()),
            number(version),
            ValueRef::Blob(change.site.as_bytes()),
            number(change.version),
            ValueRef::Blob(origin.as_bytes()),
            value,
        ])
    };
    for HeldBirth { change, origin } in &row.births {
        operation(BIRTH, row.causal_length, *change, *origin, ValueRef::Null)?;
    }
    for HeldCell { column, version, change, origin, value } in &row.cells {
        operation(column, *version, *change, *origin, value.as_ref())?;
    }
    Ok(())
}

fn get(cx: &Context, table: &str, key: &[u8]) -> Result<Option<HeldRow>> {
    let rows = read(cx, "tbl = ?1 AND \"key\" = ?2", table, key)?;
    Ok(rows.into_iter().next())
}

/// Drops what is held of a row.
pub(super) fn delete(cx: &Context, table: &str, key: &[u8]) -> Result<()> {
    let sql = "DELETE FROM main.ana_held_cell WHERE tbl = ?1 AND \"key\" = ?2";
    Ok(cx.db.execute(sql, &[ValueRef::Text(table.as_bytes()), ValueRef::Blob(key)])?)
}

/// The next rows of a table, by key; none at the end.
pub(super) fn rows_after(cx: &Context, table: &str, key: &[u8]) -> Result<Vec<HeldRow>> {
    read(cx, "tbl = ?1 AND \"key\" > ?2", table, key)
}

fn read(cx: &Context, which: &str, table: &str, key: &[u8]) -> Result<Vec<HeldRow>> {
    let sql = format!(
        "SELECT \"key\", pk, cl, cid, col_version, site, version, origin, value
         FROM main.ana_held_cell WHERE {which} ORDER BY \"key\""
    );
    let mut statement = cx.db.prepare(&sql)?;
    let mut rows: Vec<HeldRow> = Vec::new();
    let mut n_bytes = 0;
    let mut more = statement.query(&[ValueRef::Text(table.as_bytes()), ValueRef::Blob(key)])?;
    while more {
        let ValueRef::Blob(key) = statement.column(0) else { return Err(damaged()) };
        if rows.last().is_none_or(|last| last.key != key) {
            n_bytes += rows.last().map_or(0, HeldRow::n_bytes);
            if rows.len() == MAX_HELD_ROWS_READ || n_bytes > MAX_IMAGE_BYTES {
                break;
            }
            rows.push(begin_row(&statement)?);
        }
        if let Some(row) = rows.last_mut() {
            read_operation(&statement, row)?;
        }
        more = statement.step()?;
    }
    Ok(rows)
}

fn begin_row(row: &Statement) -> Result<HeldRow> {
    let (ValueRef::Blob(key), ValueRef::Blob(pk)) = (row.column(0), row.column(1)) else {
        return Err(damaged());
    };
    let causal_length = unsigned(row.column(2))?;
    let (key, pk) = (key.to_vec(), pk.to_vec());
    Ok(HeldRow { key, pk, causal_length, births: Vec::new(), cells: Vec::new() })
}

fn read_operation(statement: &Statement, row: &mut HeldRow) -> Result<()> {
    let change =
        ChangeName { site: site(statement.column(5))?, version: unsigned(statement.column(6))? };
    let origin = site(statement.column(7))?;
    let ValueRef::Text(cid) = statement.column(3) else { return Err(damaged()) };
    let column = std::str::from_utf8(cid).map_err(|_| damaged())?.to_owned();
    if column == BIRTH {
        row.births.push(HeldBirth { change, origin });
        return Ok(());
    }
    let (version, value) = (unsigned(statement.column(4))?, statement.column(8).into());
    row.cells.push(HeldCell { column, version, change, origin, value });
    Ok(())
}

/// The first table after `name`, by name, of which something is held.
pub(super) fn next_table(cx: &Context, name: &str) -> Result<Option<String>> {
    let sql = "SELECT min(tbl) FROM main.ana_held_cell WHERE tbl > ?1";
    match cx.db.query_value(sql, &[ValueRef::Text(name.as_bytes())])? {
        Some(Value::Text(name)) => String::from_utf8(name).map(Some).map_err(|_| damaged()),
        _ => Ok(None),
    }
}

/// Columns that are held of a table, by name.
pub(super) fn columns(cx: &Context, table: &str) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT cid FROM main.ana_held_cell WHERE tbl = ?1 AND cid <> '-1'
               ORDER BY cid";
    let rows = cx.db.query_rows(sql, &[ValueRef::Text(table.as_bytes())])?;
    Ok(rows.iter().map(|row| text(&row[0])).collect())
}

/// All sites that what is held names.
pub(super) fn sites(cx: &Context) -> Result<Vec<SiteId>> {
    let sql = "SELECT site FROM main.ana_held_cell UNION SELECT origin FROM main.ana_held_cell";
    let rows = cx.db.query_rows(sql, &[])?;
    rows.iter().map(|row| site(row[0].as_ref())).collect()
}

/// Whether an insert that gave a row this causal length, or a longer life, is held.
pub(super) fn has_life(cx: &Context, table: &str, key: &[u8], causal_length: u64) -> Result<bool> {
    let sql = "SELECT 1 FROM main.ana_held_cell WHERE tbl = ?1 AND \"key\" = ?2 AND cl >= ?3
               AND cid = '-1' LIMIT 1";
    let params = [ValueRef::Text(table.as_bytes()), ValueRef::Blob(key), number(causal_length)];
    Ok(cx.db.query_value(sql, &params)?.is_some())
}

/// Notes that a change is not shown; its time, from the first on, is when it was held.
pub(super) fn mark(cx: &Context, change: ChangeName, reason: &Reason, now_ms: u64) -> Result<()> {
    let is_known = !reason.table.is_empty();
    let or_null = |value| if is_known { value } else { ValueRef::Null };
    Ok(cx.db.execute(
        "INSERT INTO main.ana_held(site, version, time, tbl, pk, reason, undoes)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT(site, version) DO UPDATE SET tbl = excluded.tbl, pk = excluded.pk,
         reason = excluded.reason, undoes = excluded.undoes",
        &[
            ValueRef::Blob(change.site.as_bytes()),
            number(change.version),
            number(now_ms),
            or_null(ValueRef::Text(reason.table.as_bytes())),
            or_null(ValueRef::Blob(&reason.pk)),
            ValueRef::Text(reason.what.as_bytes()),
            ValueRef::Integer(reason.undoes.into()),
        ],
    )?)
}

/// Leaves only those changes marked that could not be shown.
pub(super) fn settle(cx: &Context, holding: &Holding) -> Result<()> {
    let mut after = (Vec::new(), 0);
    loop {
        let rows = cx.db.query_rows(
            "SELECT site, version FROM main.ana_held WHERE (site, version) > (?1, ?2)
             ORDER BY site, version LIMIT 1000",
            &[ValueRef::Blob(&after.0), ValueRef::Integer(after.1)],
        )?;
        let Some(Value::Blob(last)) = rows.last().map(|row| &row[0]) else { break };
        after = (last.clone(), rows.last().map_or(0, |row| integer(&row[1])));
        for row in &rows {
            let change =
                ChangeName { site: site(row[0].as_ref())?, version: unsigned(row[1].as_ref())? };
            if holding.reason(change).is_none() {
                let sql = "DELETE FROM main.ana_held WHERE site = ?1 AND version = ?2";
                let key = [ValueRef::Blob(change.site.as_bytes()), number(change.version)];
                cx.db.execute(sql, &key)?;
            }
        }
    }
    let now_ms = (cx.clock)();
    holding.changes().try_for_each(|(change, reason)| mark(cx, change, reason, now_ms))
}

/// Whether anything is held or waits.
pub(super) fn is_any(cx: &Context) -> Result<bool> {
    let sql = "SELECT EXISTS(SELECT 1 FROM main.ana_held) OR
               EXISTS(SELECT 1 FROM main.ana_held_cell)";
    Ok(cx.db.query_value(sql, &[])? == Some(Value::Integer(1)))
}

/// How many changes are held and not shown.
pub(super) fn n_changes(cx: &Context) -> Result<u64> {
    let n = cx.db.query_value("SELECT count(*) FROM main.ana_held", &[])?;
    n.map_or(Ok(0), |n| unsigned(n.as_ref()))
}

/// All changes that are held and not shown.
pub(crate) fn changes(cx: &Context) -> Result<Vec<ChangeName>> {
    let sql = "SELECT site, version FROM main.ana_held UNION
               SELECT site, version FROM main.ana_held_cell";
    let rows = cx.db.query_rows(sql, &[])?;
    let change = |row: &Vec<Value>| {
        let (site, version) = (site(row[0].as_ref())?, unsigned(row[1].as_ref())?);
        Ok(ChangeName { site, version })
    };
    rows.iter().map(change).collect()
}

/// The keys of all rows of a table of which something is held.
pub(crate) fn keys(cx: &Context, table: &str) -> Result<Vec<Vec<u8>>> {
    let sql = "SELECT DISTINCT \"key\" FROM main.ana_held_cell WHERE tbl = ?1";
    let rows = cx.db.query_rows(sql, &[ValueRef::Text(table.as_bytes())])?;
    let key = |row: Vec<Value>| match row.into_iter().next() {
        Some(Value::Blob(key)) => Ok(key),
        _ => Err(damaged()),
    };
    rows.into_iter().map(key).collect()
}

/// Whether more than `max` operations are held.
pub(super) fn has_more_than(cx: &Context, max: u64) -> Result<bool> {
    let sql = "SELECT 1 FROM main.ana_held_cell LIMIT 1 OFFSET ?1";
    Ok(cx.db.query_value(sql, &[number(max)])?.is_some())
}

/// Whether some change undid the transaction that it was tried in.
pub(super) fn has_undone(cx: &Context) -> Result<bool> {
    let sql = "SELECT 1 FROM main.ana_held WHERE undoes LIMIT 1";
    Ok(cx.db.query_value(sql, &[])?.is_some())
}

/// Puts the rows of a table under the keys that they have in its present form.
pub(super) fn rekey(cx: &Context, table: &TableInfo) -> Result<()> {
    atomically(&cx.db, Bracket::Savepoint, || rekey_rows(cx, table))
}

fn rekey_rows(cx: &Context, table: &TableInfo) -> Result<()> {
    let mut after = Vec::new();
    loop {
        let rows = rows_after(cx, &table.name, &after)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.key.clone();
        for mut row in rows {
            let key = key_of(Some(table), &row.pk);
            if key != row.key {
                delete(cx, &table.name, &row.key)?;
                row.key = key;
                put(cx, &table.name, row)?;
            }
        }
    }
}

fn number(number: u64) -> ValueRef<'static> {
    ValueRef::Integer(number.cast_signed())
}

fn unsigned(value: ValueRef<'_>) -> Result<u64> {
    match value {
        ValueRef::Integer(number) => u64::try_from(number).map_err(|_| damaged()),
        _ => Err(damaged()),
    }
}

fn site(value: ValueRef<'_>) -> Result<SiteId> {
    match value {
        ValueRef::Blob(bytes) => SiteId::new(bytes).ok_or_else(damaged),
        _ => Err(damaged()),
    }
}

fn damaged() -> StoreError {
    StoreError::Damaged {
        place: "ana_held_cell or ana_held".into(),
        what: "a value that is never written there",
    }
}
