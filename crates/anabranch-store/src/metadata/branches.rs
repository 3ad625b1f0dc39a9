//! Branches: authors whose history forked, and what the log calls them.
//!
//! When an author's edge is parted (`anabranch_core::forest`), what follows becomes an author
//! of its own. The log is not rewritten: a *renaming* says that versions of one author above
//! a number are those of another, counted from there. It is applied wherever bytes of the log
//! are decoded, after formers. The small tables are rewritten.
//!
//! ```text
//! ana_meta, "branches":  n, then each branch: author | root (length, bytes) | base |
//!                        chain at base (16) | author and version before it (0, 0: none)
//!                        then each renaming to the end: author | above | author it became
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;

use anabranch_core::branch::Branch;
use anabranch_core::clock::Chain;
use anabranch_core::forest::Split;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::{Dot, Held};

use super::Metadata;
use super::entry::Entry;
use super::header::StoredHeader;
use super::sql::{damaged, int};
use super::state::Versions;
use super::varint::{Corrupt, Decoded, Reader, put, put_bytes};
use crate::error::{Result, StoreError};
use crate::ids::{AuthorId, EntryId, LocalDot};

/// Key of all of it in `ana_meta`.
const KEY: &str = "branches";

/// The branches among the authors, and the renamings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Branches {
    lines: BTreeMap<AuthorId, Line>,
    /// By author and number: who the versions above it are.
    renamed: BTreeMap<(AuthorId, u64), AuthorId>,
}

/// What a branch goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    branch: Branch,
    /// The change before its first, as the log may call it.
    parent: Option<LocalDot>,
}

