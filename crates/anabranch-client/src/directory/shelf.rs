//! What a directory has in it: its files, what each spans, and what all together hold.

use std::collections::{HashMap, HashSet};

use anabranch_core::limits::MAX_PART_BYTES;
use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{PEEK_BYTES, WireError, peek};

use super::name::{CHANGES, file_name};
use crate::limits::{MAX_FILE_NAME_BYTES, MAX_FILES};
use crate::replica::{Replica, StoreError, n_changes_above, vector_in};
use crate::storage::{Entry, Pieces, Storage, StorageError};

/// A file that holds a delta, as far as its first bytes tell.
#[derive(Clone, Debug)]
pub(super) struct DeltaFile {
    pub(super) name: String,
    pub(super) n_bytes: u64,
    /// When it appeared, by the storage's clock.
    pub(super) modified_ms: u64,
    /// The name of the delta.
    pub(super) delta: [u8; 16],
    from: VersionVector,
    /// Whoever holds this loses nothing by it: `from`, or the floor of a complete delta.
    start: VersionVector,
    to: VersionVector,
    /// The three by the names that their sites have here, once they have been read.
    here: Option<[VersionVector; 3]>,
    /// Whether all that it brings was held here once: its chains are those held here then.
    is_held: bool,
    state: State,
}

/// What is known of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Its first bytes were read.
    Seen,
    /// All of it was read and is whole.
    Verified,
    /// It is not whole, damaged, or of a later version.
    Unreadable(String),
    /// It is whole, and the store refused it.
    Refused,
}

impl DeltaFile {
    /// The file that these parts are going to be.
    pub(super) fn of_parts(parts: &dyn Pieces, now_ms: u64) -> Result<DeltaFile, StoreError> {
        let first = parts.piece(0).map_err(StoreError::Temporary)?;
        let peeked = first.and_then(|first| peek(&first).ok().flatten());
        let (head, bounds) = peeked.ok_or(StoreError::Answer("ana_parts"))?;
        Ok(DeltaFile {
            name: file_name(now_ms, &head.delta),
            n_bytes: parts.n_bytes(),
            modified_ms: now_ms,
            delta: head.delta,
            start: bounds.start().clone(),
            from: bounds.from,
            to: bounds.to,
            here: None,
            is_held: true,
            state: State::Verified,
        })
    }

    /// What must be held, by the names that are used here.
    pub(super) fn from(&self) -> &VersionVector {
        self.here.as_ref().map_or(&self.from, |[from, ..]| from)
    }

    /// What must be held to lose nothing by it, likewise.
    pub(super) fn start(&self) -> &VersionVector {
        self.here.as_ref().map_or(&self.start, |[_, start, _]| start)
    }

    /// Where it leads, likewise.
    pub(super) fn to(&self) -> &VersionVector {
        self.here.as_ref().map_or(&self.to, |[.., to]| to)
    }

    /// How many changes it brings.
    pub(super) fn n_changes(&self) -> u64 {
        n_changes_above(&self.start, &self.to)
    }

    /// Sorts a file behind those it needs: where one vector is below another, so is the
    /// number of changes in it. Names would do if all clocks were right.
    fn order(&self) -> (u64, u64, String) {
        let nothing = VersionVector::new();
        let n_changes = |vector| n_changes_above(&nothing, vector);
        (n_changes(&self.start), n_changes(&self.to), self.name.clone())
    }

    pub(super) fn is_verified(&self) -> bool {
        matches!(self.state, State::Verified | State::Refused)
    }

    /// Whether this round goes on without it.
    pub(super) fn is_left_out(&self) -> bool {
        matches!(self.state, State::Unreadable(_) | State::Refused)
    }
}

/// The files of a directory in one round, each behind those it needs.
pub(super) struct Shelf {
    files: Vec<DeltaFile>,
    /// Files whose first bytes do not tell what they span.
    strange: Vec<(String, String)>,
}

impl Shelf {
    /// Lists the directory, and looks at the first bytes of what is not known yet.
    pub(super) fn list(storage: &dyn Storage, memory: &Memory) -> Result<Shelf, StorageError> {
        let mut entries = storage.list(CHANGES)?;
        entries.sort();
        entries.truncate(MAX_FILES);
        let mut shelf = Shelf { files: Vec::new(), strange: Vec::new() };
        for entry in entries {
            if entry.name.len() > MAX_FILE_NAME_BYTES {
                continue;
            }
            match memory.recall(&entry) {
                Some(file) => shelf.files.push(file),
                None => shelf.look(storage, entry)?,
            }
        }
        shelf.files.sort_by_cached_key(DeltaFile::order);
        Ok(shelf)
    }

