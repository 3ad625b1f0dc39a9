//! The local write rules (specs/tables.md, 1.5): what an INSERT, UPDATE or DELETE does to
//! the clock of its row, and which columns its record stamps. Pure.

use smallvec::{SmallVec, smallvec};

use super::mask::Mask;
use super::record::RecordKind;
use super::row_clock::{Group, RowClock};
use crate::error::{Result, SpentVersion, StoreError};
use crate::ids::{Address, ColumnId, TableId};
use crate::limits::MAX_COLUMN_VERSION;

/// What a record of a local operation looks like, beside its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The sentinel is stamped too, before the columns.
    pub(crate) has_sentinel: bool,
    /// One `seq` is consumed before the record's first and never shown: what the reference
    /// does when an INSERT meets a known key without a sentinel.
    pub(crate) skips_seq: bool,
    /// The record gave the row its causal length.
    pub(crate) is_birth: bool,
}

/// How a row begins a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newborn {
    /// `__crsql_key` of a row that was unknown.
    pub(crate) number: u64,
    /// The least causal length of a life of a row that was unknown or dead: odd, above every one
    /// that was forgotten in the table.
    pub(crate) restart: u64,
}

/// Applies one operation to the clock of its row; `at` is where its record will stand, and
/// `newborn` says how a row begins a life.
///
/// # Panics
/// For [`RecordKind::Merged`], which is not a local operation.
pub(crate) fn apply(
    clock: &mut Option<RowClock>,
    kind: RecordKind,
    columns: &Mask,
    at: Address,
    newborn: Newborn,
) -> Outcome {
    apply_to(clock.get_or_insert_with(RowClock::unknown), kind, columns, at, newborn)
}

/// As [`apply`], for a clock that is [`RowClock::unknown`] if its row is.
///
/// # Panics
/// For [`RecordKind::Merged`].
#[inline]
pub(crate) fn apply_to(
    row: &mut RowClock,
    kind: RecordKind,
    columns: &Mask,
    at: Address,
    newborn: Newborn,
) -> Outcome {
    let is_unknown = row.is_unknown();
    if is_unknown {
        row.number = newborn.number;
    }
    let restart = newborn.restart;
    match kind {
        RecordKind::Insert | RecordKind::Update if is_unknown && restart <= 1 => {
            first_life(row, columns, at);
            Outcome { has_sentinel: columns.is_empty(), skips_seq: false, is_birth: true }
        }
        RecordKind::Insert if !is_unknown => insert(row, columns, at, restart),
        RecordKind::Insert | RecordKind::Update => update(row, columns, at, restart),
        RecordKind::Delete => {
            delete(row, at, restart);
            Outcome { has_sentinel: true, skips_seq: false, is_birth: true }
        }
        RecordKind::Merged => panic!("a merged record has no local rule"),
    }
}

/// Whether a clock is past what any copy takes: a cell or row at its bound, which no honest
/// history reaches, was written once more.
pub(crate) fn is_out_of_bounds(clock: &RowClock) -> bool {
    clock.causal_length > MAX_COLUMN_VERSION
        || clock.groups.iter().any(|group| group.version > MAX_COLUMN_VERSION)
}

/// Refuses such a clock here, because no delta could carry it.
#[inline]
pub(crate) fn check_bounds(table: TableId, key: &[u8], clock: &RowClock) -> Result<()> {
    if is_out_of_bounds(clock) { Err(spent(table, key, clock)) } else { Ok(()) }
}

#[cold]
fn spent(table: TableId, key: &[u8], clock: &RowClock) -> StoreError {
    let group = clock.groups.iter().find(|group| group.version > MAX_COLUMN_VERSION);
    let column = group.and_then(|group| group.mask.iter().next());
    let column = column.unwrap_or(ColumnId::SENTINEL);
    StoreError::VersionSpent(Box::new(SpentVersion { table, key: key.to_vec(), column }))
}

/// The first life of a row: no sentinel, unless it has no columns at all.
#[inline]
fn first_life(row: &mut RowClock, columns: &Mask, at: Address) {
    let mask = if columns.is_empty() { Mask::of(ColumnId::SENTINEL) } else { columns.clone() };
    row.causal_length = 1;
    row.groups.push(Group { mask, version: 1, at, is_birth: true });
}

fn insert(row: &mut RowClock, columns: &Mask, at: Address, restart: u64) -> Outcome {
    let has_sentinel = columns.is_empty() || row.has_sentinel();
    if has_sentinel {
        raise(row, at, restart);
    }
    stamp(row, columns, at);
    Outcome { has_sentinel, skips_seq: !has_sentinel, is_birth: has_sentinel }
}

fn update(row: &mut RowClock, columns: &Mask, at: Address, restart: u64) -> Outcome {
    // A row that lives in the table but is dead here was written past the triggers; the
    // update shows that it lives; so does one that begins above what was forgotten.
    let has_sentinel = !row.is_alive();
    if has_sentinel {
        raise(row, at, restart);
    }
    stamp(row, columns, at);
    Outcome { has_sentinel, skips_seq: false, is_birth: has_sentinel }
}