impl Branches {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.renamed.is_empty()
    }

    /// What an author branched from.
    pub(crate) fn branch(&self, author: AuthorId) -> Option<Branch> {
        self.lines.get(&author).map(|line| line.branch)
    }

    /// All branches.
    pub(crate) fn all(&self) -> impl Iterator<Item = (AuthorId, Branch)> + '_ {
        self.lines.iter().map(|(author, line)| (*author, line.branch))
    }

    /// The present name of a change that the log names.
    pub(crate) fn rename(&self, dot: &mut LocalDot) {
        // Each step lowers the version or leaves the author for good; a damaged list ends too.
        for _ in 0..=self.renamed.len() {
            let range = (dot.author, 0)..(dot.author, dot.version);
            let Some(((_, above), became)) = self.renamed.range(range).next_back() else { return };
            *dot = LocalDot { author: *became, version: dot.version - above };
        }
    }

    /// Renames what a header names.
    pub(crate) fn rename_header(&self, header: &mut StoredHeader) {
        if self.renamed.is_empty() {
            return;
        }
        let mut dot = LocalDot { author: header.author, version: header.version };
        self.rename(&mut dot);
        (header.author, header.version) = (dot.author, dot.version);
        for dep in &mut header.deps {
            let mut dot = LocalDot { author: dep.author, version: dep.version };
            self.rename(&mut dot);
            (dep.author, dep.version) = (dot.author, dot.version);
        }
    }

    /// Has an entry rename what its records name.
    pub(crate) fn rename_entry(self: &Rc<Branches>, entry: &mut Entry) {
        if self.renamed.is_empty() {
            return;
        }
        entry.renamed_by(self.clone());
        entry.superseded.iter_mut().for_each(|(_, cell)| self.rename(&mut cell.dot));
    }

    /// Adds a change, all before it in its history, and what those branched from.
    pub(crate) fn cover(&self, versions: &mut Versions, dot: LocalDot) {
        let mut waiting = vec![dot];
        // Each renaming and each branch is passed once at most.
        for _ in 0..=2 * (self.renamed.len() + self.lines.len()) {
            let Some(mut dot) = waiting.pop() else { return };
            let range = (dot.author, 0)..(dot.author, dot.version);
            if let Some(((_, above), became)) = self.renamed.range(range).next_back() {
                waiting.push(LocalDot { author: *became, version: dot.version - above });
                dot.version = *above;
                waiting.push(dot);
                continue;
            }
            if dot.version == 0 || versions.get(&dot.author).is_some_and(|v| *v >= dot.version) {
                continue;
            }
            versions.insert(dot.author, dot.version);
            waiting.extend(self.parent(dot.author));
        }
    }

    fn parent(&self, author: AuthorId) -> Option<LocalDot> {
        self.lines.get(&author).and_then(|line| line.parent)
    }

    /// A stored context as it is meant: with present names, and what they branched from.
    pub(crate) fn context(&self, of: AuthorId, stored: Versions) -> Versions {
        if self.is_empty() {
            return stored;
        }
        let mut versions = Versions::new();
        for (author, version) in stored {
            self.cover(&mut versions, LocalDot { author, version });
        }
        if let Some(parent) = self.parent(of) {
            self.cover(&mut versions, parent);
        }
        versions
    }

    /// Whether `earlier` is `later`, or before it in its history.
    pub(crate) fn reaches(&self, later: LocalDot, earlier: LocalDot) -> bool {
        if later.author == earlier.author {
            return later.version >= earlier.version;
        }
        let mut versions = Versions::new();
        self.cover(&mut versions, later);
        versions.get(&earlier.author).is_some_and(|version| *version >= earlier.version)
    }

    /// This copy is called otherwise; `author` is who it was.
    pub(crate) fn leave_self(&mut self, author: AuthorId) {
        if let Some(line) = self.lines.remove(&AuthorId(0)) {
            self.lines.insert(author, line);
        }
        let own = |became: &&mut AuthorId| **became == AuthorId(0);
        self.renamed.values_mut().filter(own).for_each(|became| *became = author);
        let parents = self.lines.values_mut().filter_map(|line| line.parent.as_mut());
        parents.filter(|dot| dot.author == AuthorId(0)).for_each(|dot| dot.author = author);
    }

    fn decode(bytes: &[u8]) -> Decoded<Branches> {
        let mut reader = Reader::new(bytes);
        let mut branches = Branches::default();
        for _ in 0..reader.count()? {
            let author = AuthorId(reader.number32()?);
            let root = SiteId::new(reader.bytes()?).ok_or(Corrupt("the root of a branch"))?;
            let (base, chain) = (reader.number()?, Chain(reader.array()?));
            let parent =
                LocalDot { author: AuthorId(reader.number32()?), version: reader.number()? };
            let parent = (parent.version > 0).then_some(parent);
            branches.lines.insert(author, Line { branch: Branch { root, base, chain }, parent });
        }
        while reader.len() > 0 {
            let (author, above) = (AuthorId(reader.number32()?), reader.number()?);
            branches.renamed.insert((author, above), AuthorId(reader.number32()?));
        }
        Ok(branches)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.lines.len() as u64);
        for (author, Line { branch: Branch { root, base, chain }, parent }) in &self.lines {
            put(&mut out, u64::from(author.0));
            put_bytes(&mut out, root.as_bytes());
            put(&mut out, *base);
            out.extend_from_slice(&chain.0);
            let none = LocalDot { author: AuthorId(0), version: 0 };
            let LocalDot { author, version } = parent.unwrap_or(none);
            put(&mut out, u64::from(author.0));
            put(&mut out, version);
        }
        for ((author, above), became) in &self.renamed {
            put(&mut out, u64::from(author.0));
            put(&mut out, *above);
            put(&mut out, u64::from(became.0));
        }
        out
    }
}

impl Metadata {
    /// What an author's history goes on from.
    pub(super) fn origin(&mut self, author: AuthorId) -> Result<Branch> {
        match self.log.branches.branch(author) {
            Some(branch) => Ok(branch),
            None => Ok(Branch::trunk(self.author_site(author)?)),
        }
    }

    /// Parts an author's edge: what follows `split.at` is an author of its own from now on,
    /// which is this copy if the author was.
    ///
    /// Call it before the present transaction writes anything else.
    pub(crate) fn split(&mut self, split: &Split) -> Result<()> {
        self.ensure()?;
        self.or_stale(|this| this.part(split))?;
        self.reload()
    }

    /// Makes the author of a branch that is to be taken, unless there is one; `parent`: the
    /// last change before it.
    pub(crate) fn begin_branch(
        &mut self,
        site: SiteId,
        branch: Branch,
        parent: Option<Dot>,
    ) -> Result<()> {
        self.ensure()?;
        let author = self.author_of(site)?;
        if self.log.branches.branch(author) == Some(branch) {
            return Ok(());
        }
        let parent = match parent {
            Some(Dot { site, version }) => {
                Some(LocalDot { author: self.author_of(site)?, version })
            }
            None => None,
        };
        let branches = Rc::make_mut(&mut self.log.branches);
        branches.lines.insert(author, Line { branch, parent });
        self.store_branches()
    }

