//! Blobs that nothing names any more, found once a store has taken a complete delta.
//!
//! A complete delta says what its maker forgot: changes at or below its floor count no more,
//! but for what is alive, and that is in its rows. So a blob is *named* by a change above all
//! floors, and by whatever cell holds its hash, as 32 bytes or as 64 hex digits in a text: in a
//! complete delta all cells, in others those above the floor, and those of tables that the
//! maker of the complete delta did not have (`docs/decisions/0008-forgetting.md`).
//!
//! Invariant: what cannot be told stays named.

use std::collections::HashSet;

use anabranch_core::branch::Branch;
use anabranch_core::delta::{Complete, DeltaDot, TableDelta};
use anabranch_core::key::unpack;
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use anabranch_core::wire::{Decoder, Piece, WireError, peek};
use bytes::Bytes;
use data_encoding::HEXLOWER_PERMISSIVE;

use crate::blobs::BlobHash;
use crate::limits::MAX_JOIN_BYTES;
use crate::relay::Relay;
use crate::storage::{StorageError, StoredDelta, Wanted};
use crate::store_id::StoreId;

/// Looks through the stores that took a complete delta: what nothing names there fades from
/// `now_ms` on. How many blobs that is.
///
/// # Errors
/// [`StorageError`].
pub(crate) async fn fade_unnamed(relay: &Relay, now_ms: u64) -> Result<u64, StorageError> {
    let mut n_faded = 0;
    for store in relay.storage().to_be_swept().await? {
        let named = match still_named(relay, &store).await {
            Ok(Some(named)) => named,
            Ok(None) => continue,
            Err(error) => {
                // Damage in one store is no matter of the others.
                tracing::warn!(%store, %error, "blobs not looked through");
                continue;
            }
        };
        n_faded += relay.storage().fade(&store, named, now_ms).await?;
    }
    Ok(n_faded)
}

/// Blobs of a store that are named; `None` where that cannot be told.
async fn still_named(
    relay: &Relay,
    store: &StoreId,
) -> Result<Option<HashSet<BlobHash>>, StorageError> {
    let known = relay.storage().named(store).await?;
    let forked = relay.storage().vector(store).await?.branches().flat_map(both_names).collect();
    let mut naming = Naming { known, forked, ..Naming::default() };
    for is_first_pass in [true, false] {
        let mut after = 0;
        loop {
            let wanted = Wanted {
                held: Default::default(),
                after: Some(after),
                max_deltas: u32::MAX,
                max_bytes: MAX_JOIN_BYTES,
            };
            let deltas = relay.storage().deltas(store, wanted).await?;
            let Some(last) = deltas.last() else { break };
            after = last.id;
            for delta in &deltas {
                if is_first_pass {
                    naming.note_floor(&relay.read_part(delta, 0).await?)?;
                } else if !naming.read(relay, delta).await? {
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some(naming.found))
}

/// What a branch is called, and what was called so once.
fn both_names((site, branch): (SiteId, Branch)) -> [SiteId; 2] {
    [site, branch.root]
}

/// What is known while deltas are read.
#[derive(Default)]
struct Naming {
    /// What the complete deltas of the store forgot.
    floors: Vec<Complete>,
    /// Sites whose history has forked: deltas use the names of their makers, and what one calls
    /// so another's floor may not mean. Their changes are above all floors.
    forked: HashSet<SiteId>,
    /// The blobs that are looked for.
    known: HashSet<BlobHash>,
    found: HashSet<BlobHash>,
}

impl Naming {
    fn note_floor(&mut self, first: &[u8]) -> Result<(), WireError> {
        let bounds = peek(first)?.map(|(_, bounds)| bounds);
        self.floors.extend(bounds.and_then(|bounds| bounds.complete));
        Ok(())
    }

    /// Reads a delta; `false` if only a later version can tell what it names.
    async fn read(&mut self, relay: &Relay, delta: &StoredDelta) -> Result<bool, StorageError> {
        let (mut decoder, mut sites, mut is_complete) = (Decoder::new(), Vec::new(), false);
        for number in 0..delta.body.n_parts() {
            let part: Bytes = relay.read_part(delta, number).await?;
            let pushed = relay
                .work(usize::MAX, move || {
                    let pushed = decoder.push(&part);
                    (pushed, decoder)
                })
                .await?;
            let (piece, pushed) = pushed;
            decoder = pushed;
            match piece {
                Ok(piece) => {
                    if let Some(bounds) = &piece.bounds {
                        sites.clone_from(&bounds.sites);
                        is_complete = bounds.complete.is_some();
                    }
                    self.take(&piece, &sites, is_complete);
                }
                Err(WireError::Unsupported { .. } | WireError::UnknownSection { .. }) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn take(&mut self, piece: &Piece, sites: &[SiteId], is_complete: bool) {
        for header in &piece.headers {
            let is_below = |floor: &Complete| floor.floor.version(header.site) >= header.version;
            if self.forked.contains(&header.site) || !self.floors.iter().any(is_below) {
                let named = header.blobs.iter().map(|blob| BlobHash(*blob));
                self.found.extend(named.filter(|blob| self.known.contains(blob)));
            }
        }
        for table in &piece.tables {
            for row in table.rows.iter().filter(|row| row.causal_length % 2 == 1) {
                let counts = |dot| is_complete || !self.is_forgotten(table, dot, sites);
                let births = row.births.iter().map(|birth| birth.dot);
                let dots = births.chain(row.cells.iter().map(|cell| cell.dot));
                let has_key = dots.into_iter().any(counts);
                let cells = row.cells.iter().filter(|cell| counts(cell.dot));
                let mut found: Vec<BlobHash> =
                    cells.flat_map(|cell| hashes_in(cell.value.as_ref())).collect();
                if has_key {
                    found.extend(hashes_in_key(&row.key));
                }
                self.found.extend(found.into_iter().filter(|hash| self.known.contains(hash)));
            }
        }
    }

    /// Whether a cell is in a complete delta too, or dead.
    fn is_forgotten(&self, table: &TableDelta, dot: DeltaDot, sites: &[SiteId]) -> bool {
        let Some(site) = sites.get(dot.site.0 as usize) else { return false };
        !self.forked.contains(site)
            && self.floors.iter().any(|floor| {
                floor.floor.version(*site) >= dot.version
                    && floor.tables.iter().any(|known| known.is_whole && known.name == table.name)
            })
    }
}

/// What may be hashes of blobs in a value: 32 bytes, or 64 hex digits in a text.
pub(crate) fn hashes_in(value: ValueRef<'_>) -> Vec<BlobHash> {
    match value {
        ValueRef::Blob(bytes) => bytes.try_into().map(BlobHash).into_iter().collect(),
        ValueRef::Text(text) if text.len() >= 64 => {
            let words = text.split(|byte| !byte.is_ascii_hexdigit());
            let hash = |word| HEXLOWER_PERMISSIVE.decode(word).ok()?.try_into().ok().map(BlobHash);
            words.filter(|word| word.len() == 64).filter_map(hash).collect()
        }
        _ => Vec::new(),
    }
}

/// The same of a packed key.
pub(crate) fn hashes_in_key(key: &[u8]) -> Vec<BlobHash> {
    // A key of a delta was checked when it was decoded.
    unpack(key).into_iter().flatten().flat_map(hashes_in).collect()
}

#[cfg(test)]
mod tests;
