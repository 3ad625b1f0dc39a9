//! Reads a delta part by part, checking each before anybody sees it.

use super::WireError;
use super::bounds::{self, Bounds};
use super::complete;
use super::headers;
use super::long::LongRow;
use super::part::{self, PartHead};
use super::rows::{self, Counts};
use super::section::{BLOBS, CHUNK, HEADERS, LONG_ROW, ROWS, SALTS, check_kind, next_section};
use super::varint::Reader;
use crate::change::ChangeHeader;
use crate::delta::{
    Complete, DeltaError, HeaderSequence, SaltRun, SaltSequence, Scope, TableDelta, check_seen,
    check_table,
};
use crate::limits::MAX_PART_DECODED_BYTES;
use crate::site::SiteId;
use crate::vector::VersionVector;

/// What one part holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Of the first part only.
    pub bounds: Option<Bounds>,
    /// Salts up to the floor of a complete delta, following those of the parts before.
    pub salts: Vec<SaltRun>,
    /// Headers, following those of the parts before.
    pub headers: Vec<ChangeHeader>,
    /// Rows; the first table may go on where the part before left it, with the same
    /// columns. A long row is in the piece whose part completes it.
    pub tables: Vec<TableDelta>,
}

/// Reads the parts of one delta, in order.
///
/// What [`Decoder::push`] gives satisfies [`crate::delta::Delta::check_invariants`] so far
/// as the parts read can tell, but for keys that occur twice. Only when
/// [`Decoder::finish`] agrees is the delta whole: before, nothing of it may be kept. After
/// an error the decoder is of no more use.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Head of the first part.
    first: Option<PartHead>,
    /// Parts read.
    n_parts: u32,
    /// Over the checksums of all frames.
    name: blake3::Hasher,
    /// What the first part said.
    frame: Option<Frame>,
    /// The table that was last.
    table: Option<(String, Vec<String>)>,
    /// Rows of that table.
    n_rows: usize,
    long: Option<LongRow>,
    /// Whether sections of later versions are skipped.
    skips_unknown: bool,
    /// How many were.
    n_skipped: u64,
}

#[derive(Debug)]
struct Frame {
    to: VersionVector,
    /// The sites of `to`, in order.
    places: Vec<SiteId>,
    scope: Scope,
    complete: Option<Complete>,
    salts: SaltSequence,
    sequence: HeaderSequence,
}

impl Decoder {
    /// Expects the first part.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Expects the first part, and skips sections that only a later version can read: for who
    /// keeps and forwards a delta, and applies nothing.
    pub fn skipping_unknown() -> Decoder {
        Decoder { skips_unknown: true, ..Decoder::default() }
    }

    /// How many sections were skipped.
    pub fn n_skipped(&self) -> u64 {
        self.n_skipped
    }

    /// Reads the next part.
    ///
    /// # Errors
    /// [`WireError`]: damaged, not the next part, malformed, beyond a bound, of a later
    /// version, or contradicting itself.
    pub fn push(&mut self, part: &[u8]) -> Result<Piece, WireError> {
        let part = part::open(part)?;
        self.check_order(part.head)?;
        let body = part.body()?;
        self.name.update(&part.checksum());
        self.n_parts += 1;
        self.read_body(&body)
    }

    /// Ends the delta.
    ///
    /// # Errors
    /// [`WireError`] if parts, headers or bytes of a row are missing, or the parts are not
    /// those that were sealed together.
    pub fn finish(self) -> Result<(), WireError> {
        let expected = self.first.map_or(1, |first| first.of);
        if self.n_parts != expected {
            return Err(WireError::Incomplete { found: self.n_parts, expected });
        }
        if let Some(first) = self.first
            && self.name.finalize().as_bytes()[..16] != first.delta
        {
            return Err(WireError::Checksum);
        }
        self.finish_body()
    }

    fn finish_body(&self) -> Result<(), WireError> {
        if self.long.is_some() {
            return Err(WireError::Malformed { what: "a long row without its end", at: 0 });
        }
        let frame = self.frame.as_ref().expect("a first part has bounds, or is refused");
        frame.salts.finish()?;
        Ok(frame.sequence.finish()?)
    }

    fn check_order(&mut self, head: PartHead) -> Result<(), WireError> {
        let first = *self.first.get_or_insert(head);
        let what = if head.part != self.n_parts {
            "not the next one"
        } else if (head.delta, head.of) != (first.delta, first.of) {
            "of another delta"
        } else {
            return Ok(());
        };
        Err(WireError::Order { found: head.part, expected: self.n_parts, of: first.of, what })
    }

