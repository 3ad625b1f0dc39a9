//! What the log says as a whole: its end, the vector and the time. Small, cloned at each
//! commit so that a rollback finds the former one.

use std::collections::BTreeMap;
use std::rc::Rc;

use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::site::SiteId;
use anabranch_core::vector::Held;

use super::varint::{Decoded, Reader, put};
use crate::ids::{AuthorId, EntryId};

/// For each author a version: the context of a change, or of all changes of an author.
pub(crate) type Versions = BTreeMap<AuthorId, u64>;

/// The log as a whole.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// This copy; `None` before the file was read.
    pub(crate) site: Option<SiteId>,
    /// The last row.
    pub(crate) last: EntryId,
    /// Its `dbv`.
    pub(crate) dbv: u64,
    /// The last row whose records are in the blocks and whose header is in `ana_vector`.
    pub(crate) folded: EntryId,
    /// What this copy authored; version 0: nothing.
    pub(crate) own: Held,
    /// What it holds of others.
    pub(crate) others: Rc<BTreeMap<AuthorId, Other>>,
    /// Largest time of a change.
    pub(crate) time: Hlc,
    /// What this copy held of others at its last own change.
    pub(crate) own_context: Rc<Versions>,
    /// Salt of the last own change.
    pub(crate) own_salt: Option<u64>,
    /// At or below this the past may be forgotten.
    pub(crate) floor: Rc<Versions>,
    /// How often something was forgotten: others' caches are void when it moves.
    pub(crate) n_forgotten: u64,
    /// Cells came through `crsql_changes`: from a peer that no list has.
    pub(crate) has_unlisted: bool,
}

/// What is held of another site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Other {
    pub(crate) site: SiteId,
    pub(crate) held: Held,
}

impl State {
    pub(crate) fn empty() -> State {
        State {
            site: None,
            last: EntryId(0),
            dbv: 0,
            folded: EntryId(0),
            own: Held { version: 0, chain: Chain::default() },
            others: Rc::default(),
            time: Hlc(0),
            own_context: Rc::default(),
            own_salt: None,
            floor: Rc::default(),
            n_forgotten: 0,
            has_unlisted: false,
        }
    }
}

/// The bytes of a context: pairs of author id and version to the end.
pub(crate) fn encode_versions(versions: &Versions) -> Vec<u8> {
    let mut out = Vec::new();
    for (author, version) in versions {
        put(&mut out, u64::from(author.0));
        put(&mut out, *version);
    }
    out
}

/// Reads a context.
pub(crate) fn decode_versions(bytes: &[u8]) -> Decoded<Versions> {
    let mut reader = Reader::new(bytes);
    let mut versions = Versions::new();
    while reader.len() > 0 {
        versions.insert(AuthorId(reader.number32()?), reader.number()?);
    }
    Ok(versions)
}