    /// Lists the directory again for files that came meanwhile; whether any did.
    pub(super) fn look_again(&mut self, storage: &dyn Storage) -> Result<bool, StorageError> {
        let mut entries = storage.list(CHANGES)?;
        entries.sort();
        entries.truncate(MAX_FILES);
        let files = self.files.iter().map(|file| &file.name);
        let known: HashSet<&String> =
            files.chain(self.strange.iter().map(|(name, _)| name)).collect();
        entries.retain(|entry| {
            entry.name.len() <= MAX_FILE_NAME_BYTES && !known.contains(&entry.name)
        });
        let n_files = self.files.len();
        for entry in entries {
            self.look(storage, entry)?;
        }
        self.files.sort_by_cached_key(DeltaFile::order);
        Ok(self.files.len() > n_files)
    }

    /// Whether a file that can be read waits for what none here brings.
    pub(super) fn is_waiting(&self, mine: &VersionVector) -> bool {
        self.files.iter().any(|file| !file.is_left_out() && !file.to().is_at_or_below(mine))
    }

    fn look(&mut self, storage: &dyn Storage, entry: Entry) -> Result<(), StorageError> {
        let path = format!("{CHANGES}/{}", entry.name);
        let mut n_bytes = PEEK_BYTES as u64;
        let told = loop {
            let bytes = match storage.get(&path, 0..n_bytes) {
                Ok(bytes) => bytes,
                // Deleted since it was listed: as if it had never been there.
                Err(StorageError::Gone { .. }) => return Ok(()),
                Err(error @ StorageError::Offline { .. }) => return Err(error),
                Err(error) => break Err(error.to_string()),
            };
            let is_all = (bytes.len() as u64) < n_bytes || n_bytes >= MAX_PART_BYTES as u64;
            match peek(&bytes) {
                Ok(Some(told)) => break Ok(told),
                Ok(None) if is_all => {
                    let why = WireError::Truncated { found: bytes.len(), expected: PEEK_BYTES };
                    let why = match bytes.len() {
                        0 => "it is empty".to_string(),
                        _ => format!("it ends early ({why})"),
                    };
                    break Err(why);
                }
                Ok(None) => n_bytes = MAX_PART_BYTES as u64,
                Err(error) => break Err(error.to_string()),
            }
        };
        match told {
            Ok((head, bounds)) => self.files.push(DeltaFile {
                name: entry.name,
                n_bytes: entry.n_bytes,
                modified_ms: entry.modified_ms,
                delta: head.delta,
                start: bounds.start().clone(),
                from: bounds.from,
                to: bounds.to,
                here: None,
                is_held: false,
                state: State::Seen,
            }),
            Err(why) => self.strange.push((entry.name, why)),
        }
        Ok(())
    }

