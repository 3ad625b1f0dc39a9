//! A folder of the file system: a disk, a stick, a mounted share, a cloud drive's folder.
//!
//! A file is written beside its place under a name that begins with a dot, synced, renamed,
//! and its folder is synced. Who dies in between leaves a file that nobody reads; it is
//! cleared away a day later by whoever writes next.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Entry, Pieces, Storage, StorageError};
use crate::limits::{ABANDONED_AFTER_MS, MAX_FILES};

/// Ends the name of a file that is being written.
const UNFINISHED: &str = ".tmp";

/// A folder that exists.
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(crate) fn new(root: impl Into<PathBuf>) -> Folder {
        Folder { root: root.into() }
    }

    /// Tells a folder that is not there from a file in it that is not there.
    fn failed(&self, path: &Path, error: &io::Error) -> StorageError {
        if !self.root.is_dir() {
            let why = "no such folder; is the drive plugged in and mounted?".to_string();
            return StorageError::Offline { place: self.root.display().to_string(), why };
        }
        let (place, why) = (path.display().to_string(), plain_words(error));
        match error.kind() {
            io::ErrorKind::NotFound => StorageError::Gone { place },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StorageError::Denied { place, why }
            }
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => StorageError::Full { place },
            _ => StorageError::Failed { place, why },
        }
    }
}

impl Storage for Folder {
    fn list(&self, folder: &str) -> Result<Vec<Entry>, StorageError> {
        let path = self.root.join(folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) => {
                return match self.failed(&path, &error) {
                    StorageError::Gone { .. } => Ok(Vec::new()),
                    error => Err(error),
                };
            }
        };
        let mut found = Vec::new();
        for entry in entries.take(MAX_FILES) {
            let entry = entry.map_err(|error| self.failed(&path, &error))?;
            // A name that is no text is not one of ours, nor of a cloud drive that renamed it.
            let Ok(name) = entry.file_name().into_string() else { continue };
            // What vanished since it was listed, or is no file, is not there.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if metadata.is_file() && !name.starts_with('.') {
                let modified_ms = metadata.modified().map_or(0, unix_ms);
                found.push(Entry { name, n_bytes: metadata.len(), modified_ms });
            }
        }
        Ok(found)
    }

    fn get(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        let path = self.root.join(path);
        let read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(range.start))?;
            let mut bytes = Vec::new();
            file.take(range.end - range.start).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| self.failed(&path, &error))
    }

    fn put(&self, path: &str, pieces: &dyn Pieces) -> Result<(), StorageError> {
        let target = self.root.join(path);
        let folder = target.parent().unwrap_or(&self.root).to_owned();
        // A name says what is in it: one of the right size is the one that is to be written.
        if fs::metadata(&target).is_ok_and(|metadata| metadata.len() == pieces.n_bytes()) {
            return Ok(());
        }
        if !self.root.is_dir() {
            return Err(self.failed(&self.root, &io::Error::from(io::ErrorKind::NotFound)));
        }
        fs::create_dir_all(&folder).map_err(|error| self.failed(&folder, &error))?;
        clear_abandoned(&folder);
        let beside = beside(&target);
        let written = write_whole(&beside, pieces)
            .and_then(|()| fs::rename(&beside, &target))
            .and_then(|()| sync_folder(&folder));
        written.map_err(|error| {
            // What cannot be removed either is left for tomorrow.
            let _ = fs::remove_file(&beside);
            self.failed(&target, &error)
        })
    }

    fn delete(&self, path: &str) -> Result<(), StorageError> {
        let path = self.root.join(path);
        match fs::remove_file(&path).map_err(|error| self.failed(&path, &error)) {
            Err(StorageError::Gone { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn has_folder(&self, folder: &str) -> Result<Option<bool>, StorageError> {
        let path = self.root.join(folder);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.is_dir())),
            Err(error) => match self.failed(&path, &error) {
                StorageError::Gone { .. } => Ok(Some(false)),
                error => Err(error),
            },
        }
    }
}

/// A name of its own for each attempt, which no reader looks at.
fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let mut random = [0; 4];
    // Without randomness the process alone tells attempts apart; a clash is an error below.
    let _ = getrandom::fill(&mut random);
    let (process, random) = (std::process::id(), u32::from_le_bytes(random));
    target.with_file_name(format!(".{name}.{process:x}-{random:08x}{UNFINISHED}"))
}

fn write_whole(path: &Path, pieces: &dyn Pieces) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    for index in 0..pieces.len() {
        file.write_all(&pieces.piece(index)?.unwrap_or_default())?;
    }
    file.sync_all()
}

/// Makes a rename durable. Windows does so by itself and cannot open folders as files.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    match File::open(folder)?.sync_all() {
        // Some network file systems know no such thing.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// Removes what a writer left that died; whatever goes wrong is tried again another day.
fn clear_abandoned(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let now = unix_ms(SystemTime::now());
    for entry in entries.take(MAX_FILES).flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_old = |metadata: fs::Metadata| {
            metadata
                .modified()
                .is_ok_and(|modified| unix_ms(modified).saturating_add(ABANDONED_AFTER_MS) < now)
        };
        if name.starts_with('.') && name.ends_with(UNFINISHED) && entry.metadata().is_ok_and(is_old)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64)
}

/// "No space left on device (os error 28)" as our messages are.
fn plain_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
