//! `INSERT INTO crsql_changes`: one change of somebody else, checked, then merged.
//!
//! Everything that can be refused by looking at the change alone is refused here, by name
//! and before anything is written.

use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::limits::{
    MAX_COLUMN_VERSION, MAX_NAME_BYTES, MAX_SEQ, MAX_SITE_ID_BYTES, MAX_VERSION,
};
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use smallvec::SmallVec;

use super::{Column, SENTINEL_NAME, literal, rowid};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::merge::{self, IncomingChange, IncomingColumn, RecentKey, merge_change};
use crate::registry::{Registry, TableInfo};
use crate::transaction;

/// Merges the change that `values` (by column) describe; answers a rowid of its table.
pub(super) fn insert(cx: &Context, values: &[ValueRef<'_>]) -> Result<i64> {
    if cx.base.borrow().is_writing() {
        return Err(refused("a trigger cannot merge changes while its table is merged"));
    }
    transaction::enrol(cx)?;
    if let Some(rowid) = known(cx, values) {
        return Ok(rowid);
    }
    let value = |column: Column| values.get(column as usize).copied().unwrap_or(ValueRef::Null);
    let table_name = name(value(Column::Table), "table")?;
    let column_name = name(value(Column::Cid), "cid")?;
    if table_name.len() > MAX_NAME_BYTES {
        return Err(refused("crsql - table name exceeded max length"));
    }
    if column_name.len() > MAX_NAME_BYTES {
        return Err(refused("crsql - column name exceeded max length"));
    }
    let origin = site(value(Column::SiteId))?;
    let recent = cx.recent.take_key();
    let mut table = find_table(cx, recent.as_ref(), table_name)?;
    let column = find_column(cx, &mut table, column_name)?;
    let plain = plain_key(&table, value(Column::Pk))?;
    let spelled = spelled_key(&table, &plain, value(Column::Pk))?;
    let key = fold_key(cx, recent, &table, value(Column::Pk), &spelled)?;
    let unquoted = plain.is_some().then(|| unquote(value(Column::Val))).flatten();
    let incoming = IncomingChange {
        key: &key.folded,
        spelled: &spelled,
        column,
        value: unquoted.as_ref().map_or(value(Column::Val), Value::as_ref),
        version: bounded(value(Column::ColVersion), "col_version", MAX_COLUMN_VERSION, None)?,
        db_version: bounded(value(Column::DbVersion), "db_version", MAX_VERSION, None)?,
        origin,
        causal_length: bounded(value(Column::Cl), "cl", MAX_COLUMN_VERSION, Some(1))?,
        seq: bounded(value(Column::Seq), "seq", MAX_SEQ, Some(0))?,
    };
    let impacted = merge_change(cx, &table, &incoming)?;
    cx.recent.keep_key(key);
    cx.impacted.set(cx.impacted.get() + u64::from(impacted));
    Ok(rowid(&table, 0))
}

/// The rowid of a change that says nothing new of the row that the change before was about, and
/// nothing that must be refused. `None`: it may, so look closely.
fn known(cx: &Context, values: &[ValueRef<'_>]) -> Option<i64> {
    use ValueRef::{Blob, Integer, Null, Text};
    let &[
        Text(table),
        Blob(pk),
        Text(name),
        value,
        Integer(version),
        Integer(db_version),
        site,
        Integer(cl),
        Integer(seq),
    ] = values
    else {
        return None;
    };
    let is_site = match site {
        Null => true,
        Blob(site) => site.len() <= MAX_SITE_ID_BYTES,
        _ => false,
    };
    let numbers = [
        (version, MAX_COLUMN_VERSION),
        (db_version, MAX_VERSION),
        (cl, MAX_COLUMN_VERSION),
        (seq, MAX_SEQ),
    ];
    let is_bounded = |(number, most)| u64::try_from(number).is_ok_and(|number| number <= most);
    if !is_site || !numbers.into_iter().all(is_bounded) {
        return None;
    }
    let is_cell = name != SENTINEL_NAME.as_bytes();
    let cell = is_cell.then_some((name, value, version as u64));
    let is_known = cx.recent.with_key(|key| {
        let is_it = key.packed.as_slice() == pk
            && key.table.name.as_bytes() == table
            && key.generation == cx.registry.borrow().generation();
        (is_it && merge::is_known(cx, key, cell, cl as u64)).then(|| rowid(&key.table, 0))
    });
    is_known.flatten()
}

fn refused(message: impl Into<String>) -> StoreError {
    StoreError::Refused(message.into())
}

fn type_name(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Null => "NULL",
        ValueRef::Integer(_) => "an integer",
        ValueRef::Real(_) => "a real",
        ValueRef::Text(_) => "a text",
        ValueRef::Blob(_) => "a blob",
    }
}

fn name<'v>(value: ValueRef<'v>, what: &str) -> Result<&'v str> {
    let ValueRef::Text(bytes) = value else {
        let found = type_name(value);
        return Err(refused(format!("{what} of a change must be a text, it is {found}")));
    };
    std::str::from_utf8(bytes).map_err(|_| refused(format!("{what} of a change is not UTF-8")))
}

