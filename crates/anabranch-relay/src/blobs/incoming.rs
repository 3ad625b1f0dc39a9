//! Blobs that come chunk by chunk: `blobs/incoming/<hash>`, chunk after chunk from the first.
//!
//! **Invariant:** a chunk is written behind those before it, so the length tells where to go on
//! after a cut or a kill. What a power cut left of it is hashed as a whole before the file gets
//! its name.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anabranch_sync::limits::CHUNK_BYTES;

use super::{BlobDir, BlobHash, is_older, sync_folder};

impl BlobDir {
    /// How many chunks of a blob have come: the number of the next.
    pub(crate) fn n_chunks_come(&self, hash: BlobHash) -> u64 {
        fs::metadata(self.incoming(hash)).map_or(0, |facts| facts.len() / CHUNK_BYTES as u64)
    }

    /// Keeps chunk `index`, which was proven; the last one makes the blob whole and puts it on
    /// disk. `false`: chunks before it are not here, or it was no blob in the end.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn put_chunk(
        &self,
        hash: BlobHash,
        index: u64,
        bytes: &[u8],
        is_last: bool,
    ) -> io::Result<bool> {
        let path = self.incoming(hash);
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(false).open(&path)?;
        let start = index * CHUNK_BYTES as u64;
        // Two connections may bring one blob: what is there already is the same.
        if start > file.metadata()?.len() {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(start))?;
        file.write_all(bytes)?;
        if !is_last {
            return Ok(true);
        }
        file.set_len(start + bytes.len() as u64)?;
        file.sync_all()?;
        drop(file);
        self.finish(hash)
    }

    /// Gives a file that has come whole its name, if it is what its name says.
    fn finish(&self, hash: BlobHash) -> io::Result<bool> {
        let beside = self.incoming(hash);
        let found = match File::open(&beside) {
            Ok(file) => hash_of(file)?,
            // Another connection brought the last chunk too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.hold(hash).map(|held| held.is_some());
            }
            Err(error) => return Err(error),
        };
        if found != hash {
            fs::remove_file(&beside)?;
            return Ok(false);
        }
        let path = self.path(hash);
        let folder = path.parent().expect("a blob lies in a folder");
        self.make_folder(folder)?;
        let _guard = self.lock_names();
        match fs::rename(&beside, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => {}
            Err(error) => return Err(error),
        }
        sync_folder(folder)?;
        Ok(true)
    }

    /// Reads chunk `index` of a blob; `None` if there is none.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn chunk(&self, hash: BlobHash, index: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.file(hash)? else { return Ok(None) };
        file.seek(SeekFrom::Start(index * CHUNK_BYTES as u64))?;
        let mut bytes = Vec::new();
        file.take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// A blob's file; `None` if there is none.
    pub(super) fn file(&self, hash: BlobHash) -> io::Result<Option<File>> {
        match File::open(self.path(hash)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets blobs that nobody went on with for `age`.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn forget_incoming(&self, age: Duration, now: SystemTime) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join("incoming"))? {
            let entry = entry?;
            if is_older(&entry.metadata()?, age, now) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn incoming(&self, hash: BlobHash) -> PathBuf {
        self.root.join("incoming").join(hash.to_string())
    }
}

fn hash_of(mut file: File) -> io::Result<BlobHash> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(BlobHash(*hasher.finalize().as_bytes())),
            n => drop(hasher.update(&bytes[..n])),
        }
    }
}
