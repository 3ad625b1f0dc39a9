//! The parts of a delta that this copy gives, from when they are made until the peer has them.
//!
//! A peer asks for parts by number, some of them again. Invariant: in memory are no more of
//! their bytes than the bound and one part; the rest stands in a file without a name.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use bytes::Bytes;

use crate::storage::Pieces;

/// Parts by number, from 0.
#[derive(Default)]
pub(crate) struct Spool {
    max_bytes_in_memory: u64,
    /// The first ones.
    memory: Vec<Bytes>,
    /// Where each of the others begins and ends in the file.
    spilled: Vec<(u64, u64)>,
    file: Option<File>,
    n_bytes: u64,
}

impl Spool {
    /// No parts yet; `max_bytes_in_memory` bounds what is not in a file.
    pub(crate) fn new(max_bytes_in_memory: u64) -> Spool {
        Spool { max_bytes_in_memory, ..Spool::default() }
    }

    /// Appends a part.
    ///
    /// # Errors
    /// Of the temporary file.
    pub(crate) fn push(&mut self, part: Vec<u8>) -> io::Result<()> {
        let (start, end) = (self.n_bytes, self.n_bytes + part.len() as u64);
        if self.file.is_none() && end <= self.max_bytes_in_memory {
            self.memory.push(part.into());
        } else {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(tempfile::tempfile()?),
            };
            let start = self.spilled.last().map_or(0, |(_, end)| *end);
            file.seek(SeekFrom::Start(start))?;
            file.write_all(&part)?;
            self.spilled.push((start, start + part.len() as u64));
        }
        self.n_bytes += end - start;
        Ok(())
    }
}

impl Pieces for Spool {
    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn len(&self) -> usize {
        self.memory.len() + self.spilled.len()
    }

    fn piece(&self, index: usize) -> io::Result<Option<Bytes>> {
        if let Some(part) = self.memory.get(index) {
            return Ok(Some(part.clone()));
        }
        let place = self.spilled.get(index - self.memory.len());
        let (Some((start, end)), Some(mut file)) = (place, self.file.as_ref()) else {
            return Ok(None);
        };
        let mut part = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(*start))?;
        file.read_exact(&mut part)?;
        Ok(Some(part.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_in_any_order_and_again() {
        for max_bytes_in_memory in [0, 5, 9, 1000] {
            let mut spool = Spool::new(max_bytes_in_memory);
            let parts: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 3 + usize::from(n)]).collect();
            parts.iter().for_each(|part| spool.push(part.clone()).unwrap());
            assert_eq!((spool.len(), spool.n_bytes()), (5, 25));
            for index in [4, 0, 2, 2, 1, 3] {
                let part = spool.piece(index).unwrap();
                assert_eq!(part.as_deref(), Some(&parts[index][..]), "{max_bytes_in_memory}");
            }
            assert_eq!(spool.piece(5).unwrap(), None);
            let n_in_memory: usize = spool.memory.iter().map(Bytes::len).sum();
            assert!(n_in_memory as u64 <= max_bytes_in_memory);
        }
    }
}
