//! Records in streams, written in any order of streams and read stream by stream, each from
//! its start or from a record within.
//!
//! For headers: a delta has as many as somebody wrote in a year, and all are known before its
//! first row. Invariant: in memory are no more of their bytes than the bound, a piece of each
//! stream that is being written, and one of each that is being read; the rest stands in a
//! file without a name.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::error::{Result, StoreError};
use crate::limits::{MAX_SPOOL_BYTES_IN_MEMORY, MAX_SPOOL_PIECE_BYTES, MAX_SPOOL_PIECES_BYTES};

/// Streams of records.
pub(crate) struct Spool {
    streams: Vec<Stream>,
    /// From how many bytes on a piece is put away.
    piece_bytes: usize,
    max_bytes_in_memory: usize,
    n_bytes_in_memory: usize,
    file: Option<File>,
    n_bytes_in_file: u64,
}

#[derive(Default)]
struct Stream {
    pieces: Vec<Piece>,
    /// Records not put away yet, each behind its length (u32).
    open: Vec<u8>,
    n_records: u64,
    /// Number of the first record in `open`.
    first_open: u64,
}

/// Records of one stream that follow each other.
struct Piece {
    /// Number of the first one in its stream.
    first: u64,
    place: Place,
}

enum Place {
    Memory(Box<[u8]>),
    File { start: u64, n_bytes: usize },
}

/// Where reading a stream is.
pub(crate) struct Cursor {
    stream: usize,
    /// The next piece.
    next: usize,
    /// The present one.
    bytes: Vec<u8>,
    /// Where in it the next record begins.
    at: usize,
}

impl Spool {
    /// No records; `n_streams` streams, numbered from 0.
    pub(crate) fn new(n_streams: usize) -> Spool {
        Spool::bounded(n_streams, MAX_SPOOL_BYTES_IN_MEMORY)
    }

    fn bounded(n_streams: usize, max_bytes_in_memory: usize) -> Spool {
        let piece_bytes = MAX_SPOOL_PIECES_BYTES / n_streams.max(1);
        Spool {
            streams: (0..n_streams).map(|_| Stream::default()).collect(),
            piece_bytes: piece_bytes.min(MAX_SPOOL_PIECE_BYTES),
            max_bytes_in_memory,
            n_bytes_in_memory: 0,
            file: None,
            n_bytes_in_file: 0,
        }
    }

    /// One stream more; its number.
    pub(crate) fn add_stream(&mut self) -> usize {
        self.streams.push(Stream::default());
        self.streams.len() - 1
    }

    /// How many streams there are.
    pub(crate) fn n_streams(&self) -> usize {
        self.streams.len()
    }

    /// How many records a stream has.
    pub(crate) fn n_records(&self, stream: usize) -> u64 {
        self.streams[stream].n_records
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> u64 {
        self.streams.iter().map(|stream| stream.n_records).sum()
    }

    /// Appends a record to a stream: what `write` appends to the bytes it is given.
    ///
    /// # Errors
    /// [`StoreError::Temporary`].
    pub(crate) fn push(&mut self, stream: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let Stream { open, n_records, .. } = &mut self.streams[stream];
        let start = open.len();
        open.extend_from_slice(&[0; 4]);
        write(open);
        let n_bytes = (open.len() - start - 4) as u32;
        open[start..start + 4].copy_from_slice(&n_bytes.to_le_bytes());
        *n_records += 1;
        if open.len() < self.piece_bytes {
            return Ok(());
        }
        self.put_away(stream).map_err(StoreError::Temporary)
    }

    fn put_away(&mut self, stream: usize) -> io::Result<()> {
        let Stream { pieces, open, n_records, first_open } = &mut self.streams[stream];
        let n_bytes = open.len();
        let n_bytes_in_memory = self.n_bytes_in_memory + n_bytes;
        let place = if self.file.is_none() && n_bytes_in_memory <= self.max_bytes_in_memory {
            self.n_bytes_in_memory = n_bytes_in_memory;
            Place::Memory(open.as_slice().into())
        } else {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(tempfile::tempfile()?),
            };
            let start = self.n_bytes_in_file;
            file.seek(SeekFrom::Start(start))?;
            file.write_all(open)?;
            self.n_bytes_in_file += n_bytes as u64;
            Place::File { start, n_bytes }
        };
        open.clear();
        pieces.push(Piece { first: *first_open, place });
        *first_open = *n_records;
        Ok(())
    }

