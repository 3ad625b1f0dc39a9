//! The sections of a decoded part: `[kind varint][length varint][content]`.

use super::WireError;
use super::varint::{Reader, put_bytes, put_varint};

/// `from`, `to` and the dictionary of sites; the first section of the first part.
pub(super) const BOUNDS: u64 = 1;
/// Headers of changes.
pub(super) const HEADERS: u64 = 2;
/// Rows of one table, by column.
pub(super) const ROWS: u64 = 3;
/// One row too large for a part.
pub(super) const LONG_ROW: u64 = 4;
/// Bytes of the long row before.
pub(super) const CHUNK: u64 = 5;
/// Salts up to the floor of a complete delta.
pub(super) const SALTS: u64 = 6;
/// Blobs that the headers directly before name.
pub(super) const BLOBS: u64 = 7;
/// Bounds of a complete delta, in the place of [`BOUNDS`].
pub(super) const COMPLETE: u64 = 21;
/// Bounds of a joined delta whose makers had not seen all of `from`, in the place of
/// [`BOUNDS`].
pub(super) const JOINED: u64 = 22;

/// Kinds that later versions will write, by the name under which this one refuses them.
const RESERVED: &[(u64, &str)] = &[
    (16, "a parked operation"),
    (17, "a superseded value"),
    (18, "an undo image"),
    (19, "a kind state"),
    (20, "a document update"),
];

/// Most bytes that a kind and a length take.
pub(super) const OVERHEAD_BYTES: usize = 6;

pub(super) fn put_section(out: &mut Vec<u8>, kind: u64, content: &[u8]) {
    put_varint(out, kind);
    put_bytes(out, content);
}

/// The next section, whatever its kind; [`check_kind`] says whether this version reads it.
pub(super) fn next_section<'a>(body: &mut Reader<'a>) -> Result<(u64, Reader<'a>), WireError> {
    let kind = body.varint("kind of a section")?;
    Ok((kind, body.stretch("length of a section")?))
}

/// Refuses kinds of later versions, by name where they have one.
pub(super) fn check_kind(kind: u64) -> Result<(), WireError> {
    if let Some((_, what)) = RESERVED.iter().find(|(reserved, _)| *reserved == kind) {
        return Err(WireError::Unsupported { what });
    }
    if !(BOUNDS..=BLOBS).contains(&kind) && !matches!(kind, COMPLETE | JOINED) {
        return Err(WireError::UnknownSection { kind });
    }
    Ok(())
}
