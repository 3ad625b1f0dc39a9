//! Headers, chains and contexts: what this copy holds, and how its history is named.

use std::collections::BTreeMap;
use std::rc::Rc;

use anabranch_core::change::{ChangeHeader, ChangeKind, Dep};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use anabranch_core::vector::{Held, VersionVector};

use super::header::{self, StoredDep, StoredHeader};
use super::sql::{damaged, int, read_blob, read_u64};
use super::state::{Other, Versions, decode_versions};
use super::tail::TailHead;
use super::varint::Corrupt;
use super::{Metadata, PendingChange};
use crate::error::{Result, StoreError};
use crate::ids::{AuthorId, EntryId, LocalDot};
use crate::limits::{CHAIN_STEP, MAX_CHAIN_WALK};

/// What the header of the pending change will make of the state, once it is committed.
#[derive(Clone, Debug)]
pub(super) struct PendingOwn {
    held: Held,
    time: anabranch_core::clock::Hlc,
    context: Rc<Versions>,
    salt: u64,
    entry: EntryId,
}

/// A stored chain and what stands with it.
pub(super) struct Checkpoint {
    held: Held,
    pub(super) entry: EntryId,
    context: Versions,
}

impl Metadata {
    /// The header of the pending change, as things stand.
    pub(super) fn make_header(&self, change: &PendingChange, now_ms: u64) -> StoredHeader {
        let deps: Vec<StoredDep> = self
            .state
            .others
            .iter()
            .filter(|(author, other)| {
                let seen = self.state.own_context.get(author);
                seen.is_none_or(|seen| *seen < other.held.version)
            })
            .map(|(author, other)| StoredDep {
                author: *author,
                version: other.held.version,
                chain: other.held.chain,
            })
            .collect();
        StoredHeader {
            author: AuthorId(0),
            version: self.pending_dot().version,
            kind: if change.is_edit { ChangeKind::Edit } else { ChangeKind::Import },
            time: self.state.time.next(now_ms),
            deps,
            author_text: change.author.as_deref().map(str::to_owned),
            message: change.message.as_deref().map(str::to_owned),
            blobs: change.blobs.iter().copied().collect(),
        }
    }

    pub(super) fn store_header(&mut self, change: &PendingChange, now_ms: u64) -> Result<()> {
        let Some(entry) = change.first_entry else { return Ok(()) };
        let head = match self.written_head.take() {
            Some(head) => head,
            None => {
                let head = self.make_header(change, now_ms);
                self.log.set_head(entry, &header::encode(&head, None))?;
                head
            }
        };
        let StoredHeader { author, version, time, deps, .. } = head;
        let salt = self.own_salt(version)?;
        let mut context = self.state.own_context.clone();
        if !deps.is_empty() {
            Rc::make_mut(&mut context).extend(deps.iter().map(|dep| (dep.author, dep.version)));
        }
        let origin = self.origin(author)?;
        let held = Held { version, chain: origin.next(self.state.own.chain, version, salt) };
        if self.state.folded >= entry {
            self.store_held(author, held, &context)?;
            self.set_meta("time", time.0)?;
            if version.is_multiple_of(CHAIN_STEP) {
                self.store_chain(author, held, entry, &context)?;
            }
        }
        self.pending_own = Some(PendingOwn { held, time, context, salt, entry });
        Ok(())
    }

    /// The salt of this connection, stored from `version` on if another one was in use.
    fn own_salt(&mut self, version: u64) -> Result<u64> {
        let salt = match self.drawn_salt {
            Some(salt) => salt,
            None => {
                let mut bytes = [0; 8];
                crate::random::fill(&mut bytes).map_err(|error| {
                    StoreError::Refused(format!("the system gives no random numbers: {error}"))
                })?;
                u64::from_le_bytes(bytes)
            }
        };
        self.drawn_salt = Some(salt);
        if self.state.own_salt != Some(salt) {
            self.store_salt(AuthorId(0), version, salt)?;
        }
        Ok(salt)
    }

    pub(super) fn store_salt(&mut self, author: AuthorId, version: u64, salt: u64) -> Result<()> {
        let params = [int(u64::from(author.0)), int(version), ValueRef::Integer(salt as i64)];
        self.sql.set_salt.run(&self.db, &params)
    }

