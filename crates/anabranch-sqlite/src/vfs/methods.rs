//! The simulated disk as SQLite's `sqlite3_vfs`.
//!
//! Invariant: as for the open files in `io_methods.rs`.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use libsqlite3_sys as ffi;

use super::disk::{Disk, Verdict};
use super::io_methods::{Handle, IO_METHODS, Opened};
use super::lock;
use crate::db::misuse;
use crate::error::{Result, SqlError};

pub(super) type State = Arc<Mutex<Disk>>;

/// Longest file name, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// The time on this disk, as a Julian day in milliseconds: 2024-01-01 00:00.
const NOW_MS: i64 = 212_570_827_200_000;

/// Registers a disk under a fresh name.
pub(super) fn register(state: State) -> Result<String> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    // The address tells two copies of this library in one process apart.
    let address = (&raw const COUNTER).addr();
    let name = format!("sim-disk-{address:x}-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    let c_name = CString::new(name.as_str()).map_err(|_| misuse("a NUL in a name"))?;
    // SQLite keeps what it is given until the process ends.
    let state: &'static State = Box::leak(Box::new(state));
    let vfs = Box::leak(Box::new(ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<Handle>() as c_int,
        mxPathname: MAX_NAME_BYTES as c_int,
        pNext: ptr::null_mut(),
        zName: c_name.into_raw(),
        pAppData: ptr::from_ref(state).cast_mut().cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_path_name),
        xDlOpen: Some(dl_open),
        xDlError: Some(dl_error),
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: a complete VFS that lives for ever.
    match unsafe { ffi::sqlite3_vfs_register(vfs, 0) } {
        ffi::SQLITE_OK => Ok(name),
        code => Err(SqlError { code, message: "SQLite takes no VFS".into() }),
    }
}

/// See [`super::count_no_memory`].
pub(super) fn count_no_memory() {
    // SAFETY: the option takes an int; SQLite refuses it once it is initialised, and nothing
    // of ours depends on which of the two it is.
    let _ = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0 as c_int) };
}

/// Runs a callback's work; a panic is an I/O error.
pub(super) fn caught(f: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or(ffi::SQLITE_IOERR)
}
/// Runs `f` on the disk of a VFS.
///
/// # Safety
/// `vfs` is one that `register` made. SQLite calls the functions below with nothing else.
unsafe fn on_disk(vfs: *mut ffi::sqlite3_vfs, f: impl FnOnce(&mut Disk) -> c_int) -> c_int {
    // SAFETY: the state was leaked by `register`.
    let state = unsafe { &*(*vfs).pAppData.cast_const().cast::<State>() };
    caught(|| f(&mut lock(state)))
}
/// A file's name; `None` for null.
///
/// # Safety
/// `name` is null or a terminated text that lives for `'a`.
unsafe fn name_of<'a>(name: *const c_char) -> Option<std::borrow::Cow<'a, str>> {
    // SAFETY: the caller's promise.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy())
}
/// A length or offset of SQLite's.
pub(super) fn count_of(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}
unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: SQLite's memory of `szOsFile` bytes; without methods SQLite does not close it.
    unsafe { (*handle).base.pMethods = ptr::null() };
    // SAFETY: SQLite's terminated name, or null.
    let name = unsafe { name_of(name) };
    // SAFETY: leaked by `register`.
    let state = unsafe { &*(*vfs).pAppData.cast_const().cast::<State>() };
    caught(|| {
        let mut disk = lock(state);
        let generation = disk.generation();
        if !disk.serves(generation) {
            return ffi::SQLITE_IOERR;
        }
        let Some(file) = disk.open(name.as_deref(), flags & ffi::SQLITE_OPEN_CREATE != 0) else {
            return ffi::SQLITE_CANTOPEN;
        };
        let is_doomed = flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0;
        let doomed = name.filter(|_| is_doomed).map(|name| name.into_owned());
        let id = disk.new_handle();
        let opened = Opened { state: state.clone(), file, id, generation, doomed };
        // SAFETY: SQLite's memory, as above; a place for the flags, or null.
        unsafe {
            (*handle).opened = Box::into_raw(Box::new(opened));
            (*handle).base.pMethods = &IO_METHODS;
            if !out_flags.is_null() {
                *out_flags = flags;
            }
        }
        ffi::SQLITE_OK
    })
}
unsafe extern "C" fn delete(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_folder: c_int,
) -> c_int {
    // SAFETY: a terminated name.
    let name = unsafe { name_of(name) }.unwrap_or_default();
    // SAFETY: a VFS of ours.
    unsafe {
        on_disk(vfs, |disk| {
            if !disk.serves(disk.generation()) {
                return ffi::SQLITE_IOERR_DELETE;
            }
            if disk.len_of(&name).is_none() {
                return ffi::SQLITE_IOERR_DELETE_NOENT;
            }
            match disk.admit() {
                Verdict::Fail(_) => ffi::SQLITE_IOERR_DELETE,
                Verdict::Go => {
                    disk.delete(&name, sync_folder != 0);
                    ffi::SQLITE_OK
                }
            }
        })
    }
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: a terminated name.
    let name = unsafe { name_of(name) }.unwrap_or_default();
    // SAFETY: a VFS of ours, and where SQLite wants the answer.
    unsafe {
        *out = 0;
        on_disk(vfs, |disk| {
            if !disk.serves(disk.generation()) {
                return ffi::SQLITE_IOERR;
            }
            // As on unix, an empty file is no journal.
            let len = disk.len_of(&name);
            let is_there = match flags {
                ffi::SQLITE_ACCESS_EXISTS => len.is_some_and(|len| len > 0),
                _ => len.is_some(),
            };
            *out = c_int::from(is_there);
            ffi::SQLITE_OK
        })
    }
}

unsafe extern "C" fn full_path_name(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    n_out: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: a terminated name; a buffer of `n_out` bytes.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > count_of(n_out.into()) {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    ffi::SQLITE_OK
}

/// This disk holds no libraries.
unsafe extern "C" fn dl_open(_: *mut ffi::sqlite3_vfs, _: *const c_char) -> *mut c_void {
    ptr::null_mut()
}

unsafe extern "C" fn dl_error(_: *mut ffi::sqlite3_vfs, n: c_int, out: *mut c_char) {
    if n > 0 {
        // SAFETY: a buffer of `n` bytes.
        unsafe { *out = 0 };
    }
}

unsafe extern "C" fn randomness(vfs: *mut ffi::sqlite3_vfs, n: c_int, out: *mut c_char) -> c_int {
    // SAFETY: a VFS of ours; a buffer of `n` bytes.
    unsafe {
        on_disk(vfs, |disk| {
            for index in 0..count_of(n.into()) {
                *out.add(index) = disk.random.below(256) as u8 as c_char;
            }
            n
        })
    }
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    microseconds
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, days: *mut f64) -> c_int {
    // SAFETY: where SQLite wants the time.
    unsafe { *days = NOW_MS as f64 / 86_400_000.0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_time_int64(
    _: *mut ffi::sqlite3_vfs,
    ms: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: where SQLite wants the time.
    unsafe { *ms = NOW_MS };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_: *mut ffi::sqlite3_vfs, _: c_int, _: *mut c_char) -> c_int {
    0
}
