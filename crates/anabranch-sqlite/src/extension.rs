//! What an entry point of a loadable extension does, apart from finding the host.
//!
//! Invariant: a connection is taught at most once by one copy of this library, and never by
//! two copies.

use std::ffi::{c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anabranch_core::value::Value;
use libsqlite3_sys as ffi;

use crate::db::Db;
use crate::error::{Result, SqlError};
use crate::function::Flags;
use crate::poison::Poison;
use crate::raw_value::{failure, sqlite_string};

/// The function by which a loaded connection is known; it answers which copy was loaded.
const MARKER: &str = "ana_loaded";

/// Teaches a connection with `install`, once; the answer of an entry point.
///
/// After an error, `message` has a text in SQLite's memory, and what was registered before
/// the error stays, so the library must not be unloaded.
///
/// # Safety
/// `raw` is an open connection whose calls come from one thread at a time, or under SQLite's
/// lock of the connection; `message` takes a pointer.
pub unsafe fn load(
    raw: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    install: impl FnOnce(&Db) -> Result<()>,
) -> c_int {
    // SAFETY: the caller's promise. All clones of the handle live in functions and tables of
    // this connection, except during this call.
    let attempt = || unsafe { try_load(raw, install) };
    let loaded = Poison::new("anabranch").guard(attempt);
    let Err(error) = loaded else { return ffi::SQLITE_OK };
    // A second catch, because writing the text must not unwind into C either.
    let text = catch_unwind(AssertUnwindSafe(|| sqlite_string(&error.message)));
    // SAFETY: the caller's promise.
    unsafe { *message = text.unwrap_or(std::ptr::null_mut()) };
    failure(error.code)
}

/// # Safety
/// As for [`load`].
unsafe fn try_load(raw: *mut ffi::sqlite3, install: impl FnOnce(&Db) -> Result<()>) -> Result<()> {
    // SAFETY: the caller's promise; this handle goes before the call ends.
    let db = unsafe { Db::from_raw(raw) };
    if let Some(loaded) = loaded_copy(&db)? {
        return match loaded == this_copy() {
            true => Ok(()),
            false => {
                Err(SqlError::new("another copy of anabranch is already loaded on this connection"))
            }
        };
    }
    // SAFETY: the caller's promise.
    let db = unsafe { Db::attach(raw)? };
    install(&db)?;
    let flags = Flags { innocuous: true, ..Flags::default() };
    db.create_function(MARKER, 0, flags, |_| Ok(Value::Integer(this_copy())))
}

/// Tells this copy of the library from others in the process.
fn this_copy() -> i64 {
    static HERE: u8 = 0;
    (&raw const HERE).addr() as i64
}

/// Which copy this connection knows.
fn loaded_copy(db: &Db) -> Result<Option<i64>> {
    if !db.has_function(MARKER)? {
        return Ok(None);
    }
    match db.query_value(&format!("SELECT {MARKER}()"), &[])? {
        Some(Value::Integer(copy)) => Ok(Some(copy)),
        _ => Err(SqlError::new(format!("{MARKER}() is somebody else's function"))),
    }
}
