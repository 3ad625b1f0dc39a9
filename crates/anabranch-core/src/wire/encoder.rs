//! Writes a delta part by part, in memory bounded by one part and the largest row.

use std::collections::{BTreeMap, VecDeque};

use super::complete::{self, SaltWriter};
use super::headers::HeaderWriter;
use super::part::{self, Seal};
use super::rows::{Counts, RowWriter, content_bytes, row_bytes, table_bytes};
use super::section::{
    BLOBS, BOUNDS, CHUNK, COMPLETE, HEADERS, JOINED, LONG_ROW, OVERHEAD_BYTES, ROWS, SALTS,
    put_section,
};
use super::{bounds, long};
use crate::change::ChangeHeader;
use crate::delta::{
    Complete, DeltaError, HeaderSequence, RowDelta, SaltRun, SaltSequence, Scope, check_seen,
    check_table,
};
use crate::limits::{MAX_PART_BYTES, MAX_PART_DECODED_BYTES, MAX_PART_HEADERS, MAX_PARTS};
use crate::site::SiteId;
use crate::vector::VersionVector;

/// Bytes of a body at which a part is closed: what zstd adds to bytes that it cannot
/// compress, and the head, still fit below [`MAX_PART_BYTES`].
const FULL_BYTES: usize = MAX_PART_BYTES - (MAX_PART_BYTES >> 7);
/// Headers at which a part is closed, below what readers take: a header takes a few bytes, and
/// decoded, at whoever reads, some 200.
const FULL_HEADERS: usize = 1 << 16;
const _: () = assert!(FULL_HEADERS <= MAX_PART_HEADERS);

#[cfg(feature = "testing")]
thread_local! {
    static SMALL_BYTES: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

/// From here on this thread closes parts at so many bytes of a body, or as ever: so that small
/// deltas travel as large ones do. Rows and headers larger than that stand alone.
#[cfg(feature = "testing")]
pub fn close_parts_at(n_bytes: Option<usize>) {
    SMALL_BYTES.set(n_bytes);
}

fn full_bytes() -> usize {
    #[cfg(feature = "testing")]
    if let Some(n_bytes) = SMALL_BYTES.get() {
        return n_bytes.min(FULL_BYTES);
    }
    FULL_BYTES
}

/// Rows whose key, texts and blobs are larger travel as long rows.
const LONG_ROW_BYTES: usize = 512 << 10;
/// The smallest chunk worth a section while a part has room left.
const MIN_CHUNK_BYTES: usize = 64 << 10;
/// zstd's default: three times as fast to write as level 6 for a twentieth more bytes.
const ZSTD_LEVEL: i32 = 3;

/// Why a delta cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// What was given breaks the invariants of a delta.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// Names, births and versions of one row, or a header's dependencies, exceed a part.
    #[error("one row or header of the delta, its values aside, is larger than a part")]
    TooWide,
    /// More parts than [`MAX_PARTS`].
    #[error("the delta has more than {MAX_PARTS} parts")]
    TooManyParts,
}

/// Writes one delta: of a complete one first its salts, then all headers, then table after
/// table its rows.
///
/// After each call take the finished parts with [`Encoder::take_part`]; a long row leaves
/// several at once. They are not sealed: [`Encoder::finish`] gives the [`Seal`] that
/// [`super::seal`] writes into the head of each, wherever it has been put. After an error
/// the encoder is of no more use.
pub struct Encoder {
    to: VersionVector,
    scope: Scope,
    complete: Option<Complete>,
    salt_sequence: SaltSequence,
    sequence: HeaderSequence,
    /// Index of each site in `to`.
    places: BTreeMap<SiteId, u32>,
    /// Bytes of a body at which a part is closed.
    full_bytes: usize,
    /// Sections of the part under way.
    body: Vec<u8>,
    /// What those sections hold.
    counts: Counts,
    /// What their texts and keys grow to when they are read.
    n_grown_bytes: usize,
    salts: SaltWriter,
    headers: HeaderWriter,
    /// Name and columns of the table under way.
    table: Option<(String, Vec<String>)>,
    /// Whether the table under way has stood in any section yet.
    is_table_written: bool,
    /// Rows given, to say which one is wrong.
    n_rows: usize,
    rows: RowWriter,
    parts: VecDeque<Vec<u8>>,
    n_parts: u32,
    /// Over the checksums of all frames.
    name: blake3::Hasher,
    compressor: zstd::bulk::Compressor<'static>,
}