/// The origin; `None` for this copy, which a NULL or an empty id stands for.
fn site(value: ValueRef<'_>) -> Result<Option<SiteId>> {
    match value {
        ValueRef::Null | ValueRef::Blob([]) => Ok(None),
        ValueRef::Blob(bytes) if bytes.len() > MAX_SITE_ID_BYTES => {
            Err(refused("crsql - site id exceeded max length"))
        }
        ValueRef::Blob(bytes) => Ok(SiteId::new(bytes)),
        other => {
            let found = type_name(other);
            Err(refused(format!("site_id of a change must be a blob, it is {found}")))
        }
    }
}

fn find_table(cx: &Context, recent: Option<&RecentKey>, name: &str) -> Result<Rc<TableInfo>> {
    let generation = cx.registry.borrow().generation();
    if let Some(recent) = recent
        && recent.generation == generation
        && recent.table.name == name
    {
        return Ok(recent.table.clone());
    }
    let Some(table) = look_up(cx, |registry| registry.by_name(name))? else {
        // Asked last: the prefixes are ours, but not every table that has one.
        if is_own(name) {
            return Err(refused(format!(
                "table {name} is the store's own: it travels in deltas, never in crsql_changes"
            )));
        }
        return Err(refused(format!(
            "crsql - could not find the schema information for table {name}"
        )));
    };
    table.refuse_stale()?;
    Ok(table)
}

/// Looks something up; a second time in a registry read anew, for the transaction itself may
/// have altered a table. Asking for the schema version each time would cost as much as the
/// rest of this file.
fn look_up<T>(cx: &Context, find: impl Fn(&Registry) -> Option<T>) -> Result<Option<T>> {
    let found = find(&cx.registry.borrow());
    if found.is_some() {
        return Ok(found);
    }
    cx.registry.borrow_mut().refresh(&cx.db, cx.is_followed.get())?;
    Ok(find(&cx.registry.borrow()))
}

/// Whether a name is one of the store's own tables.
fn is_own(name: &str) -> bool {
    ["ana_", "crsql_"].iter().any(|prefix| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    })
}

fn find_column<'v>(
    cx: &Context,
    table: &mut Rc<TableInfo>,
    name: &'v str,
) -> Result<IncomingColumn<'v>> {
    if name == SENTINEL_NAME {
        return Ok(IncomingColumn::Row);
    }
    let known = table.column_named(name).map(|column| column.id);
    let found = match known {
        Some(id) => Some((table.clone(), id)),
        None => look_up(cx, |registry| {
            let table = registry.by_name(&table.name)?;
            let id = table.column_named(name)?.id;
            Some((table, id))
        })?,
    };
    let Some((present, id)) = found else { return Ok(IncomingColumn::Unknown(name)) };
    *table = present;
    Ok(IncomingColumn::Known(id))
}

