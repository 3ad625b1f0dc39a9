//! The simulated disk itself: files, what of them is durable, faults, crashes. Knows no
//! SQLite and no unsafe code.
//!
//! Invariant: the live bytes of a file are its durable bytes with all its pending operations
//! applied in order.

use std::collections::{BTreeMap, HashMap};

use super::Fault;
use super::locks::{FileLocks, HandleId, MemoryLocks};
use super::shared_memory::SharedMemory;

/// Bytes that a disk writes as one, in the worst case: what SQLite assumes by default.
pub(super) const SECTOR_BYTES: usize = 512;

/// Number of a file's contents; a name that is deleted and created again gets a new one.
pub(super) type FileId = u64;

/// Something done to a file and not synced.
#[derive(Clone)]
enum Operation {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

impl Operation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Operation::Write { offset, bytes: new } => {
                let end = offset + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(new);
            }
            Operation::Truncate { len } => bytes.truncate(*len),
        }
    }

    /// Parts that reach the disk one without the other.
    fn sectors(&self) -> Vec<Operation> {
        let Operation::Write { offset, bytes } = self else { return vec![self.clone()] };
        let mut parts = Vec::new();
        let mut start = 0;
        while start < bytes.len() {
            let to_boundary = SECTOR_BYTES - (offset + start) % SECTOR_BYTES;
            let end = bytes.len().min(start + to_boundary);
            let part = bytes[start..end].to_vec();
            parts.push(Operation::Write { offset: offset + start, bytes: part });
            start = end;
        }
        parts
    }
}

/// One file's contents, and who uses it.
#[derive(Default)]
pub(super) struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Operation>,
    /// Whether the folder that names it was synced since it was created.
    is_entry_durable: bool,
    /// Open handles.
    n_open: usize,
    pub(super) locks: FileLocks,
    pub(super) memory_locks: MemoryLocks,
    pub(super) memory: SharedMemory,
}

impl File {
    /// The contents without the users.
    fn copy(&self) -> File {
        File {
            live: self.live.clone(),
            durable: self.durable.clone(),
            pending: self.pending.clone(),
            is_entry_durable: self.is_entry_durable,
            ..File::default()
        }
    }

    fn synced(bytes: Vec<u8>) -> File {
        File { durable: bytes.clone(), live: bytes, is_entry_durable: true, ..File::default() }
    }

    fn change(&mut self, operation: Operation) {
        operation.apply(&mut self.live);
        self.pending.push(operation);
    }

    /// What a power cut leaves.
    fn survivor(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let survive = |operation: &Operation| operation.apply(&mut bytes);
        match random.below(4) {
            0 => {}
            1 => self.pending.iter().for_each(survive),
            2 => {
                // In order, up to some sector.
                let sectors: Vec<_> = self.pending.iter().flat_map(Operation::sectors).collect();
                let n = random.below(sectors.len() as u64 + 1) as usize;
                sectors[..n].iter().for_each(survive);
            }
            _ => {
                let sectors = self.pending.iter().flat_map(Operation::sectors);
                let kept: Vec<_> = sectors.filter(|_| random.below(2) == 0).collect();
                kept.iter().for_each(survive);
            }
        }
        bytes
    }
}

/// What an operation that changes something is told.
pub(super) enum Verdict {
    Go,
    Fail(Fault),
}

/// See [`super::SimDisk`].
pub(super) struct Disk {
    names: BTreeMap<String, FileId>,
    files: HashMap<FileId, File>,
    /// Deleted, and the folder not synced since: name and contents.
    deleted: Vec<(String, FileId)>,
    next_id: FileId,
    /// Files opened in an earlier one are gone for their users.
    generation: u64,
    fault: Option<(u64, Fault)>,
    n_operations: u64,
    /// Changes of files since the beginning, whoever made them; never goes back.
    n_changes: u64,
    has_failed: bool,
    is_dead: bool,
    pub(super) random: Random,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Disk {
        Disk {
            names: BTreeMap::new(),
            files: HashMap::new(),
            deleted: Vec::new(),
            next_id: 1,
            generation: 0,
            fault: None,
            n_operations: 0,
            n_changes: 0,
            has_failed: false,
            is_dead: false,
            random: Random(seed),
        }
    }

