//! What a complete delta says of its floor: after its bounds, in the same section, floor and
//! tables; in sections of their own, before the headers, the salts up to the floor.
//!
//! ```text
//! n_floor, then each: place, version, and if that is below version of to: chain (16)
//! n_tables, then each: name (text), restart length << 1 | is whole
//!
//! n_runs, then each: place, first version, salt (8)
//! ```

use std::collections::BTreeMap;

use super::WireError;
use super::varint::{Reader, copied_text, put_bytes, put_varint, room};
use crate::clock::Chain;
use crate::delta::{Complete, SaltRun, TableFloor};
use crate::limits::{MAX_COLUMN_VERSION, MAX_PART_HEADERS, MAX_PART_TABLES, MAX_VERSION};
use crate::site::SiteId;
use crate::vector::{Held, VersionVector};

/// Fewest bytes of a run of salts.
const MIN_RUN_BYTES: usize = 10;

pub(super) fn put(out: &mut Vec<u8>, complete: &Complete, to: &VersionVector) {
    put_varint(out, complete.floor.len() as u64);
    for (place, (site, held)) in (0..).zip(to.iter()) {
        let Some(low) = complete.floor.get(site) else { continue };
        put_varint(out, place);
        put_varint(out, low.version);
        if low.version < held.version {
            out.extend_from_slice(&low.chain.0);
        }
    }
    put_varint(out, complete.tables.len() as u64);
    for TableFloor { name, restart_length, is_whole } in &complete.tables {
        put_bytes(out, name.as_bytes());
        put_varint(out, restart_length << 1 | u64::from(*is_whole));
    }
}

/// Reads what follows the bounds; `to` in order.
pub(super) fn read(section: &mut Reader<'_>, to: &[(SiteId, Held)]) -> Result<Complete, WireError> {
    let mut complete = Complete::default();
    let n_floor = section.count("sites", to.len())?;
    let mut next = 0;
    for _ in 0..n_floor {
        let place = section.index("site of the floor", to.len())? as usize;
        if place < next {
            return Err(section.malformed("order of the floor"));
        }
        next = place + 1;
        let (site, held) = to[place];
        let version = section.varint("version of the floor")?;
        if version == 0 || version > held.version {
            return Err(section.malformed("version of the floor"));
        }
        let chain = match version == held.version {
            true => held.chain,
            false => Chain(section.array("chain of the floor")?),
        };
        complete.floor.set(site, Held { version, chain });
    }
    let n_tables = section.count("tables", MAX_PART_TABLES)?;
    complete.tables = room(n_tables.min(section.len() / 2))?;
    for _ in 0..n_tables {
        let name = copied_text(section.text("name of a table")?)?;
        let packed = section.varint("restart length")?;
        let (restart_length, is_whole) = (packed >> 1, packed & 1 == 1);
        if restart_length > MAX_COLUMN_VERSION {
            return Err(section.malformed("restart length"));
        }
        complete.tables.push(TableFloor { name, restart_length, is_whole });
    }
    Ok(complete)
}

/// Collects the salts of one part.
#[derive(Clone, Debug, Default)]
pub(super) struct SaltWriter {
    n_runs: usize,
    out: Vec<u8>,
}

impl SaltWriter {
    /// Appends a run of a site that is in `places`, the order of `to`.
    pub(super) fn push(&mut self, run: &SaltRun, places: &BTreeMap<SiteId, u32>) {
        self.n_runs += 1;
        put_varint(&mut self.out, u64::from(places[&run.site]));
        put_varint(&mut self.out, run.version);
        self.out.extend_from_slice(&run.salt.to_le_bytes());
    }

    pub(super) fn n_runs(&self) -> usize {
        self.n_runs
    }

    /// Bytes that [`SaltWriter::finish`] will give, at most.
    pub(super) fn len(&self) -> usize {
        self.out.len() + 10
    }

    /// The section's content.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        put_varint(&mut out, self.n_runs as u64);
        out.extend_from_slice(&self.out);
        out
    }
}

/// Reads one section of salts; `to` is the delta's sites in order.
pub(super) fn read_salts(
    mut section: Reader<'_>,
    to: &[SiteId],
) -> Result<Vec<SaltRun>, WireError> {
    let n_runs = section.count("runs of salts", MAX_PART_HEADERS)?;
    let mut salts = room(n_runs.min(section.len() / MIN_RUN_BYTES + 1))?;
    for _ in 0..n_runs {
        let site = to[section.index("site of a salt", to.len())? as usize];
        let version = section.varint("version of a salt")?;
        if version > MAX_VERSION {
            return Err(section.malformed("version of a salt"));
        }
        let salt = u64::from_le_bytes(section.array("salt")?);
        salts.push(SaltRun { site, version, salt });
    }
    section.finish("bytes after the salts")?;
    Ok(salts)
}
