//! The shared memory of a WAL, on the heap: regions at addresses that stay.
//!
//! Invariant: a region is freed only when no handle has the memory mapped.

use std::collections::HashSet;
use std::ffi::c_void;
use std::ptr::{NonNull, slice_from_raw_parts_mut};

use super::locks::HandleId;

/// Memory that SQLite reads and writes behind our back.
struct Region {
    start: NonNull<u64>,
    n_words: usize,
}

// SAFETY: only SQLite touches the memory, with barriers and the slots' locks of its own;
// this side only allocates and frees it.
unsafe impl Send for Region {}

impl Region {
    fn new(n_bytes: usize) -> Region {
        let words = vec![0_u64; n_bytes.div_ceil(8)].into_boxed_slice();
        let n_words = words.len();
        let start = NonNull::from(Box::leak(words)).cast();
        Region { start, n_words }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the box that `new` leaked, with its length, taken back once.
        drop(unsafe { Box::from_raw(slice_from_raw_parts_mut(self.start.as_ptr(), self.n_words)) });
    }
}

/// The regions of one file.
#[derive(Default)]
pub(super) struct SharedMemory {
    regions: Vec<Region>,
    mapped_by: HashSet<HandleId>,
}

impl SharedMemory {
    /// The address of a region, made if `may_extend`; null if it is not there.
    pub(super) fn map(
        &mut self,
        handle: HandleId,
        region: usize,
        n_bytes: usize,
        may_extend: bool,
    ) -> *mut c_void {
        self.mapped_by.insert(handle);
        while may_extend && self.regions.len() <= region {
            self.regions.push(Region::new(n_bytes));
        }
        self.regions.get(region).map_or(std::ptr::null_mut(), |r| r.start.as_ptr().cast())
    }

    /// Ends a handle's use. After the last, the next user starts with empty memory and
    /// rebuilds it from the WAL, as after the last close of a file on a real disk.
    pub(super) fn unmap(&mut self, handle: HandleId) {
        self.mapped_by.remove(&handle);
        if self.mapped_by.is_empty() {
            self.regions.clear();
        }
    }
}