impl Encoder {
    /// Starts a delta with its vectors and dictionary of sites.
    ///
    /// # Errors
    /// [`EncodeError::Delta`] if `from` is above `to`, or a bound is broken.
    pub fn new(
        from: &VersionVector,
        to: &VersionVector,
        sites: &[SiteId],
    ) -> Result<Encoder, EncodeError> {
        Encoder::start(from, to, sites, (None, None))
    }

    /// Starts a complete delta: what its maker forgot, its vector and dictionary of sites.
    ///
    /// # Errors
    /// [`EncodeError::Delta`] if the floor is above `to`, or a bound is broken.
    pub fn complete(
        complete: &Complete,
        to: &VersionVector,
        sites: &[SiteId],
    ) -> Result<Encoder, EncodeError> {
        Encoder::start(&VersionVector::new(), to, sites, (Some(complete), None))
    }

    /// Starts a joined delta whose makers had seen no more of `from` than `seen`.
    ///
    /// # Errors
    /// [`EncodeError::Delta`] if `from` is above `to`, `seen` above `from`, or a bound is
    /// broken.
    pub fn joined(
        (from, seen): (&VersionVector, &VersionVector),
        to: &VersionVector,
        sites: &[SiteId],
    ) -> Result<Encoder, EncodeError> {
        Encoder::start(from, to, sites, (None, Some(seen)))
    }