    fn part(&mut self, Split { site, at, name, branch }: &Split) -> Result<()> {
        let at = *at;
        let author = AuthorId(self.authors.id_of(&self.db, *site)?);
        let is_own = author == AuthorId(0);
        let end = self.held_of(author);
        let context = self.context_at(author, at)?;
        let entry = self.entry_at(author, at)?;
        let salt = self.salt_at(author, at + 1)?;
        self.entries.clear();
        let (author, became) = if is_own {
            // What this copy wrote so far becomes another author's; then part of it returns.
            let former = self.rename_self(*name)?;
            (former, AuthorId(0))
        } else {
            self.fold_tail()?;
            (author, self.author_of(*name)?)
        };
        self.move_versions(author, at, became, *name, *site)?;
        let last = self.held_context(author)?;
        let delete = "DELETE FROM main.ana_vector WHERE author = ?1";
        self.db.execute(delete, &[int(u64::from(author.0))])?;
        let start = Held { version: at, chain: branch.chain };
        if at > 0 {
            self.store_held(author, start, &context)?;
        }
        let rest = Held { version: end.version - at, chain: end.chain };
        self.store_held(became, rest, &last)?;
        self.store_chain(became, Held { version: 0, ..start }, entry, &context)?;
        if let Some(salt) = salt {
            self.store_salt(became, 1, salt)?;
        }
        let mut parent = (at > 0).then_some(LocalDot { author, version: at });
        let branches = Rc::make_mut(&mut self.log.branches);
        if at == 0 {
            parent = branches.parent(author);
            branches.lines.remove(&author);
        }
        branches.renamed.insert((author, at), became);
        branches.lines.insert(became, Line { branch: *branch, parent });
        self.store_branches()?;
        if is_own {
            self.renamed_own = Some((*name, rest, last));
        }
        // Another connection that has read this file reads it anew.
        self.set_folded(self.state.last)
    }

    /// Gives versions of an author above `at` to another one in the small tables.
    fn move_versions(
        &mut self,
        author: AuthorId,
        at: u64,
        became: AuthorId,
        name: SiteId,
        site: SiteId,
    ) -> Result<()> {
        for table in ["ana_chain", "ana_salt"] {
            let sql = format!(
                "UPDATE main.{table} SET author = ?1, version = version - ?2
                 WHERE author = ?3 AND version > ?2"
            );
            let params = [int(u64::from(became.0)), int(at), int(u64::from(author.0))];
            self.db.execute(&sql, &params)?;
        }
        let known = if became == AuthorId(0) { became } else { author };
        let floor = self.state.floor.get(&known).copied().unwrap_or(0);
        if floor > at {
            let set = "REPLACE INTO main.ana_floor(author, version) VALUES(?1, ?2)";
            self.db.execute(set, &[int(u64::from(became.0)), int(floor - at)])?;
            self.db.execute(set, &[int(u64::from(author.0)), int(at)])?;
            self.db.execute("DELETE FROM main.ana_floor WHERE version = 0", &[])?;
        }
        for table in ["ana_held", "ana_held_cell"] {
            let sql = format!(
                "UPDATE main.{table} SET site = ?1, version = version - ?2
                 WHERE site = ?3 AND version > ?2"
            );
            let params =
                [ValueRef::Blob(name.as_bytes()), int(at), ValueRef::Blob(site.as_bytes())];
            self.db.execute(&sql, &params)?;
        }
        Ok(())
    }

    pub(super) fn store_branches(&mut self) -> Result<()> {
        let bytes = self.log.branches.encode();
        self.db.execute(
            "REPLACE INTO main.ana_meta(key, value) VALUES(?1, ?2)",
            &[ValueRef::Text(KEY.as_bytes()), ValueRef::Blob(&bytes)],
        )?;
        Ok(())
    }

    pub(super) fn stored_branches(&self) -> Result<Branches> {
        let sql = "SELECT value FROM main.ana_meta WHERE key = ?1";
        match self.db.query_value(sql, &[ValueRef::Text(KEY.as_bytes())])? {
            Some(Value::Blob(bytes)) => {
                Branches::decode(&bytes).map_err(|what| damaged("ana_meta", what))
            }
            Some(_) => Err(StoreError::Damaged { place: "ana_meta".into(), what: "branches" }),
            None => Ok(Branches::default()),
        }
    }

    fn entry_at(&mut self, author: AuthorId, at: u64) -> Result<EntryId> {
        Ok(self.checkpoint(author, at)?.map_or(EntryId(1), |point| point.entry))
    }
}
