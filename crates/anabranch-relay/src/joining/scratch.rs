//! Bytes that are put aside while a delta is made: a file without a name, gone with its owner.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// What was put aside so far.
#[derive(Debug)]
pub(super) struct Scratch {
    file: File,
    n_bytes: u64,
}

/// Where something lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    start: u64,
    n_bytes: usize,
}

impl Scratch {
    /// In `file`, which is empty.
    pub(super) fn new(file: File) -> Scratch {
        Scratch { file, n_bytes: 0 }
    }

    /// How much was put aside.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Puts `bytes` aside.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<Place> {
        let place = Place { start: self.n_bytes, n_bytes: bytes.len() };
        self.file.seek(SeekFrom::Start(place.start))?;
        self.file.write_all(bytes)?;
        self.n_bytes += bytes.len() as u64;
        Ok(place)
    }

    /// What lies at `place`.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn get(&mut self, place: Place) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.n_bytes];
        self.file.seek(SeekFrom::Start(place.start))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
