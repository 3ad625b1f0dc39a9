//! The hidden table that follows transactions: a module whose only purpose is that SQLite
//! calls its xBegin, xSync, xCommit, xRollback and the three savepoint methods.
//!
//! What SQLite calls when is not all in its documentation; `tests/it/fate.rs` holds each
//! fact that [`TransactionFate`] relies on, for the SQLite that runs.

use std::ffi::{c_char, c_int};
use std::ptr;

use libsqlite3_sys as ffi;

use super::TransactionFate;
use super::object::{Object, connect, disconnect, enter};
use crate::db::Db;
use crate::error::{Result, SqlError};

/// Registers the table.
pub(super) fn create<T: TransactionFate>(db: &Db, name: &str, fate: T) -> Result<()> {
    Object::new(db, name, fate, "CREATE TABLE x(command)")?
        .innocuous(true)
        .register(name, Callbacks::<T>::MODULE)
}

struct Callbacks<T>(std::marker::PhantomData<T>);

impl<T: TransactionFate> Callbacks<T> {
    const MODULE: &'static ffi::sqlite3_module = &ffi::sqlite3_module {
        // 2: the first with savepoints.
        iVersion: 2,
        xCreate: None,
        xConnect: Some(connect::<T>),
        xBestIndex: Some(best_index),
        xDisconnect: Some(disconnect::<T>),
        xDestroy: None,
        xOpen: Some(open),
        xClose: Some(close),
        xFilter: Some(filter),
        xNext: Some(next),
        xEof: Some(eof),
        xColumn: Some(column),
        xRowid: Some(rowid),
        xUpdate: Some(update::<T>),
        xBegin: Some(begin::<T>),
        xSync: Some(sync::<T>),
        xCommit: Some(commit::<T>),
        xRollback: Some(rollback::<T>),
        xFindFunction: None,
        xRename: None,
        xSavepoint: Some(savepoint::<T>),
        xRelease: Some(release::<T>),
        xRollbackTo: Some(rollback_to::<T>),
        xShadowName: None,
        xIntegrity: None,
    };
}

/// # Safety
/// SQLite calls it, and everything below, with a connected `T`.
unsafe extern "C" fn begin<T: TransactionFate>(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: a connected `T`.
    unsafe { enter::<T>(table, |object| object.table.begin()) }
}

unsafe extern "C" fn sync<T: TransactionFate>(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: a connected `T`.
    unsafe { enter::<T>(table, |object| object.table.sync()) }
}

/// Runs what cannot fail.
///
/// # Safety
/// A connected `T`.
unsafe fn tell<T: TransactionFate>(table: *mut ffi::sqlite3_vtab, f: impl FnOnce(&T)) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        enter::<T>(table, |object| {
            f(&object.table);
            Ok(())
        })
    }
}

unsafe extern "C" fn commit<T: TransactionFate>(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: a connected `T`.
    unsafe { tell::<T>(table, |fate| fate.commit()) }
}

unsafe extern "C" fn rollback<T: TransactionFate>(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: a connected `T`.
    unsafe { tell::<T>(table, |fate| fate.rollback()) }
}

unsafe extern "C" fn savepoint<T: TransactionFate>(
    table: *mut ffi::sqlite3_vtab,
    level: c_int,
) -> c_int {
    // SAFETY: a connected `T`.
    unsafe { tell::<T>(table, |fate| fate.savepoint(level)) }
}

unsafe extern "C" fn release<T: TransactionFate>(
    table: *mut ffi::sqlite3_vtab,
    level: c_int,
) -> c_int {
    // SAFETY: a connected `T`.
    unsafe { tell::<T>(table, |fate| fate.release(level)) }
}

unsafe extern "C" fn rollback_to<T: TransactionFate>(
    table: *mut ffi::sqlite3_vtab,
    level: c_int,
) -> c_int {
    // SAFETY: a connected `T`.
    unsafe { tell::<T>(table, |fate| fate.rollback_to(level)) }
}

/// INSERT enrols. SQLite has called xBegin by then.
unsafe extern "C" fn update<T: TransactionFate>(
    table: *mut ffi::sqlite3_vtab,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
    rowid: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: a connected `T`; SQLite's arguments, the first of which is NULL for INSERT;
    // where SQLite wants the new rowid.
    unsafe {
        enter::<T>(table, |object| {
            if argc < 2 || ffi::sqlite3_value_type(*argv) != ffi::SQLITE_NULL {
                return Err(SqlError::new("only INSERT"));
            }
            *rowid = 0;
            object.table.enrol()
        })
    }
}

unsafe extern "C" fn best_index(
    _: *mut ffi::sqlite3_vtab,
    _: *mut ffi::sqlite3_index_info,
) -> c_int {
    ffi::SQLITE_OK
}

/// The table is empty, so a cursor is only what SQLite needs it to be.
unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vtab,
    cursor: *mut *mut ffi::sqlite3_vtab_cursor,
) -> c_int {
    let base = Box::new(ffi::sqlite3_vtab_cursor { pVtab: ptr::null_mut() });
    // SAFETY: where SQLite wants the cursor.
    unsafe { *cursor = Box::into_raw(base) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: made by `open`, given back once.
    drop(unsafe { Box::from_raw(cursor) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn filter(
    _: *mut ffi::sqlite3_vtab_cursor,
    _: c_int,
    _: *const c_char,
    _: c_int,
    _: *mut *mut ffi::sqlite3_value,
) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn next(_: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn eof(_: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    1
}

unsafe extern "C" fn column(
    _: *mut ffi::sqlite3_vtab_cursor,
    _: *mut ffi::sqlite3_context,
    _: c_int,
) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn rowid(
    _: *mut ffi::sqlite3_vtab_cursor,
    rowid: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: where SQLite wants the rowid.
    unsafe { *rowid = 0 };
    ffi::SQLITE_OK
}
