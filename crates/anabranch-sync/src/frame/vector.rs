//! Have, Ack and Chains: vectors, pieces of them, and the histories behind them.
//!
//! ```text
//! entry:   site (bytes) | version (varint) | chain (16, absent for version 0)
//! Have:    flags (1: 1 more follows, 2 on top of the ticket, 4 branches) | n | entry*, by site
//!          with 4: n | (place among the entries | root (bytes) | base | chain there (16))*
//!          and in the last: n | (delta (16) | of (varint) | next (varint))*
//! Ack:     replicas (varint) | n | entry* | n | dots held | n | dots shown
//! dot:     site (bytes) | version (varint)
//! Chains:  turn (1) | site
//!   0 asks:    n | versions, ascending
//!   1 tells:   n | (version | known (1: 0, 1) | chain (16, if known))*, ascending
//!   2 forked:  last common version (from 0) | chain there (16)
//! ```

use anabranch_core::branch::Branch;
use anabranch_core::clock::Chain;
use anabranch_core::limits::{MAX_PARTS, MAX_VERSION};
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, Held};

use super::codec::{Reader, put_dots, put_entry, put_site, put_varint};
use super::{DeltaName, FrameError};
use crate::limits::{
    MAX_CHAIN_VERSIONS, MAX_FRAME_DOTS, MAX_FRAME_ENTRIES, MAX_PARTIALS, MAX_REPLICAS,
};

/// One entry of a vector.
pub type Entry = (SiteId, Held);

const MORE: u8 = 1;
const ON_TICKET: u8 = 2;
const BRANCHES: u8 = 4;

/// What the sender holds; may be said again at any time, and then replaces what was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// Whether the vector goes on in the next Have.
    pub has_more: bool,
    /// Whether entries say only what differs from the ticket's vector of the sender;
    /// version 0 says that the entry is gone.
    pub is_on_ticket: bool,
    /// By site, going on after the frame before.
    pub entries: Vec<Entry>,
    /// What those of the entries branched from that are branches, by site.
    pub branches: Vec<(SiteId, Branch)>,
    /// Deltas of which some parts are here; in the last frame only.
    pub partials: Vec<Partial>,
}

/// A delta that came in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Which.
    pub delta: DeltaName,
    /// How many parts it has.
    pub of: u32,
    /// The first part that is missing, below `of`.
    pub next: u32,
}

/// What the sender has taken of what the receiver delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// 0: on the sender's disk. Else on so many further disks too.
    pub replicas: u64,
    /// Entries that moved; by site.
    pub entries: Vec<Entry>,
    /// Changes among them that are stored and not shown.
    pub held: Vec<Dot>,
    /// Changes that were said to be held and are shown after all.
    pub shown: Vec<Dot>,
}

/// Finding out where two histories of one site part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chains {
    /// Which chains the receiver has.
    Ask {
        /// Whose.
        site: SiteId,
        /// At which versions; ascending, from 1.
        versions: Vec<u64>,
    },
    /// The sender's chains at the versions it was asked for.
    Tell {
        /// Whose.
        site: SiteId,
        /// Ascending; `None` where the sender cannot say.
        chains: Vec<(u64, Option<Chain>)>,
    },
    /// Both have written under one name.
    Forked {
        /// Whose.
        site: SiteId,
        /// The last version that both have alike, from 0.
        common: u64,
        /// The chain there; zeros for 0.
        chain: Chain,
    },
}

