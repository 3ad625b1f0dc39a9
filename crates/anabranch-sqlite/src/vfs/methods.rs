//! The simulated disk as SQLite's `sqlite3_vfs` and `sqlite3_io_methods`.
//!
//! Invariant: each callback takes the disk's lock once and calls nobody while it holds it; a
//! panic in one (a bug here) answers SQLITE_IOERR.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::{ptr, slice};

use libsqlite3_sys as ffi;

use super::disk::{Disk, File, FileId, Verdict};
use super::locks::{HandleId, Level};
use super::{Fault, lock};
use crate::db::misuse;
use crate::error::{Result, SqlError};

type State = Arc<Mutex<Disk>>;

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

/// What SQLite knows as `sqlite3_file`, in memory of its own.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    opened: *mut Opened,
}

/// An open file.
struct Opened {
    state: State,
    file: FileId,
    id: HandleId,
    generation: u64,
    /// Deleted when it is closed.
    doomed: Option<String>,
}

static IO_METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(raise_lock),
    xUnlock: Some(lower_lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(map_memory),
    xShmLock: Some(lock_memory),
    xShmBarrier: Some(memory_barrier),
    xShmUnmap: Some(unmap_memory),
    xFetch: None,
    xUnfetch: None,
};

/// Runs a callback's work; a panic is an I/O error.
fn caught(f: impl FnOnce() -> c_int) -> c_int {
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

/// Runs `f` on the disk of an open file, unless the file is gone or the disk dead.
///
/// # Safety
/// `file` was opened by `open` and is not closed. SQLite calls the functions below with
/// nothing else.
unsafe fn on_file(
    file: *mut ffi::sqlite3_file,
    f: impl FnOnce(&mut Disk, &Opened) -> c_int,
) -> c_int {
    // SAFETY: `open` put the box there, and `close` takes it back.
    let opened = unsafe { &*(*file.cast::<Handle>()).opened };
    caught(|| {
        let mut disk = lock(&opened.state);
        if disk.serves(opened.generation) { f(&mut disk, opened) } else { ffi::SQLITE_IOERR }
    })
}

/// A file's name; `None` for null.
///
/// # Safety
/// `name` is null or a terminated text that lives for `'a`.
unsafe fn name_of<'a>(name: *const c_char) -> Option<std::borrow::Cow<'a, str>> {
    // SAFETY: the caller's promise.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy())
}

fn count_of(number: i64) -> usize {
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

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: put there by `open`, taken back once.
    let opened = unsafe { Box::from_raw((*file.cast::<Handle>()).opened) };
    caught(|| {
        let mut disk = lock(&opened.state);
        let contents = disk.file(opened.file);
        contents.locks.lower(opened.id, Level::None);
        unmap(contents, opened.id);
        disk.close(opened.file);
        if let Some(name) = opened.doomed.as_deref().filter(|_| disk.serves(opened.generation)) {
            disk.delete(name, false);
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    n: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite's buffer of `n` bytes, which may be uninitialised: zeroed first.
    let buffer = unsafe {
        ptr::write_bytes(buffer.cast::<u8>(), 0, count_of(n.into()));
        slice::from_raw_parts_mut(buffer.cast::<u8>(), count_of(n.into()))
    };
    // SAFETY: an open file.
    unsafe {
        on_file(file, |disk, opened| {
            let n_read = disk.read_at(opened.file, count_of(offset), buffer);
            if n_read == buffer.len() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
        })
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    n: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite's buffer of `n` bytes.
    let bytes = unsafe { slice::from_raw_parts(bytes.cast::<u8>(), count_of(n.into())) };
    let offset = count_of(offset);
    // SAFETY: an open file.
    unsafe {
        on_file(file, |disk, opened| match disk.admit() {
            Verdict::Go => {
                disk.write_at(opened.file, offset, bytes);
                ffi::SQLITE_OK
            }
            Verdict::Fail(Fault::Full) => ffi::SQLITE_FULL,
            Verdict::Fail(Fault::Torn) => {
                let n_written = disk.random.below(bytes.len() as u64 + 1) as usize;
                disk.write_at(opened.file, offset, &bytes[..n_written]);
                ffi::SQLITE_IOERR_WRITE
            }
            Verdict::Fail(_) => ffi::SQLITE_IOERR_WRITE,
        })
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    unsafe {
        on_file(file, |disk, opened| match disk.admit() {
            Verdict::Go => {
                disk.truncate(opened.file, count_of(size));
                ffi::SQLITE_OK
            }
            Verdict::Fail(Fault::Full) => ffi::SQLITE_FULL,
            Verdict::Fail(_) => ffi::SQLITE_IOERR_TRUNCATE,
        })
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: an open file.
    unsafe {
        on_file(file, |disk, opened| match disk.admit() {
            Verdict::Go => {
                disk.sync(opened.file);
                ffi::SQLITE_OK
            }
            Verdict::Fail(_) => ffi::SQLITE_IOERR_FSYNC,
        })
    }
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    size: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an open file, and where SQLite wants the size.
    unsafe {
        on_file(file, |disk, opened| {
            *size = disk.len(opened.file) as i64;
            ffi::SQLITE_OK
        })
    }
}

fn level_of(level: c_int) -> Level {
    match level {
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_PENDING => Level::Pending,
        ffi::SQLITE_LOCK_EXCLUSIVE => Level::Exclusive,
        _ => Level::None,
    }
}

fn ok_or_busy(is_free: bool) -> c_int {
    if is_free { ffi::SQLITE_OK } else { ffi::SQLITE_BUSY }
}

unsafe extern "C" fn raise_lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    unsafe {
        on_file(file, |disk, opened| {
            ok_or_busy(disk.file(opened.file).locks.raise(opened.id, level_of(level)))
        })
    }
}

/// Also on a dead disk: it cannot fail.
unsafe extern "C" fn lower_lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    let opened = unsafe { &*(*file.cast::<Handle>()).opened };
    caught(|| {
        lock(&opened.state).file(opened.file).locks.lower(opened.id, level_of(level));
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: an open file, and where SQLite wants the answer.
    unsafe {
        on_file(file, |disk, opened| {
            *out = c_int::from(disk.file(opened.file).locks.is_reserved());
            ffi::SQLITE_OK
        })
    }
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    super::disk::SECTOR_BYTES as c_int
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn map_memory(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    n_bytes: c_int,
    may_extend: c_int,
    address: *mut *mut c_void,
) -> c_int {
    // SAFETY: an open file, and where SQLite wants the address.
    unsafe {
        *address = ptr::null_mut();
        on_file(file, |disk, opened| {
            let memory = &mut disk.file(opened.file).memory;
            let (region, n_bytes) = (count_of(region.into()), count_of(n_bytes.into()));
            *address = memory.map(opened.id, region, n_bytes, may_extend != 0);
            ffi::SQLITE_OK
        })
    }
}

unsafe extern "C" fn lock_memory(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    n: c_int,
    flags: c_int,
) -> c_int {
    // SQLite has eight slots: one bit each.
    let slots = (((1_u32 << n) - 1) << first) as u8;
    // SAFETY: an open file.
    unsafe {
        on_file(file, |disk, opened| {
            let locks = &mut disk.file(opened.file).memory_locks;
            if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
                locks.unlock(opened.id, slots);
                return ffi::SQLITE_OK;
            }
            ok_or_busy(locks.lock(opened.id, slots, flags & ffi::SQLITE_SHM_EXCLUSIVE != 0))
        })
    }
}

unsafe extern "C" fn memory_barrier(_: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(Ordering::SeqCst);
}

/// Also on a dead disk: it cannot fail.
unsafe extern "C" fn unmap_memory(file: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: an open file.
    let opened = unsafe { &*(*file.cast::<Handle>()).opened };
    caught(|| {
        unmap(lock(&opened.state).file(opened.file), opened.id);
        ffi::SQLITE_OK
    })
}

fn unmap(file: &mut File, handle: HandleId) {
    file.memory_locks.unlock_all(handle);
    file.memory.unmap(handle);
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
