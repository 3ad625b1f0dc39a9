//! One transaction of this connection: its buffer, its marks, and its fate.
//!
//! SQLite tells the fate of a transaction to the virtual tables that take part in it. Ours,
//! `ana_transaction`, is hidden and empty; one nested INSERT at the first write enrols it.
//!
//! Invariant: at any time buffer and log together hold exactly the operations whose rows
//! SQLite holds. A statement or savepoint that is undone cuts the buffer to its mark.
//! What was flushed since the mark SQLite undoes itself; what was in the buffer when the
//! mark was set, and was flushed after it, is saved beside until the mark goes.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use anabranch_core::limits::MAX_CHANGE_BLOBS;
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::{Db, SqlError, Statement};

use crate::buffer::{LocalBuffer, MergedBuffer, MergedRecord};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{Address, ColumnId, TableId};
use crate::kept::Kept;
use crate::limits::{MAX_BUFFERED_MERGED, MAX_COLUMN_VERSION};
use crate::metadata::PendingChange;
use crate::metadata::row_clock::RowClock;

mod fate;
mod marks;
#[cfg(test)]
mod tests;

use marks::Marks;

/// The state of the present transaction; empty outside one.
#[derive(Default)]
pub(crate) struct Transaction {
    /// The own change being made; marks share it until it changes.
    pub(crate) change: Rc<PendingChange>,
    pub(crate) local: LocalBuffer,
    pub(crate) merged: MergedBuffer,
    /// SQLite will tell the end of this transaction.
    is_enrolled: bool,
    /// It ends with the statement that enrolled it: the host sets nothing in between.
    is_one_statement: bool,
    marks: Marks,
    /// What a flush that failed left in the log is unknown: only undoing it helps.
    failed: Option<SqlError>,
    flushing: Option<Flushing>,
}

/// A flush that runs.
struct Flushing {
    /// Marks below are the host's; those from here on belong to the flush's own statements.
    n_marks: usize,
    /// The transaction or a savepoint of the host's was undone meanwhile.
    is_lost: bool,
}

/// Kept statements about transactions.
pub(crate) struct TransactionStatements {
    enrol: RefCell<Kept>,
    query_only: RefCell<Kept>,
}

const ENROL: &str = "INSERT INTO main.ana_transaction VALUES (0)";
const QUERY_ONLY: &str = "PRAGMA query_only";

impl TransactionStatements {
    /// Compiles nothing yet.
    pub(crate) fn new() -> TransactionStatements {
        TransactionStatements {
            enrol: RefCell::new(Kept::new(ENROL)),
            query_only: RefCell::new(Kept::new(QUERY_ONLY)),
        }
    }

    /// Compiles all, so that an authorizer of the host's is not asked later.
    pub(crate) fn prepare(&self, db: &Db) -> Result<()> {
        self.enrol.borrow_mut().prepare(db)?;
        self.query_only.borrow_mut().prepare(db)
    }

    /// Drops all, so that the connection can close.
    pub(crate) fn clear(&self) {
        self.enrol.borrow_mut().clear();
        self.query_only.borrow_mut().clear();
    }

    fn enrol(&self, db: &Db) -> Result<()> {
        match self.enrol.try_borrow_mut() {
            Ok(mut kept) => kept.run(db, &[]),
            // Inside a run of itself: a hook of the host's writes.
            Err(_) => Ok(db.execute(ENROL, &[])?),
        }
    }

    fn is_query_only(&self, db: &Db) -> Result<bool> {
        let read = |row: &Statement| Ok(!matches!(row.column(0), ValueRef::Integer(0)));
        let is_set = match self.query_only.try_borrow_mut() {
            Ok(mut kept) => kept.first(db, &[], read),
            Err(_) => Kept::new(QUERY_ONLY).first(db, &[], read),
        };
        Ok(is_set?.unwrap_or(false))
    }
}

/// Registers the hidden table.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    cx.db.create_fate("ana_transaction", fate::Fate::new(cx))
}

impl Transaction {
    /// The own change, to be changed.
    pub(crate) fn change_mut(&mut self) -> &mut PendingChange {
        Rc::make_mut(&mut self.change)
    }

    /// Whether anything was written that is no change yet.
    pub(crate) fn has_writes(&self) -> bool {
        !self.local.ops.is_empty()
            || !self.merged.records.is_empty()
            || self.change.first_entry.is_some()
            || !self.change.blobs.is_empty()
    }
}

/// Makes sure that SQLite tells us this transaction's fate.
///
/// # Errors
/// SQLite's, and what reading the file anew finds.
pub(crate) fn enrol(cx: &Context) -> Result<()> {
    if cx.transaction.borrow().is_enrolled {
        return crate::identity::before_write(cx);
    }
    let rowid = cx.db.last_insert_rowid();
    let is_one_statement = cx.db.is_autocommit();
    let enrolled = cx.transaction_statements.enrol(&cx.db);
    cx.db.set_last_insert_rowid(rowid);
    enrolled?;
    cx.transaction.borrow_mut().is_one_statement = is_one_statement;
    // From here on nobody else can commit: what is read now holds until the end.
    cx.refresh()?;
    crate::identity::before_write(cx)
}

