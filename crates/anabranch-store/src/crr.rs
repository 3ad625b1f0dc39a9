//! Making a table conflict-free and back.
//!
//! What is done is done in a savepoint of our own: a refusal or an error undoes its own
//! work, never the transaction of the user's.

use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};

use crate::atomic::{self, Bracket};
use crate::base::quote_name;
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::TableId;
use crate::metadata::mask::Mask;
use crate::registry::TableInfo;
use crate::shape::{TableShape, integer, text};
use crate::transaction;
use crate::triggers::{MAX_ARGS, MIN_ARGS, TriggerTexts, token_of};

mod backfill;
mod columns;
mod key_code;
mod past;
mod reconcile;
mod refuse;

/// `SQLITE_LIMIT_FUNCTION_ARG`.
const LIMIT_FUNCTION_ARG: i32 = 6;
/// `SQLITE_AUTH`: an authorizer said no.
const SQLITE_AUTH: i32 = 23;

/// Makes a table conflict-free; mends one that was altered; nothing if there is nothing to
/// do.
///
/// # Errors
/// The refusals of cr-sqlite in its order and words, then ours.
pub(crate) fn as_crr(cx: &Context, schema: Option<&str>, name: &str) -> Result<()> {
    cx.refresh()?;
    let shape = refuse::check(cx, schema, name)?;
    cx.registry.borrow_mut().refresh_temp(&cx.db)?;
    let known = cx.registry.borrow().by_name(&shape.name);
    let is_sound = |table: &TableInfo| {
        !table.is_stale
            && !cx.registry.borrow().is_outrun(table)
            && !cx.unmatched.borrow().contains(&table.id)
    };
    match known {
        Some(table) if is_sound(&table) => Ok(()),
        Some(table) if is_renamed(cx, &table)? => {
            atomically(cx, || create(cx, &shape, Some(&table)))
        }
        Some(table) => {
            atomically(cx, || mend(cx, &table, &shape))?;
            cx.unmatched.borrow_mut().remove(&table.id);
            Ok(())
        }
        None => {
            if let Some(moved) = registered_as(cx, &shape.name)? {
                // It has triggers of the names that those of the new table get.
                as_crr(cx, None, &moved)?;
            }
            atomically(cx, || create(cx, &shape, None))
        }
    }
}

/// Makes a conflict-free table a plain one, and forgets what is known of it, also if it
/// vanished; nothing if nothing is known.
///
/// # Errors
/// SQLite's.
pub(crate) fn as_table(cx: &Context, name: &str) -> Result<()> {
    cx.refresh()?;
    let name = refuse::declared_name(cx, name)?.unwrap_or_else(|| name.to_string());
    let table = cx.registry.borrow().by_name(&name);
    if table.is_none() && vanished(cx, &name)?.is_empty() {
        return Ok(());
    }
    atomically(cx, || {
        if let Some(table) = &table {
            drop_triggers(cx, table)?;
            cx.registry.borrow_mut().invalidate();
            drop_table(cx, table.id)?;
        }
        vanished(cx, &name)?.into_iter().try_for_each(|table| drop_table(cx, table))
    })
}

/// Tables of a name that vanished: they are registered, and no trigger calls with their token.
fn vanished(cx: &Context, name: &str) -> Result<Vec<TableId>> {
    let sql = "SELECT id FROM main.ana_registry WHERE name = ?1";
    let rows = cx.db.query_rows(sql, &[ValueRef::Text(name.as_bytes())])?;
    let ids = rows.iter().map(|row| TableId(u32::try_from(integer(&row[0])).unwrap_or(0)));
    Ok(ids.filter(|id| cx.registry.borrow().by_id(*id).is_none()).collect())
}

/// The present name of a table that was registered under `name` and renamed.
fn registered_as(cx: &Context, name: &str) -> Result<Option<String>> {
    let sql = "SELECT id FROM main.ana_registry WHERE name = ?1";
    let rows = cx.db.query_rows(sql, &[ValueRef::Text(name.as_bytes())])?;
    let ids = rows.iter().map(|row| TableId(u32::try_from(integer(&row[0])).unwrap_or(0)));
    let mut tables = ids.filter_map(|id| cx.registry.borrow().by_id(id));
    Ok(tables.find(|table| table.name != name).map(|table| table.name.clone()))
}

/// Whether a table was registered under another name.
fn is_renamed(cx: &Context, table: &TableInfo) -> Result<bool> {
    let sql = "SELECT name FROM main.ana_registry WHERE id = ?1";
    let name = cx.db.query_value(sql, &[ValueRef::Integer(i64::from(table.id.0))])?;
    Ok(name.as_ref().map(text).is_some_and(|name| name != table.name))
}

