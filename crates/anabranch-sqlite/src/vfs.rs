//! A disk that fails on purpose: an in-memory VFS for crash tests, behind a safe face.
//!
//! A [`SimDisk`] keeps for each file what the process sees (the live bytes) and what a power
//! cut would leave (the durable bytes): a write becomes durable at the file's next sync, a
//! deletion at the next sync of the folder. It counts the operations that change anything
//! (writes, syncs, truncations, deletions) and makes the k-th one fail. [`SimDisk::crash`]
//! is the power cut, [`SimDisk::restart`] the death of the process alone.
//!
//! A crash test runs its workload for k = 1, 2, … until no fault fires:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use anabranch_sqlite::vfs::{Fault, SimDisk};
//! use rusqlite::{Connection, OpenFlags};
//!
//! let disk = SimDisk::new(1);
//! let vfs = disk.register()?;
//! let open = || Connection::open_with_flags_and_vfs("a.db", OpenFlags::default(), vfs.as_str());
//! open()?.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a)")?;
//! let before = disk.image();
//! for k in 1.. {
//!     disk.restore(&before);
//!     disk.fail_at(k, Fault::Die);
//!     let written = open().and_then(|conn| conn.execute("INSERT INTO t VALUES(1)", []));
//!     disk.crash(k);
//!     let n: i64 = open()?.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?;
//!     assert!(n == 1 || (n == 0 && written.is_err()));
//!     if !disk.has_failed() {
//!         break;
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! What survives of unsynced work, after the rules SQLite itself is written to (sqlite.org,
//! "Atomic Commit In SQLite", sections 2 and 3; the device has SQLITE_IOCAP_POWERSAFE_OVERWRITE, as
//! SQLite's own VFSs have by default): any subset of the 512-byte sectors of any subset of
//! the writes, in any order.
//!
//! Works for one process, in rollback-journal and WAL mode (shared memory is heap memory).
//! Nothing waits: a busy lock is answered at once, `xSleep` returns at once. The clock and
//! SQLite's randomness come from the seed, so a run is repeatable.

mod disk;
mod io_methods;
mod locks;
mod methods;
mod shared_memory;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use disk::Disk;

use crate::error::Result;

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not done and answers SQLITE_IOERR; the disk works on.
    IoError,
    /// It is not done and answers SQLITE_FULL (a sync or deletion: SQLITE_IOERR); the disk
    /// works on.
    Full,
    /// A write is done in part, a prefix of its bytes, and answers SQLITE_IOERR; the disk
    /// works on. Other operations: as [`Fault::IoError`].
    Torn,
    /// It is not done, and from here on everything fails until [`SimDisk::crash`] or
    /// [`SimDisk::restart`].
    Die,
}

/// A disk of one process; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<Disk>>,
}

/// A whole disk, unsynced work included, to go back to.
pub struct Image {
    disk: Disk,
}

impl SimDisk {
    /// An empty disk. The seed decides what SQLite's own random numbers are, and where torn
    /// writes end.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(Disk::new(seed))) }
    }

    /// Makes the disk known to SQLite; the name is what a connection is opened with.
    ///
    /// SQLite keeps it, and some hundred bytes, until the process ends: register once and
    /// use [`SimDisk::restore`].
    ///
    /// # Errors
    /// SQLite's, when it has no memory.
    pub fn register(&self) -> Result<String> {
        methods::register(self.state.clone())
    }

    /// Makes the `k`-th operation from here on fail (1 is the next), and counts from 0.
    pub fn fail_at(&self, k: u64, fault: Fault) {
        self.lock().set_fault(Some((k, fault)));
    }

    /// Lets everything succeed, and counts from 0. A disk that died stays dead.
    pub fn never_fail(&self) {
        self.lock().set_fault(None);
    }

    /// Operations that change something (writes, syncs, truncations, deletions) since the
    /// last call of [`SimDisk::fail_at`] or [`SimDisk::never_fail`], failed ones included.
    pub fn count(&self) -> u64 {
        self.lock().count()
    }

    /// A number that grows with whatever may change what the disk's files say: each operation
    /// that [`SimDisk::count`] counts, and each death, restoring and putting. Who sees the
    /// same number twice would read the same twice.
    pub fn n_changes(&self) -> u64 {
        self.lock().n_changes()
    }

    /// Whether the fault that was asked for last has happened.
    pub fn has_failed(&self) -> bool {
        self.lock().has_failed()
    }

    /// Cuts the power: what was not synced survives in part, as the seed decides. Open files
    /// answer SQLITE_IOERR for ever; files can be opened again. No fault is set.
    pub fn crash(&self, seed: u64) {
        self.lock().crash(seed);
    }

    /// Kills the process: what was written is there, locks and shared memory are gone. Open
    /// files answer SQLITE_IOERR for ever; files can be opened again. No fault is set.
    pub fn restart(&self) {
        self.lock().restart();
    }

    /// Copies the disk.
    pub fn image(&self) -> Image {
        Image { disk: self.lock().copy() }
    }

    /// Goes back to a copy. Open files answer SQLITE_IOERR for ever. No fault is set.
    pub fn restore(&self, image: &Image) {
        self.lock().restore(&image.disk);
    }

    /// Names of the files, with their lengths in bytes.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.lock().files()
    }

    /// The live bytes of a file.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().read(name)
    }

    /// Puts a file there, synced.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        self.lock().put(name, bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        lock(&self.state)
    }
}

/// Lets SQLite count no memory, for the whole process: some hundredths of a simulation's time,
/// and a lock that all its threads wait for. Too late once SQLite was used; then it counts.
pub fn count_no_memory() {
    methods::count_no_memory();
}

/// The state, also after a panic elsewhere: a test that fails says so itself.
fn lock(state: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
