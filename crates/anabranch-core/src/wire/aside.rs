//! Rows and headers as bytes, for whoever puts them aside while he makes a delta that is too
//! large to be held: the sections that stand in a part, without a part around them. They last
//! as long as their maker; only the format of parts is kept between versions.

use std::collections::BTreeMap;

use super::WireError;
use super::headers::{self, HeaderWriter};
use super::long::{self, LongRow};
use super::rows::{self, Counts, RowWriter, content_bytes};
use super::section::{BLOBS, CHUNK, HEADERS, LONG_ROW, ROWS, next_section, put_section};
use super::varint::Reader;
use crate::change::ChangeHeader;
use crate::delta::TableDelta;
use crate::limits::MAX_PART_DECODED_BYTES;
use crate::site::SiteId;
use crate::vector::VersionVector;

/// Rows whose key, texts and blobs are larger stand alone.
const LONG_ROW_BYTES: usize = 64 << 10;

/// The rows of one table.
pub fn put_rows(table: &TableDelta) -> Vec<u8> {
    let TableDelta { name, columns, rows } = table;
    let mut out = Vec::new();
    let mut writer = RowWriter::default();
    writer.open(columns.len());
    let end = |writer: &mut RowWriter, out: &mut Vec<u8>| {
        if !writer.is_empty() {
            let content = writer.finish(name, columns, &mut Counts::default());
            put_section(out, ROWS, &content);
        }
    };
    for row in rows {
        let is_long = content_bytes(row) > LONG_ROW_BYTES;
        if is_long || !writer.has_room(row, &Counts::default()) {
            end(&mut writer, &mut out);
        }
        if is_long {
            put_section(&mut out, LONG_ROW, &long::describe(name, columns, row));
            let stretches = long::contents(row).filter(|bytes| !bytes.is_empty());
            stretches.for_each(|bytes| put_section(&mut out, CHUNK, bytes));
        } else {
            writer.push(row);
        }
    }
    end(&mut writer, &mut out);
    out
}

/// Reads what [`put_rows`] wrote; a table without rows where there were none.
///
/// # Errors
/// [`WireError`] if the bytes were damaged.
pub fn take_rows(bytes: &[u8]) -> Result<TableDelta, WireError> {
    let mut reader = Reader::new(bytes);
    let mut all: Option<TableDelta> = None;
    let mut long: Option<LongRow> = None;
    while !reader.is_empty() {
        let (kind, section) = next_section(&mut reader)?;
        let mut counts = Counts::default();
        let table = match (kind, &mut long) {
            (ROWS, None) => rows::read(section, &mut counts, &mut { MAX_PART_DECODED_BYTES })?,
            (LONG_ROW, None) => {
                long = Some(LongRow::read(section, &mut counts)?);
                continue;
            }
            (CHUNK, Some(row)) => {
                row.fill(section)?;
                match long.take_if(|row| row.is_complete()) {
                    Some(row) => row.finish(),
                    None => continue,
                }
            }
            _ => return Err(section.malformed("rows put aside")),
        };
        match &mut all {
            Some(all) => all.rows.extend(table.rows),
            None => all = Some(table),
        }
    }
    if long.is_some() {
        return Err(reader.malformed("a long row without its end"));
    }
    Ok(all.unwrap_or_default())
}

/// Headers whose sites and dependencies are all in `to`.
pub fn put_headers(headers: &[ChangeHeader], to: &VersionVector) -> Vec<u8> {
    let places: BTreeMap<SiteId, u32> =
        (0..).zip(to.iter()).map(|(place, (site, _))| (site, place)).collect();
    let mut writer = HeaderWriter::default();
    headers.iter().for_each(|header| writer.push(header, &places));
    let mut out = Vec::new();
    let blobs = writer.take_blobs();
    put_section(&mut out, HEADERS, &writer.finish());
    if let Some(blobs) = blobs {
        put_section(&mut out, BLOBS, &blobs);
    }
    out
}

/// Reads what [`put_headers`] wrote, with the same `to`.
///
/// # Errors
/// [`WireError`] if the bytes were damaged.
pub fn take_headers(bytes: &[u8], to: &VersionVector) -> Result<Vec<ChangeHeader>, WireError> {
    let places: Vec<SiteId> = to.iter().map(|(site, _)| site).collect();
    let mut reader = Reader::new(bytes);
    let mut headers = Vec::new();
    while !reader.is_empty() {
        match next_section(&mut reader)? {
            (HEADERS, section) => {
                headers = headers::read(section, &places, &mut { MAX_PART_DECODED_BYTES })?;
            }
            (BLOBS, section) => headers::read_blobs(section, &mut headers)?,
            (_, section) => return Err(section.malformed("headers put aside")),
        }
    }
    Ok(headers)
}
