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
use crate::registry::TableInfo;
use crate::shape::{TableShape, integer, text};
use crate::transaction;
use crate::triggers::{MAX_ARGS, MIN_ARGS, TriggerTexts, token_of};

mod backfill;
mod columns;
mod refuse;

/// `SQLITE_LIMIT_FUNCTION_ARG`.
const LIMIT_FUNCTION_ARG: i32 = 6;

/// Makes a table conflict-free; mends one that was altered; nothing if there is nothing to
/// do.
///
/// # Errors
/// The refusals of cr-sqlite in its order and words, then ours.
pub(crate) fn as_crr(cx: &Context, schema: Option<&str>, name: &str) -> Result<()> {
    cx.refresh()?;
    let shape = refuse::check(cx, schema, name)?;
    let known = cx.registry.borrow().by_name(&shape.name);
    match known {
        Some(table) if !table.is_stale && table.outrun_by.is_none() => Ok(()),
        Some(table) => atomically(cx, || mend(cx, &table, &shape)),
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
    drop_triggers(cx, table)?;
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
    let table = reread(cx, &shape.name)?;
    backfill::fresh_columns(cx, &table, shape, &fresh)
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
    for text in texts.all() {
        // The name is qualified for SQLite, which stores the text without that.
        let qualified = text.replacen("CREATE TRIGGER ", "CREATE TRIGGER main.", 1);
        cx.db.execute(&qualified, &[])?;
    }
    Ok(())
}

/// Drops the triggers that call with the table's token, whatever they are called.
fn drop_triggers(cx: &Context, table: &TableInfo) -> Result<()> {
    let sql = "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' \
               AND tbl_name = ?1 COLLATE NOCASE AND name LIKE '%\\_\\_crsql\\__trig' ESCAPE '\\'";
    let rows = cx.db.query_rows(sql, &[ValueRef::Text(table.name.as_bytes())])?;
    for row in rows {
        if token_of(&text(&row[1])) == Some(table.token) {
            let name = quote_name(&text(&row[0]));
            cx.db.execute(&format!("DROP TRIGGER main.{name}"), &[])?;
        }
    }
    Ok(())
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