/// Deletes: the causal length goes to the next even one and only the sentinel stays. A row
/// that was not known to live dies above what was forgotten.
pub(crate) fn delete(row: &mut RowClock, at: Address, restart: u64) {
    row.causal_length = match row.is_alive() {
        true => row.causal_length + 1,
        false => (row.causal_length + 2).max(restart + 1),
    };
    let mask = Mask::of(ColumnId::SENTINEL);
    row.groups = smallvec![Group { mask, version: row.causal_length, at, is_birth: true }];
}

/// Starts the next life: the causal length goes to the next odd one, former births and the
/// former sentinel go, columns stay. A row that did not live gets at least `restart`.
pub(crate) fn raise(row: &mut RowClock, at: Address, restart: u64) {
    row.causal_length = match row.is_alive() {
        true => row.causal_length + 2,
        false => (row.causal_length + 1).max(restart),
    };
    put_sentinel(row, at);
}

/// The life of a row that another row's key was changed to: the next one, unless the row
/// lives and has no sentinel yet; then it goes on in the first life, as in the reference.
pub(crate) fn arrive(row: &mut RowClock, at: Address, restart: u64) {
    match row.is_alive() && !row.has_sentinel() {
        true => put_sentinel(row, at),
        false => raise(row, at, restart),
    }
}

fn put_sentinel(row: &mut RowClock, at: Address) {
    for group in &mut row.groups {
        group.is_birth = false;
        group.mask.remove(ColumnId::SENTINEL);
    }
    row.groups.retain(|group| !group.mask.is_empty());
    let mask = Mask::of(ColumnId::SENTINEL);
    row.groups.push(Group { mask, version: row.causal_length, at, is_birth: true });
}

/// Stamps columns: each version goes up by one, or starts at one.
pub(crate) fn stamp(row: &mut RowClock, columns: &Mask, at: Address) {
    if columns.is_empty() {
        return;
    }
    if stamp_within_group(row, columns, at) {
        return;
    }
    let mut fresh = columns.clone();
    let mut stamped: SmallVec<[Group; 2]> = SmallVec::new();
    for group in &mut row.groups {
        let taken = group.mask.intersection(&fresh);
        if taken.is_empty() {
            continue;
        }
        group.mask.subtract(&taken);
        fresh.subtract(&taken);
        push(&mut stamped, taken, group.version + 1, at);
    }
    push(&mut stamped, fresh, 1, at);
    tidy(row, stamped);
}

/// The usual case, without lists: one group has all the columns. `false`: nothing was done.
#[inline]
fn stamp_within_group(row: &mut RowClock, columns: &Mask, at: Address) -> bool {
    let is_newest = row.groups.last().is_none_or(|last| last.at < at);
    let found = row.groups.iter().position(|group| group.mask.includes(columns));
    let Some(place) = found.filter(|_| is_newest) else { return false };
    let group = &mut row.groups[place];
    let version = group.version + 1;
    if group.mask == *columns && !group.is_birth {
        if place + 1 == row.groups.len() {
            let group = &mut row.groups[place];
            (group.version, group.at) = (version, at);
            return true;
        }
        row.groups.remove(place);
    } else {
        group.mask.subtract(columns);
        if group.mask.is_empty() {
            group.version = 0;
            row.groups.sort_by_key(|group| (group.at, group.version));
        }
    }
    row.groups.push(Group { mask: columns.clone(), version, at, is_birth: false });
    true
}

/// Stamps columns with versions that were worked out elsewhere.
pub(crate) fn stamp_with(
    row: &mut RowClock,
    versions: impl IntoIterator<Item = (ColumnId, u64)>,
    at: Address,
) {
    let mut stamped: SmallVec<[Group; 2]> = SmallVec::new();
    for (column, version) in versions {
        for group in &mut row.groups {
            group.mask.remove(column);
        }
        push(&mut stamped, Mask::of(column), version, at);
    }
    tidy(row, stamped);
}

fn push(stamped: &mut SmallVec<[Group; 2]>, mask: Mask, version: u64, at: Address) {
    if mask.is_empty() {
        return;
    }
    match stamped.iter_mut().find(|group| group.version == version) {
        Some(group) => group.mask.unite(&mask),
        None => stamped.push(Group { mask, version, at, is_birth: false }),
    }
}

/// Drops emptied groups that no birth keeps, and appends the stamped ones in order.
fn tidy(row: &mut RowClock, stamped: SmallVec<[Group; 2]>) {
    row.groups.retain(|group| group.is_birth || !group.mask.is_empty());
    for group in &mut row.groups {
        if group.mask.is_empty() {
            group.version = 0;
        }
    }
    row.groups.extend(stamped);
    if row.groups.len() > 1 {
        row.groups.sort_by_key(|group| (group.at, group.version));
    }
}
