//! Who holds which lock of a file: SQLite's five levels for rollback journals (sqlite.org,
//! "File Locking And Concurrency", section 3), and the eight slots of a WAL's shared memory
//! ("WAL-mode File Format", section 2.3).

use std::collections::HashMap;

/// Number of an open file; unique on a disk.
pub(super) type HandleId = u64;

/// A level of the lock on a file. In order: each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

/// Holders of one file's lock.
#[derive(Default)]
pub(super) struct FileLocks {
    held: HashMap<HandleId, Level>,
}

impl FileLocks {
    /// The highest level of anybody else.
    fn others(&self, handle: HandleId) -> Level {
        let others = self.held.iter().filter(|(holder, _)| **holder != handle);
        others.map(|(_, level)| *level).max().unwrap_or_default()
    }

    /// Raises the lock; `false` when somebody is in the way.
    pub(super) fn raise(&mut self, handle: HandleId, wanted: Level) -> bool {
        let others = self.others(handle);
        let held = self.held.get(&handle).copied().unwrap_or_default();
        if held >= wanted {
            return true;
        }
        let is_free = match wanted {
            Level::None => true,
            Level::Shared => others < Level::Pending,
            Level::Reserved | Level::Pending => others < Level::Reserved,
            Level::Exclusive if others < Level::Reserved => {
                // Keeps new readers out while the old ones leave.
                self.held.insert(handle, Level::Pending);
                others < Level::Shared
            }
            Level::Exclusive => false,
        };
        if is_free {
            self.held.insert(handle, wanted);
        }
        is_free
    }

    /// Lowers the lock.
    pub(super) fn lower(&mut self, handle: HandleId, level: Level) {
        match level {
            Level::None => drop(self.held.remove(&handle)),
            level => drop(self.held.insert(handle, level)),
        }
    }

    /// Whether anybody intends to write.
    pub(super) fn is_reserved(&self) -> bool {
        self.held.values().any(|level| *level >= Level::Reserved)
    }
}

/// Holders of the slots of one shared memory: two sets of slots a handle, as bits.
#[derive(Default)]
pub(super) struct MemoryLocks {
    held: HashMap<HandleId, Slots>,
}

#[derive(Clone, Copy, Default)]
struct Slots {
    shared: u8,
    exclusive: u8,
}

impl MemoryLocks {
    /// Takes slots; `false` when somebody is in the way.
    pub(super) fn lock(&mut self, handle: HandleId, slots: u8, is_exclusive: bool) -> bool {
        let in_the_way = |held: &Slots| match is_exclusive {
            true => (held.shared | held.exclusive) & slots != 0,
            false => held.exclusive & slots != 0,
        };
        if self.held.iter().any(|(holder, held)| *holder != handle && in_the_way(held)) {
            return false;
        }
        let mine = self.held.entry(handle).or_default();
        match is_exclusive {
            true => mine.exclusive |= slots,
            false => mine.shared |= slots,
        }
        true
    }

    pub(super) fn unlock(&mut self, handle: HandleId, slots: u8) {
        if let Some(held) = self.held.get_mut(&handle) {
            held.shared &= !slots;
            held.exclusive &= !slots;
        }
    }

    pub(super) fn unlock_all(&mut self, handle: HandleId) {
        self.held.remove(&handle);
    }
}
