//! Headers of many changes, as an export writes them: by site, then by version.
//!
//! A year of small changes has hundreds of thousands of headers. The log has them as they came,
//! each author's in the order of his versions: so each author's heads are a stream of a
//! [`Spool`], and are decoded one at a time.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use anabranch_core::change::{ChangeHeader, Dep};
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;

use super::Metadata;
use super::header::{self, StoredDep, StoredHeader};
use super::sql::damaged;
use crate::error::Result;
use crate::ids::{AuthorId, EntryId};
use crate::spool::{Cursor, Spool};

/// Headers, taken one by one by [`Metadata::next_header`].
pub(crate) struct Headers {
    /// Who wrote them, in order: a stream each.
    sites: Vec<SiteId>,
    heads: Spool,
    /// Where the next one is, and in which stream.
    at: Option<Cursor>,
    stream: usize,
}

impl Headers {
    pub(crate) fn is_empty(&self) -> bool {
        self.heads.len() == 0
    }

    /// Who wrote them, in order.
    pub(crate) fn sites(&self) -> impl Iterator<Item = SiteId> {
        let has_some = |(n, _): &(usize, &SiteId)| self.heads.n_records(*n) > 0;
        self.sites.iter().enumerate().filter(has_some).map(|(_, site)| *site)
    }

    fn next(&mut self) -> Result<Option<StoredHeader>> {
        while self.stream < self.sites.len() {
            let cursor = match &mut self.at {
                Some(cursor) => cursor,
                none => none.insert(self.heads.read(self.stream, 0)?),
            };
            if let Some(head) = self.heads.next(cursor)? {
                let head = header::decode(head, 0);
                return head.map(Some).map_err(|what| damaged("the head of a change", what));
            }
            self.at = None;
            self.stream += 1;
        }
        Ok(None)
    }
}

impl Metadata {
    pub(super) fn collect_headers(&mut self, from: &VersionVector) -> Result<Headers> {
        let mut authors: Vec<(SiteId, AuthorId, u64)> =
            self.held_authors().map(|(author, site, held)| (site, author, held.version)).collect();
        authors.retain(|(site, _, held)| from.version(*site) < *held);
        authors.sort_unstable();
        let sites: Vec<SiteId> = authors.iter().map(|(site, ..)| *site).collect();
        let mut heads = Spool::new(sites.len());
        // The stream of each author, and what the log has of him above `from`.
        let wanted: HashMap<AuthorId, (usize, u64, u64)> = (0..)
            .zip(authors)
            .map(|(n, (site, author, held))| (author, (n, from.version(site), held)))
            .collect();
        if let Some(start) = self.start_above(from)? {
            self.log.heads(start, |head| {
                let head = head.header()?;
                if let Some((stream, covered, held)) = wanted.get(&head.author).copied()
                    && covered < head.version
                    && head.version <= held
                {
                    heads.push(stream, |to| header::put(to, &head, None))?;
                }
                Ok(true)
            })?;
        }
        Ok(Headers { sites, heads, at: None, stream: 0 })
    }

    /// The next header; `None` at the end.
    pub(crate) fn next_header(&mut self, headers: &mut Headers) -> Result<Option<ChangeHeader>> {
        let head = headers.next()?;
        head.map(|head| self.present(head)).transpose()
    }

    /// The author text that each author's last change with one has.
    pub(crate) fn last_authors(&mut self) -> Result<BTreeMap<AuthorId, String>> {
        self.ensure()?;
        let mut named = BTreeMap::new();
        self.log.heads(EntryId(1), |head| {
            let StoredHeader { author, author_text, .. } = head.header()?;
            author_text.map(|name| named.insert(author, name));
            Ok(true)
        })?;
        Ok(named)
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