/// Runs `f` so that all of it stands or none; the user's last insert rowid stays.
fn atomically(cx: &Context, f: impl FnOnce() -> Result<()>) -> Result<()> {
    let rowid = cx.db.last_insert_rowid();
    let result = atomic::atomically(&cx.db, Bracket::Savepoint, || {
        transaction::enrol(cx)?;
        // What is buffered may be of a table whose metadata goes.
        transaction::flush(cx)?;
        f()?;
        cx.capture.forget();
        Ok(())
    });
    cx.db.set_last_insert_rowid(rowid);
    result
}

/// Registers a table; `renamed`: as it was known under another name, which keeps what is
/// known of it: a rename is a drop and an add.
fn create(cx: &Context, shape: &TableShape, renamed: Option<&TableInfo>) -> Result<()> {
    let past = past::find(cx, shape, renamed)?;
    if let Some(table) = renamed {
        drop_triggers(cx, table)?;
    }
    let id = next_table_id(cx)?;
    let token = fresh_token()?;
    let max_args = max_args(cx);
    let key_columns: Vec<_> = shape.key.iter().map(|part| part.column).collect();
    cx.db.execute(
        "INSERT INTO main.ana_registry(id, name, token, args, revision, keys)
         VALUES (?1, ?2, ?3, ?4, 0, ?5)",
        &[
            ValueRef::Integer(i64::from(id.0)),
            ValueRef::Text(shape.name.as_bytes()),
            ValueRef::Integer(token),
            ValueRef::Integer(max_args as i64),
            ValueRef::Blob(&key_code::encode(&key_columns)),
        ],
    )?;
    columns::number(cx, id, shape)?;
    make_triggers(cx, shape, token, max_args)?;
    let table = reread(cx, &shape.name)?;
    match past {
        None => backfill::all_rows(cx, &table)?,
        Some(past) => {
            past.carry(cx, &table, shape)?;
            transaction::flush(cx)?;
            reconcile::unknown_rows(cx, &table, &Mask::new())?;
            if !past.is_renamed {
                drop_table(cx, past.table)?;
            }
        }
    }
    Ok(())
}

fn mend(cx: &Context, table: &TableInfo, shape: &TableShape) -> Result<()> {
    let max_args = max_args(cx);
    let dropped = drop_triggers(cx, table)?;
    let numbered = columns::number(cx, table.id, shape)?;
    cx.db.execute(
        "UPDATE main.ana_registry SET args = ?2, revision = revision + 1 WHERE id = ?1",
        &[ValueRef::Integer(i64::from(table.id.0)), ValueRef::Integer(max_args as i64)],
    )?;
    make_triggers(cx, shape, table.token, max_args)?;
    let may_be_skipped =
        cx.registry.borrow().may_be_skipped(table) || cx.unmatched.borrow().contains(&table.id);
    let table = reread(cx, &shape.name)?;
    let is_missing = |kind: &str| !dropped.iter().any(|trigger| trigger.name.ends_with(kind));
    let are_updates_untold = is_missing("utrig");
    let mut untold = if are_updates_untold { table.mask.clone() } else { Mask::new() };
    numbered.fresh.iter().for_each(|column| untold.remove(*column));
    numbered.returned.iter().for_each(|column| untold.insert(*column));
    let are_rows_untold = are_updates_untold || is_missing("itrig") || is_missing("dtrig");
    if are_rows_untold || may_be_skipped || !untold.is_empty() {
        reconcile::rows(cx, &table, &untold)?;
    }
    backfill::fresh_columns(cx, &table, shape, &numbered.fresh)
}

/// [`outrun_again`] before a reading, as far as it can be done: a trigger of somebody's may
/// have skipped ours in every write since it was made.
pub(crate) fn outrun_before_reading(cx: &Context) {
    let may_be_skipped = cx.registry.borrow().outrun().iter().any(|t| t.may_be_missed);
    if may_be_skipped && cx.db.is_autocommit() && !cx.db.is_writing() {
        // In a file that cannot be written now it waits: `ana_check` names the trigger.
        let _ = atomically(cx, || outrun_again(cx));
    }
}

/// Makes the triggers of tables again whose writes triggers of somebody's may see first, so
/// that ours are the newest. Called when a transaction that wrote commits: no statement of
/// the user's runs any more that was compiled with the old order.
pub(crate) fn outrun_again(cx: &Context) -> Result<()> {
    let tables = cx.registry.borrow().outrun();
    for table in &tables {
        let dropped = match drop_triggers(cx, table) {
            // A host's authorizer: what is captured is looked up, as before.
            Err(StoreError::Sql(error)) if error.code & 0xff == SQLITE_AUTH => return Ok(()),
            dropped => dropped?,
        };
        for trigger in dropped {
            make_trigger(cx, &trigger.text)?;
        }
        if table.may_be_missed {
            let table = reread(cx, &table.name)?;
            reconcile::rows(cx, &table, &Mask::new())?;
        }
    }
    if !tables.is_empty() {
        cx.registry.borrow_mut().invalidate();
        cx.capture.forget();
        transaction::flush(cx)?;
    }
    Ok(())
}

