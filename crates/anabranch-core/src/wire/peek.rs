//! What a delta spans, from its first bytes alone.
//!
//! For whoever chooses among many files: `from` and `to` stand in the first section of the
//! first part, and a zstd frame gives out its content block by block, so that the first
//! hundred kilobytes of a file tell. What is read so is not checked against the frame's
//! checksum, which needs all of it; [`super::Decoder`] does that before anybody believes it.

use super::bounds::{self, Bounds};
use super::part::{self, PartHead};
use super::section::{OVERHEAD_BYTES, next_section};
use super::varint::Reader;
use super::{HEAD_BYTES, WireError};
use crate::delta::Scope;

/// Bytes of a file that suffice in all but extreme cases: a head, one block of a zstd frame
/// (at most 128 KiB), whose content begins with the bounds of up to 1,500 sites.
pub const PEEK_BYTES: usize = 160 << 10;

/// Head and bounds of the delta whose first bytes these are; `None` where they end too
/// early to tell, and more of the file must be read.
///
/// # Errors
/// [`WireError`] for what is no first part of a delta, however much follows.
pub fn peek(first_bytes: &[u8]) -> Result<Option<(PartHead, Bounds)>, WireError> {
    if first_bytes.len() < HEAD_BYTES {
        return match part::part_head(first_bytes) {
            Err(WireError::Truncated { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(_) => unreachable!("a head has {HEAD_BYTES} bytes"),
        };
    }
    let (head, _) = part::part_head(first_bytes)?;
    if head.part != 0 {
        let what = "not the first one";
        return Err(WireError::Order { found: head.part, expected: 0, of: head.of, what });
    }
    let Some(start) = part::unpack_start(first_bytes, OVERHEAD_BYTES)? else { return Ok(None) };
    let Some(n_bytes) = first_section_bytes(&start)? else { return Ok(None) };
    let Some(section) = part::unpack_start(first_bytes, n_bytes)? else { return Ok(None) };
    let mut reader = Reader::new(&section);
    let (kind, content) = next_section(&mut reader)?;
    let bounds = bounds::read(content, kind)?;
    Scope::new(&bounds.from, &bounds.to, &bounds.sites)?;
    if let Some(complete) = &bounds.complete {
        complete.check(&bounds.from, &bounds.to)?;
    }
    Ok(Some((head, bounds)))
}

/// Bytes of the first section, its kind and length included.
fn first_section_bytes(start: &[u8]) -> Result<Option<usize>, WireError> {
    let mut reader = Reader::new(start);
    let kind = reader.varint("kind of a section")?;
    if !bounds::is_bounds(kind) {
        return Err(reader.malformed("a first part without bounds"));
    }
    let length = reader.varint("length of a section")?;
    let before = start.len() - reader.len();
    Ok(usize::try_from(length).ok().and_then(|length| length.checked_add(before)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Chain;
    use crate::delta::Delta;
    use crate::site::SiteId;
    use crate::vector::Held;

    fn delta(n_sites: u32) -> Delta {
        let mut delta = Delta::default();
        for n in 0..n_sites {
            let mut id = [7; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            let chain = Chain(*blake3::hash(&id).as_bytes().first_chunk().unwrap());
            let site = SiteId::new(&id).unwrap();
            delta.from.set(site, Held { version: 5, chain });
            delta.to.set(site, Held { version: 5, chain });
        }
        delta
    }

    /// Cut anywhere, the first bytes say "more" or tell the truth; never anything else.
    #[test]
    fn the_first_bytes_tell_or_ask_for_more() {
        for n_sites in [0, 1, 3, 1500, 9000] {
            let delta = delta(n_sites);
            let part = crate::wire::encode(&delta).remove(0);
            let mut told = false;
            let steps = (0..part.len()).step_by(1 + part.len() / 300).chain([part.len()]);
            for len in steps {
                match peek(&part[..len]).unwrap() {
                    None => assert!(!told, "{n_sites} sites, {len} bytes"),
                    Some((head, bounds)) => {
                        told = true;
                        assert_eq!((head.part, head.of), (0, 1));
                        assert_eq!((&bounds.from, &bounds.to), (&delta.from, &delta.to));
                    }
                }
            }
            assert!(told);
            let enough = peek(&part[..part.len().min(PEEK_BYTES)]).unwrap();
            assert!(n_sites > 1500 || enough.is_some(), "{n_sites} sites");
        }
    }

    #[test]
    fn what_is_no_delta_is_refused() {
        let part = crate::wire::encode(&delta(3)).remove(0);
        for (name, change) in [("magic", 0), ("version", 4), ("checksum", 60), ("frame", 70)] {
            let mut bytes = part.clone();
            bytes[change] ^= 0x55;
            assert!(peek(&bytes).is_err(), "{name}");
        }
        assert!(peek(b"no").is_err());
        assert_eq!(peek(b"an").unwrap(), None);
    }
}
