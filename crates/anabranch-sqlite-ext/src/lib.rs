//! Anabranch as a loadable SQLite extension: the entry points, and nothing else.
//!
//! The code below calls SQLite as if it were compiled in; `shim.c` leads the calls to the
//! host (docs/decisions/0001-one-code-base-for-extension-and-binary.md).
//!
//! Invariant: no SQLite function is called before `anabranch_shim_init` succeeded, and no
//! panic leaves an entry point.

use std::ffi::{c_char, c_int, c_void};

use anabranch_sqlite::extension;
use libsqlite3_sys as ffi;

unsafe extern "C" {
    /// Takes the host's table of functions; see `shim.c`.
    fn anabranch_shim_init(api: *const c_void, message: *mut *mut c_char) -> c_int;
}

/// What all entry points do.
///
/// # Safety
/// The arguments are those that SQLite calls an entry point with.
unsafe fn load(raw: *mut ffi::sqlite3, message: *mut *mut c_char, api: *const c_void) -> c_int {
    if raw.is_null() || message.is_null() || api.is_null() {
        return ffi::SQLITE_MISUSE;
    }
    // SAFETY: the caller's promise; neither is null.
    let rc = unsafe { anabranch_shim_init(api, message) };
    if rc != ffi::SQLITE_OK {
        return rc;
    }
    // SAFETY: an open connection, which the host uses from one thread at a time or with
    // SQLite's own lock, under which all our code runs.
    unsafe { extension::load(raw, message, anabranch_store::install) }
}

/// Entry point under the name that SQLite derives from `libanabranch`.
///
/// # Safety
/// Only SQLite calls it, as an extension's entry point. So for the two below.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_anabranch_init(
    raw: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *const c_void,
) -> c_int {
    // SAFETY: SQLite's arguments.
    unsafe { load(raw, message, api) }
}

/// Entry point under the name that SQLite derives from cargo's `libanabranch_ext`.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_anabranchext_init(
    raw: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *const c_void,
) -> c_int {
    // SAFETY: SQLite's arguments.
    unsafe { load(raw, message, api) }
}

/// Entry point under cr-sqlite's name: applications that load it find us.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_crsqlite_init(
    raw: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *const c_void,
) -> c_int {
    // SAFETY: SQLite's arguments.
    unsafe { load(raw, message, api) }
}