/// The table as it now is.
fn reread(cx: &Context, name: &str) -> Result<Rc<TableInfo>> {
    let mut registry = cx.registry.borrow_mut();
    registry.invalidate();
    registry.refresh(&cx.db, true)?;
    registry.by_name(name).ok_or_else(|| StoreError::Damaged {
        place: format!("the triggers of table {name}"),
        what: "not found after they were made",
    })
}

fn make_triggers(cx: &Context, shape: &TableShape, token: i64, max_args: usize) -> Result<()> {
    let texts = TriggerTexts::of(shape, token, max_args);
    for kind in ["btrig", "ktrig", "itrig", "utrig", "dtrig"] {
        // The name is reserved; whatever stands there calls for no table of ours.
        let name = quote_name(&format!("{}__crsql_{kind}", shape.name));
        cx.db.execute(&format!("DROP TRIGGER IF EXISTS main.{name}"), &[])?;
    }
    texts.all().try_for_each(|text| make_trigger(cx, text))
}

fn make_trigger(cx: &Context, text: &str) -> Result<()> {
    // The name is qualified for SQLite, which stores the text without that.
    let qualified = text.replacen("CREATE TRIGGER ", "CREATE TRIGGER main.", 1);
    Ok(cx.db.execute(&qualified, &[])?)
}

/// A trigger of ours that was dropped.
struct Dropped {
    name: String,
    text: String,
}

/// Drops the triggers that call with the table's token, whatever they are called.
fn drop_triggers(cx: &Context, table: &TableInfo) -> Result<Vec<Dropped>> {
    let sql = "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' \
               AND tbl_name = ?1 COLLATE NOCASE AND name LIKE '%\\_\\_crsql\\__trig' ESCAPE '\\'";
    let rows = cx.db.query_rows(sql, &[ValueRef::Text(table.name.as_bytes())])?;
    let mut dropped = Vec::new();
    for row in rows {
        if token_of(&text(&row[1])) == Some(table.token) {
            let trigger = Dropped { name: text(&row[0]), text: text(&row[1]) };
            cx.db.execute(&format!("DROP TRIGGER main.{}", quote_name(&trigger.name)), &[])?;
            dropped.push(trigger);
        }
    }
    Ok(dropped)
}

fn drop_table(cx: &Context, table: TableId) -> Result<()> {
    cx.metadata.borrow_mut().drop_table(table)?;
    let id = ValueRef::Integer(i64::from(table.0));
    cx.db.execute("DELETE FROM main.ana_names WHERE tbl = ?1", &[id])?;
    Ok(cx.db.execute("DELETE FROM main.ana_registry WHERE id = ?1", &[id])?)
}

/// The next id, which no table ever had.
fn next_table_id(cx: &Context) -> Result<TableId> {
    let last = cx.db.query_value("SELECT value FROM main.ana_meta WHERE key = 'tables'", &[])?;
    let next = last.as_ref().map_or(0, integer) + 1;
    let id = u32::try_from(next)
        .map_err(|_| StoreError::Refused("no ids are left for tables".to_string()))?;
    cx.db.execute(
        "INSERT OR REPLACE INTO main.ana_meta VALUES ('tables', ?1)",
        &[ValueRef::Integer(next)],
    )?;
    Ok(TableId(id))
}

/// Random and positive, so that its text is digits only.
fn fresh_token() -> Result<i64> {
    let random = crate::random::number()
        .map_err(|error| StoreError::Refused(format!("no random numbers: {error}")))?;
    Ok((random >> 2) as i64)
}

fn max_args(cx: &Context) -> usize {
    let limit = usize::try_from(cx.db.limit(LIMIT_FUNCTION_ARG)).unwrap_or(0);
    limit.clamp(MIN_ARGS, MAX_ARGS)
}

/// An argument that must be the name of a table.
pub(crate) fn name_argument(value: ValueRef<'_>, function: &str) -> Result<String> {
    let refused = |what: &str| StoreError::Refused(format!("{function}: the table name {what}"));
    match Value::from(value) {
        Value::Text(bytes) if bytes.is_empty() => Err(refused("must not be empty")),
        Value::Text(bytes) => {
            String::from_utf8(bytes).map_err(|_| refused("must be a text in UTF-8"))
        }
        Value::Null => Err(refused("must not be NULL")),
        _ => Err(refused("must be a text")),
    }
}
