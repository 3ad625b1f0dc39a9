//! Updates of keys (specs/tables.md, 1.5 and 4): what each does to two rows. A batch that
//! has one is worked through in order, through memory, and written as settled.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::entry::Stamp;
use super::local::{self, Newborn};
use super::mask::Mask;
use super::record::RecordKind;
use super::row_clock::RowClock;
use super::write::{Settled, SettledRow, record_kind, stamped};
use super::{Metadata, PendingChange};
use crate::buffer::{LocalBuffer, LocalKind, LocalOp};
use crate::error::Result;
use crate::ids::{Address, ColumnId, EntryId, Key, LocalDot, Ordinal, TableId};

/// A record in work.
struct Work {
    table: TableId,
    key: Key,
    mask: Mask,
    first_seq: u64,
    is_birth: bool,
}

/// A batch in work; addresses in its rows are indexes of its records.
struct Batch {
    records: Vec<Work>,
    rows: HashMap<(TableId, Key), RowClock>,
    next_seq: u64,
}

impl Batch {
    /// Adds a record; returns its address.
    fn push(&mut self, table: TableId, key: &[u8], mask: Mask, is_birth: bool) -> Address {
        let index = self.records.len() as u32;
        let first_seq = self.next_seq;
        self.next_seq += u64::from(mask.len());
        self.records.push(Work { table, key: Key::from_slice(key), mask, first_seq, is_birth });
        Address { entry: EntryId::PENDING, index }
    }

    fn next_address(&self) -> Address {
        Address { entry: EntryId::PENDING, index: self.records.len() as u32 }
    }
}

impl Metadata {
    pub(super) fn write_rekeys(
        &mut self,
        change: &mut PendingChange,
        ops: &LocalBuffer,
    ) -> Result<()> {
        self.fold_tail()?;
        let next_seq = change.next_seq;
        let mut batch = Batch { records: Vec::new(), rows: HashMap::new(), next_seq };
        let mut ops_left = ops.ops.iter();
        while let Some(op) = ops_left.next() {
            match op.kind {
                LocalKind::Rekey => {
                    let to = ops_left.next().expect("a Rekey is followed by its Rekeyed");
                    self.rekey(&mut batch, ops, op, to)?;
                }
                _ => self.apply_in(&mut batch, ops, op)?,
            }
        }
        for ((table, key), clock) in &batch.rows {
            local::check_bounds(*table, key, clock)?;
        }
        change.next_seq = batch.next_seq;
        let (dot, db_version) = (self.pending_dot(), change.db_version);
        let mut records = Vec::with_capacity(batch.records.len());
        let (mut rows, mut places) = (Vec::with_capacity(batch.rows.len()), HashMap::new());
        for work in &batch.records {
            let row = batch.rows.get_key_value(&(work.table, work.key.clone()));
            let place = row.map(|(row, clock)| {
                *places.entry(row).or_insert_with(|| {
                    rows.push(SettledRow { table: row.0, key: &row.1, clock });
                    rows.len() as u32 - 1
                })
            });
            records.push(work.settled(place.unwrap_or(u32::MAX), dot, db_version));
        }
        self.write_settled(change, &records, &rows)
    }

    fn apply_in(&mut self, batch: &mut Batch, ops: &LocalBuffer, op: &LocalOp) -> Result<()> {
        let (kind, columns) = (record_kind(op.kind), &ops.masks[op.mask as usize]);
        let key = ops.key(op);
        let mut clock = self.take_row(batch, op.table, key)?;
        let number = if clock.is_none() { self.take_number(op.table)? } else { 0 };
        let newborn = Newborn { number, restart: self.restart_of(op.table)? };
        let outcome = local::apply(&mut clock, kind, columns, batch.next_address(), newborn);
        batch.next_seq += u64::from(outcome.skips_seq);
        batch.push(op.table, key, stamped(kind, columns, outcome), outcome.is_birth);
        batch.rows.extend(clock.map(|clock| ((op.table, Key::from_slice(key)), clock)));
        Ok(())
    }

