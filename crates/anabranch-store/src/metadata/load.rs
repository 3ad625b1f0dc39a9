//! Reading the state of the log from the file, and replaying its tail.

use std::rc::Rc;

use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use anabranch_core::vector::Held;

use super::entry::KeyOf;
use super::floor::FORGOTTEN;
use super::header;
use super::local;
use super::log::LogRow;
use super::mask::Mask;
use super::record::RecordKind;
use super::sql::{damaged, int, read_blob, read_u32, read_u64};
use super::state::{Other, State, Versions, decode_versions};
use super::tail::{Tail, TailHead};
use super::varint::Corrupt;
use super::{Metadata, PRAGMA_UNKNOWN};
use crate::error::Result;
use crate::ids::{Address, AuthorId, ColumnId, EntryId, TableId};

impl Metadata {
    /// Reads anew what [`Metadata::invalidate`] made stale.
    pub(super) fn ensure(&mut self) -> Result<()> {
        if self.is_stale {
            self.load(false)?;
        }
        Ok(())
    }

    /// Reads everything. `is_committed`: nothing in the file is of a transaction of ours
    /// that is still open.
    pub(super) fn load(&mut self, is_committed: bool) -> Result<()> {
        self.is_stale = true;
        self.authors.forget_ids();
        self.origins.forget_ids();
        self.contexts.clear();
        self.entries.clear();
        self.blocks.forget();
        self.n_kept = 0;
        self.numbers.clear();
        self.restarts = None;
        self.pending_own = None;
        self.tail = Tail::default();
        self.recent = None;
        self.ascending = None;
        let site = self.stored_site()?;
        self.be(site);
        self.log.formers = self.stored_formers()?;
        self.log.branches = Rc::new(self.stored_branches()?);
        let mut state = State::empty();
        state.site = Some(site);
        (state.last, state.dbv) = self.log.last()?;
        state.folded = EntryId(self.meta_number("folded")?);
        state.time = Hlc(self.meta_number("time")?);
        self.load_vector(&mut state)?;
        self.load_floor(&mut state)?;
        state.own_salt = self.salt_at(AuthorId(0), i64::MAX as u64)?;
        self.state = state;
        let last_own = if is_committed { u64::MAX } else { self.committed.last.0 };
        let folded_own = self.state.folded;
        self.is_stale = false;
        let replayed = self.replay(EntryId(folded_own.0 + 1), EntryId(last_own));
        self.is_stale = replayed.is_err();
        replayed?;
        if is_committed {
            self.committed = self.state.clone();
        } else if self.committed.site == self.state.site {
            // The file may hold the header of our open transaction: it is no change yet.
            self.state.own = self.committed.own;
            self.state.own_context = self.committed.own_context.clone();
        } else {
            // It took another site id, as which it has committed nothing, or it is called
            // after a branch that it has written.
            let renamed = self.renamed_own.as_ref().filter(|(site, ..)| *site == self.own);
            let (own, context) = match renamed {
                Some((_, held, context)) => (*held, context.clone()),
                None => (State::empty().own, Versions::new()),
            };
            self.state.own = own;
            self.state.own_context = Rc::new(self.log.branches.context(AuthorId(0), context));
        }
        self.log.pending_version = self.state.own.version + 1;
        Ok(())
    }

    /// Takes a site id for this copy's.
    pub(super) fn be(&mut self, site: SiteId) {
        self.own = site;
        self.authors.be(site);
        self.origins.be(site);
    }

    fn load_vector(&mut self, state: &mut State) -> Result<()> {
        let mut held_of_others = Vec::new();
        let branches = self.log.branches.clone();
        self.sql.vector.each(&self.db, &[], |row| {
            let author = AuthorId(read_u32(row, 0, "ana_vector")?);
            let version = read_u64(row, 1, "ana_vector")?;
            let chain = <[u8; 16]>::try_from(read_blob(row, 2, "ana_vector")?)
                .map_err(|_| damaged("ana_vector", Corrupt("a chain that is not 16 bytes")))?;
            let held = Held { version, chain: Chain(chain) };
            if author == AuthorId(0) {
                state.own = held;
                let context = decode_versions(read_blob(row, 3, "ana_vector")?);
                let context = context.map_err(|what| damaged("ana_vector", what))?;
                state.own_context = Rc::new(branches.context(author, context));
            } else {
                held_of_others.push((author, held));
            }
            Ok(true)
        })?;
        let mut others = std::collections::BTreeMap::new();
        for (author, held) in held_of_others {
            others.insert(author, Other { site: self.author_site(author)?, held });
        }
        state.others = Rc::new(others);
        Ok(())
    }

    /// Takes over what was committed since the file was last read.
    pub(super) fn take_commits(&mut self) -> Result<()> {
        self.blocks.forget();
        let folded = EntryId(self.meta_number("folded")?);
        let is_renewed = self.state.site != Some(self.stored_site()?);
        let n_forgotten = self.meta_number(FORGOTTEN)?;
        let is_other = is_renewed || n_forgotten != self.state.n_forgotten;
        if self.is_stale || is_other || folded != self.state.folded {
            return self.load(true);
        }
        self.state.own_salt = self.salt_at(AuthorId(0), i64::MAX as u64)?;
        let from = EntryId(self.state.last.0 + 1);
        let replayed = self.replay(from, EntryId(u64::MAX));
        if replayed.is_err() {
            self.invalidate();
        }
        self.committed = self.state.clone();
        replayed
    }