impl Have {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let on_ticket = if self.is_on_ticket { ON_TICKET } else { 0 };
        let more = if self.has_more { MORE } else { 0 };
        let branches = if self.branches.is_empty() { 0 } else { BRANCHES };
        out.push(more | on_ticket | branches);
        put_entries(out, &self.entries);
        self.put_branches(out);
        if self.has_more {
            return assert!(self.partials.is_empty(), "partials stand in the last Have");
        }
        put_varint(out, self.partials.len() as u64);
        for partial in &self.partials {
            out.extend_from_slice(&partial.delta.0);
            put_varint(out, u64::from(partial.of));
            put_varint(out, u64::from(partial.next));
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Have, FrameError> {
        let flags = reader.byte("flags")?;
        if flags > MORE | ON_TICKET | BRANCHES {
            return Err(reader.malformed("flags"));
        }
        let (has_more, is_on_ticket) = (flags & MORE != 0, flags & ON_TICKET != 0);
        let entries = reader.entries(MAX_FRAME_ENTRIES, u64::from(!is_on_ticket))?;
        if has_more && entries.is_empty() {
            return Err(reader.malformed("no entries and more to follow"));
        }
        let branches = match flags & BRANCHES {
            0 => Vec::new(),
            _ => Have::read_branches(reader, &entries)?,
        };
        let mut partials = Vec::new();
        if !has_more {
            let n = reader.count("deltas in part", MAX_PARTIALS, 18)?;
            partials = (0..n).map(|_| Partial::read(reader)).collect::<Result<_, _>>()?;
        }
        Ok(Have { has_more, is_on_ticket, entries, branches, partials })
    }

    fn put_branches(&self, out: &mut Vec<u8>) {
        if self.branches.is_empty() {
            return;
        }
        put_varint(out, self.branches.len() as u64);
        for (site, Branch { root, base, chain }) in &self.branches {
            let place = self.entries.binary_search_by_key(site, |entry| entry.0);
            put_varint(out, place.expect("a branch has an entry") as u64);
            put_site(out, *root);
            put_varint(out, *base);
            out.extend_from_slice(&chain.0);
        }
    }

    fn read_branches(
        reader: &mut Reader<'_>,
        entries: &[Entry],
    ) -> Result<Vec<(SiteId, Branch)>, FrameError> {
        let n = reader.count("branches", entries.len(), 19)?;
        if n == 0 {
            return Err(reader.malformed("branches, and none"));
        }
        let mut branches: Vec<(SiteId, Branch)> = Vec::with_capacity(n);
        for _ in 0..n {
            let before = *reader;
            let place = reader.number("place of a branch", MAX_FRAME_ENTRIES as u64)? as usize;
            let Some((site, held)) = entries.get(place) else {
                return Err(before.malformed("place of a branch"));
            };
            if branches.last().is_some_and(|(last, _)| last >= site) {
                return Err(before.malformed("order of branches"));
            }
            let root = reader.site()?;
            let base = reader.version(0)?;
            if root == *site || base > MAX_VERSION - held.version {
                return Err(before.malformed("what a branch goes on from"));
            }
            branches.push((*site, Branch { root, base, chain: reader.chain()? }));
        }
        Ok(branches)
    }
}

impl Partial {
    fn read(reader: &mut Reader<'_>) -> Result<Partial, FrameError> {
        let delta = DeltaName(reader.array("name of a delta")?);
        let of = reader.number("parts", MAX_PARTS.into())? as u32;
        let next = reader.number("next part", MAX_PARTS.into())? as u32;
        if next >= of {
            return Err(reader.malformed("next part"));
        }
        Ok(Partial { delta, of, next })
    }
}

impl Ack {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        assert!(self.replicas <= MAX_REPLICAS);
        assert!(self.held.len() <= MAX_FRAME_DOTS && self.shown.len() <= MAX_FRAME_DOTS);
        put_varint(out, self.replicas);
        put_entries(out, &self.entries);
        put_dots(out, &self.held);
        put_dots(out, &self.shown);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Ack, FrameError> {
        Ok(Ack {
            replicas: reader.number("replicas", MAX_REPLICAS)?,
            entries: reader.entries(MAX_FRAME_ENTRIES, 1)?,
            held: reader.dots("held changes", MAX_FRAME_DOTS)?,
            shown: reader.dots("shown changes", MAX_FRAME_DOTS)?,
        })
    }
}

impl Chains {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Chains::Ask { site, versions } => {
                assert!(versions.len() <= MAX_CHAIN_VERSIONS);
                out.push(0);
                put_site(out, *site);
                put_varint(out, versions.len() as u64);
                versions.iter().for_each(|version| put_varint(out, *version));
            }
            Chains::Tell { site, chains } => {
                assert!(chains.len() <= MAX_CHAIN_VERSIONS);
                out.push(1);
                put_site(out, *site);
                put_varint(out, chains.len() as u64);
                for (version, chain) in chains {
                    put_varint(out, *version);
                    out.push(u8::from(chain.is_some()));
                    out.extend(chain.iter().flat_map(|chain| chain.0));
                }
            }
            Chains::Forked { site, common, chain } => {
                out.push(2);
                put_site(out, *site);
                put_varint(out, *common);
                out.extend_from_slice(&chain.0);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Chains, FrameError> {
        let turn = reader.byte("turn")?;
        let site = reader.site()?;
        match turn {
            0 => {
                let n = reader.count("versions", MAX_CHAIN_VERSIONS, 1)?;
                let mut versions = Vec::with_capacity(n);
                for _ in 0..n {
                    versions.push(ascending(reader, versions.last().copied())?);
                }
                Ok(Chains::Ask { site, versions })
            }
            1 => {
                let n = reader.count("chains", MAX_CHAIN_VERSIONS, 2)?;
                let mut chains: Vec<(u64, Option<Chain>)> = Vec::with_capacity(n);
                for _ in 0..n {
                    let version = ascending(reader, chains.last().map(|last| last.0))?;
                    let is_known = reader.flag("whether a chain is known")?;
                    chains.push((version, is_known.then(|| reader.chain()).transpose()?));
                }
                Ok(Chains::Tell { site, chains })
            }
            2 => Ok(Chains::Forked { site, common: reader.version(0)?, chain: reader.chain()? }),
            _ => Err(reader.malformed("turn")),
        }
    }
}

fn put_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    assert!(entries.len() <= MAX_FRAME_ENTRIES);
    put_varint(out, entries.len() as u64);
    entries.iter().for_each(|(site, held)| put_entry(out, *site, *held));
}

fn ascending(reader: &mut Reader<'_>, last: Option<u64>) -> Result<u64, FrameError> {
    let before = *reader;
    let version = reader.version(1)?;
    if last.is_some_and(|last| last >= version) {
        return Err(before.malformed("order of versions"));
    }
    Ok(version)
}
