//! What both kinds of virtual table share: the C structs SQLite holds, with our object
//! behind them, and the way from an error to SQLite.
//!
//! Invariant: a [`Connected`] is alive from xConnect to xDisconnect, and its [`Object`] from
//! the registration until SQLite destroys the module, which it does after the last
//! xDisconnect (the module is counted by its tables).

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use libsqlite3_sys as ffi;

use crate::db::{Db, misuse};
use crate::error::{Result, SqlError};
use crate::poison::Poison;
use crate::raw_value::{failure, sqlite_string};

/// A registered table: SQLite owns it and hands it to xConnect.
pub(super) struct Object<T> {
    pub(super) table: T,
    pub(super) poison: Poison,
    pub(super) db: Db,
    /// `CREATE TABLE x(...)`.
    declaration: CString,
    is_innocuous: bool,
    /// Told at each xDisconnect.
    on_disconnect: Option<fn(&Db)>,
}

/// What SQLite knows as `sqlite3_vtab`; `repr(C)` so that a pointer to the one is a pointer
/// to the other.
#[repr(C)]
pub(super) struct Connected<T> {
    base: ffi::sqlite3_vtab,
    object: *const Object<T>,
}

impl<T> Object<T> {
    pub(super) fn new(db: &Db, name: &str, table: T, declaration: &str) -> Result<Object<T>> {
        let declaration =
            CString::new(declaration).map_err(|_| misuse("a declaration holds a NUL"))?;
        Ok(Object {
            table,
            poison: Poison::new(name),
            db: db.clone(),
            declaration,
            is_innocuous: false,
            on_disconnect: None,
        })
    }

    pub(super) fn innocuous(mut self, is_innocuous: bool) -> Self {
        self.is_innocuous = is_innocuous;
        self
    }

    pub(super) fn on_disconnect(mut self, f: Option<fn(&Db)>) -> Self {
        self.on_disconnect = f;
        self
    }

    /// Hands the object to SQLite under `name`.
    pub(super) fn register(self, name: &str, module: &'static ffi::sqlite3_module) -> Result<()> {
        let db = self.db.clone();
        let raw = db.live()?;
        let name = CString::new(name).map_err(|_| misuse("a table's name holds a NUL"))?;
        let object = Box::into_raw(Box::new(self)).cast();
        // SAFETY: an open connection and a static module whose functions expect an
        // `Object<T>`; SQLite calls the destructor also when it refuses.
        let rc = unsafe {
            ffi::sqlite3_create_module_v2(raw, name.as_ptr(), module, object, Some(destroy::<T>))
        };
        if rc == ffi::SQLITE_OK { Ok(()) } else { Err(db.error(rc)) }
    }
}

/// # Safety
/// SQLite calls it once, with the box that was registered.
unsafe extern "C" fn destroy<T>(object: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `register`, and given back once.
    let object = unsafe { Box::from_raw(object.cast::<Object<T>>()) };
    let db = object.db.clone();
    db.in_destructor(|| drop(object));
}

/// xConnect.
///
/// # Safety
/// SQLite calls it for a module that was registered with an `Object<T>`.
pub(super) unsafe extern "C" fn connect<T>(
    raw: *mut ffi::sqlite3,
    object: *mut c_void,
    _argc: c_int,
    _argv: *const *const c_char,
    table: *mut *mut ffi::sqlite3_vtab,
    message: *mut *mut c_char,
) -> c_int {
    let object: *const Object<T> = object.cast_const().cast();
    // SAFETY: the module's client data is the object, alive as long as the module.
    let declared = unsafe { declare(raw, &*object) };
    if let Err(error) = declared {
        // SAFETY: where SQLite wants the text, which it frees.
        unsafe { *message = sqlite_string(&error.message) };
        return failure(error.code);
    }
    let base = ffi::sqlite3_vtab { pModule: ptr::null(), nRef: 0, zErrMsg: ptr::null_mut() };
    let connected = Box::into_raw(Box::new(Connected { base, object }));
    // SAFETY: where SQLite wants the table; the base is the first field.
    unsafe { *table = connected.cast() };
    ffi::SQLITE_OK
}

/// # Safety
/// Called inside xConnect, with its connection.
unsafe fn declare<T>(raw: *mut ffi::sqlite3, object: &Object<T>) -> Result<()> {
    // SAFETY: the caller's promise; a terminated text.
    let rc = unsafe { ffi::sqlite3_declare_vtab(raw, object.declaration.as_ptr()) };
    if rc != ffi::SQLITE_OK {
        return Err(object.db.error(rc));
    }
    if object.is_innocuous {
        // SAFETY: the caller's promise; this operation takes no further argument.
        let rc = unsafe { ffi::sqlite3_vtab_config(raw, ffi::SQLITE_VTAB_INNOCUOUS) };
        if rc != ffi::SQLITE_OK {
            return Err(object.db.error(rc));
        }
    }
    Ok(())
}

/// xDisconnect.
///
/// # Safety
/// SQLite calls it once, with what `connect` made.
pub(super) unsafe extern "C" fn disconnect<T>(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: made by `Box::into_raw` in `connect`, and given back once.
    let connected = unsafe { Box::from_raw(table.cast::<Connected<T>>()) };
    // SAFETY: the module outlives its tables.
    let object = unsafe { &*connected.object };
    if let Some(f) = object.on_disconnect {
        f(&object.db);
    }
    ffi::SQLITE_OK
}

/// Runs `f` on the object behind a table; an error becomes the table's message.
///
/// # Safety
/// `table` is a connected table of a module that was registered with an `Object<T>`.
#[inline]
pub(super) unsafe fn enter<T>(
    table: *mut ffi::sqlite3_vtab,
    f: impl FnOnce(&Object<T>) -> Result<()>,
) -> c_int {
    // SAFETY: made by `connect`, alive until `disconnect`; the object outlives it. Only
    // shared borrows are made: SQL run inside may come back to the same table.
    let object = unsafe { &*(*table.cast::<Connected<T>>()).object };
    match object.poison.guard(|| f(object)) {
        Ok(()) => ffi::SQLITE_OK,
        // SAFETY: a connected table.
        Err(error) => unsafe { fail(table, &error) },
    }
}

/// Leaves the error's message with the table, from where SQLite takes and frees it.
///
/// # Safety
/// `table` is a connected table.
#[cold]
unsafe fn fail(table: *mut ffi::sqlite3_vtab, error: &SqlError) -> c_int {
    // SAFETY: the caller's promise; SQLite's convention is that the text is SQLite's memory,
    // and that whoever replaces it frees it.
    unsafe {
        ffi::sqlite3_free((*table).zErrMsg.cast());
        (*table).zErrMsg = sqlite_string(&error.message);
    }
    failure(error.code)
}

/// A copy for SQLite, or SQLITE_NOMEM.
pub(super) fn try_sqlite_string(text: &str) -> Result<*mut c_char> {
    let copy = sqlite_string(text);
    if copy.is_null() { Err(SqlError::out_of_memory()) } else { Ok(copy) }
}
