//! Headers of the changes above a vector, in the order of a delta: by site, then by version.
//!
//! A year of one-row transactions is hundreds of thousands of headers, so they wait as the
//! bytes of a log row's head, some 14 each, and are decoded one at a time.

use std::collections::HashMap;

use anabranch_core::change::{ChangeHeader, Dep};
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;

use super::Metadata;
use super::header::{self, StoredDep, StoredHeader};
use super::sql::damaged;
use crate::error::Result;
use crate::ids::AuthorId;

/// Headers to be decoded by [`Metadata::header`].
pub(crate) struct Headers {
    /// By site, then by version.
    places: Vec<Place>,
    /// Their heads, each with its version, one after another as the log has them.
    heads: Vec<u8>,
    sites: HashMap<AuthorId, SiteId>,
}

/// Where the head of one change stands in [`Headers::heads`].
struct Place {
    author: AuthorId,
    version: u64,
    start: usize,
    end: usize,
}

impl Headers {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Who wrote them, in no order.
    pub(crate) fn sites(&self) -> impl Iterator<Item = SiteId> {
        self.sites.values().copied()
    }

    fn push(&mut self, head: &StoredHeader) {
        let (author, version, start) = (head.author, head.version, self.heads.len());
        self.heads.extend_from_slice(&header::encode(head, None));
        self.places.push(Place { author, version, start, end: self.heads.len() });
    }
}

impl Metadata {
    pub(super) fn collect_headers(&mut self, from: &VersionVector) -> Result<Headers> {
        let (places, heads, sites) = (Vec::new(), Vec::new(), HashMap::new());
        let mut headers = Headers { places, heads, sites };
        let Some(start) = self.start_above(from)? else { return Ok(headers) };
        // What the log has of each author above `from`.
        let mut wanted: HashMap<AuthorId, (u64, u64)> = HashMap::new();
        for (author, site, held) in self.held_authors() {
            wanted.insert(author, (from.version(site), held.version));
            headers.sites.insert(author, site);
        }
        self.log.heads(start, |head| {
            let head = head.header()?;
            let (covered, held) = wanted.get(&head.author).copied().unwrap_or_default();
            if covered < head.version && head.version <= held {
                headers.push(&head);
            }
            Ok(true)
        })?;
        let Headers { places, sites, .. } = &mut headers;
        places.sort_unstable_by_key(|place| (sites.get(&place.author), place.version));
        let mut authors: Vec<AuthorId> = places.iter().map(|place| place.author).collect();
        authors.dedup();
        sites.retain(|author, _| authors.contains(author));
        Ok(headers)
    }

    /// The header at `index`, below [`Headers::len`].
    pub(crate) fn header(&mut self, headers: &Headers, index: usize) -> Result<ChangeHeader> {
        let Place { start, end, .. } = headers.places[index];
        let head = header::decode(&headers.heads[start..end], 0)
            .map_err(|what| damaged("the head of a change", what))?;
        self.present(head)
    }

    /// A stored header with sites for local ids, and its salt.
    fn present(&mut self, head: StoredHeader) -> Result<ChangeHeader> {
        let mut deps = Vec::with_capacity(head.deps.len());
        for StoredDep { author, version, chain } in head.deps {
            deps.push(Dep { site: self.author_site(author)?, version, chain });
        }
        deps.sort_by_key(|dep| dep.site);
        Ok(ChangeHeader {
            site: self.author_site(head.author)?,
            version: head.version,
            salt: self.salt_at(head.author, head.version)?.unwrap_or(0),
            time: head.time,
            deps,
            author: head.author_text,
            message: head.message,
            kind: head.kind,
            blobs: head.blobs,
        })
    }
}
