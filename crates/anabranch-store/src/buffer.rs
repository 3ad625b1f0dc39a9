//! What this transaction did and has not written to the log yet, with marks for
//! savepoints. Homogeneous: before the kind changes, what is there is flushed.

use anabranch_sqlite::SqlError;

mod merged;

pub(crate) use merged::{MergedBuffer, MergedRecord, MergedRow, Superseded};

use crate::error::Result;
use crate::ids::TableId;
use crate::limits::{
    MAX_BUFFERED_BYTES, MAX_BUFFERED_OPS, MAX_KEPT_BUFFER_BYTES, MAX_MASKS_COMPARED,
};
use crate::metadata::mask::Mask;

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
    /// The same, where the new key took the place of a live row that spelled it otherwise.
    RekeyedAnew,
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

    /// Whether the keys ascend, those of eight bytes as numbers.
    pub(crate) fn is_sorted(&self) -> bool {
        if self.ops.iter().all(|op| op.key_len == 8) && self.arena.len() == 8 * self.ops.len() {
            let numbers = self.arena.as_chunks::<8>().0.iter();
            return numbers.map(|key| u64::from_be_bytes(*key)).is_sorted_by(|a, b| a < b);
        }
        self.ops.is_sorted_by(|a, b| self.key(a) < self.key(b))
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Whether it must be written before more is appended.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.ops.len() >= MAX_BUFFERED_OPS || self.arena.len() >= MAX_BUFFERED_BYTES
    }

    /// How much is in it.
    pub(crate) fn len(&self) -> LocalLen {
        LocalLen { ops: self.ops.len(), arena: self.arena.len() }
    }

    /// Drops all that came after `len` was taken.
    pub(crate) fn truncate(&mut self, len: LocalLen) {
        self.ops.truncate(len.ops);
        self.arena.truncate(len.arena);
    }

    /// Empties it, and keeps its memory for what comes next.
    pub(crate) fn clear(&mut self) {
        self.ops.clear();
        self.arena.clear();
        self.masks.clear();
    }

    /// Empties it, and lets go of what a large transaction needed.
    pub(crate) fn rest(&mut self) {
        let is_large = self.arena.capacity() > MAX_KEPT_BUFFER_BYTES
            || self.ops.capacity() * size_of::<LocalOp>() > MAX_KEPT_BUFFER_BYTES;
        if is_large {
            *self = LocalBuffer::default();
        }
        self.clear();
    }

    /// Makes room for `n` operations whose keys take at most `key_bytes` together.
    ///
    /// # Errors
    /// SQLITE_NOMEM; nothing is cut off then.
    #[inline]
    pub(crate) fn reserve(&mut self, n: usize, key_bytes: usize) -> Result<()> {
        let (ops, arena) = (&self.ops, &self.arena);
        let has_ops = ops.capacity() - ops.len() >= n;
        if has_ops && arena.capacity() - arena.len() >= key_bytes {
            return Ok(());
        }
        self.grow(n, key_bytes)
    }

    #[cold]
    fn grow(&mut self, n: usize, key_bytes: usize) -> Result<()> {
        let has_room = self.ops.try_reserve(n).and(self.arena.try_reserve(key_bytes));
        has_room.map_err(|_| SqlError::out_of_memory().into())
    }

    /// Appends an operation whose key the caller appended to the arena, from `key_start` on.
    #[inline]
    pub(crate) fn push(&mut self, table: TableId, kind: LocalKind, mask: &Mask, key_start: usize) {
        let mask = self.mask_index(mask);
        self.ops.push(LocalOp {
            table,
            kind,
            mask,
            key_start: key_start as u32,
            key_len: (self.arena.len() - key_start) as u32,
        });
    }

    #[inline]
    fn mask_index(&mut self, mask: &Mask) -> u32 {
        match self.masks.last() == Some(mask) {
            true => self.masks.len() as u32 - 1,
            false => self.find_mask(mask),
        }
    }

    fn find_mask(&mut self, mask: &Mask) -> u32 {
        let recent = self.masks.len().saturating_sub(MAX_MASKS_COMPARED);
        let known = self.masks[recent..].iter().rposition(|known| known == mask);
        let index = known.map_or(self.masks.len(), |index| recent + index);
        if known.is_none() {
            self.masks.push(mask.clone());
        }
        index as u32
    }
}

/// How much is in a [`LocalBuffer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalLen {
    pub(crate) ops: usize,
    /// Bytes.
    pub(crate) arena: usize,
}
