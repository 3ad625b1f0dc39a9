//! What is known of one row: its causal length and, for each column, the version and the
//! record that wrote it.

use smallvec::SmallVec;

use super::mask::Mask;
use crate::ids::{Address, ColumnId};

/// Columns of a row that were last written by one record at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Which columns; with bit 0 `version` is the causal length. Empty: only a birth is
    /// remembered here.
    pub(crate) mask: Mask,
    /// Column version; 0 for cells that a raise through `crsql_changes` left behind.
    pub(crate) version: u64,
    /// The record.
    pub(crate) at: Address,
    /// The record is an insert (or delete) that gave the row its present causal length.
    pub(crate) is_birth: bool,
}

/// The clock of one row.
///
/// Invariants: masks of groups are disjoint; at most one group has bit 0, alone in its
/// mask; an even causal length has exactly one group with a mask, `{sentinel}`; a row has
/// no group with an empty mask unless `is_birth`; groups are sorted by `(at, version)`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RowClock {
    /// `__crsql_key`: order in which keys of the table were first seen, from 1. In buffers of
    /// merged rows 0 is a row not numbered yet: it gets its number when the buffer is written,
    /// in the order of the first records of such rows.
    pub(crate) number: u64,
    /// Odd: alive. Even: deleted.
    pub(crate) causal_length: u64,
    /// The groups.
    pub(crate) groups: SmallVec<[Group; 2]>,
}

impl Clone for RowClock {
    /// Written out, for a derived clone of a small vector is slow, and this is the inner
    /// loop of reading a block.
    #[inline]
    fn clone(&self) -> RowClock {
        let mut groups = SmallVec::with_capacity(self.groups.len());
        for group in &self.groups {
            groups.push(group.clone());
        }
        RowClock { number: self.number, causal_length: self.causal_length, groups }
    }
}

impl RowClock {
    /// What a row has that no one wrote to.
    #[inline]
    pub(crate) fn unknown() -> RowClock {
        RowClock { number: 0, causal_length: 0, groups: SmallVec::new() }
    }

    /// Whether no one wrote to the row.
    #[inline]
    pub(crate) fn is_unknown(&self) -> bool {
        self.causal_length == 0
    }

    /// Whether `crsql_changes` shows a sentinel for it.
    pub(crate) fn has_sentinel(&self) -> bool {
        self.column(ColumnId::SENTINEL).is_some()
    }

    /// The group that holds a column.
    pub(crate) fn column(&self, column: ColumnId) -> Option<&Group> {
        self.groups.iter().find(|group| group.mask.contains(column))
    }

    /// Whether the row is alive.
    pub(crate) fn is_alive(&self) -> bool {
        self.causal_length % 2 == 1
    }

    /// Brings the groups into the one form in which equal clocks are equal: in order, those
    /// of one record and version united, emptied ones gone unless they remember a birth,
    /// and a birth noted once a record, on its first group.
    pub(crate) fn normalise(&mut self) {
        for group in &mut self.groups {
            if group.mask.is_empty() {
                group.version = 0;
            }
        }
        self.groups.retain(|group| group.is_birth || !group.mask.is_empty());
        self.groups.sort_by_key(|group| (group.at, group.version));
    }
}