    /// The change that [`Metadata::store_header`] wrote is committed.
    pub(super) fn settle_own(&mut self) {
        let Some(own) = self.pending_own.take() else { return };
        self.state.own = own.held;
        self.log.pending_version = own.held.version + 1;
        self.state.time = self.state.time.max(own.time);
        self.state.own_context = own.context.clone();
        self.state.own_salt = Some(own.salt);
        if own.entry > self.state.folded {
            let head = TailHead { held: own.held, entry: own.entry, context: own.context };
            self.tail.heads.push(head);
        }
    }

    /// A row of the log that gets a header and nothing else.
    pub(super) fn add_empty_entry(&mut self) -> Result<EntryId> {
        self.fold_tail()?;
        let id = EntryId(self.state.last.0 + 1);
        self.log.insert(id, None, self.state.dbv, None, None)?;
        self.state.last = id;
        self.set_folded(id)?;
        Ok(id)
    }

    pub(super) fn add_headers(
        &mut self,
        headers: impl IntoIterator<Item = Result<ChangeHeader>>,
    ) -> Result<()> {
        self.fold_tail()?;
        let start = EntryId(self.committed.last.0 + 1);
        let mut moved = BTreeMap::new();
        for header in headers {
            if let Some((author, held)) = self.add_header(header?, start)? {
                moved.insert(author, held);
            }
        }
        for (author, held) in moved {
            let context = self.context_of(author)?;
            self.store_held(author, held, &context)?;
        }
        self.set_folded(self.state.last)
    }

    fn add_header(
        &mut self,
        header: ChangeHeader,
        start: EntryId,
    ) -> Result<Option<(AuthorId, Held)>> {
        let author = self.author_of(header.site)?;
        let origin = self.origin(author)?;
        let before = match self.held_of(author) {
            Held { version: 0, .. } => Held { version: 0, chain: origin.chain },
            held => held,
        };
        if header.version <= before.version {
            return Ok(None);
        }
        if header.version > before.version + 1 {
            return Err(StoreError::Refused(format!(
                "change {} of site {} does not follow version {} that is held",
                header.version, header.site, before.version
            )));
        }
        let chain = origin.next(before.chain, header.version, header.salt);
        let held = Held { version: header.version, chain };
        if self.salt_at(author, header.version)? != Some(header.salt) {
            self.store_salt(author, header.version, header.salt)?;
        }
        let mut deps = Vec::with_capacity(header.deps.len());
        for Dep { site, version, chain } in &header.deps {
            let (version, chain) = (*version, *chain);
            deps.push(StoredDep { author: self.author_of(*site)?, version, chain });
        }
        let mut context = self.context_of(author)?;
        for StoredDep { author, version, .. } in &deps {
            let dot = LocalDot { author: *author, version: *version };
            self.log.branches.cover(Rc::make_mut(&mut context), dot);
        }
        let stored = StoredHeader {
            author,
            version: header.version,
            kind: header.kind,
            time: header.time,
            deps,
            author_text: header.author,
            message: header.message,
            blobs: header.blobs,
        };
        let id = EntryId(self.state.last.0 + 1);
        self.log.insert(id, None, self.state.dbv, Some(&header::encode(&stored, None)), None)?;
        self.state.last = id;
        self.state.time = self.state.time.max(header.time);
        if header.version.is_multiple_of(CHAIN_STEP) {
            self.store_chain(author, held, start, &context)?;
        }
        if author == AuthorId(0) {
            self.state.own = held;
            self.log.pending_version = held.version + 1;
            self.state.own_context = context;
            self.state.own_salt = Some(header.salt);
        } else {
            let other = Other { site: header.site, held };
            Rc::make_mut(&mut self.state.others).insert(author, other);
            self.contexts.insert(author, context);
        }
        Ok(Some((author, held)))
    }

    /// The entry of the vector for an author; version 0: none.
    pub(super) fn held_of(&self, author: AuthorId) -> Held {
        if author == AuthorId(0) {
            return self.state.own;
        }
        let none = Held { version: 0, chain: Chain::default() };
        self.state.others.get(&author).map_or(none, |other| other.held)
    }

