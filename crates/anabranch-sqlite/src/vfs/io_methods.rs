//! An open file of the simulated disk, as SQLite's `sqlite3_io_methods`.
//!
//! Invariant: each callback takes the disk's lock once and calls nobody while it holds it; a
//! panic in one (a bug here) answers SQLITE_IOERR.

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;
use std::{ptr, slice};

use libsqlite3_sys as ffi;

use super::disk::{Disk, File, FileId, Verdict};
use super::locks::{HandleId, Level};
use super::methods::{State, caught, count_of};
use super::{Fault, lock};

/// What SQLite knows as `sqlite3_file`, in memory of its own.
#[repr(C)]
pub(super) struct Handle {
    pub(super) base: ffi::sqlite3_file,
    pub(super) opened: *mut Opened,
}

/// An open file.
pub(super) struct Opened {
    pub(super) state: State,
    pub(super) file: FileId,
    pub(super) id: HandleId,
    pub(super) generation: u64,
    /// Deleted when it is closed.
    pub(super) doomed: Option<String>,
}

pub(super) static IO_METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
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
/// Runs `f` on the disk of an open file, unless the file is gone or the disk dead.
///
/// # Safety
/// `file` was opened by `methods::open` and is not closed. SQLite calls the functions below with
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
