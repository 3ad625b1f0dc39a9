//! Many local operations at once: sorted by key, each touched block is read and written
//! once; then the records go to the log in the order in which they happened.

use std::collections::BTreeMap;
use std::ops::Range;

use super::block_merge::Changes;
use super::local::{self, Newborn, Outcome};
use super::patterns::{Op, Patterns, UNKNOWN};
use super::rows::{Slot, linear};
use super::write::{Addresses, Window, is_short, prefix_len, record_kind, stamped, take_seqs};
use super::{Metadata, PendingChange};
use crate::buffer::{LocalBuffer, LocalKind};
use crate::error::{Result, StoreError};
use crate::ids::{Address, EntryId, TableId};

/// What came of each operation: bits of an [`Outcome`].
const HAS_SENTINEL: u8 = 1;
const SKIPS_SEQ: u8 = 2;
const IS_BIRTH: u8 = 4;

/// The operations on one table, being applied.
struct TableOps<'a> {
    ops: &'a LocalBuffer,
    addresses: &'a Addresses,
    order: Order,
    /// By operation, of all tables.
    outcomes: &'a mut [u8],
    /// Likewise; empty if all keys are numbers.
    key_lens: &'a mut [u32],
    /// Numbers for inserts, by operation: beyond `first_number`. `None`: all are inserts.
    ranks: Option<Vec<u32>>,
    first_number: u64,
    /// For unknown rows that something else than an insert wrote to.
    spare_number: u64,
    restart: u64,
    table: TableId,
    /// The error of a write that no copy would take.
    refusal: Option<StoreError>,
}

/// Operations by key, then as they happened.
struct Order {
    n: usize,
    /// `None`: all operations, as they happened.
    ops: Option<Vec<u32>>,
    /// Where among these each key begins; absent when each key has one operation.
    starts: Option<Vec<u32>>,
}

impl Order {
    #[inline]
    fn op(&self, place: usize) -> usize {
        match &self.ops {
            None => place,
            Some(ops) => ops[place] as usize,
        }
    }

    fn n_keys(&self) -> usize {
        self.starts.as_ref().map_or(self.n, Vec::len)
    }

    /// The operations on the i-th key, as places.
    #[inline]
    fn range(&self, i: usize) -> Range<usize> {
        match &self.starts {
            None => i..i + 1,
            Some(starts) => {
                let end = starts.get(i + 1).map_or(self.n, |end| *end as usize);
                starts[i] as usize..end
            }
        }
    }
}

impl<'a> TableOps<'a> {
    /// An operation; `is_unknown`: its row gets a number.
    #[inline]
    fn op(&mut self, index: usize, is_unknown: bool) -> Op<'a> {
        let op = &self.ops.ops[index];
        let number = match op.kind {
            _ if !is_unknown => 0,
            LocalKind::Insert => self.number(index),
            _ => {
                self.spare_number += 1;
                self.spare_number - 1
            }
        };
        let columns = &self.ops.masks[op.mask as usize];
        let at = self.addresses.get(index);
        let newborn = Newborn { number, restart: self.restart };
        Op { kind: record_kind(op.kind), name: op.mask, columns, at, newborn }
    }

    /// The number of a row that an insert makes.
    #[inline]
    fn number(&self, index: usize) -> u64 {
        let rank = self.ranks.as_ref().map_or(index as u64, |ranks| u64::from(ranks[index]));
        self.first_number + rank
    }
}