    fn start(
        from: &VersionVector,
        to: &VersionVector,
        sites: &[SiteId],
        (complete, seen): (Option<&Complete>, Option<&VersionVector>),
    ) -> Result<Encoder, EncodeError> {
        check_seen(seen, from)?;
        let scope = Scope::new(from, to, sites)?;
        let mut content = Vec::new();
        bounds::put(&mut content, from, to, sites);
        if let Some(complete) = complete {
            complete.check(from, to)?;
            complete::put(&mut content, complete, to);
        }
        if let Some(seen) = seen {
            bounds::put_seen(&mut content, seen, to);
        }
        bounds::put_branches(&mut content, to);
        let mut body = Vec::new();
        let kind = match (complete, seen) {
            (Some(_), _) => COMPLETE,
            (None, Some(_)) => JOINED,
            (None, None) => BOUNDS,
        };
        put_section(&mut body, kind, &content);
        Ok(Encoder {
            to: to.clone(),
            scope,
            salt_sequence: SaltSequence::new(complete),
            sequence: HeaderSequence::new(complete.map_or(from, |complete| &complete.floor), to),
            complete: complete.cloned(),
            salts: SaltWriter::default(),
            places: (0..).zip(to.iter()).map(|(place, (site, _))| (site, place)).collect(),
            full_bytes: full_bytes(),
            body,
            counts: Counts::default(),
            n_grown_bytes: 0,
            headers: HeaderWriter::default(),
            table: None,
            is_table_written: true,
            n_rows: 0,
            rows: RowWriter::default(),
            parts: VecDeque::new(),
            n_parts: 0,
            name: blake3::Hasher::new(),
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)
                .expect("level 3 is one of zstd's levels"),
        })
    }

    /// Appends the next salts of a complete delta: by site, then version, all up to the floor.
    ///
    /// # Errors
    /// [`EncodeError::Delta`] if they are not the next ones.
    ///
    /// # Panics
    /// After the first header.
    pub fn salts(&mut self, run: &SaltRun) -> Result<(), EncodeError> {
        assert!(self.headers.n_headers() == 0, "salts come before headers");
        self.salt_sequence.check(run, self.complete.as_ref())?;
        self.salts.push(run, &self.places);
        let is_full = self.body.len() + self.salts.len() + MAX_RUN_BYTES.min(self.full_bytes / 2)
            > self.full_bytes
            || self.salts.n_runs() == MAX_PART_HEADERS;
        if is_full { self.close_part() } else { Ok(()) }
    }

    /// Appends the next header: by site, then version, none left out.
    ///
    /// # Errors
    /// [`EncodeError::Delta`] if it is not the next one.
    ///
    /// # Panics
    /// After the first [`Encoder::table`].
    pub fn header(&mut self, header: &ChangeHeader) -> Result<(), EncodeError> {
        assert!(self.table.is_none(), "headers come before tables");
        self.salt_sequence.finish()?;
        self.sequence.check(header, &self.to)?;
        self.headers.push(header, &self.places);
        let n_bytes = self.body.len() + self.salts.len() + self.headers.len();
        let is_full = n_bytes + MAX_HEADER_BYTES.min(self.full_bytes / 2) > self.full_bytes
            || self.headers.n_headers() == FULL_HEADERS
            || self.headers.n_text_bytes() > MAX_PART_DECODED_BYTES / 2;
        if is_full { self.close_part() } else { Ok(()) }
    }

    /// Starts the next table, by name.
    ///
    /// # Errors
    /// [`EncodeError::Delta`] if headers are missing, or the table is not the next by name.
    pub fn table(&mut self, name: &str, columns: &[String]) -> Result<(), EncodeError> {
        self.salt_sequence.finish()?;
        self.sequence.finish()?;
        self.end_table()?;
        check_table(self.table.as_ref().map(|(name, _)| name.as_str()), name, columns)?;
        self.table = Some((name.to_owned(), columns.to_vec()));
        self.is_table_written = false;
        self.n_rows = 0;
        self.rows.open(columns.len());
        Ok(())
    }

    /// Appends a row of the table under way.
    ///
    /// # Errors
    /// [`EncodeError`]: a row that breaks the invariants, or too wide for a part.
    ///
    /// # Panics
    /// Before the first [`Encoder::table`].
    pub fn row(&mut self, row: &RowDelta) -> Result<(), EncodeError> {
        let (name, columns) = self.table.as_ref().expect("rows come after their table");
        self.scope.check_row(columns.len(), row).map_err(|what| {
            EncodeError::Delta(DeltaError::Row { table: name.clone(), row: self.n_rows, what })
        })?;
        self.n_rows += 1;
        if content_bytes(row) > LONG_ROW_BYTES {
            return self.long_row(row);
        }
        let n_bytes = self.n_pending_bytes() + row_bytes(row);
        let n_grown_bytes = self.n_grown_bytes + self.rows.n_key_bytes() + row.key.len();
        if n_bytes > self.full_bytes
            || n_grown_bytes > MAX_PART_DECODED_BYTES / 2
            || !self.rows.has_room(row, &self.counts)
        {
            self.close_part()?;
            if !self.rows.has_room(row, &self.counts) {
                return Err(EncodeError::TooWide);
            }
        }
        if self.rows.is_empty() {
            self.make_room_for_section()?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// The next finished part, unsealed.
    pub fn take_part(&mut self) -> Option<Vec<u8>> {
        self.parts.pop_front()
    }

    /// Ends the delta: the parts not taken yet, and the seal of all.
    ///
    /// # Errors
    /// [`EncodeError`]: headers are missing, or too many parts.
    pub fn finish(mut self) -> Result<(Vec<Vec<u8>>, Seal), EncodeError> {
        self.salt_sequence.finish()?;
        self.sequence.finish()?;
        self.end_table()?;
        if !self.body.is_empty() || self.headers.n_headers() + self.salts.n_runs() > 0 {
            self.close_part()?;
        }
        let mut delta = [0; 16];
        delta.copy_from_slice(&self.name.finalize().as_bytes()[..16]);
        Ok((self.parts.into(), Seal { delta, of: self.n_parts }))
    }

    /// Upper bound of the body's size if it were closed now.
    fn n_pending_bytes(&self) -> usize {
        let table = self.table.as_ref().map_or(0, |(name, columns)| table_bytes(name, columns));
        self.body.len()
            + self.salts.len()
            + self.headers.len()
            + table
            + self.rows.len()
            + 3 * OVERHEAD_BYTES
    }

    /// Writes what is pending of headers and rows as sections.
    fn close_sections(&mut self) {
        if self.salts.n_runs() > 0 {
            let salts = std::mem::take(&mut self.salts);
            put_section(&mut self.body, SALTS, &salts.finish());
        }
        if self.headers.n_headers() > 0 {
            let mut headers = std::mem::take(&mut self.headers);
            self.n_grown_bytes += headers.n_text_bytes();
            let blobs = headers.take_blobs();
            put_section(&mut self.body, HEADERS, &headers.finish());
            if let Some(blobs) = blobs {
                put_section(&mut self.body, BLOBS, &blobs);
            }
        }
        if !self.rows.is_empty() {
            let (name, columns) = self.table.as_ref().expect("rows come after their table");
            self.n_grown_bytes += self.rows.n_key_bytes();
            let content = self.rows.finish(name, columns, &mut self.counts);
            put_section(&mut self.body, ROWS, &content);
            self.is_table_written = true;
        }
    }

    /// Ends the table under way: a table without rows is a section too.
    fn end_table(&mut self) -> Result<(), EncodeError> {
        if self.n_pending_bytes() > self.full_bytes {
            self.close_part()?;
        }
        self.close_sections();
        if self.is_table_written {
            return Ok(());
        }
        self.make_room_for_section()?;
        if let Some((name, columns)) = &self.table {
            let content = self.rows.finish(name, columns, &mut self.counts);
            put_section(&mut self.body, ROWS, &content);
            self.is_table_written = true;
        }
        Ok(())
    }

    /// Closes the part if one more section with names would exceed its bounds; no rows may
    /// be pending.
    fn make_room_for_section(&mut self) -> Result<(), EncodeError> {
        let n_columns = self.table.as_ref().map_or(0, |(_, columns)| columns.len());
        if self.counts.has_room(n_columns) { Ok(()) } else { self.close_part() }
    }

    fn close_part(&mut self) -> Result<(), EncodeError> {
        self.close_sections();
        let number = self.n_parts;
        if number == MAX_PARTS {
            return Err(EncodeError::TooManyParts);
        }
        let made = part::make(&self.body, number, &mut self.compressor);
        let (part, checksum) = made.ok_or(EncodeError::TooWide)?;
        self.name.update(&checksum);
        self.parts.push_back(part);
        self.n_parts += 1;
        self.body.clear();
        self.counts = Counts::default();
        self.n_grown_bytes = 0;
        Ok(())
    }

    fn long_row(&mut self, row: &RowDelta) -> Result<(), EncodeError> {
        self.close_sections();
        self.make_room_for_section()?;
        let (name, columns) = self.table.as_ref().expect("rows come after their table");
        let n_columns = columns.len();
        let description = long::describe(name, columns, row);
        if self.body.len() + description.len() + MIN_CHUNK_BYTES > FULL_BYTES {
            self.close_part()?;
        }
        put_section(&mut self.body, LONG_ROW, &description);
        self.counts.add_names(n_columns);
        self.is_table_written = true;
        for mut bytes in long::contents(row) {
            while !bytes.is_empty() {
                if self.body.len() + MIN_CHUNK_BYTES > FULL_BYTES {
                    self.close_part()?;
                }
                let room = FULL_BYTES - OVERHEAD_BYTES - self.body.len();
                let (chunk, rest) = bytes.split_at(room.min(bytes.len()));
                put_section(&mut self.body, CHUNK, chunk);
                bytes = rest;
            }
        }
        Ok(())
    }
}

/// Most bytes of a run of salts.
const MAX_RUN_BYTES: usize = 24;

/// Room that a part keeps for one more header: its texts, a dependency on every site, blobs.
const MAX_HEADER_BYTES: usize = crate::limits::MAX_AUTHOR_BYTES
    + crate::limits::MAX_MESSAGE_BYTES
    + 32 * crate::limits::MAX_SITES
    + 32 * crate::limits::MAX_CHANGE_BLOBS
    + 64;