/// Notes that the present change names a blob.
///
/// # Errors
/// As [`enrol`]; a change that names too many.
pub(crate) fn name_blob(cx: &Context, blob: [u8; 32]) -> Result<()> {
    enrol(cx)?;
    let mut transaction = cx.transaction.borrow_mut();
    transaction.check()?;
    let blobs = &mut transaction.change_mut().blobs;
    if blobs.len() >= MAX_CHANGE_BLOBS && !blobs.contains(&blob) {
        let what = format!("ana_blob_put: one change names at most {MAX_CHANGE_BLOBS} blobs");
        return Err(StoreError::Refused(what));
    }
    blobs.insert(blob);
    Ok(())
}

/// Writes all that is buffered to the log (early flush, or at commit).
///
/// # Errors
/// What writing the log answers. Then this transaction writes nothing more, nor commits,
/// until the statement or savepoint it happened in is undone.
pub(crate) fn flush(cx: &Context) -> Result<()> {
    let transaction = cx.transaction.borrow();
    transaction.check()?;
    if transaction.local.is_empty() && transaction.merged.is_empty() {
        return Ok(());
    }
    drop(transaction);
    with_writes_allowed(cx, || write_buffer(cx, None))
}

/// As [`flush`], where writes are allowed. `closes_at`: this ends the change.
fn write_buffer(cx: &Context, closes_at: Option<u64>) -> Result<()> {
    let Some(mut work) = Work::take(cx, closes_at)? else { return Ok(()) };
    let mut unwinding = None;
    // Rows stand whose operations only `work` holds: they go back before anything unwinds.
    let written = catch_unwind(AssertUnwindSafe(|| work.write(cx))).unwrap_or_else(|payload| {
        unwinding = Some(payload);
        Err(StoreError::Refused("writing the log broke off".to_string()))
    });
    cx.settle();
    let mut transaction = cx.transaction.borrow_mut();
    let is_lost = transaction.flushing.take().is_some_and(|flushing| flushing.is_lost);
    match written {
        _ if is_lost => {}
        Ok(()) => work.give_back_written(&mut transaction),
        Err(ref error) => work.give_back(&mut transaction, error),
    }
    drop(transaction);
    if let Some(payload) = unwinding {
        resume_unwind(payload);
    }
    written
}

/// Makes room for operations of `kind` in the buffer: flushes the other kind, and a full one.
pub(crate) fn make_room(cx: &Context, kind: Buffered) -> Result<()> {
    let must_flush = {
        let transaction = cx.transaction.borrow();
        transaction.check()?;
        let Transaction { local, merged, .. } = &*transaction;
        let is_full = local.is_full() || merged.records.len() >= MAX_BUFFERED_MERGED;
        let has_other = match kind {
            Buffered::Local => !merged.is_empty(),
            Buffered::Merged => !local.is_empty(),
        };
        is_full || has_other
    };
    if must_flush { flush(cx) } else { Ok(()) }
}

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffered {
    /// Captured operations.
    Local,
    /// Merged records.
    Merged,
}

/// The clock of a row, buffered merges included; buffered local operations are flushed
/// first.
///
/// This is also where a full buffer of merges is flushed: between this call and the pushes
/// for the row no address of the buffer changes.
pub(crate) fn row_clock(cx: &Context, table: TableId, key: &[u8]) -> Result<Option<RowClock>> {
    make_room(cx, Buffered::Merged)?;
    if let Some(clock) = cx.transaction.borrow().merged.clock(table, key) {
        return Ok(Some(clock.clone()));
    }
    cx.metadata.borrow_mut().row(table, key)
}

/// Buffers a merged record of a row and lets `edit` give the row's clock, which was `clock`
/// before the first of them, the group at the address that the record gets. What was captured
/// is in the log by then: [`row_clock`] saw to it.
pub(crate) fn push_merged(
    cx: &Context,
    row: (TableId, &[u8]),
    clock: Option<RowClock>,
    record: MergedRecord,
    edit: impl FnOnce(&mut RowClock, Address),
) -> Result<()> {
    let mut transaction = cx.transaction.borrow_mut();
    transaction.check()?;
    let n_marked = transaction.marks.n_merged();
    transaction.merged.push(row, clock, record, n_marked, edit)
}

/// `db_version` a local write would get now: max(committed + 1, pending).
pub(crate) fn next_db_version(cx: &Context) -> Result<u64> {
    let committed = cx.metadata.borrow().db_version();
    Ok(cx.transaction.borrow().change.db_version.max(committed + 1))
}

/// Raises the pending `db_version` to at least `version` and returns it.
pub(crate) fn raise_db_version(cx: &Context, version: u64) -> Result<u64> {
    let next = next_db_version(cx)?.max(version);
    cx.transaction.borrow_mut().change_mut().db_version = next;
    Ok(next)
}

