//! Many local operations at once: sorted by key, each touched block is read and written
//! once; then the records go to the log in the order in which they happened.

use super::block_merge::Changes;
use super::local::{self, Newborn, Outcome};
use super::patterns::{Op, Patterns, UNKNOWN};
use super::rows::Slot;
use super::write::{Addresses, Window, prefix_len, record_kind, stamped, take_seqs};
use super::{Metadata, PendingChange};
use crate::buffer::{LocalBuffer, LocalKind};
use crate::error::{Result, StoreError};
use crate::ids::{EntryId, TableId};

/// What came of each operation: bits of an [`Outcome`].
const HAS_SENTINEL: u8 = 1;
const SKIPS_SEQ: u8 = 2;
const IS_BIRTH: u8 = 4;

/// The operations on one table, being applied.
struct TableOps<'a> {
    ops: &'a LocalBuffer,
    addresses: &'a Addresses,
    /// Operations of this table, by key, then as they happened.
    order: Vec<u32>,
    /// Where in `order` each key begins; absent when each key has one operation.
    starts: Option<Vec<u32>>,
    /// By operation, of all tables.
    outcomes: &'a mut [u8],
    key_lens: &'a mut [u32],
    /// Numbers for inserts, by operation: beyond `first_number`.
    ranks: &'a [u32],
    first_number: u64,
    /// For unknown rows that something else than an insert wrote to.
    spare_number: u64,
    restart: u64,
    wants_place: bool,
    table: TableId,
    /// The error of a write that no copy would take.
    refusal: Option<StoreError>,
}

impl<'a> TableOps<'a> {
    /// An operation; `is_unknown`: its row gets a number.
    #[inline]
    fn op(&mut self, index: usize, is_unknown: bool) -> Op<'a> {
        let op = &self.ops.ops[index];
        let number = match op.kind {
            _ if !is_unknown => 0,
            LocalKind::Insert => self.first_number + u64::from(self.ranks[index]),
            _ => {
                self.spare_number += 1;
                self.spare_number - 1
            }
        };
        let columns = &self.ops.masks[op.mask as usize];
        let at = self.addresses.at[index];
        let newborn = Newborn { number, restart: self.restart };
        Op { kind: record_kind(op.kind), name: op.mask, columns, at, newborn }
    }

    /// The operations on the i-th key, as places in `order`.
    #[inline]
    fn range(&self, i: usize) -> std::ops::Range<usize> {
        match &self.starts {
            None => i..i + 1,
            Some(starts) => {
                let end = starts.get(i + 1).map_or(self.order.len(), |end| *end as usize);
                starts[i] as usize..end
            }
        }
    }
}

impl Changes for TableOps<'_> {
    fn len(&self) -> usize {
        self.starts.as_ref().map_or(self.order.len(), Vec::len)
    }

    #[inline]
    fn key(&self, i: usize) -> &[u8] {
        let op = self.order[self.range(i).start];
        self.ops.key(&self.ops.ops[op as usize])
    }

    #[inline]
    fn apply(&mut self, i: usize, row: &mut Slot, patterns: &mut Patterns) {
        let range = self.range(i);
        if range.len() == 1 {
            let index = self.order[range.start] as usize;
            let op = self.op(index, row.place == UNKNOWN);
            self.outcomes[index] = pack(patterns.apply(row, &op));
        } else {
            // What each of many operations on one row makes of it is no pattern of rows.
            let mut clock = patterns.clock(row);
            for place in range {
                let index = self.order[place] as usize;
                let Op { kind, columns, at, newborn, .. } = self.op(index, clock.is_unknown());
                let outcome = local::apply_to(&mut clock, kind, columns, at, newborn);
                self.outcomes[index] = pack(outcome);
            }
            patterns.set(row, &clock);
        }
        if patterns.is_out_of_bounds(row.place) {
            let refused = local::check_bounds(self.table, self.key(i), &patterns.clock(row));
            self.refusal = self.refusal.take().or(refused.err());
        }
    }

    fn wants_place(&self) -> bool {
        self.wants_place
    }

    fn placed(&mut self, i: usize, shared: usize) {
        for place in self.range(i) {
            let index = self.order[place] as usize;
            let key = self.ops.key(&self.ops.ops[index]);
            let len = &mut self.key_lens[index];
            *len = (*len).max(prefix_len(key, shared as u32));
        }
    }
}

#[inline]
fn pack(outcome: Outcome) -> u8 {
    let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    bit(outcome.has_sentinel, HAS_SENTINEL)
        | bit(outcome.skips_seq, SKIPS_SEQ)
        | bit(outcome.is_birth, IS_BIRTH)
}

#[inline]
fn unpack(bits: u8) -> Outcome {
    Outcome {
        has_sentinel: bits & HAS_SENTINEL != 0,
        skips_seq: bits & SKIPS_SEQ != 0,
        is_birth: bits & IS_BIRTH != 0,
    }
}

