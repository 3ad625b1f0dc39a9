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
        Some(table) => {
            atomically(cx, || mend(cx, &table, &shape))?;
            cx.unmatched.borrow_mut().remove(&table.id);
            Ok(())
        }
        None => atomically(cx, || create(cx, &shape)),
    }
}

/// Makes a conflict-free table a plain one; nothing if it is one.
///
/// # Errors
/// SQLite's.
pub(crate) fn as_table(cx: &Context, name: &str) -> Result<()> {
    cx.refresh()?;
    let declared = refuse::declared_name(cx, name)?;
    let table = declared.and_then(|name| cx.registry.borrow().by_name(&name));
    let Some(table) = table else { return Ok(()) };
    atomically(cx, || {
        drop_triggers(cx, &table)?;
        cx.registry.borrow_mut().invalidate();
        drop_table(cx, table.id)
    })
}

/// Drops the metadata of tables that are gone. Writes.
pub(crate) fn drop_orphans(cx: &Context) -> Result<()> {
    let orphans = cx.registry.borrow().orphans().to_vec();
    for table in orphans {
        drop_table(cx, table)?;
    }
    cx.registry.borrow_mut().forget_orphans();
    Ok(())
}

/// Runs `f` so that all of it stands or none; the user's last insert rowid stays.
fn atomically(cx: &Context, f: impl FnOnce() -> Result<()>) -> Result<()> {
    let rowid = cx.db.last_insert_rowid();
    let result = atomic::atomically(&cx.db, Bracket::Savepoint, || {
        transaction::enrol(cx)?;
        // What is buffered may be of a table whose metadata goes.
        transaction::flush(cx)?;
        drop_orphans(cx)?;
        f()?;
        cx.capture.forget();
        Ok(())
    });
    cx.db.set_last_insert_rowid(rowid);
    result
}

fn create(cx: &Context, shape: &TableShape) -> Result<()> {
    let id = next_table_id(cx)?;
    let token = fresh_token()?;
    let max_args = max_args(cx);
    cx.db.execute(
        "INSERT INTO main.ana_registry(id, name, token, args, revision) VALUES (?1, ?2, ?3, ?4, 0)",
        &[
            ValueRef::Integer(i64::from(id.0)),
            ValueRef::Text(shape.name.as_bytes()),
            ValueRef::Integer(token),
            ValueRef::Integer(max_args as i64),
        ],
    )?;
    columns::number(cx, id, shape)?;
    make_triggers(cx, shape, token, max_args)?;
    let table = reread(cx, &shape.name)?;
    backfill::all_rows(cx, &table)
}

fn mend(cx: &Context, table: &TableInfo, shape: &TableShape) -> Result<()> {
    let max_args = max_args(cx);
    let dropped = drop_triggers(cx, table)?;
    let fresh = columns::number(cx, table.id, shape)?;
    cx.db.execute(
        "UPDATE main.ana_registry SET name = ?2, args = ?3, revision = revision + 1 WHERE id = ?1",
        &[
            ValueRef::Integer(i64::from(table.id.0)),
            ValueRef::Text(shape.name.as_bytes()),
            ValueRef::Integer(max_args as i64),
        ],
    )?;
    make_triggers(cx, shape, table.token, max_args)?;
    let may_be_skipped =
        cx.registry.borrow().may_be_skipped(table) || cx.unmatched.borrow().contains(&table.id);
    let table = reread(cx, &shape.name)?;
    let is_missing = |kind: &str| !dropped.iter().any(|trigger| trigger.name.ends_with(kind));
    let are_updates_untold = is_missing("utrig");
    if are_updates_untold || is_missing("itrig") || is_missing("dtrig") || may_be_skipped {
        let mut untold = if are_updates_untold { table.mask.clone() } else { Mask::new() };
        fresh.iter().for_each(|column| untold.remove(*column));
        reconcile::rows(cx, &table, &untold)?;
    }
    backfill::fresh_columns(cx, &table, shape, &fresh)
}

/// [`outrun_again`] before a reading, as far as it can be done: a trigger of somebody's may
/// have skipped ours in every write since it was made.
pub(crate) fn outrun_before_reading(cx: &Context) {
    let may_be_skipped = cx.registry.borrow().outrun().iter().any(|t| t.outrun_by.is_some());
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
        if table.outrun_by.is_some() {
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
    for kind in ["btrig", "itrig", "utrig", "dtrig"] {
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
    let random = getrandom::u64()
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
