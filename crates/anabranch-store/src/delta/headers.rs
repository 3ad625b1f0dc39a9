//! The headers of a delta being taken: packed, site by site, until all are known.
//!
//! They come before the rows, ordered by site, and are written ordered by time under the names
//! that the sites have here, which only all of them together tell. Invariant: what is in
//! memory is bounded by the spool's bounds and the number of sites, and a track of each site
//! (`anabranch_core::forest`); not by the number of headers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use anabranch_core::change::{ChangeHeader, Dep};
use anabranch_core::clock::Hlc;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;

use super::names::Names;
use crate::error::{Result, StoreError};
use crate::ids::AuthorId;
use crate::metadata::{StoredDep, StoredHeader, decode_header, put_header};
use crate::spool::{Cursor, Spool};

/// Headers by site, then version, by the names of the delta.
pub(super) struct Headers {
    /// The sites of `to`, in order; in a packed head they stand for authors.
    sites: Vec<SiteId>,
    /// The version before each site's first header.
    before: Vec<u64>,
    heads: Spool,
    /// The largest time.
    newest: Hlc,
}

impl Headers {
    /// None yet, of changes above `start` up to `to`.
    pub(super) fn new(start: &VersionVector, to: &VersionVector) -> Headers {
        let sites: Vec<SiteId> = to.iter().map(|(site, _)| site).collect();
        let before = sites.iter().map(|site| start.version(*site)).collect();
        Headers { heads: Spool::new(sites.len()), sites, before, newest: Hlc(0) }
    }

    /// Appends the next header, as the decoder gives them.
    ///
    /// # Errors
    /// [`StoreError::Temporary`].
    pub(super) fn push(&mut self, header: ChangeHeader) -> Result<()> {
        let place = self.place(header.site)?;
        let mut deps = Vec::with_capacity(header.deps.len());
        for Dep { site, version, chain } in header.deps {
            let author = AuthorId(self.place(site)? as u32);
            deps.push(StoredDep { author, version, chain });
        }
        self.newest = self.newest.max(header.time);
        let head = StoredHeader {
            author: AuthorId(place as u32),
            version: header.version,
            kind: header.kind,
            time: header.time,
            deps,
            author_text: header.author,
            message: header.message,
            blobs: header.blobs,
        };
        self.heads.push(place, |to| {
            to.extend_from_slice(&header.salt.to_le_bytes());
            put_header(to, &head, None);
        })
    }

    /// Where a site stands in `to`: the decoder lets no other be named.
    fn place(&self, site: SiteId) -> Result<usize> {
        self.sites.binary_search(&site).map_err(|_| damaged())
    }

    /// The largest time of them; 0 if there are none.
    pub(super) fn newest(&self) -> Hlc {
        self.newest
    }

    fn next(&self, cursor: &mut Cursor) -> Result<Option<ChangeHeader>> {
        let Some(record) = self.heads.next(cursor)? else { return Ok(None) };
        let (salt, head) = record.split_first_chunk::<8>().ok_or_else(damaged)?;
        let head = decode_header(head, 0).map_err(|_| damaged())?;
        let site = |author: AuthorId| self.sites.get(author.0 as usize).copied();
        let mut deps = Vec::with_capacity(head.deps.len());
        for StoredDep { author, version, chain } in head.deps {
            deps.push(Dep { site: site(author).ok_or_else(damaged)?, version, chain });
        }
        Ok(Some(ChangeHeader {
            site: site(head.author).ok_or_else(damaged)?,
            version: head.version,
            salt: u64::from_le_bytes(*salt),
            time: head.time,
            deps,
            author: head.author_text,
            message: head.message,
            kind: head.kind,
            blobs: head.blobs,
        }))
    }

    /// How many are of changes that are new here.
    pub(super) fn n_new(&self, names: &Names) -> u64 {
        let sites = self.sites.iter().zip(&self.before).enumerate();
        let n_new = |(n, (site, before)): (usize, (&SiteId, &u64))| {
            self.heads.n_records(n).saturating_sub(names.held(*site).saturating_sub(*before))
        };
        sites.map(n_new).sum()
    }

