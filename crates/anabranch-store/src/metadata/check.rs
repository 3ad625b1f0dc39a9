//! The invariants of log and clocks, looked at one by one: what `ana_check` reports of them.
//!
//! The log is read once in order, then all blocks; memory grows with the number of authors
//! only. What cannot be decoded is a finding too, and the rest is looked at all the same.

use std::collections::BTreeMap;

use anabranch_core::vector::Held;

use super::Metadata;
use super::blocks::{Loaded, place};
use super::entry::KeyOf;
use super::log::LogRow;
use super::mask::Mask;
use super::record::RecordKind;
use super::row_clock::{Group, RowClock};
use crate::check::Severity;
use crate::error::{Result, StoreError};
use crate::ids::{AuthorId, ColumnId, EntryId, Key, TableId};
use crate::limits::{MAX_BLOCK_BYTES, MAX_COLUMN_VERSION};

/// Who is told what is wrong, and where.
type Report<'a> = dyn FnMut(Severity, String, String) + 'a;

fn error(report: &mut Report<'_>, place: String, what: &str) {
    report(Severity::Error, place, what.into());
}

/// Turns damage into a finding; other errors end the check.
fn note<T>(report: &mut Report<'_>, read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Damaged { place, what }) => {
            error(report, place, what);
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

impl Metadata {
    /// Looks at the log and at all clocks.
    ///
    /// # Errors
    /// What keeps them from being read at all; damage is reported instead.
    pub(crate) fn check(&mut self, report: &mut Report<'_>) -> Result<()> {
        if note(report, self.ensure())?.is_none() {
            return Ok(());
        }
        self.check_floor(report)?;
        self.check_log(report)?;
        for table in self.tables_with_clocks()? {
            self.check_blocks(table, report)?;
        }
        Ok(())
    }

    fn check_floor(&mut self, report: &mut Report<'_>) -> Result<()> {
        for (author, version) in self.state.floor.clone().iter() {
            if *version > self.held_of(*author).version {
                let place = format!("ana_floor, author {}", author.0);
                error(report, place, "a floor above what is held");
            }
        }
        for (name, length) in self.restarts_by_name()? {
            if length.is_multiple_of(2) || length > MAX_COLUMN_VERSION {
                let place = format!("ana_restart, table {name}");
                error(report, place, "a restart length that is not odd, or out of bounds");
            }
        }
        Ok(())
    }

    fn check_log(&mut self, report: &mut Report<'_>) -> Result<()> {
        let mut held: BTreeMap<AuthorId, Held> = BTreeMap::new();
        let (mut id, mut dbv) = (EntryId(1), 0);
        while id <= self.state.last {
            let Some(found) = self.log.next_id(id)? else { break };
            id = EntryId(found.0 + 1);
            let Some(Some(row)) = note(report, self.log.row(found))? else { continue };
            if row.dbv < dbv {
                error(report, entry_place(row.id), "its dbv is below that of a row before it");
            }
            dbv = dbv.max(row.dbv);
            self.check_head(&row, &mut held, report)?;
            self.check_records(&row, report);
        }
        for (author, last) in held {
            let known = self.held_of(author);
            let is_pending = author == AuthorId(0) && last.version == known.version + 1;
            if !is_pending && (last.version, last.chain) != (known.version, known.chain) {
                let place = format!("ana_vector, author {}", author.0);
                error(report, place, "its version and chain are not those of the log");
            }
        }
        Ok(())
    }

    fn check_head(
        &mut self,
        row: &LogRow,
        held: &mut BTreeMap<AuthorId, Held>,
        report: &mut Report<'_>,
    ) -> Result<()> {
        let Some(Some(head)) = note(report, self.log.header_of(row))? else { return Ok(()) };
        let floor = self.state.floor.get(&head.author).copied().unwrap_or(0);
        if head.version <= floor {
            // Of the past some headers may be there, and others not.
            return Ok(());
        }
        let origin = self.origin(head.author)?;
        let before = match held.get(&head.author) {
            Some(before) => *before,
            None => {
                let site = self.author_site(head.author)?;
                let chain = self.chain_of(site, floor)?.unwrap_or(origin.chain);
                Held { version: floor, chain }
            }
        };
        if head.version != before.version + 1 {
            let what = "its change does not follow the one of this author before it";
            error(report, entry_place(row.id), what);
        }
        let salt = self.salt_at(head.author, head.version)?;
        if salt.is_none() {
            error(report, entry_place(row.id), "no salt is stored for its change");
        }
        let chain = origin.next(before.chain, head.version, salt.unwrap_or(0));
        let now = Held { version: head.version, chain };
        held.insert(head.author, now);
        if let Some(stored) = self.stored_chain(head.author, head.version)? {
            if stored.0.chain != now.chain {
                error(report, entry_place(row.id), "its chain is not the one in ana_chain");
            }
            if stored.1 > row.id {
                error(report, entry_place(row.id), "ana_chain says that it begins later");
            }
        }
        Ok(())
    }

    fn check_records(&mut self, row: &LogRow, report: &mut Report<'_>) {
        let Some(entry) = &row.entry else { return };
        let mut last = (0, 0);
        for index in 0..entry.len() {
            let Some(stamp) = entry.stamp(index) else { continue };
            let place = || format!("{}, record {index}", entry_place(row.id));
            if stamp.db_version > row.dbv {
                error(report, place(), "its db_version is above the row's");
            }
            let known = self.held_of(stamp.dot.author).version;
            if stamp.dot.version > known + u64::from(stamp.dot.author == AuthorId(0)) {
                error(report, place(), "its change is not held");
            }
            if stamp.kind == RecordKind::Delete && *stamp.mask != Mask::of(ColumnId::SENTINEL) {
                error(report, place(), "a delete that stamps columns");
            }
            let at = (stamp.db_version, stamp.first_seq);
            if at < last {
                error(report, place(), "it stands after what came later");
            }
            last = at;
        }
    }

    fn check_blocks(&mut self, table: TableId, report: &mut Report<'_>) -> Result<()> {
        let (mut from, mut last) = (Some(Key::new()), None::<Key>);
        while let Some(first) = from {
            let block = note(report, self.blocks.load_from(table, &first))?;
            from = self.blocks.next_first(table, &first_of(&block, &first))?;
            let Some(Some(block)) = block else { continue };
            if last.as_ref().is_some_and(|last| *last >= block.first) {
                let what = "it begins below the end of the block before it";
                error(report, place(table, &block.first), what);
            }
            if block.n_bytes > MAX_BLOCK_BYTES && block.rows.len() > 1 {
                error(report, place(table, &block.first), "it is larger than a block may be");
            }
            let next_number = self.next_number(table)?;
            for (key, clock) in &block.rows {
                if clock.number == 0 || clock.number >= next_number {
                    error(report, place(table, key), "its number was never given out");
                }
                if let Some(what) = clock.broken_invariant() {
                    error(report, place(table, key), what);
                }
                for group in &clock.groups {
                    self.check_group(table, key, group, report)?;
                }
            }
            last = block.rows.last().map(|row| row.0.clone());
        }
        Ok(())
    }

    /// A group must name a record of its row that stamped its columns.
    fn check_group(
        &mut self,
        table: TableId,
        key: &[u8],
        group: &Group,
        report: &mut Report<'_>,
    ) -> Result<()> {
        let Some(entry) = note(report, self.entry(group.at.entry))? else { return Ok(()) };
        let stamp = entry.as_ref().and_then(|entry| entry.stamp(group.at.index));
        let (Some(entry), Some(stamp)) = (&entry, stamp) else {
            error(report, place(table, key), "a group names a record that is not there");
            return Ok(());
        };
        let is_of_row = match entry.key(group.at.index) {
            KeyOf::Whole(name) => name == key,
            KeyOf::Prefix(name) => key.starts_with(name),
        };
        if !is_of_row {
            error(report, place(table, key), "a group names a record of another row");
        }
        if group.mask.intersection(stamp.mask) != group.mask {
            let what = "a group has columns that its record did not stamp";
            error(report, place(table, key), what);
        }
        Ok(())
    }
}

fn entry_place(id: EntryId) -> String {
    format!("ana_entry {}", id.0)
}

fn first_of(block: &Option<Option<Loaded>>, otherwise: &Key) -> Key {
    block.as_ref().and_then(Option::as_ref).map_or(otherwise, |block| &block.first).clone()
}

impl RowClock {
    /// The first invariant of a stored clock that does not hold.
    pub(crate) fn broken_invariant(&self) -> Option<&'static str> {
        let mut seen = Mask::new();
        for group in &self.groups {
            if !group.mask.intersection(&seen).is_empty() {
                return Some("a column is in two groups");
            }
            seen.unite(&group.mask);
            if group.version > MAX_COLUMN_VERSION {
                return Some("a version out of bounds");
            }
            if group.mask.is_empty() && !group.is_birth {
                return Some("a group of nothing");
            }
            if group.mask.contains(ColumnId::SENTINEL)
                && (group.mask.len() > 1 || group.version != self.causal_length)
            {
                return Some("a sentinel that is not its causal length");
            }
        }
        let places: Vec<_> = self.groups.iter().map(|group| (group.at, group.version)).collect();
        if !places.is_sorted() {
            return Some("groups out of order");
        }
        let is_dead = !self.is_alive();
        if is_dead && seen != Mask::of(ColumnId::SENTINEL) {
            return Some("a deleted row with clocks of columns");
        }
        if !self.groups.iter().any(|group| group.is_birth) {
            return Some("a row without a birth");
        }
        (self.causal_length == 0).then_some("a row of causal length 0")
    }
}