impl Transaction {
    /// Whether captured operations may be appended just so: [`make_room`] has nothing to do.
    #[inline]
    pub(crate) fn takes_local(&self) -> bool {
        self.failed.is_none() && self.merged.is_empty() && !self.local.is_full()
    }

    /// Whether nothing that was captured waits before what is merged, and nothing failed.
    #[inline]
    pub(crate) fn takes_merged(&self) -> bool {
        self.failed.is_none() && self.local.is_empty()
    }

    fn check(&self) -> Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(StoreError::Sql(SqlError {
                code: error.code,
                message: format!(
                    "this transaction could not write its log ({}); roll it back",
                    error.message
                ),
            })),
        }
    }
}

/// What a flush writes, taken out of the transaction: the log's statements call our table.
struct Work {
    change: PendingChange,
    local: LocalBuffer,
    merged: MergedBuffer,
}

impl Work {
    fn take(cx: &Context, closes_at: Option<u64>) -> Result<Option<Work>> {
        let mut transaction = cx.transaction.borrow_mut();
        transaction.check()?;
        if transaction.local.is_empty() && transaction.merged.is_empty() {
            return Ok(None);
        }
        let n_marks = transaction.marks.len();
        transaction.flushing = Some(Flushing { n_marks, is_lost: false });
        let mut change = PendingChange::clone(&transaction.change);
        change.author = cx.author.borrow().clone();
        change.closes_at = closes_at;
        Ok(Some(Work {
            change,
            local: std::mem::take(&mut transaction.local),
            merged: std::mem::take(&mut transaction.merged),
        }))
    }

    fn write(&mut self, cx: &Context) -> Result<()> {
        let mut metadata = cx.metadata.borrow_mut();
        if !self.local.is_empty() {
            self.change.is_edit = true;
            let written = metadata.write_local(&mut self.change, &self.local);
            written.map_err(|error| named(cx, error))?;
        }
        if !self.merged.is_empty() {
            metadata.write_merged(&mut self.change, &self.merged)?;
        }
        Ok(())
    }

    fn give_back_written(mut self, transaction: &mut Transaction) {
        self.change.closes_at = None;
        transaction.change = Rc::new(self.change);
        if let Some((local, merged)) = transaction.marks.flushed() {
            self.local.truncate(local);
            self.merged.truncate(merged);
            transaction.marks.save(self.local, self.merged);
        } else {
            self.local.clear();
            transaction.local = self.local;
        }
        transaction.marks.begin_epoch();
    }

    fn give_back(self, transaction: &mut Transaction, error: &StoreError) {
        transaction.local = self.local;
        transaction.merged = self.merged;
        transaction.failed = Some(match error {
            StoreError::Sql(sql) => sql.clone(),
            other => SqlError::new(other.to_string()),
        });
    }
}

/// The error of a write past the largest version, with the names of what has reached it.
fn named(cx: &Context, error: StoreError) -> StoreError {
    let StoreError::VersionSpent(spent) = error else { return error };
    let Some(table) = cx.registry.borrow().by_id(spent.table) else {
        return StoreError::VersionSpent(spent);
    };
    let what = match table.column(spent.column) {
        Some(column) => format!("column {}", column.name),
        None => "its causal length".to_string(),
    };
    let key = table.unfold(&spent.key).unwrap_or_default();
    let key: Vec<ValueRef<'_>> = key.iter().map(Value::as_ref).collect();
    let key = crate::base::show_key(&key);
    let name = &table.name;
    StoreError::Refused(format!(
        "table {name}, row {key}, {what}: it has reached the largest version, \
         {MAX_COLUMN_VERSION}, which no honest history does{}",
        match spent.column {
            ColumnId::SENTINEL => "",
            _ => "; delete the row and insert it again to go on",
        }
    ))
}

/// Whether the host set `PRAGMA query_only` since this transaction was enrolled.
fn is_query_only(cx: &Context) -> Result<bool> {
    // Enrolling writes, so it was off then; and asking costs as much as a write.
    if cx.transaction.borrow().is_one_statement {
        return Ok(false);
    }
    cx.transaction_statements.is_query_only(&cx.db)
}

/// Runs `f`, which writes to the log; the user's last insert rowid stays.
///
/// `PRAGMA query_only` is off meanwhile: what is written belongs to rows that were written
/// before the host set it, and a commit without it would lose them.
fn with_writes_allowed(cx: &Context, f: impl FnOnce() -> Result<()>) -> Result<()> {
    let rowid = cx.db.last_insert_rowid();
    let is_query_only = is_query_only(cx)?;
    if is_query_only {
        cx.db.execute("PRAGMA query_only = 0", &[])?;
    }
    let result = catch_unwind(AssertUnwindSafe(f));
    let restored = match is_query_only {
        true => cx.db.execute("PRAGMA query_only = 1", &[]),
        false => Ok(()),
    };
    cx.db.set_last_insert_rowid(rowid);
    let result = result.unwrap_or_else(|payload| resume_unwind(payload));
    result.and(restored.map_err(StoreError::from))
}
