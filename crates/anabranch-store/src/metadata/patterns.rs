//! What the clocks of rows have in common, and how operations change that.
//!
//! A pattern is a row's clock without number and addresses. Rows that were written alike
//! have the same one, and an operation that meets them makes one other of it: that is worked
//! out once by the rules of [`super::local`], over addresses that only stand for an order,
//! and then repeated. Invariant: patterns differ, and the first is that of an unknown row.

use smallvec::{SmallVec, smallvec};

use super::local::{self, Newborn, Outcome};
use super::mask::Mask;
use super::record::RecordKind;
use super::row_clock::RowClock;
use super::rows::{Slot, address, linear};
use crate::ids::{Address, EntryId};
use crate::limits::MAX_KEPT_PATTERNS;

/// The pattern of an unknown row.
pub(super) const UNKNOWN: u32 = 0;

/// An operation on a row.
pub(crate) struct Op<'a> {
    pub(crate) kind: RecordKind,
    /// What the caller calls `columns`: the same name, the same columns.
    pub(crate) name: u32,
    pub(crate) columns: &'a Mask,
    pub(crate) at: Address,
    /// How the row begins a life: its number, and a restart length that is the same for all
    /// operations these patterns meet.
    pub(crate) newborn: Newborn,
}

/// What an operation does to rows of one pattern.
#[derive(Debug)]
struct Step {
    kind: RecordKind,
    name: u32,
    to: u32,
    moves: Moves,
    outcome: Outcome,
}

/// Which addresses the groups of a changed row have.
#[derive(Debug)]
enum Moves {
    /// One group, which has that of the operation: an insert, a delete.
    Replace,
    /// All as before, and the operation's: the first update of a column.
    Append,
    /// For each group that of a former one, or the operation's.
    Mix(SmallVec<[u32; 4]>),
}

/// In [`Moves::Mix`]: the address of the operation.
const OWN: u32 = u32::MAX;

impl Moves {
    fn of(from: SmallVec<[u32; 4]>, n_former: usize) -> Moves {
        let is_append = from.len() == n_former + 1
            && from.iter().enumerate().all(|(i, from)| match i == n_former {
                true => *from == OWN,
                false => *from == i as u32,
            });
        match from.as_slice() {
            [OWN] => Moves::Replace,
            _ if is_append => Moves::Append,
            _ => Moves::Mix(from),
        }
    }

    #[inline]
    fn apply(&self, row: &mut Slot, at: u64) {
        match self {
            Moves::Replace => {
                row.at.clear();
                row.at.push(at);
            }
            Moves::Append => row.at.push(at),
            Moves::Mix(from) => {
                std::mem::swap(&mut row.at, &mut row.former);
                row.at.clear();
                for from in from {
                    row.at.push(if *from == OWN { at } else { row.former[*from as usize] });
                }
            }
        }
    }
}

/// What an operation makes of each row of one pattern whose addresses ascend and lie below the
/// operation's.
pub(super) struct Made {
    /// The pattern that the rows have then.
    pub(super) place: u32,
    pub(super) outcome: Outcome,
    /// For each group the former one whose address it has; `None`: it has the operation's.
    pub(super) from: SmallVec<[Option<usize>; 4]>,
}

#[derive(Debug)]
struct Pattern {
    clock: RowClock,
    hash: u64,
    is_out_of_bounds: bool,
    steps: SmallVec<[Step; 1]>,
}

/// Patterns by their place.
#[derive(Debug)]
pub(crate) struct Patterns {
    list: Vec<Pattern>,
}

impl Default for Patterns {
    fn default() -> Patterns {
        let mut patterns = Patterns { list: Vec::new() };
        patterns.intern(&RowClock::unknown());
        patterns
    }
}

impl Patterns {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// A pattern, as the clock of a row without number and addresses.
    #[inline]
    pub(super) fn get(&self, place: u32) -> &RowClock {
        &self.list[place as usize].clock
    }

    /// Number of groups of a pattern.
    #[inline]
    pub(super) fn n_groups(&self, place: u32) -> usize {
        self.list[place as usize].clock.groups.len()
    }

    /// Whether a pattern is past what any copy takes.
    #[inline]
    pub(super) fn is_out_of_bounds(&self, place: u32) -> bool {
        self.list[place as usize].is_out_of_bounds
    }

    /// Forgets all, if they are many. No row may have one.
    pub(super) fn shrink(&mut self) {
        if self.list.len() > MAX_KEPT_PATTERNS {
            self.list.truncate(1);
            self.list[0].steps.clear();
        }
    }

    /// The place of the pattern of a clock.
    pub(super) fn intern(&mut self, clock: &RowClock) -> u32 {
        let hash = hash(clock);
        let is_known = |known: &Pattern| known.hash == hash && is_alike(&known.clock, clock);
        let found = self.list.iter().position(is_known);
        let place = found.unwrap_or_else(|| {
            let mut clock = clock.clone();
            clock.number = 0;
            clock.groups.iter_mut().for_each(|group| group.at = address(0));
            let is_out_of_bounds = local::is_out_of_bounds(&clock);
            self.list.push(Pattern { clock, hash, is_out_of_bounds, steps: SmallVec::new() });
            self.list.len() - 1
        });
        place as u32
    }

