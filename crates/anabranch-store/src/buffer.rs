//! What this transaction did and has not written to the log yet, with marks for
//! savepoints. Homogeneous: before the kind changes, what is there is flushed.

use hashbrown::HashMap;

use crate::ids::{AuthorId, Key, LocalDot, Ordinal, TableId};
use crate::metadata::mask::Mask;
use crate::metadata::row_clock::RowClock;

/// What a captured local operation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalKind {
    /// INSERT (also OR REPLACE onto a live row).
    Insert,
    /// UPDATE that keeps the key; the mask says which columns changed (never empty).
    Update,
    /// DELETE.
    Delete,
    /// UPDATE of the key: the next operation in the buffer is its `Rekeyed` half.
    Rekey,
    /// Second half of an update of the key: the new key, and which columns changed.
    Rekeyed,
}

/// A captured operation; its key lies in the arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalOp {
    pub(crate) table: TableId,
    pub(crate) kind: LocalKind,
    /// Index into [`LocalBuffer::masks`].
    pub(crate) mask: u32,
    pub(crate) key_start: u32,
    pub(crate) key_len: u32,
}

/// Captured local operations, in order.
#[derive(Debug, Default)]
pub(crate) struct LocalBuffer {
    pub(crate) ops: Vec<LocalOp>,
    /// Keys, one after the other.
    pub(crate) arena: Vec<u8>,
    /// The distinct masks (few): of non-key columns changed, without the sentinel; for
    /// `Insert` all replicated columns of the table; for `Delete` empty.
    pub(crate) masks: Vec<Mask>,
}

impl LocalBuffer {
    /// The key of an operation.
    pub(crate) fn key(&self, op: &LocalOp) -> &[u8] {
        &self.arena[op.key_start as usize..(op.key_start + op.key_len) as usize]
    }
}

/// One merged record; the rows it made are in [`MergedBuffer::rows`].
#[derive(Clone, Debug)]
pub(crate) struct MergedRecord {
    pub(crate) table: TableId,
    pub(crate) key: Key,
    /// Columns stamped; may be empty for a birth that only adds its dot, and for a record
    /// that only keeps what was superseded.
    pub(crate) mask: Mask,
    pub(crate) first_seq: u64,
    /// `None`: the pending change of this copy.
    pub(crate) dot: Option<LocalDot>,
    pub(crate) origin: Ordinal,
    pub(crate) db_version: u64,
    pub(crate) is_birth: bool,
    /// The row's clock before this record, to undo it: `None` if the row was unknown.
    pub(crate) before: Option<RowClock>,
    /// A cell that lost or was overwritten though written concurrently; kept in the log
    /// entry until the floor passes.
    pub(crate) superseded: Option<Box<Superseded>>,
}

/// A concurrently written cell that does not stand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Superseded {
    pub(crate) column: crate::ids::ColumnId,
    pub(crate) version: u64,
    pub(crate) causal_length: u64,
    pub(crate) dot: LocalDot,
    /// The site it first came from. An author, for ordinals go only to origins of cells that
    /// won, and this one may never have.
    pub(crate) origin: AuthorId,
    pub(crate) value: anabranch_core::value::Value,
}

/// Merged records in order, and the present clock of every row they touched. Addresses of
/// buffered records are `(EntryId::PENDING, index in records)`.
#[derive(Debug, Default)]
pub(crate) struct MergedBuffer {
    pub(crate) records: Vec<MergedRecord>,
    pub(crate) rows: HashMap<(TableId, Key), RowClock>,
}