    /// The clock of a row in work: its former one if this is the first time.
    fn take_row(
        &mut self,
        batch: &mut Batch,
        table: TableId,
        key: &[u8],
    ) -> Result<Option<RowClock>> {
        match batch.rows.remove(&(table, Key::from_slice(key))) {
            Some(clock) => Ok(Some(clock)),
            None => self.blocks.row(table, key),
        }
    }

    /// The row, or an empty one with a number and causal length 0.
    fn take_or_make(&mut self, batch: &mut Batch, table: TableId, key: &[u8]) -> Result<RowClock> {
        if let Some(clock) = self.take_row(batch, table, key)? {
            return Ok(clock);
        }
        let number = self.take_number(table)?;
        Ok(RowClock { number, causal_length: 0, groups: SmallVec::new() })
    }

    /// Columns move to the new key with fresh stamps, the old key is deleted, the new one is
    /// born, then come the columns that changed too.
    fn rekey(
        &mut self,
        batch: &mut Batch,
        ops: &LocalBuffer,
        from: &LocalOp,
        to: &LocalOp,
    ) -> Result<()> {
        let (table, old_key, new_key) = (from.table, ops.key(from), ops.key(to));
        let changed = &ops.masks[to.mask as usize];
        let sentinel = Mask::of(ColumnId::SENTINEL);
        let restart = self.restart_of(table)?;
        let mut old = self.take_or_make(batch, table, old_key)?;
        if old_key == new_key {
            let row = respell(batch, (table, new_key), old, changed, restart);
            batch.rows.insert((table, Key::from_slice(new_key)), row);
            return Ok(());
        }
        let mut new = self.take_or_make(batch, table, new_key)?;
        let mut moved = columns_of(&old);
        moved.unite(&columns_of(&new));
        if !moved.is_empty() {
            let at = batch.push(table, new_key, moved.clone(), false);
            let version = |row: &RowClock, column| row.column(column).map_or(0, |g| g.version);
            let above = |column| version(&old, column).max(version(&new, column)) + 1;
            let versions: Vec<_> = moved.iter().map(|column| (column, above(column))).collect();
            local::stamp_with(&mut new, versions, at);
        }
        let at = batch.push(table, old_key, sentinel.clone(), true);
        local::delete(&mut old, at, restart);
        let at = batch.push(table, new_key, sentinel, true);
        match to.kind {
            LocalKind::RekeyedAnew => local::raise(&mut new, at, restart),
            _ => local::arrive(&mut new, at, restart),
        }
        if !changed.is_empty() {
            let at = batch.push(table, new_key, changed.clone(), false);
            local::stamp(&mut new, changed, at);
        }
        batch.rows.insert((table, Key::from_slice(old_key)), old);
        batch.rows.insert((table, Key::from_slice(new_key)), new);
        Ok(())
    }
}

/// Another spelling of the same key: a delete and an insert of all columns.
fn respell(
    batch: &mut Batch,
    (table, key): (TableId, &[u8]),
    mut row: RowClock,
    changed: &Mask,
    restart: u64,
) -> RowClock {
    let mut columns = columns_of(&row);
    columns.unite(changed);
    let at = batch.push(table, key, Mask::of(ColumnId::SENTINEL), true);
    local::delete(&mut row, at, restart);
    let mut all = columns.clone();
    all.insert(ColumnId::SENTINEL);
    let at = batch.push(table, key, all, true);
    local::raise(&mut row, at, restart);
    local::stamp(&mut row, &columns, at);
    row
}

impl Work {
    fn settled(&self, row: u32, dot: LocalDot, db_version: u64) -> Settled<'_> {
        Settled {
            row,
            table: self.table,
            key: &self.key,
            stamp: Stamp {
                kind: RecordKind::Merged,
                is_birth: self.is_birth,
                mask: &self.mask,
                first_seq: self.first_seq,
                dot,
                origin: Ordinal(0),
                db_version,
            },
            superseded: None,
        }
    }
}

/// The columns a row has clocks for, without the sentinel.
fn columns_of(row: &RowClock) -> Mask {
    let mut columns = Mask::new();
    for group in &row.groups {
        columns.unite(&group.mask);
    }
    columns.remove(ColumnId::SENTINEL);
    columns
}