    /// Takes over the rows from `from` on: headers of changes up to `last_own` (what follows
    /// is of an open transaction), and all records.
    pub(super) fn replay(&mut self, from: EntryId, last_own: EntryId) -> Result<()> {
        self.recent = None;
        self.ascending = None;
        let mut next = from;
        while let Some(row) = self.log.next(next)? {
            next = EntryId(row.id.0 + 1);
            self.replay_row(&row, last_own)?;
            self.state.last = row.id;
            self.state.dbv = row.dbv;
        }
        Ok(())
    }

    fn replay_row(&mut self, row: &LogRow, last_own: EntryId) -> Result<()> {
        let place = || format!("ana_entry {}", row.id.0);
        if !row.head.is_empty() && row.id <= last_own {
            let head = header::decode(&row.head, row.dbv).map_err(|what| damaged(place(), what))?;
            if head.author != AuthorId(0) || head.version != self.state.own.version + 1 {
                return Err(damaged(place(), Corrupt("an unfolded change out of order")));
            }
            let salt = self.salt_at(AuthorId(0), head.version)?.unwrap_or(0);
            let origin = self.origin(AuthorId(0))?;
            let chain = origin.next(self.state.own.chain, head.version, salt);
            self.state.own = Held { version: head.version, chain };
            self.state.time = self.state.time.max(head.time);
            let context = Rc::make_mut(&mut self.state.own_context);
            context.extend(head.deps.iter().map(|dep| (dep.author, dep.version)));
            let context = self.state.own_context.clone();
            self.tail.heads.push(TailHead { held: self.state.own, entry: row.id, context });
            self.log.pending_version = head.version + 1;
        }
        self.tail.n_entries += 1;
        let Some(entry) = &row.entry else { return Ok(()) };
        for index in 0..entry.len() {
            let (Some(stamp), KeyOf::Whole(key)) = (entry.stamp(index), entry.key(index)) else {
                return Err(damaged(place(), Corrupt("an unfolded record without its key")));
            };
            if stamp.kind == RecordKind::Merged {
                return Err(damaged(place(), Corrupt("an unfolded merge")));
            }
            let at = Address { entry: row.id, index };
            let mut columns = stamp.mask.clone();
            columns.remove(ColumnId::SENTINEL);
            self.apply_to_tail(row.table, key, stamp.kind, &columns, at)?;
        }
        Ok(())
    }

    /// Applies one local operation to the clock of its row, in the tail.
    pub(super) fn apply_to_tail(
        &mut self,
        table: TableId,
        key: &[u8],
        kind: RecordKind,
        columns: &Mask,
        at: Address,
    ) -> Result<local::Outcome> {
        let mut clock = match self.tail.row(table, key) {
            Some(clock) => Some(clock.clone()),
            None => self.blocks.row(table, key)?,
        };
        let is_new = clock.is_none();
        let number = if is_new { self.next_number(table)? } else { 0 };
        let newborn = local::Newborn { number, restart: self.restart_of(table)? };
        let outcome = local::apply(&mut clock, kind, columns, at, newborn);
        if is_new {
            self.numbers.insert(table, number + 1);
        }
        let clock = clock.expect("a row that was written to has a clock");
        local::check_bounds(table, key, &clock)?;
        self.tail.insert(table, key, clock);
        Ok(outcome)
    }

    /// The number the next new row of a table gets.
    pub(super) fn next_number(&mut self, table: TableId) -> Result<u64> {
        if let Some(number) = self.numbers.get(&table) {
            return Ok(*number);
        }
        let stored = self.meta_number(&format!("next:{}", table.0))?;
        self.numbers.insert(table, stored.max(1));
        Ok(stored.max(1))
    }

    pub(super) fn meta_number(&mut self, key: &str) -> Result<u64> {
        let params = [ValueRef::Text(key.as_bytes())];
        let found = self.sql.meta.first(&self.db, &params, |row| read_u64(row, 0, "ana_meta"))?;
        Ok(found.unwrap_or(0))
    }

    pub(super) fn set_meta(&mut self, key: &str, value: u64) -> Result<()> {
        self.sql.set_meta.run(&self.db, &[ValueRef::Text(key.as_bytes()), int(value)])
    }

    /// The salt of an author's change.
    pub(super) fn salt_at(&mut self, author: AuthorId, version: u64) -> Result<Option<u64>> {
        let params = [int(u64::from(author.0)), int(version)];
        self.sql.salt.first(&self.db, &params, |row| match row.column(0) {
            ValueRef::Integer(salt) => Ok(salt as u64),
            _ => Err(damaged("ana_salt", Corrupt("a salt that is not a number"))),
        })
    }

    /// `PRAGMA data_version`: changes when another connection commits.
    pub(super) fn read_data_version(&mut self) -> Result<i64> {
        let found = self.sql.data_version.first(&self.db, &[], |row| match row.column(0) {
            ValueRef::Integer(version) => Ok(version),
            _ => Ok(PRAGMA_UNKNOWN),
        })?;
        Ok(found.unwrap_or(PRAGMA_UNKNOWN))
    }
}