    /// The sum of the deps of all changes held of an author.
    pub(super) fn context_of(&mut self, author: AuthorId) -> Result<Rc<Versions>> {
        if author == AuthorId(0) {
            return Ok(self.state.own_context.clone());
        }
        if let Some(context) = self.contexts.get(&author) {
            return Ok(context.clone());
        }
        let params = [int(u64::from(author.0))];
        let found = self.sql.context.first(&self.db, &params, |row| {
            decode_versions(read_blob(row, 0, "ana_vector")?)
                .map_err(|what| damaged("ana_vector", what))
        })?;
        let context = Rc::new(self.log.branches.context(author, found.unwrap_or_default()));
        self.contexts.insert(author, context.clone());
        Ok(context)
    }

    /// What a site had seen of others when it wrote its last change that is held here.
    pub(super) fn seen_by(&mut self, site: SiteId) -> Result<Vec<(SiteId, u64)>> {
        if self.vector().version(site) == 0 {
            return Ok(Vec::new());
        }
        let author = self.author_of(site)?;
        let context = self.context_of(author)?;
        context.iter().map(|(author, version)| Ok((self.author_site(*author)?, *version))).collect()
    }

    pub(super) fn covers(&mut self, later: LocalDot, earlier: LocalDot) -> Result<bool> {
        if later.author == earlier.author {
            return Ok(earlier.version <= later.version);
        }
        if self.is_below_floor(later) && self.is_below_floor(earlier) {
            // Nobody knows any more, and everybody has seen both.
            return Ok(true);
        }
        let seen = |context: &Versions| {
            context.get(&earlier.author).is_some_and(|version| *version >= earlier.version)
        };
        let held = self.held_of(later.author);
        if later.author == AuthorId(0) && later.version > held.version {
            // The pending change: it has seen all that is held.
            return Ok(self.held_of(earlier.author).version >= earlier.version);
        }
        // Contexts only grow: what the last one lacks, none has.
        if !seen(&*self.context_of(later.author)?) {
            return Ok(false);
        }
        if later.version >= held.version {
            return Ok(true);
        }
        let checkpoint = self.checkpoint(later.author, later.version)?;
        if checkpoint.as_ref().is_some_and(|point| seen(&point.context)) {
            return Ok(true);
        }
        let from = checkpoint.map_or(EntryId(1), |point| point.entry);
        let branches = self.log.branches.clone();
        let mut is_covered = false;
        self.log.heads(from, |head| {
            let (author, version) = head.dot()?;
            if author != later.author || version > later.version {
                return Ok(author != later.author);
            }
            is_covered |=
                head.header()?.deps.iter().any(|StoredDep { author, version, .. }| {
                    branches.reaches(LocalDot { author: *author, version: *version }, earlier)
                });
            Ok(!is_covered && version < later.version)
        })?;
        Ok(is_covered)
    }

    /// What an author had seen of others at its version `at`, and what it branched from.
    pub(super) fn context_at(&mut self, author: AuthorId, at: u64) -> Result<Versions> {
        let point = self.checkpoint(author, at)?;
        let (from, mut context) = match point {
            Some(point) => (point.entry, point.context),
            None => (EntryId(1), self.log.branches.context(author, Versions::new())),
        };
        let branches = self.log.branches.clone();
        self.log.heads(from, |head| {
            let (of, version) = head.dot()?;
            if of == author && version <= at {
                for StoredDep { author, version, .. } in head.header()?.deps {
                    branches.cover(&mut context, LocalDot { author, version });
                }
            }
            Ok(of != author || version < at)
        })?;
        Ok(context)
    }

    /// The context that is stored with an author's entry of the vector.
    pub(super) fn held_context(&mut self, author: AuthorId) -> Result<Versions> {
        self.contexts.remove(&author);
        let params = [int(u64::from(author.0))];
        let found = self.sql.context.first(&self.db, &params, |row| {
            decode_versions(read_blob(row, 0, "ana_vector")?)
                .map_err(|what| damaged("ana_vector", what))
        })?;
        Ok(found.unwrap_or_default())
    }