/// An integer from 0 to `most`. Hosts that bind every number as a real are understood.
#[inline]
fn bounded(value: ValueRef<'_>, what: &str, most: u64, absent: Option<u64>) -> Result<u64> {
    match value {
        ValueRef::Integer(integer) if integer >= 0 && integer as u64 <= most => Ok(integer as u64),
        _ => bounded_otherwise(value, what, most, absent),
    }
}

#[cold]
fn bounded_otherwise(
    value: ValueRef<'_>,
    what: &str,
    most: u64,
    absent: Option<u64>,
) -> Result<u64> {
    let integer = match (value, absent) {
        (ValueRef::Integer(integer), _) => integer,
        (ValueRef::Real(real), _) if real.fract() == 0.0 && real.abs() <= most as f64 => {
            real as i64
        }
        (ValueRef::Null, Some(absent)) => return Ok(absent),
        (other, _) => {
            let found = type_name(other);
            return Err(refused(format!("{what} of a change must be an integer, it is {found}")));
        }
    };
    let number = u64::try_from(integer).ok().filter(|number| *number <= most);
    number.ok_or_else(|| {
        refused(format!("{what} of a change must be from 0 to {most}, it is {integer}"))
    })
}

fn bad_key(table: &TableInfo, error: &key::KeyError) -> StoreError {
    refused(format!("pk of a change to table {}: {error}", table.name))
}

/// The key of a change; that of the change before, if it was packed to the same bytes.
fn fold_key(
    cx: &Context,
    recent: Option<RecentKey>,
    table: &Rc<TableInfo>,
    pk: ValueRef<'_>,
    spelled: &[ValueRef<'_>],
) -> Result<RecentKey> {
    let packed = if let ValueRef::Blob(bytes) = pk { bytes } else { &[] };
    if let Some(recent) = recent
        && Rc::ptr_eq(&recent.table, table)
        && !packed.is_empty()
        && recent.packed.as_slice() == packed
    {
        return Ok(recent);
    }
    let folded = key::fold(spelled, &table.key_columns).map_err(|error| bad_key(table, &error))?;
    Ok(RecentKey {
        table: table.clone(),
        generation: cx.registry.borrow().generation(),
        packed: SmallVec::from_slice(packed),
        folded: SmallVec::from_slice(&folded),
    })
}

/// A key that was not sent packed but in the form of an older README: the value of a one-column
/// key, or a literal of it.
fn plain_key(table: &TableInfo, pk: ValueRef<'_>) -> Result<Option<Value>> {
    match pk {
        ValueRef::Blob(_) => Ok(None),
        ValueRef::Integer(integer) => Ok(Some(Value::Integer(integer))),
        ValueRef::Text(text) => literal::parse(text).map(Some).ok_or_else(|| {
            refused(format!("pk of a change to table {}: not one SQL literal", table.name))
        }),
        other => {
            let (found, table) = (type_name(other), &table.name);
            Err(refused(format!(
                "pk of a change to table {table} must be a packed blob, it is {found}"
            )))
        }
    }
}

/// The values of a key as it was sent.
fn spelled_key<'v>(
    table: &TableInfo,
    plain: &'v Option<Value>,
    pk: ValueRef<'v>,
) -> Result<SmallVec<[ValueRef<'v>; 4]>> {
    let mut spelled = SmallVec::new();
    match (plain, pk) {
        (None, ValueRef::Blob(bytes)) => key::walk_packed(bytes, |part| spelled.push(part))
            .map_err(|error| bad_key(table, &error))?,
        (plain, _) => spelled.extend(plain.iter().map(Value::as_ref)),
    }
    Ok(spelled)
}

/// The value of a change in the old form, if it is one quoted literal.
fn unquote(value: ValueRef<'_>) -> Option<Value> {
    let ValueRef::Text(text) = value else { return None };
    let text = std::str::from_utf8(text).ok()?;
    literal::quoted(text).map(|text| Value::Text(text.into_bytes()))
}
