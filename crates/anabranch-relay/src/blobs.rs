//! Content-addressed files: `blobs/ab/cd/<64 hex digits>`, named by the BLAKE3 of their
//! bytes (O'Connor et al. 2020).
//!
//! **Invariant:** a file under its final name is whole and on disk: it is written beside,
//! synced, renamed, and its folder synced. Who puts a blob that exists renews its time, so
//! that [`BlobDir::collect`] never takes what somebody is about to name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;

mod incoming;
mod proofs;

pub(crate) use proofs::Proofs;

/// BLAKE3 of a blob's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlobHash(pub(crate) [u8; 32]);

impl BlobHash {
    /// The hash of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> BlobHash {
        BlobHash(*blake3::hash(bytes).as_bytes())
    }

    fn from_hex(text: &str) -> Option<BlobHash> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(BlobHash)
    }
}

impl std::fmt::Display for BlobHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// A folder of blobs. Its methods wait for the disk: call them where that may be.
#[derive(Debug)]
pub(crate) struct BlobDir {
    root: PathBuf,
    /// Held while a file gets or loses its final name: collecting looks at a file's time and
    /// removes it under one lock.
    names: Mutex<()>,
}

impl BlobDir {
    /// Makes the folder, and removes what an earlier process left half written.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn open(root: &Path) -> io::Result<BlobDir> {
        let staging = root.join("staging");
        if staging.exists() {
            fs::remove_dir_all(&staging)?;
        }
        fs::create_dir_all(&staging)?;
        fs::create_dir_all(root.join("incoming"))?;
        Ok(BlobDir { root: root.to_path_buf(), names: Mutex::new(()) })
    }

    /// Stores `bytes`; they are on disk when this returns.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn put(&self, bytes: &[u8]) -> io::Result<BlobHash> {
        let hash = BlobHash::of(bytes);
        if self.renew(hash)? {
            return Ok(hash);
        }
        let mut unique = [0; 8];
        getrandom::fill(&mut unique).map_err(io::Error::other)?;
        let beside = self.root.join("staging").join(HEXLOWER.encode(&unique));
        let mut file = File::create_new(&beside)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        drop(file);
        if let Err(error) = written.and_then(|()| self.name(&beside, hash)) {
            // Who tries again and again must not fill what is left of a full disk with halves.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        Ok(hash)
    }

    /// Gives a file that is whole and synced its final name.
    fn name(&self, beside: &Path, hash: BlobHash) -> io::Result<()> {
        let path = self.path(hash);
        let folder = path.parent().expect("a blob lies in a folder");
        self.make_folder(folder)?;
        let _guard = self.lock_names();
        fs::rename(beside, &path)?;
        sync_folder(folder)
    }

    /// A file without a name on the disk of the blobs, gone with its owner.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile_in(self.root.join("staging"))
    }

    /// Reads a blob; `None` if there is none, or if it is not what its name says.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn get(&self, hash: BlobHash) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(hash)) {
            Ok(bytes) => Ok((BlobHash::of(&bytes) == hash).then_some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Blobs whose time is more than `age` before `now`.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn older_than(&self, age: Duration, now: SystemTime) -> io::Result<Vec<BlobHash>> {
        let mut old = Vec::new();
        for first in folders(&self.root)? {
            for second in folders(&first)? {
                for entry in fs::read_dir(&second)? {
                    let entry = entry?;
                    let hash = entry.file_name().to_str().and_then(BlobHash::from_hex);
                    if let Some(hash) = hash
                        && is_older(&entry.metadata()?, age, now)
                    {
                        old.push(hash);
                    }
                }
            }
        }
        Ok(old)
    }

    /// The length of a blob that is here, in bytes; its time is renewed.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn hold(&self, hash: BlobHash) -> io::Result<Option<u64>> {
        if !self.renew(hash)? {
            return Ok(None);
        }
        fs::metadata(self.path(hash)).map(|facts| Some(facts.len()))
    }

    /// Removes a blob that nothing names, unless it was put again within `age`.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn collect(&self, hash: BlobHash, age: Duration, now: SystemTime) -> io::Result<()> {
        let path = self.path(hash);
        let _guard = self.lock_names();
        match fs::metadata(&path) {
            Ok(facts) if is_older(&facts, age, now) => fs::remove_file(&path),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sets an existing blob's time to now; whether it exists.
    fn renew(&self, hash: BlobHash) -> io::Result<bool> {
        let _guard = self.lock_names();
        match File::options().write(true).open(self.path(hash)) {
            Ok(file) => file.set_modified(SystemTime::now()).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn lock_names(&self) -> std::sync::MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, hash: BlobHash) -> PathBuf {
        let name = hash.to_string();
        self.root.join(&name[..2]).join(&name[2..4]).join(name)
    }

    /// Makes both levels, each on disk before a file in it is.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        sync_folder(folder.parent().expect("two levels"))?;
        sync_folder(&self.root)
    }
}

fn is_older(facts: &fs::Metadata, age: Duration, now: SystemTime) -> bool {
    let time = facts.modified().unwrap_or(now);
    now.duration_since(time).is_ok_and(|found| found > age)
}

/// A name is on disk once its folder is.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The folders of two hex digits in `root`.
fn folders(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().len() == 2 && entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