impl Changes for TableOps<'_> {
    fn len(&self) -> usize {
        self.order.n_keys()
    }

    #[inline]
    fn key(&self, i: usize) -> &[u8] {
        let op = self.order.op(self.order.range(i).start);
        self.ops.key(&self.ops.ops[op])
    }

    #[inline]
    fn apply(&mut self, i: usize, row: &mut Slot, patterns: &mut Patterns) {
        let range = self.order.range(i);
        if range.len() == 1 {
            let index = self.order.op(range.start);
            let op = self.op(index, row.place == UNKNOWN);
            self.outcomes[index] = pack(patterns.apply(row, &op));
        } else {
            // What each of many operations on one row makes of it is no pattern of rows.
            let mut clock = patterns.clock(row);
            for place in range {
                let index = self.order.op(place);
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

    fn alike(&self, range: Range<usize>, are_unknown: bool) -> Option<Op<'_>> {
        if self.order.starts.is_some() {
            return None;
        }
        let first = &self.ops.ops[self.order.op(range.start)];
        if are_unknown && first.kind != LocalKind::Insert {
            return None;
        }
        let is_alike = |place: usize| {
            let op = &self.ops.ops[self.order.op(place)];
            op.kind == first.kind && op.mask == first.mask
        };
        let columns = &self.ops.masks[first.mask as usize];
        let at = Address { entry: EntryId::PENDING, index: 0 };
        let newborn = Newborn { number: 0, restart: self.restart };
        let op = Op { kind: record_kind(first.kind), name: first.mask, columns, at, newborn };
        range.skip(1).all(is_alike).then_some(op)
    }

    #[inline]
    fn place(&self, i: usize) -> (u64, u64) {
        let index = self.order.op(i);
        (linear(self.addresses.get(index)), self.number(index))
    }

    #[inline]
    fn came_out(&mut self, i: usize, outcome: Outcome) {
        self.outcomes[self.order.op(i)] = pack(outcome);
    }

    fn wants_place(&self) -> bool {
        !self.key_lens.is_empty()
    }

    fn placed(&mut self, i: usize, shared: usize) {
        for place in self.order.range(i) {
            let index = self.order.op(place);
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
        let addresses = self.lay_out(ops);
        let n_ops = ops.ops.len();
        let mut outcomes = vec![0; n_ops];
        let are_numbers = ops.ops.iter().all(|op| op.key_len == 8);
        let mut key_lens = vec![0; if are_numbers { 0 } else { n_ops }];
        for (table, of_table) in by_table(ops) {
            let (ranks, n_inserts) = insert_ranks(ops, of_table.as_deref());
            let first_number = self.next_number(table)?;
            let restart = self.restart_of(table)?;
            let mut changes = TableOps {
                ops,
                addresses: &addresses,
                order: sort(ops, of_table),
                outcomes: &mut outcomes,
                key_lens: &mut key_lens,
                ranks,
                first_number,
                spare_number: first_number + n_inserts,
                restart,
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

    fn lay_out(&self, ops: &LocalBuffer) -> Addresses {
        let first = EntryId(self.state.last.0 + 1);
        let table = ops.ops[0].table;
        if ops.ops.iter().all(|op| op.table == table && is_short(op.key_len)) {
            return Addresses::in_a_row(first, ops.ops.len());
        }
        let keys = ops.ops.iter().map(|op| (op.table, op.key_len as usize));
        Addresses::lay_out(first, keys)
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
                for (i, op) in alike.clone().zip(&ops.ops[alike]) {
                    let key = ops.key(op);
                    let key_len = match key.len() {
                        8 => 8,
                        _ => key_lens[i].max(prefix_len(key, 0)) as usize,
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

/// The operations of each table, as they happened; tables in the order of their ids. `None`:
/// all operations are of the one table.
fn by_table(ops: &LocalBuffer) -> Vec<(TableId, Option<Vec<u32>>)> {
    let first = ops.ops[0].table;
    if ops.ops.iter().all(|op| op.table == first) {
        return vec![(first, None)];
    }
    let mut tables: BTreeMap<TableId, Vec<u32>> = BTreeMap::new();
    for (i, op) in ops.ops.iter().enumerate() {
        tables.entry(op.table).or_default().push(i as u32);
    }
    tables.into_iter().map(|(table, of_table)| (table, Some(of_table))).collect()
}

/// For each operation of a table how many inserts came before, by index of the operation;
/// `None`: all operations are inserts.
fn insert_ranks(ops: &LocalBuffer, of_table: Option<&[u32]>) -> (Option<Vec<u32>>, u64) {
    let n_ops = ops.ops.len();
    let is_insert = |i: usize| ops.ops[i].kind == LocalKind::Insert;
    if of_table.is_none() && (0..n_ops).all(is_insert) {
        return (None, n_ops as u64);
    }
    let mut ranks = vec![0; n_ops];
    let mut n_inserts = 0u32;
    let mut rank = |i: usize| {
        ranks[i] = n_inserts;
        n_inserts += u32::from(is_insert(i));
    };
    match of_table {
        None => (0..n_ops).for_each(rank),
        Some(of_table) => of_table.iter().for_each(|i| rank(*i as usize)),
    }
    (Some(ranks), u64::from(n_inserts))
}

/// Sorts by key, then as they happened.
fn sort(ops: &LocalBuffer, of_table: Option<Vec<u32>>) -> Order {
    let key = |i: u32| ops.key(&ops.ops[i as usize]);
    let is_sorted = match &of_table {
        None => ops.is_sorted(),
        Some(of_table) => of_table.windows(2).all(|pair| key(pair[0]) < key(pair[1])),
    };
    let n = of_table.as_ref().map_or(ops.ops.len(), Vec::len);
    if is_sorted {
        return Order { n, ops: of_table, starts: None };
    }
    let order = of_table.unwrap_or_else(|| (0..n as u32).collect());
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
    let by_key = |a: &(u64, u32), b: &(u64, u32)| {
        a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))).then(a.1.cmp(&b.1))
    };
    if n < 1 << RADIX_BITS {
        heads.sort_unstable_by(by_key);
    } else {
        by_high_bits(&mut heads);
        let are_alike = |a: &(u64, u32), b: &(u64, u32)| a.0 >> LOW_BITS == b.0 >> LOW_BITS;
        heads.chunk_by_mut(are_alike).for_each(|alike| alike.sort_unstable_by(by_key));
    }
    let order: Vec<u32> = heads.into_iter().map(|(_, i)| i).collect();
    let mut starts = vec![0];
    for (at, pair) in order.windows(2).enumerate() {
        if key(pair[0]) != key(pair[1]) {
            starts.push(at as u32 + 1);
        }
    }
    let all_differ = starts.len() == order.len();
    Order { n, ops: Some(order), starts: (!all_differ).then_some(starts) }
}

/// Bits of a head that one pass looks at: as many as give counts that stay in the processor's
/// nearest cache.
const RADIX_BITS: u32 = 11;
/// Bits of a head below those that the passes look at.
const LOW_BITS: u32 = 64 - 3 * RADIX_BITS;

/// Sorts by the high bits of heads, least significant first (Knuth, volume 3, 5.2.5): of keys in
/// random order comparing costs four times as much.
fn by_high_bits(heads: &mut Vec<(u64, u32)>) {
    let mut sorted = vec![(0, 0); heads.len()];
    for pass in 0..3 {
        let digit =
            |head: u64| (head >> (LOW_BITS + pass * RADIX_BITS)) as usize % (1 << RADIX_BITS);
        let mut places = vec![0; 1 << RADIX_BITS];
        heads.iter().for_each(|(head, _)| places[digit(*head)] += 1);
        let mut start = 0;
        for place in &mut places {
            start += std::mem::replace(place, start);
        }
        for of in heads.iter() {
            let place = &mut places[digit(of.0)];
            sorted[*place] = *of;
            *place += 1;
        }
        std::mem::swap(heads, &mut sorted);
    }
}