    /// Those of changes that are new here, by the names that they have here, in the delta's
    /// order.
    pub(super) fn as_given<'a>(
        &'a self,
        names: &'a Names,
    ) -> impl Iterator<Item = Result<ChangeHeader>> + 'a {
        (0..self.sites.len()).flat_map(move |stream| {
            let first = names.held(self.sites[stream]).saturating_sub(self.before[stream]);
            let mut cursor = None;
            std::iter::from_fn(move || {
                let mut next = || {
                    let cursor = match &mut cursor {
                        Some(cursor) => cursor,
                        none => none.insert(self.heads.read(stream, first)?),
                    };
                    Ok(self.next(cursor)?.map(|header| names.header(header)))
                };
                next().transpose()
            })
        })
    }

    /// The same, ordered as they may have happened, each site's by version: the log of a copy
    /// reads as a story, and what a change depends on stands before it where clocks are honest.
    ///
    /// # Errors
    /// [`StoreError::Temporary`], here and while they are read.
    pub(super) fn by_time<'a>(&'a self, names: &'a Names) -> Result<ByTime<'a>> {
        let mut runs: BTreeMap<SiteId, Vec<(u64, Segment)>> = BTreeMap::new();
        for (stream, (site, before)) in self.sites.iter().zip(&self.before).enumerate() {
            let mut first = names.held(*site).max(*before) + 1;
            let end = before + self.heads.n_records(stream);
            for (last, name, shift) in names.names(*site) {
                let last = last.min(end);
                if first > last {
                    continue;
                }
                let segment = Segment { stream, from: first - before - 1, n: last + 1 - first };
                let here = first.saturating_add_signed(shift);
                runs.entry(name).or_default().push((here, segment));
                first = last + 1;
            }
        }
        let runs = runs.into_values().map(|mut segments| {
            segments.sort_unstable_by_key(|(here, _)| Reverse(*here));
            let segments = segments.into_iter().map(|(_, segment)| segment).collect();
            Run { segments, cursor: None, latest: 0, next: None }
        });
        let mut by_time =
            ByTime { headers: self, names, runs: runs.collect(), first: BinaryHeap::new() };
        for n in 0..by_time.runs.len() {
            by_time.advance(n)?;
        }
        Ok(by_time)
    }
}

/// Records of a stream that follow each other.
struct Segment {
    stream: usize,
    from: u64,
    n: u64,
}

/// All headers of one name of this copy.
struct Run {
    /// The last one first.
    segments: Vec<Segment>,
    /// In the present segment, and how many of its headers are left.
    cursor: Option<(Cursor, u64)>,
    /// The largest time so far: a site's times never fall, and where they do, a later change
    /// counts as that late.
    latest: u64,
    next: Option<ChangeHeader>,
}

/// See [`Headers::by_time`]: the sites' headers, merged.
pub(super) struct ByTime<'a> {
    headers: &'a Headers,
    names: &'a Names,
    runs: Vec<Run>,
    /// Time and site of the next header of each run, and which run it is.
    first: BinaryHeap<Reverse<(u64, SiteId, usize)>>,
}

impl ByTime<'_> {
    /// Reads the next header of a run.
    fn advance(&mut self, n: usize) -> Result<()> {
        let run = &mut self.runs[n];
        while run.cursor.as_ref().is_none_or(|(_, n_left)| *n_left == 0) {
            let Some(Segment { stream, from, n }) = run.segments.pop() else { return Ok(()) };
            run.cursor = Some((self.headers.heads.read(stream, from)?, n));
        }
        let Some((cursor, n_left)) = &mut run.cursor else { return Ok(()) };
        let header = self.headers.next(cursor)?.ok_or_else(damaged)?;
        *n_left -= 1;
        let header = self.names.header(header);
        run.latest = run.latest.max(header.time.0);
        self.first.push(Reverse((run.latest, header.site, n)));
        run.next = Some(header);
        Ok(())
    }
}

impl Iterator for ByTime<'_> {
    type Item = Result<ChangeHeader>;

    fn next(&mut self) -> Option<Result<ChangeHeader>> {
        let Reverse((.., n)) = self.first.pop()?;
        let header = self.runs[n].next.take()?;
        Some(self.advance(n).map(|()| header))
    }
}

fn damaged() -> StoreError {
    let what = "a header is not as it was written";
    StoreError::Damaged { place: "the temporary file of a delta".into(), what }
}