    /// The last stored chain of an author at or below `version`.
    pub(super) fn checkpoint(
        &mut self,
        author: AuthorId,
        version: u64,
    ) -> Result<Option<Checkpoint>> {
        let params = [int(u64::from(author.0)), int(version)];
        let branches = self.log.branches.clone();
        self.sql.chain.first(&self.db, &params, |row| {
            let chain = <[u8; 16]>::try_from(read_blob(row, 1, "ana_chain")?)
                .map_err(|_| damaged("ana_chain", Corrupt("a chain that is not 16 bytes")))?;
            Ok(Checkpoint {
                held: Held { version: read_u64(row, 0, "ana_chain")?, chain: Chain(chain) },
                entry: EntryId(read_u64(row, 2, "ana_chain")?),
                context: branches.context(
                    author,
                    decode_versions(read_blob(row, 3, "ana_chain")?)
                        .map_err(|what| damaged("ana_chain", what))?,
                ),
            })
        })
    }

    /// The chain that is stored for just this version, and where its change begins.
    pub(super) fn stored_chain(
        &mut self,
        author: AuthorId,
        version: u64,
    ) -> Result<Option<(Held, EntryId)>> {
        let point = self.checkpoint(author, version)?;
        let exact = point.filter(|point| point.held.version == version);
        Ok(exact.map(|point| (point.held, point.entry)))
    }

    pub(super) fn chain_of(&mut self, site: SiteId, version: u64) -> Result<Option<Chain>> {
        let Some(author) = self.authors.find(&self.db, site)? else {
            return Ok((version == 0).then(Chain::default));
        };
        let author = AuthorId(author);
        let held = self.held_of(author);
        if version >= held.version {
            return Ok((version == held.version).then_some(held.chain));
        }
        let origin = self.origin(author)?;
        let none = Held { version: 0, chain: origin.chain };
        let mut at = self.checkpoint(author, version)?.map_or(none, |point| point.held);
        if version - at.version > MAX_CHAIN_WALK {
            let place = format!("ana_chain, author {}, version {version}", author.0);
            return Err(damaged(place, Corrupt("no chain is stored near it")));
        }
        while at.version < version {
            let next = at.version + 1;
            let salt = self.salt_at(author, next)?.unwrap_or(0);
            at = Held { version: next, chain: origin.next(at.chain, next, salt) };
        }
        Ok(Some(at.chain))
    }

    /// From which row of the log on there may be records or headers of changes that `from`
    /// does not cover; `None`: nothing is missing.
    pub(super) fn start_above(&mut self, from: &VersionVector) -> Result<Option<EntryId>> {
        let mut start: Option<EntryId> = None;
        let own = Other { site: self.own, held: self.state.own };
        let others = self.state.others.clone();
        let own = std::iter::once((AuthorId(0), own));
        for (author, Other { site, held }) in own.chain(others.iter().map(|(a, o)| (*a, *o))) {
            let covered = from.version(site);
            if covered >= held.version {
                continue;
            }
            let point = self.checkpoint(author, covered)?;
            let entry = point.map_or(EntryId(1), |point| point.entry);
            start = Some(start.map_or(entry, |start| start.min(entry)));
        }
        Ok(start)
    }

    pub(super) fn find_time(&mut self, change: LocalDot) -> Result<Option<Hlc>> {
        let point = self.checkpoint(change.author, change.version.saturating_sub(1))?;
        let mut time = None;
        self.log.heads(point.map_or(EntryId(1), |point| point.entry), |head| {
            if head.dot()? == (change.author, change.version) {
                time = Some(head.header()?.time);
            }
            Ok(time.is_none())
        })?;
        Ok(time)
    }

    /// Everybody whose changes are held, this copy among them.
    pub(super) fn held_authors(&self) -> impl Iterator<Item = (AuthorId, SiteId, Held)> {
        let own = (AuthorId(0), self.own, self.state.own);
        let others =
            self.state.others.iter().map(|(author, other)| (*author, other.site, other.held));
        std::iter::once(own).chain(others)
    }

    pub(super) fn present_vector(&self) -> VersionVector {
        let mut vector = VersionVector::new();
        vector.set(self.own, self.state.own);
        for other in self.state.others.values() {
            vector.set(other.site, other.held);
        }
        for (author, branch) in self.log.branches.all() {
            let other = self.state.others.get(&author).map(|other| other.site);
            let site = if author == AuthorId(0) { Some(self.own) } else { other };
            if let Some(site) = site {
                vector.set_branch(site, branch);
            }
        }
        vector
    }
}