    /// Begins to read a stream with its record number `from`, counted from 0.
    ///
    /// # Errors
    /// As [`Spool::next`].
    pub(crate) fn read(&self, stream: usize, from: u64) -> Result<Cursor> {
        let Stream { pieces, first_open, .. } = &self.streams[stream];
        let after = pieces.partition_point(|piece| piece.first <= from);
        let (next, first) = match after.checked_sub(1).map(|at| (at, pieces[at].first)) {
            Some(found) if from < *first_open => found,
            _ => (pieces.len(), *first_open),
        };
        let mut cursor = Cursor { stream, next, bytes: Vec::new(), at: 0 };
        for _ in first..from {
            self.next(&mut cursor)?;
        }
        Ok(cursor)
    }

    /// The next record; `None` at the end. Nothing may be pushed to the stream meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Temporary`].
    pub(crate) fn next<'c>(&self, cursor: &'c mut Cursor) -> Result<Option<&'c [u8]>> {
        if cursor.at == cursor.bytes.len() && !self.load(cursor).map_err(StoreError::Temporary)? {
            return Ok(None);
        }
        let rest = &cursor.bytes[cursor.at..];
        let (length, rest) = rest.split_first_chunk::<4>().expect("records as they were written");
        let n_bytes = u32::from_le_bytes(*length) as usize;
        cursor.at += 4 + n_bytes;
        Ok(Some(&rest[..n_bytes]))
    }

    /// Reads the next piece, if there is one.
    fn load(&self, cursor: &mut Cursor) -> io::Result<bool> {
        let stream = &self.streams[cursor.stream];
        cursor.at = 0;
        cursor.bytes.clear();
        match stream.pieces.get(cursor.next).map(|piece| &piece.place) {
            Some(Place::Memory(bytes)) => cursor.bytes.extend_from_slice(bytes),
            Some(Place::File { start, n_bytes }) => {
                let mut file = self.file.as_ref().expect("a piece stands in it");
                cursor.bytes.resize(*n_bytes, 0);
                file.seek(SeekFrom::Start(*start))?;
                file.read_exact(&mut cursor.bytes)?;
            }
            None if cursor.next == stream.pieces.len() => {
                cursor.bytes.extend_from_slice(&stream.open);
            }
            None => {}
        }
        cursor.next += 1;
        Ok(!cursor.bytes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read_from_any_record_on() {
        for max_bytes_in_memory in [0, 10_000, 1 << 20] {
            let mut spool = Spool::bounded(3, max_bytes_in_memory);
            let record = |stream: usize, n: u64| vec![stream as u8 + 1; (n % 97) as usize];
            for n in 0..3000 {
                // The third stream stays empty, the second has a record in ten.
                for stream in 0..if n % 10 == 0 { 2 } else { 1 } {
                    let n = spool.n_records(stream);
                    spool.push(stream, |to| to.extend(record(stream, n))).unwrap();
                }
            }
            assert_eq!(
                (spool.n_records(0), spool.n_records(1), spool.n_records(2)),
                (3000, 300, 0)
            );
            assert_eq!(spool.len(), 3300);
            let in_memory: usize = spool.streams.iter().map(|stream| stream.open.len()).sum();
            assert!(spool.n_bytes_in_memory <= max_bytes_in_memory);
            assert!(in_memory < 3 * MAX_SPOOL_PIECE_BYTES);
            for (stream, from) in [(0, 0), (1, 0), (0, 1), (0, 1500), (1, 299), (0, 3000), (2, 0)] {
                let mut cursor = spool.read(stream, from).unwrap();
                for n in from..spool.n_records(stream) {
                    let found = spool.next(&mut cursor).unwrap();
                    assert_eq!(found, Some(&record(stream, n)[..]), "{stream}, {n}");
                }
                assert_eq!(spool.next(&mut cursor).unwrap(), None);
                assert_eq!(spool.next(&mut cursor).unwrap(), None);
            }
        }
    }
}