    fn read_body(&mut self, body: &[u8]) -> Result<Piece, WireError> {
        let mut reader = Reader::new(body);
        let mut piece = Piece::default();
        let mut counts = Counts::default();
        let mut budget = MAX_PART_DECODED_BYTES;
        // Headers whose blobs were read, or that were followed by none.
        let mut n_named = 0;
        if self.frame.is_none() {
            let (kind, section) = next_section(&mut reader)?;
            check_kind(kind)?;
            if !bounds::is_bounds(kind) {
                return Err(section.malformed("a first part without bounds"));
            }
            piece.bounds = Some(self.read_bounds(section, kind)?);
        }
        while !reader.is_empty() {
            let (kind, section) = next_section(&mut reader)?;
            if let Err(unknown) = check_kind(kind) {
                if !self.skips_unknown {
                    return Err(unknown);
                }
                self.n_skipped += 1;
                continue;
            }
            if self.long.is_some() != (kind == CHUNK) {
                return Err(section.malformed("a chunk without its row, or the reverse"));
            }
            match kind {
                SALTS => piece.salts.extend(self.read_salts(section)?),
                HEADERS => {
                    n_named = piece.headers.len();
                    piece.headers.extend(self.read_headers(section, &mut budget)?);
                }
                BLOBS => {
                    headers::read_blobs(section, &mut piece.headers[n_named..])?;
                    n_named = piece.headers.len();
                }
                ROWS => {
                    let table = rows::read(section, &mut counts, &mut budget)?;
                    self.check_rows(&table)?;
                    add_table(&mut piece, table);
                }
                LONG_ROW => self.long = Some(LongRow::read(section, &mut counts)?),
                CHUNK => self.read_chunk(section, &mut piece)?,
                _ => return Err(section.malformed("bounds where none belong")),
            }
        }
        Ok(piece)
    }

    fn read_bounds(&mut self, section: Reader<'_>, kind: u64) -> Result<Bounds, WireError> {
        let bounds = bounds::read(section, kind)?;
        let scope = Scope::new(&bounds.from, &bounds.to, &bounds.sites)?;
        check_seen(bounds.seen.as_ref(), &bounds.from)?;
        if let Some(complete) = &bounds.complete {
            complete.check(&bounds.from, &bounds.to)?;
        }
        self.frame = Some(Frame {
            places: bounds.to.iter().map(|(site, _)| site).collect(),
            scope,
            complete: bounds.complete.clone(),
            salts: SaltSequence::new(bounds.complete.as_ref()),
            sequence: HeaderSequence::new(bounds.start(), &bounds.to),
            to: bounds.to.clone(),
        });
        Ok(bounds)
    }

    fn read_salts(&mut self, section: Reader<'_>) -> Result<Vec<SaltRun>, WireError> {
        let frame = self.frame.as_mut().expect("bounds were read before");
        let salts = complete::read_salts(section, &frame.places)?;
        for run in &salts {
            frame.salts.check(run, frame.complete.as_ref())?;
        }
        Ok(salts)
    }

    fn read_headers(
        &mut self,
        section: Reader<'_>,
        budget: &mut usize,
    ) -> Result<Vec<ChangeHeader>, WireError> {
        if self.table.is_some() {
            return Err(section.malformed("headers after rows"));
        }
        let frame = self.frame.as_mut().expect("bounds were read before");
        frame.salts.finish()?;
        let headers = headers::read(section, &frame.places, budget)?;
        for header in &headers {
            frame.sequence.check(header, &frame.to)?;
        }
        Ok(headers)
    }

    fn read_chunk(&mut self, section: Reader<'_>, piece: &mut Piece) -> Result<(), WireError> {
        let Some(long) = &mut self.long else {
            return Err(section.malformed("a chunk without its row"));
        };
        long.fill(section)?;
        if let Some(long) = self.long.take_if(|long| long.is_complete()) {
            let table = long.finish();
            self.check_rows(&table)?;
            add_table(piece, table);
        }
        Ok(())
    }

    /// Checks a table's place and its rows.
    fn check_rows(&mut self, table: &TableDelta) -> Result<(), WireError> {
        let frame = self.frame.as_ref().expect("bounds were read before");
        let last = self.table.as_ref();
        let goes_on =
            last.is_some_and(|(name, columns)| (name, columns) == (&table.name, &table.columns));
        if !goes_on {
            let previous = last.map(|(name, _)| name.as_str());
            check_table(previous, &table.name, &table.columns)?;
            frame.salts.finish()?;
            frame.sequence.finish()?;
            self.table = Some((table.name.clone(), table.columns.clone()));
            self.n_rows = 0;
        }
        for row in &table.rows {
            frame.scope.check_row(table.columns.len(), row).map_err(|what| DeltaError::Row {
                table: table.name.clone(),
                row: self.n_rows,
                what,
            })?;
            self.n_rows += 1;
        }
        Ok(())
    }
}

fn add_table(piece: &mut Piece, table: TableDelta) {
    match piece.tables.last_mut().filter(|last| last.name == table.name) {
        Some(last) => last.rows.extend(table.rows),
        None => piece.tables.push(table),
    }
}

/// Reads the body of a delta of one part, as [`part::body`] unpacks it: what checksums
/// keep damaged bytes away from.
///
/// # Errors
/// As [`Decoder::push`].
pub fn decode_body(body: &[u8]) -> Result<Piece, WireError> {
    let mut decoder = Decoder::new();
    let piece = decoder.read_body(body)?;
    decoder.finish_body()?;
    Ok(piece)
}