    /// Reads all bounds by their chains, with the names that sites have here now.
    ///
    /// # Errors
    /// What is wrong with this copy's own file.
    pub(super) fn read(&mut self, replica: Replica<'_>) -> Result<(), StoreError> {
        let mine = replica.vector()?;
        for file in &mut self.files {
            // What is held was compared then; only branches change what it is called. What waits
            // may be of another history than what was written here since.
            let may_differ = mine.has_branches() || file.to.has_branches() || !file.is_held;
            file.here = match may_differ {
                true => Some([
                    replica.read(&file.from)?.vector,
                    replica.read(&file.start)?.vector,
                    replica.read(&file.to)?.vector,
                ]),
                false => None,
            };
            file.is_held = file.to().is_at_or_below(&mine);
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn file(&self, n: usize) -> &DeltaFile {
        &self.files[n]
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &DeltaFile> {
        self.files.iter()
    }

    pub(super) fn mark_verified(&mut self, n: usize) {
        self.files[n].state = State::Verified;
    }

    pub(super) fn mark_unreadable(&mut self, n: usize, why: String) {
        self.files[n].state = State::Unreadable(why);
    }

    pub(super) fn mark_refused(&mut self, n: usize) {
        self.files[n].state = State::Refused;
    }

    /// Puts a file where it belongs.
    pub(super) fn add(&mut self, file: DeltaFile) {
        let at = self.files.partition_point(|other| other.order() < file.order());
        if self.files.get(at).is_none_or(|other| other.name != file.name) {
            self.files.insert(at, file);
        }
    }

    /// Forgets a file that was deleted.
    pub(super) fn remove(&mut self, name: &str) {
        self.files.retain(|file| file.name != name);
    }

    /// What a newcomer would hold who took all that is whole.
    pub(super) fn held(&self) -> VersionVector {
        let mut held = VersionVector::new();
        loop {
            let mut has_grown = false;
            for file in self.files.iter().filter(|file| file.is_verified()) {
                if file.from().is_at_or_below(&held) && !file.to().is_at_or_below(&held) {
                    held.join(file.to());
                    has_grown = true;
                }
            }
            if !has_grown {
                return held;
            }
        }
    }

    /// Names of files that may bring what is not held here and cannot be read, and why.
    ///
    /// What is no delta by its first bytes and its name is somebody's own business.
    pub(super) fn unreadable(&self, mine: &VersionVector) -> Vec<(String, String)> {
        let hidden = |name: &str| {
            // The same delta under another name, whole.
            self.files.iter().any(|file| {
                let hex: String = file.delta.iter().map(|byte| format!("{byte:02x}")).collect();
                file.is_verified() && name.contains(&hex)
            })
        };
        let strange = self
            .strange
            .iter()
            .filter(|(name, _)| name.ends_with(".ana") && !hidden(name))
            .cloned();
        let unreadable = self.files.iter().filter_map(|file| match &file.state {
            State::Unreadable(why) if !file.to().is_at_or_below(mine) => {
                Some((file.name.clone(), why.clone()))
            }
            State::Seen | State::Verified if !file.to().is_at_or_below(mine) => {
                let why = "it waits for changes that no file here brings".to_string();
                Some((file.name.clone(), why))
            }
            _ => None,
        });
        strange.chain(unreadable).collect()
    }
}

/// Files that were read whole before, so that they are not read again while name, size and
/// time stay.
#[derive(Default)]
pub(super) struct Memory {
    is_loaded: bool,
    files: HashMap<String, DeltaFile>,
}

impl Memory {
    fn recall(&self, entry: &Entry) -> Option<DeltaFile> {
        let is_same = |file: &&DeltaFile| {
            (file.n_bytes, file.modified_ms) == (entry.n_bytes, entry.modified_ms)
        };
        self.files.get(&entry.name).filter(is_same).cloned()
    }

    /// Reads what earlier processes knew, once.
    pub(super) fn load(&mut self, replica: Replica<'_>, url: &str) -> Result<(), StoreError> {
        if self.is_loaded {
            return Ok(());
        }
        let mut statement = replica.sql().prepare_cached(
            "SELECT name, bytes, modified_ms, delta, starts, ends, floor FROM main.ana_peer_file
             WHERE url = ?1",
        )?;
        let mut rows = statement.query([url])?;
        while let Some(row) = rows.next()? {
            let delta = row.get_ref(3)?.as_blob().ok().and_then(|blob| blob.try_into().ok());
            let vectors = (vector_in(row.get_ref(4)?), vector_in(row.get_ref(5)?));
            // What is no row of ours is read again from the directory.
            let (Some(delta), (Some(from), Some(to))) = (delta, vectors) else { continue };
            let name: String = row.get(0)?;
            let n_bytes = row.get::<_, i64>(1)?.cast_unsigned();
            let state = State::Verified;
            let modified_ms = row.get::<_, i64>(2)?.cast_unsigned();
            let start = vector_in(row.get_ref(6)?).unwrap_or_else(|| from.clone());
            let (here, is_held) = (None, false);
            let read = DeltaFile {
                name,
                n_bytes,
                modified_ms,
                delta,
                from,
                start,
                to,
                here,
                is_held,
                state,
            };
            self.files.insert(read.name.clone(), read);
        }
        self.is_loaded = true;
        Ok(())
    }

    /// Keeps what this round read, and forgets what is gone.
    pub(super) fn store(
        &mut self,
        replica: Replica<'_>,
        url: &str,
        shelf: &Shelf,
    ) -> Result<(), StoreError> {
        let kept: HashMap<String, DeltaFile> = shelf
            .files()
            .filter(|file| file.state == State::Verified)
            .map(|file| (file.name.clone(), file.clone()))
            .collect();
        let is_known = |file: &DeltaFile| {
            self.files.get(&file.name).is_some_and(|known| {
                (known.n_bytes, known.modified_ms) == (file.n_bytes, file.modified_ms)
            })
        };
        let gone: Vec<&String> =
            self.files.keys().filter(|name| !kept.contains_key(*name)).collect();
        let news: Vec<&DeltaFile> = kept.values().filter(|file| !is_known(file)).collect();
        if !gone.is_empty() || !news.is_empty() {
            replica.atomically(|| write(replica, url, &gone, &news))?;
        }
        self.files = kept;
        Ok(())
    }
}

fn write(
    replica: Replica<'_>,
    url: &str,
    gone: &[&String],
    news: &[&DeltaFile],
) -> Result<(), StoreError> {
    let mut delete = replica
        .sql()
        .prepare_cached("DELETE FROM main.ana_peer_file WHERE url = ?1 AND name = ?2")?;
    for name in gone {
        delete.execute((url, name))?;
    }
    let mut insert = replica.sql().prepare_cached(
        "INSERT OR REPLACE INTO main.ana_peer_file
             (url, name, bytes, modified_ms, delta, starts, ends, floor)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for file in news {
        let (from, to) = (file.from.to_json(), file.to.to_json());
        let (n_bytes, modified) = (file.n_bytes.cast_signed(), file.modified_ms.cast_signed());
        let floor = (file.start != file.from).then(|| file.start.to_json());
        insert.execute((url, &file.name, n_bytes, modified, &file.delta[..], from, to, floor))?;
    }
    Ok(())
}