    /// What the patterns of others are called here.
    pub(super) fn names(&mut self, others: &Patterns, names: &mut Vec<u32>) {
        names.clear();
        names.extend(others.list.iter().map(|pattern| self.intern(&pattern.clock)));
    }

    /// Gives a row the clock that was worked out for it.
    pub(crate) fn set(&mut self, row: &mut Slot, clock: &RowClock) {
        row.place = self.intern(clock);
        row.number = clock.number;
        row.at.clear();
        row.at.extend(clock.groups.iter().map(|group| linear(group.at)));
    }

    /// The clock of a row.
    pub(crate) fn clock(&self, row: &Slot) -> RowClock {
        let mut clock = self.get(row.place).clone();
        clock.number = row.number;
        for (group, at) in clock.groups.iter_mut().zip(&row.at) {
            group.at = address(*at);
        }
        clock
    }

    /// Applies a local operation to a row.
    #[inline]
    pub(crate) fn apply(&mut self, row: &mut Slot, op: &Op<'_>) -> Outcome {
        let at = linear(op.at);
        // Where addresses ascend, groups keep their order whatever the addresses are.
        let ascend = match row.at.as_slice() {
            [] => true,
            [only] => *only < at,
            all => all[all.len() - 1] < at && all.is_sorted_by(|a, b| a < b),
        };
        if !ascend {
            return self.apply_to_clock(row, op);
        }
        if row.place == UNKNOWN {
            row.number = op.newborn.number;
        }
        let known = self.step(row.place, op);
        let step = &self.list[row.place as usize].steps[known];
        row.place = step.to;
        step.moves.apply(row, at);
        step.outcome
    }

    /// Which step of a pattern the operation is.
    #[inline]
    fn step(&mut self, place: u32, op: &Op<'_>) -> usize {
        let steps = &self.list[place as usize].steps;
        let known = steps.iter().position(|step| step.name == op.name && step.kind == op.kind);
        known.unwrap_or_else(|| self.add_step(place, op))
    }

    /// What a local operation makes of all rows of a pattern.
    pub(super) fn made(&mut self, place: u32, op: &Op<'_>) -> Made {
        let known = self.step(place, op);
        let n_former = self.n_groups(place);
        let step = &self.list[place as usize].steps[known];
        let from = match &step.moves {
            Moves::Replace => smallvec![None],
            Moves::Append => (0..n_former).map(Some).chain([None]).collect(),
            Moves::Mix(from) => {
                let of = |from: &u32| (*from != OWN).then_some(*from as usize);
                from.iter().map(of).collect()
            }
        };
        Made { place: step.to, outcome: step.outcome, from }
    }

    fn apply_to_clock(&mut self, row: &mut Slot, op: &Op<'_>) -> Outcome {
        let mut clock = self.clock(row);
        let outcome = local::apply_to(&mut clock, op.kind, op.columns, op.at, op.newborn);
        self.set(row, &clock);
        outcome
    }

    /// Works out what an operation does to rows of a pattern whose addresses ascend.
    fn add_step(&mut self, place: u32, op: &Op<'_>) -> usize {
        let mut clock = self.get(place).clone();
        for (i, group) in clock.groups.iter_mut().enumerate() {
            group.at = Address { entry: EntryId(0), index: i as u32 };
        }
        let own = Address { entry: EntryId(1), index: 0 };
        let outcome = local::apply_to(&mut clock, op.kind, op.columns, own, op.newborn);
        let from = |at: Address| if at == own { OWN } else { at.index };
        let from = clock.groups.iter().map(|group| from(group.at)).collect();
        let moves = Moves::of(from, self.n_groups(place));
        let to = self.intern(&clock);
        let steps = &mut self.list[place as usize].steps;
        steps.push(Step { kind: op.kind, name: op.name, to, moves, outcome });
        steps.len() - 1
    }
}

/// Whether two rows differ in nothing but key, number and addresses.
#[inline]
fn is_alike(a: &RowClock, b: &RowClock) -> bool {
    a.causal_length == b.causal_length
        && a.groups.len() == b.groups.len()
        && a.groups
            .iter()
            .zip(&b.groups)
            .all(|(a, b)| a.version == b.version && a.is_birth == b.is_birth && a.mask == b.mask)
}

/// Equal for clocks that are alike, and nearly always only for these.
fn hash(clock: &RowClock) -> u64 {
    // Multiplying by an odd number without pattern spreads bits upwards; the turn brings
    // them down again (as in FxHash).
    let add =
        |hash: u64, value: u64| (hash.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    clock.groups.iter().fold(clock.causal_length, |hash, group| {
        let hash = add(hash, group.version << 1 | u64::from(group.is_birth));
        group.mask.words().iter().fold(hash, |hash, word| add(hash, *word))
    })
}
