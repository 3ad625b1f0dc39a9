//! The parts of a delta, from when they are made until they are read.
//!
//! A part's head names the whole delta and counts its parts, which is known when the last part is
//! made: until then all must be kept. Invariant: in memory are no more of their bytes than
//! the bound and one part; the rest stands in a file without a name.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use anabranch_core::wire::{Seal, seal};

use crate::error::{Result, StoreError};

/// Parts being made.
pub(super) struct Parts {
    max_bytes_in_memory: usize,
    n_bytes_in_memory: usize,
    /// The first ones.
    memory: VecDeque<Vec<u8>>,
    /// The others.
    file: Option<Spilled>,
}

/// Parts in a file, one behind the other.
struct Spilled {
    file: File,
    /// In bytes.
    lengths: VecDeque<usize>,
}

/// All parts of a delta, each taken once.
pub(super) struct SealedParts {
    parts: Parts,
    seal: Seal,
}

impl Parts {
    /// No parts yet; `max_bytes_in_memory` bounds what is not in a file.
    pub(super) fn new(max_bytes_in_memory: usize) -> Parts {
        Parts { max_bytes_in_memory, n_bytes_in_memory: 0, memory: VecDeque::new(), file: None }
    }

    /// Appends a part.
    ///
    /// # Errors
    /// [`StoreError::Temporary`].
    pub(super) fn push(&mut self, part: Vec<u8>) -> Result<()> {
        let n_bytes = self.n_bytes_in_memory + part.len();
        if self.file.is_none() && n_bytes <= self.max_bytes_in_memory {
            self.n_bytes_in_memory = n_bytes;
            self.memory.push_back(part);
            return Ok(());
        }
        self.spill(&part).map_err(StoreError::Temporary)
    }

    fn spill(&mut self, part: &[u8]) -> io::Result<()> {
        let spilled = match &mut self.file {
            Some(spilled) => spilled,
            none => none.insert(Spilled { file: tempfile::tempfile()?, lengths: VecDeque::new() }),
        };
        spilled.file.write_all(part)?;
        spilled.lengths.push_back(part.len());
        Ok(())
    }

    /// Ends the delta.
    ///
    /// # Errors
    /// [`StoreError::Temporary`].
    pub(super) fn sealed(mut self, seal: Seal) -> Result<SealedParts> {
        if let Some(spilled) = &mut self.file {
            spilled.file.seek(SeekFrom::Start(0)).map_err(StoreError::Temporary)?;
        }
        Ok(SealedParts { parts: self, seal })
    }
}

impl SealedParts {
    /// How many parts the delta has, those taken included.
    pub(super) fn of(&self) -> u32 {
        self.seal.of
    }

    /// The next part.
    ///
    /// # Errors
    /// [`StoreError::Temporary`].
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let part = match self.parts.memory.pop_front() {
            Some(part) => Some(part),
            None => self.parts.file.as_mut().map_or(Ok(None), Spilled::next)?,
        };
        Ok(part.map(|mut part| {
            seal(&mut part, &self.seal);
            part
        }))
    }

    /// All parts not taken yet, one behind the other.
    ///
    /// # Errors
    /// [`StoreError::Temporary`].
    pub(super) fn concat(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(part) = self.next()? {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }
}

impl Spilled {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(length) = self.lengths.pop_front() else { return Ok(None) };
        let mut part = vec![0; length];
        self.file.read_exact(&mut part).map_err(StoreError::Temporary)?;
        Ok(Some(part))
    }
}

#[cfg(test)]
mod tests {
    use super::Parts;
    use anabranch_core::wire::Seal;

    #[test]
    fn parts_come_back_in_order_from_memory_and_file() {
        for max_bytes in [0, 100, 250, 1 << 20] {
            let mut parts = Parts::new(max_bytes);
            for n in 0..5_u8 {
                parts.push(vec![n; 100 + usize::from(n)]).unwrap();
            }
            let in_memory: usize = parts.memory.iter().map(Vec::len).sum();
            assert!(in_memory <= max_bytes);
            let mut sealed = parts.sealed(Seal { delta: [9; 16], of: 5 }).unwrap();
            assert_eq!(sealed.of(), 5);
            for n in 0..5_u8 {
                let part = sealed.next().unwrap().unwrap();
                assert_eq!((part.len(), part[99]), (100 + usize::from(n), n));
                assert_eq!(part[8..24], [9; 16], "the seal");
            }
            assert_eq!(sealed.next().unwrap(), None);
        }
    }
}