impl Metadata {
    pub(super) fn write_bulk(
        &mut self,
        change: &mut PendingChange,
        ops: &LocalBuffer,
    ) -> Result<()> {
        self.fold_tail()?;
        let first = EntryId(self.state.last.0 + 1);
        let keys = ops.ops.iter().map(|op| (op.table, op.key_len as usize));
        let addresses = Addresses::lay_out(first, keys);
        let mut outcomes = vec![0; ops.ops.len()];
        let mut key_lens = vec![0; ops.ops.len()];
        for (table, order) in by_table(ops) {
            let (ranks, n_inserts) = insert_ranks(ops, &order);
            let first_number = self.next_number(table)?;
            let restart = self.restart_of(table)?;
            let (order, starts) = sort(ops, order);
            let wants_place = order.iter().any(|i| ops.ops[*i as usize].key_len != 8);
            let mut changes = TableOps {
                ops,
                addresses: &addresses,
                order,
                starts,
                outcomes: &mut outcomes,
                key_lens: &mut key_lens,
                ranks: &ranks,
                first_number,
                spare_number: first_number + n_inserts,
                restart,
                wants_place,
                table,
                refusal: None,
            };
            self.blocks.update(table, &mut changes)?;
            if let Some(refusal) = changes.refusal {
                return Err(refusal);
            }
            let next_number = changes.spare_number;
            self.numbers.insert(table, next_number);
            self.store_number(table)?;
        }
        self.log_bulk(change, ops, &addresses, &outcomes, &key_lens)?;
        self.set_folded(self.state.last)
    }

    fn log_bulk(
        &mut self,
        change: &mut PendingChange,
        ops: &LocalBuffer,
        addresses: &Addresses,
        outcomes: &[u8],
        key_lens: &[u32],
    ) -> Result<()> {
        let dot = self.pending_dot();
        let (mut window, mut index) = (Window::default(), 0);
        for end in &addresses.ends {
            while index < *end {
                // Operations often come alike, one after the other.
                let op = &ops.ops[index];
                let is_alike = |i: &usize| {
                    let other = &ops.ops[*i];
                    let are_of_one = (other.table, other.kind) == (op.table, op.kind);
                    are_of_one && other.mask == op.mask && outcomes[*i] == outcomes[index]
                };
                let n = (index..*end).take_while(is_alike).count();
                let (kind, outcome) = (record_kind(op.kind), unpack(outcomes[index]));
                let mask = stamped(kind, &ops.masks[op.mask as usize], outcome);
                let stamp = take_seqs(change, kind, &mask, outcome, dot);
                let skipped = u64::from(outcome.skips_seq);
                change.next_seq += (u64::from(mask.len()) + skipped) * (n as u64 - 1);
                let writer = window.entry(op.table).1;
                writer.push_stamps(&stamp, n, skipped);
                let alike = index..index + n;
                for (op, key_len) in ops.ops[alike.clone()].iter().zip(&key_lens[alike]) {
                    let key = ops.key(op);
                    let key_len = match key.len() {
                        8 => 8,
                        _ => (*key_len).max(prefix_len(key, 0)) as usize,
                    };
                    writer.push_key_of(key, key_len);
                }
                window.note_own(op.table);
                index += n;
            }
            self.write_window(change, &mut window)?;
        }
        Ok(())
    }
}

/// The operations of each table, as they happened; tables in the order of their ids.
fn by_table(ops: &LocalBuffer) -> Vec<(TableId, Vec<u32>)> {
    let mut tables: Vec<(TableId, Vec<u32>)> = Vec::new();
    let mut last = 0;
    for (i, op) in ops.ops.iter().enumerate() {
        if tables.get(last).is_none_or(|(table, _)| *table != op.table) {
            last = match tables.binary_search_by_key(&op.table, |(table, _)| *table) {
                Ok(at) => at,
                Err(at) => {
                    tables.insert(at, (op.table, Vec::new()));
                    at
                }
            };
        }
        tables[last].1.push(i as u32);
    }
    tables
}

/// For each operation of a table how many inserts came before, by index of the operation.
fn insert_ranks(ops: &LocalBuffer, order: &[u32]) -> (Vec<u32>, u64) {
    let mut ranks = vec![0; ops.ops.len()];
    let mut n_inserts = 0u32;
    for i in order {
        ranks[*i as usize] = n_inserts;
        n_inserts += u32::from(ops.ops[*i as usize].kind == LocalKind::Insert);
    }
    (ranks, u64::from(n_inserts))
}

/// Sorts by key, then as they happened; tells where each key begins unless all differ.
fn sort(ops: &LocalBuffer, order: Vec<u32>) -> (Vec<u32>, Option<Vec<u32>>) {
    let key = |i: u32| ops.key(&ops.ops[i as usize]);
    if order.windows(2).all(|pair| key(pair[0]) < key(pair[1])) {
        return (order, None);
    }
    // Keys often begin alike (a type, a length, a prefix): the eight bytes that come then
    // decide nearly always, without a look at the key.
    let common = order.iter().fold(key(order[0]).len(), |common, i| {
        super::key_code::shared_len(&key(order[0])[..common], key(*i))
    });
    let head = |i: u32| {
        let rest = &key(i)[common..];
        let mut bytes = [0; 8];
        let len = rest.len().min(8);
        bytes[..len].copy_from_slice(&rest[..len]);
        u64::from_be_bytes(bytes)
    };
    let mut heads: Vec<(u64, u32)> = order.iter().map(|i| (head(*i), *i)).collect();
    heads.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))).then(a.1.cmp(&b.1))
    });
    let order: Vec<u32> = heads.into_iter().map(|(_, i)| i).collect();
    let mut starts = vec![0];
    for (at, pair) in order.windows(2).enumerate() {
        if key(pair[0]) != key(pair[1]) {
            starts.push(at as u32 + 1);
        }
    }
    let all_differ = starts.len() == order.len();
    (order, (!all_differ).then_some(starts))
}
