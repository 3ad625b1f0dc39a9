//! What SQLite tells about the transaction, and what we do about it.
//!
//! Facts that are not in SQLite's documentation, held by tests of the edge crate: a first
//! use inside savepoints announces only the innermost; `rollback_to(-1)` is the savepoint
//! that opened the transaction; after `rollback_to(n)` mark n still stands; BUSY at COMMIT
//! leaves the transaction open, and `sync` comes again.

use std::cell::RefCell;
use std::rc::Rc;

use anabranch_sqlite::SqlError;
use anabranch_sqlite::vtab::TransactionFate;

use super::marks::{Mark, Marks};
use super::{Transaction, write_buffer};
use crate::context::Context;
use crate::error::Result;
use crate::metadata::PendingChange;

/// Follows the transactions of one connection.
pub(super) struct Fate {
    cx: Rc<Context>,
    /// The pending change as it was when the transaction began: a `db_version` or message
    /// may have been set before.
    at_begin: RefCell<Rc<PendingChange>>,
}

impl Fate {
    pub(super) fn new(cx: &Rc<Context>) -> Fate {
        Fate { cx: cx.clone(), at_begin: RefCell::default() }
    }

    fn mark(&self, transaction: &Transaction) -> Mark {
        Mark {
            epoch: transaction.marks.epoch(),
            local: transaction.local.len(),
            merged: transaction.merged.records.len(),
            change: transaction.change.clone(),
            impacted: self.cx.impacted.get(),
            has_failed: transaction.failed.is_some(),
        }
    }

    /// Forgets all that was read or written since something that was undone.
    fn forget(&self) {
        self.cx.must_forget.set(true);
        self.cx.recent.note_write();
        self.cx.settle();
        self.cx.identity.compare_again();
        self.cx.capture.forget();
    }

    fn end(&self) {
        let mut transaction = self.cx.transaction.borrow_mut();
        let flushing = transaction.flushing.take();
        let mut local = std::mem::take(&mut transaction.local);
        local.rest();
        *transaction = Transaction { local, ..Transaction::default() };
        transaction.flushing =
            flushing.map(|flushing| super::Flushing { is_lost: true, ..flushing });
        drop(transaction);
        self.cx.impacted.set(0);
        self.cx.recent.note_write();
        self.cx.is_followed.set(false);
        self.cx.capture.forget();
    }

    fn write(&self) -> Result<()> {
        let transaction = self.cx.transaction.borrow();
        transaction.check()?;
        if !transaction.has_writes() {
            return Ok(());
        }
        drop(transaction);
        super::with_writes_allowed(&self.cx, || self.write_change())
    }

    fn write_change(&self) -> Result<()> {
        let now_ms = (self.cx.clock)();
        write_buffer(&self.cx, Some(now_ms))?;
        let mut transaction = self.cx.transaction.borrow_mut();
        transaction.check()?;
        if transaction.change.first_entry.is_none() {
            if transaction.change.blobs.is_empty() {
                return Ok(());
            }
            let mut change = PendingChange::clone(&transaction.change);
            drop(transaction);
            change.author = self.cx.author.borrow().clone();
            self.cx.metadata.borrow_mut().write_nothing(&mut change)?;
            transaction = self.cx.transaction.borrow_mut();
            transaction.change = Rc::new(change);
        }
        drop(transaction);
        crate::crr::outrun_again(&self.cx)?;
        let change = self.cx.transaction.borrow().change.clone();
        self.cx.metadata.borrow_mut().write_header(&change, now_ms)
    }
}

impl TransactionFate for Fate {
    fn begin(&self) -> std::result::Result<(), SqlError> {
        let mut transaction = self.cx.transaction.borrow_mut();
        transaction.is_enrolled = true;
        transaction.marks = Marks::default();
        self.at_begin.replace(transaction.change.clone());
        drop(transaction);
        self.cx.is_followed.set(true);
        Ok(())
    }

    fn sync(&self) -> std::result::Result<(), SqlError> {
        Ok(self.write()?)
    }

    fn commit(&self) {
        self.cx.metadata.borrow_mut().committed();
        self.end();
    }

    fn rollback(&self) {
        self.forget();
        self.end();
    }

    fn savepoint(&self, level: i32) {
        if let Ok(level) = usize::try_from(level) {
            let mut transaction = self.cx.transaction.borrow_mut();
            let mark = self.mark(&transaction);
            transaction.marks.set(level, mark);
        }
    }

    fn release(&self, level: i32) {
        let level = usize::try_from(level).unwrap_or(0);
        self.cx.transaction.borrow_mut().marks.release(level);
    }

    fn rollback_to(&self, level: i32) {
        let mut transaction = self.cx.transaction.borrow_mut();
        let Ok(level) = usize::try_from(level) else {
            // The savepoint that opened the transaction: all of it, and it goes on.
            transaction.change = self.at_begin.borrow().clone();
            transaction.local.clear();
            transaction.merged = Default::default();
            transaction.marks = Marks::default();
            transaction.failed = None;
            if let Some(flushing) = &mut transaction.flushing {
                flushing.is_lost = true;
            }
            drop(transaction);
            self.cx.impacted.set(0);
            self.forget();
            return;
        };
        if let Some(flushing) = &mut transaction.flushing {
            if level >= flushing.n_marks {
                // A statement of the flush itself failed: the flush tells.
                return;
            }
            flushing.is_lost = true;
        }
        let Some(restored) = transaction.marks.restore(level) else { return };
        let Transaction { local, merged, failed, change, .. } = &mut *transaction;
        if let Some((saved_local, saved_merged)) = restored.flushed {
            (*local, *merged) = (saved_local, saved_merged);
        }
        local.truncate(restored.mark.local);
        merged.truncate(restored.mark.merged);
        if !restored.mark.has_failed {
            *failed = None;
        }
        *change = restored.mark.change;
        drop(transaction);
        self.cx.impacted.set(restored.mark.impacted);
        self.forget();
    }
}
