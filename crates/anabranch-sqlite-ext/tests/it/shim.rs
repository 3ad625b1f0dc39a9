//! The entry point called by hand, with tables of functions that no real host has: too old,
//! and a second one. The host is the SQLite inside this test.
#![cfg(unix)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libsqlite3_sys as ffi;

use crate::library;

type Entry = unsafe extern "C" fn(*mut ffi::sqlite3, *mut *mut c_char, *const c_void) -> c_int;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}
const RTLD_NOW: c_int = 2;

fn entry() -> Entry {
    let path = CString::new(library::path().display().to_string()).unwrap();
    // SAFETY: terminated texts; the library's initialisers are Rust's own.
    let found =
        unsafe { dlsym(dlopen(path.as_ptr(), RTLD_NOW), c"sqlite3_anabranch_init".as_ptr()) };
    assert!(!found.is_null());
    // SAFETY: the entry point has this type, and the library stays loaded.
    unsafe { std::mem::transmute::<*mut c_void, Entry>(found) }
}

static TABLE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// An extension that only remembers the table it is handed.
unsafe extern "C" fn spy(
    _: *mut ffi::sqlite3,
    _: *mut *mut c_char,
    table: *const ffi::sqlite3_api_routines,
) -> c_int {
    TABLE.store(table.cast_mut().cast(), Ordering::Relaxed);
    ffi::SQLITE_OK
}

/// A connection, and the table of functions of its SQLite.
fn open() -> (*mut ffi::sqlite3, *const c_void) {
    let mut raw = ptr::null_mut();
    // SAFETY: an extension's entry point; a terminated name and a place for the answer.
    unsafe {
        ffi::sqlite3_auto_extension(Some(spy));
        assert_eq!(ffi::sqlite3_open(c":memory:".as_ptr(), &mut raw), ffi::SQLITE_OK);
        ffi::sqlite3_reset_auto_extension();
    }
    (raw, TABLE.load(Ordering::Relaxed))
}

/// Calls the entry point; its answer and message.
fn load(raw: *mut ffi::sqlite3, table: *const c_void) -> (c_int, String) {
    let mut message = ptr::null_mut();
    // SAFETY: an open connection and a table with its functions.
    let rc = unsafe { entry()(raw, &mut message, table) };
    if message.is_null() {
        return (rc, String::new());
    }
    // SAFETY: a terminated text of SQLite's memory, freed once.
    let text = unsafe { CStr::from_ptr(message) }.to_str().unwrap().to_string();
    // SAFETY: as above.
    unsafe { ffi::sqlite3_free(message.cast()) };
    (rc, text)
}

unsafe extern "C" fn version_3_39_4() -> c_int {
    3_039_004
}

/// Members of the table that SQLite 3.40 has: all that may be copied, and more than is used.
const N_MEMBERS: usize = 250;

#[test]
fn tables_of_functions() {
    let (raw, table) = open();
    // SAFETY: the table is a struct of at least so many pointers.
    let mut copy = unsafe { std::slice::from_raw_parts(table.cast::<usize>(), N_MEMBERS) }.to_vec();
    let member = copy
        .iter()
        .position(|member| *member == ffi::sqlite3_libversion_number as *const () as usize)
        .unwrap();
    let genuine = copy[member];

    copy[member] = version_3_39_4 as *const () as usize;
    let (rc, text) = load(raw, copy.as_ptr().cast());
    assert_eq!(rc, ffi::SQLITE_ERROR);
    assert!(text.starts_with("anabranch needs SQLite 3.40.0 or newer, and this is"), "{text}");

    assert_eq!(load(raw, ptr::null()), (ffi::SQLITE_MISUSE, String::new()));
    assert_eq!(load(raw, table), (ffi::SQLITE_OK, String::new()));
    assert_eq!(load(raw, table), (ffi::SQLITE_OK, String::new()));

    copy[member] = genuine;
    let (rc, text) = load(raw, copy.as_ptr().cast());
    assert_eq!(rc, ffi::SQLITE_ERROR);
    assert!(text.starts_with("anabranch is in use by another SQLite of this process"), "{text}");
    // SAFETY: opened above, closed once; every statement of the extension is finalized.
    assert_eq!(unsafe { ffi::sqlite3_close(raw) }, ffi::SQLITE_OK);
}