    pub(super) fn set_fault(&mut self, fault: Option<(u64, Fault)>) {
        self.fault = fault;
        self.n_operations = 0;
        self.has_failed = false;
    }

    pub(super) fn count(&self) -> u64 {
        self.n_operations
    }

    pub(super) fn n_changes(&self) -> u64 {
        self.n_changes
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a handle of `generation` is served.
    pub(super) fn serves(&self, generation: u64) -> bool {
        !self.is_dead && generation == self.generation
    }

    /// Counts an operation that changes something.
    pub(super) fn admit(&mut self) -> Verdict {
        self.n_operations += 1;
        self.n_changes += 1;
        match self.fault {
            Some((k, fault)) if k == self.n_operations => {
                self.has_failed = true;
                self.is_dead |= fault == Fault::Die;
                Verdict::Fail(fault)
            }
            _ => Verdict::Go,
        }
    }

    /// Opens, or creates, the file of that name; without a name a fresh one that nobody else
    /// can find.
    pub(super) fn open(&mut self, name: Option<&str>, may_create: bool) -> Option<FileId> {
        let known = name.and_then(|name| self.names.get(name).copied());
        let id = match known {
            Some(id) => id,
            None if may_create => {
                let id = self.add(File::default());
                if let Some(name) = name {
                    self.names.insert(name.into(), id);
                }
                id
            }
            None => return None,
        };
        self.file(id).n_open += 1;
        Some(id)
    }

    fn add(&mut self, file: File) -> FileId {
        let id = self.next_id;
        self.next_id += 1;
        self.files.insert(id, file);
        id
    }

    /// A number for an open file.
    pub(super) fn new_handle(&mut self) -> HandleId {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Ends a use of a file.
    pub(super) fn close(&mut self, id: FileId) {
        self.file(id).n_open -= 1;
        self.forget_unused();
    }

    /// A file that is open or named.
    pub(super) fn file(&mut self, id: FileId) -> &mut File {
        self.files.get_mut(&id).expect("kept as long as it is open or named")
    }

    fn forget_unused(&mut self) {
        let (names, deleted) = (&self.names, &self.deleted);
        self.files.retain(|id, file| {
            file.n_open > 0
                || names.values().any(|named| named == id)
                || deleted.iter().any(|(_, kept)| kept == id)
        });
    }

    pub(super) fn len(&mut self, id: FileId) -> usize {
        self.file(id).live.len()
    }

    /// The length of a named file.
    pub(super) fn len_of(&self, name: &str) -> Option<usize> {
        self.names.get(name).and_then(|id| self.files.get(id)).map(|file| file.live.len())
    }

    /// Reads into `buffer`; the number of bytes that were there.
    pub(super) fn read_at(&mut self, id: FileId, offset: usize, buffer: &mut [u8]) -> usize {
        let live = &self.file(id).live;
        let there = live.get(offset..).unwrap_or(&[]);
        let n = there.len().min(buffer.len());
        buffer[..n].copy_from_slice(&there[..n]);
        n
    }

    pub(super) fn write_at(&mut self, id: FileId, offset: usize, bytes: &[u8]) {
        self.file(id).change(Operation::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn truncate(&mut self, id: FileId, len: usize) {
        self.file(id).change(Operation::Truncate { len });
    }

    /// Makes a file durable; the first time, as SQLite does it, its folder too.
    pub(super) fn sync(&mut self, id: FileId) {
        let file = self.file(id);
        // Written where something changed only: what a sync costs does not grow with the file.
        let File { durable, pending, .. } = &mut *file;
        pending.drain(..).for_each(|operation| operation.apply(durable));
        debug_assert!(file.durable == file.live, "live is durable with all that is pending");
        if !std::mem::replace(&mut file.is_entry_durable, true) {
            self.sync_folder();
        }
    }

    /// Removes a name; `false` if there is none.
    pub(super) fn delete(&mut self, name: &str, is_synced: bool) -> bool {
        let Some(id) = self.names.remove(name) else { return false };
        self.deleted.push((name.into(), id));
        if is_synced {
            self.sync_folder();
        }
        true
    }

    fn sync_folder(&mut self) {
        for id in self.names.values() {
            if let Some(file) = self.files.get_mut(id) {
                file.is_entry_durable = true;
            }
        }
        self.deleted.clear();
        self.forget_unused();
    }

    pub(super) fn crash(&mut self, seed: u64) {
        let mut random = Random(seed);
        let mut left = BTreeMap::new();
        // A deletion that did not reach the disk is undone, unless the name is taken again.
        for (name, id) in std::mem::take(&mut self.deleted) {
            if random.below(2) == 0 {
                left.insert(name, id);
            }
        }
        for (name, id) in std::mem::take(&mut self.names) {
            let is_durable = self.files.get(&id).is_some_and(|file| file.is_entry_durable);
            if is_durable || random.below(2) == 0 {
                left.insert(name, id);
            }
        }
        for (name, id) in left {
            let Some(file) = self.files.get(&id) else { continue };
            let survivor = File::synced(file.survivor(&mut random));
            let id = self.add(survivor);
            self.names.insert(name, id);
        }
        self.begin_again();
    }

    pub(super) fn restart(&mut self) {
        let names: Vec<_> = self.names.iter().map(|(name, id)| (name.clone(), *id)).collect();
        for (name, id) in names {
            let copy = self.file(id).copy();
            let id = self.add(copy);
            self.names.insert(name, id);
        }
        self.begin_again();
    }

    /// Turns handles away, without a fault to come.
    fn begin_again(&mut self) {
        self.generation += 1;
        self.n_changes += 1;
        self.is_dead = false;
        let (n_operations, has_failed) = (self.n_operations, self.has_failed);
        self.set_fault(None);
        (self.n_operations, self.has_failed) = (n_operations, has_failed);
        self.forget_unused();
    }

    /// The contents without the users.
    pub(super) fn copy(&self) -> Disk {
        let mut disk = Disk::new(0);
        disk.random = self.random.clone();
        let mut copy =
            |id: &FileId| disk.add(self.files.get(id).map(File::copy).unwrap_or_default());
        let names = self.names.iter().map(|(name, id)| (name.clone(), copy(id))).collect();
        let deleted = self.deleted.iter().map(|(name, id)| (name.clone(), copy(id))).collect();
        (disk.names, disk.deleted) = (names, deleted);
        disk
    }

    pub(super) fn restore(&mut self, image: &Disk) {
        let copy = image.copy();
        self.random = copy.random.clone();
        let mut renumbered = HashMap::new();
        for (id, file) in copy.files {
            renumbered.insert(id, self.add(file));
        }
        let mut moved = |(name, id): (String, FileId)| Some((name, *renumbered.get(&id)?));
        self.names = copy.names.into_iter().filter_map(&mut moved).collect();
        self.deleted = copy.deleted.into_iter().filter_map(&mut moved).collect();
        self.begin_again();
    }

    pub(super) fn files(&self) -> Vec<(String, u64)> {
        let len = |id: &FileId| self.files.get(id).map_or(0, |file| file.live.len() as u64);
        self.names.iter().map(|(name, id)| (name.clone(), len(id))).collect()
    }

    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.files.get(self.names.get(name)?).map(|file| file.live.clone())
    }

    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) {
        self.n_changes += 1;
        let id = self.add(File::synced(bytes.to_vec()));
        self.names.insert(name.into(), id);
        self.forget_unused();
    }
}

/// splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is small enough that the bias does not matter.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
