//! An allocator that fails on purpose, for tests of what happens when SQLite has no memory.
//!
//! It is the process's: [`install`] it before anything else touches SQLite, in a process that
//! runs nothing else (a test starts its own executable again). Then, for k = 1, 2, … until
//! nothing fails: [`fail_at`] k, run, look at what is left.
//!
//! Invariant: memory comes from and goes back to SQLite's own allocator; this only counts,
//! and refuses.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libsqlite3_sys as ffi;

use crate::error::{Result, SqlError};

/// How many allocations fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The chosen one alone.
    Once,
    /// The chosen one and all that follow, until [`never_fail`].
    Forever,
}

/// SQLite's own methods.
struct Allocator {
    allocate: unsafe extern "C" fn(c_int) -> *mut c_void,
    reallocate: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
}

static ALLOCATOR: OnceLock<Allocator> = OnceLock::new();
/// Allocations since the last choice.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Which one fails; 0 for none.
static FAIL_AT: AtomicU64 = AtomicU64::new(0);
static IS_FOREVER: AtomicBool = AtomicBool::new(false);
static IS_SUSPENDED: AtomicBool = AtomicBool::new(false);
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

/// Puts the allocator between SQLite and its memory, and makes small allocations, which
/// SQLite takes from a pool of each connection, go through it too.
///
/// # Errors
/// SQLITE_MISUSE when SQLite is already in use, or is a host's.
pub fn install() -> Result<()> {
    let mut methods = ffi::sqlite3_mem_methods {
        xMalloc: None,
        xFree: None,
        xRealloc: None,
        xSize: None,
        xRoundup: None,
        xInit: None,
        xShutdown: None,
        pAppData: ptr::null_mut(),
    };
    // SAFETY: this operation takes a place for the methods; nothing else runs by contract of
    // this module, and SQLite refuses once it is in use.
    check(unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &raw mut methods) })?;
    let (Some(allocate), Some(reallocate)) = (methods.xMalloc, methods.xRealloc) else {
        return Err(refusal(ffi::SQLITE_MISUSE));
    };
    if ALLOCATOR.set(Allocator { allocate, reallocate }).is_err() {
        return Err(refusal(ffi::SQLITE_MISUSE));
    }
    methods.xMalloc = Some(counted_allocate);
    methods.xRealloc = Some(counted_reallocate);
    // SAFETY: as above; SQLite copies the methods.
    check(unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const methods) })?;
    let none: c_int = 0;
    // SAFETY: this operation takes two ints.
    check(unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_LOOKASIDE, none, none) })
}

/// Makes the `k`-th allocation from here on fail (1 is the next), and counts from 0.
pub fn fail_at(k: u64, repeat: Repeat) {
    COUNT.store(0, Ordering::SeqCst);
    HAS_FAILED.store(false, Ordering::SeqCst);
    IS_FOREVER.store(repeat == Repeat::Forever, Ordering::SeqCst);
    FAIL_AT.store(k, Ordering::SeqCst);
}

/// Lets every allocation succeed, as far as there is memory. [`has_failed`] and [`count`]
/// keep what they say.
pub fn never_fail() {
    FAIL_AT.store(0, Ordering::SeqCst);
}

/// Runs `f`, in which nothing fails and nothing is counted: a test looks at the state.
pub fn suspended<T>(f: impl FnOnce() -> T) -> T {
    let before = IS_SUSPENDED.swap(true, Ordering::SeqCst);
    let result = f();
    IS_SUSPENDED.store(before, Ordering::SeqCst);
    result
}

/// Whether an allocation was refused since the last [`fail_at`].
pub fn has_failed() -> bool {
    HAS_FAILED.load(Ordering::SeqCst)
}

/// Allocations since the last [`fail_at`].
pub fn count() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

fn check(rc: c_int) -> Result<()> {
    if rc == ffi::SQLITE_OK { Ok(()) } else { Err(refusal(rc)) }
}

fn refusal(code: c_int) -> SqlError {
    SqlError { code, message: "SQLite's allocator can be set only before SQLite is used".into() }
}

/// Counts an allocation; whether it is refused.
fn is_refused() -> bool {
    if IS_SUSPENDED.load(Ordering::SeqCst) {
        return false;
    }
    let count = COUNT.fetch_add(1, Ordering::SeqCst) + 1;
    let chosen = FAIL_AT.load(Ordering::SeqCst);
    let is_later = chosen != 0 && count > chosen && IS_FOREVER.load(Ordering::SeqCst);
    if count == chosen || is_later {
        HAS_FAILED.store(true, Ordering::SeqCst);
        return true;
    }
    false
}

unsafe extern "C" fn counted_allocate(n_bytes: c_int) -> *mut c_void {
    match ALLOCATOR.get() {
        // SAFETY: SQLite's own method, with SQLite's argument.
        Some(allocator) if !is_refused() => unsafe { (allocator.allocate)(n_bytes) },
        _ => ptr::null_mut(),
    }
}

unsafe extern "C" fn counted_reallocate(memory: *mut c_void, n_bytes: c_int) -> *mut c_void {
    match ALLOCATOR.get() {
        // SAFETY: SQLite's own method, with SQLite's arguments.
        Some(allocator) if !is_refused() => unsafe { (allocator.reallocate)(memory, n_bytes) },
        _ => ptr::null_mut(),
    }
}
