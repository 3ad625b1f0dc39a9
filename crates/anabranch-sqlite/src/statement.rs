//! Prepared statements that may be kept beside the connection.
//!
//! Invariant: no binding outlives the borrow it was made from. [`Statement::bind`] lets
//! SQLite copy; [`Statement::execute`] and [`Statement::query_row`] lend the bytes and clear
//! the bindings before they return.

use std::ffi::c_int;
use std::ptr::NonNull;

use anabranch_core::value::ValueRef;
use libsqlite3_sys as ffi;

use crate::db::{Db, misuse};
use crate::error::{Result, SqlError};
use crate::poison;
use crate::raw_value;

/// A prepared statement. Dropping it finalizes it.
pub struct Statement {
    raw: NonNull<ffi::sqlite3_stmt>,
    db: Db,
    n_params: usize,
    /// Whether it was stepped since its last reset.
    is_running: bool,
    /// Parameters that [`Statement::bind`] made SQLite copy bytes for.
    copied: Vec<usize>,
}

impl Statement {
    /// Takes a statement; `None` for null.
    ///
    /// # Safety
    /// `raw` is null or an open statement of `db` that nobody else finalizes.
    pub(crate) unsafe fn from_raw(db: Db, raw: *mut ffi::sqlite3_stmt) -> Option<Statement> {
        let raw = NonNull::new(raw)?;
        // SAFETY: an open statement.
        let n_params = unsafe { ffi::sqlite3_bind_parameter_count(raw.as_ptr()) } as usize;
        Some(Statement { raw, db, n_params, is_running: false, copied: Vec::new() })
    }

    /// Binds parameter `index`, from 1. The bytes are copied by SQLite.
    ///
    /// # Errors
    /// SQLITE_RANGE past the last parameter, SQLITE_TOOBIG, SQLITE_NOMEM; SQLITE_MISUSE
    /// while the statement is between rows.
    pub fn bind(&mut self, index: usize, value: ValueRef<'_>) -> Result<()> {
        self.db.live()?;
        // SAFETY: SQLite copies, so the binding needs no borrow.
        let rc = unsafe { self.bind_as(index, value, ffi::SQLITE_TRANSIENT()) };
        self.check(rc)?;
        if is_bytes(&value) {
            self.copied.push(index);
        }
        Ok(())
    }

    /// Goes to the next row; `false` at the end, when the statement is reset too.
    ///
    /// After an error the statement is reset.
    pub fn step(&mut self) -> Result<bool> {
        self.db.live()?;
        self.is_running = true;
        // SAFETY: a live statement of an open connection.
        match unsafe { ffi::sqlite3_step(self.raw.as_ptr()) } {
            ffi::SQLITE_ROW => Ok(true),
            ffi::SQLITE_DONE => {
                self.rewind();
                Ok(false)
            }
            rc => {
                let error = self.db.error(rc);
                self.rewind();
                Err(error)
            }
        }
    }

    /// How often SQLite compiled it anew because the schema, or what else it was compiled
    /// for, had changed. -1 once the connection closed.
    pub(crate) fn n_recompiled(&self) -> c_int {
        if !self.db.is_alive() {
            return -1;
        }
        // SAFETY: a live statement; 0 asks without resetting the count.
        unsafe { ffi::sqlite3_stmt_status(self.raw.as_ptr(), ffi::SQLITE_STMTSTATUS_REPREPARE, 0) }
    }

    /// Number of columns in a row.
    pub fn column_count(&self) -> usize {
        if !self.db.is_alive() {
            return 0;
        }
        // SAFETY: a live statement.
        unsafe { ffi::sqlite3_column_count(self.raw.as_ptr()) as usize }
    }

    /// Column `index` of the present row, from 0; valid until the next call. NULL where
    /// there is no row or no such column.
    ///
    /// When SQLite has no memory to hand out a text, this unwinds up to the function or table
    /// through which SQLite called, which answers SQLITE_NOMEM and is not poisoned.
    pub fn column(&self, index: usize) -> ValueRef<'_> {
        self.try_column(index).unwrap_or_else(|_| poison::unwind_out_of_memory())
    }

    /// [`Statement::column`] for callers that are not below a call of SQLite's.
    ///
    /// # Errors
    /// SQLITE_NOMEM.
    pub fn try_column(&self, index: usize) -> Result<ValueRef<'_>> {
        let Ok(index) = c_int::try_from(index) else { return Ok(ValueRef::Null) };
        if !self.db.is_alive() {
            return Ok(ValueRef::Null);
        }
        // SAFETY: a live statement. The bytes stay until the next step, reset or finalize,
        // and each of those takes `&mut self` or the statement itself.
        unsafe { raw_value::column(self.raw.as_ptr(), index) }
    }

    /// Resets and unbinds texts and blobs; numbers stay bound.
    pub fn reset(&mut self) {
        if self.db.is_alive() {
            self.rewind();
            let copied = std::mem::take(&mut self.copied);
            copied.iter().for_each(|index| self.unbind_one(*index));
            self.copied = copied;
            self.copied.clear();
        }
    }

    /// Binds all, runs to the end, resets. Rows are passed over.
    pub fn execute(&mut self, params: &[ValueRef<'_>]) -> Result<()> {
        self.lend(params, |statement| {
            while statement.step()? {}
            Ok(())
        })
    }

    /// Binds all and steps once: `true` with a row. Call [`Statement::reset`] after reading.
    pub fn query(&mut self, params: &[ValueRef<'_>]) -> Result<bool> {
        self.db.live()?;
        self.rewind();
        if params.len() < self.n_params {
            self.unbind();
        }
        self.copied.clear();
        for (index, value) in params.iter().enumerate() {
            self.bind(index + 1, *value)?;
        }
        self.step()
    }

    /// Binds all, hands the first row to `read`, resets; `None` without a row.
    ///
    /// Parameters are lent and not copied: the quickest way to look a key up.
    pub fn query_row<T>(
        &mut self,
        params: &[ValueRef<'_>],
        read: impl FnOnce(&Statement) -> Result<T>,
    ) -> Result<Option<T>> {
        self.lend(params, |statement| match statement.step()? {
            true => read(statement).map(Some),
            false => Ok(None),
        })
    }

    /// Runs `run` with `params` bound without a copy; resets and unbinds in any case.
    fn lend<T>(
        &mut self,
        params: &[ValueRef<'_>],
        run: impl FnOnce(&mut Statement) -> Result<T>,
    ) -> Result<T> {
        self.db.live()?;
        self.rewind();
        // Parameters that `params` does not name are NULL, not what was bound before.
        if params.len() < self.n_params {
            self.unbind();
        }
        let lent = Lent { statement: self, params };
        for (index, value) in params.iter().enumerate() {
            // SAFETY: `lent` unbinds when it goes, unwinding included, and until then `params`
            // is borrowed by this call.
            let rc = unsafe { lent.statement.bind_as(index + 1, *value, ffi::SQLITE_STATIC()) };
            lent.statement.check(rc)?;
        }
        run(lent.statement)
    }

    /// Binds with a destructor of SQLite's.
    ///
    /// # Safety
    /// The statement is live, and the bytes stay until the binding is replaced or cleared
    /// unless `keep` is SQLITE_TRANSIENT.
    unsafe fn bind_as(
        &self,
        index: usize,
        value: ValueRef<'_>,
        keep: ffi::sqlite3_destructor_type,
    ) -> c_int {
        let Ok(index) = c_int::try_from(index) else { return ffi::SQLITE_RANGE };
        let raw = self.raw.as_ptr();
        // SAFETY: a live statement; pointers with their own lengths; the caller's promise
        // about their life.
        unsafe {
            match value {
                ValueRef::Null => ffi::sqlite3_bind_null(raw, index),
                ValueRef::Integer(i) => ffi::sqlite3_bind_int64(raw, index, i),
                ValueRef::Real(r) => ffi::sqlite3_bind_double(raw, index, r),
                ValueRef::Text(t) => ffi::sqlite3_bind_text64(
                    raw,
                    index,
                    t.as_ptr().cast(),
                    t.len() as u64,
                    keep,
                    ffi::SQLITE_UTF8 as u8,
                ),
                ValueRef::Blob(b) => {
                    ffi::sqlite3_bind_blob64(raw, index, b.as_ptr().cast(), b.len() as u64, keep)
                }
            }
        }
    }

    fn check(&self, rc: c_int) -> Result<()> {
        match rc {
            ffi::SQLITE_OK => Ok(()),
            // SQLite says this only by its number when the index does not fit.
            ffi::SQLITE_RANGE => {
                Err(SqlError { code: rc, message: "the statement has no such parameter".into() })
            }
            ffi::SQLITE_MISUSE => Err(misuse("a statement between rows takes no parameter")),
            _ => Err(self.db.error(rc)),
        }
    }

    fn rewind(&mut self) {
        if self.is_running && self.db.has_connection() {
            self.is_running = false;
            // SAFETY: a live statement. The answer repeats the error of the last step.
            unsafe { ffi::sqlite3_reset(self.raw.as_ptr()) };
        }
    }

    fn unbind(&mut self) {
        (1..=self.n_params).for_each(|index| self.unbind_one(index));
    }

    /// Not `sqlite3_clear_bindings`: that has the statement compiled anew whenever its plan
    /// might depend on some value, as any `column = ?` makes SQLite believe of 0 and 1.
    fn unbind_one(&mut self, index: usize) {
        if let Ok(index) = c_int::try_from(index)
            && self.db.has_connection()
        {
            // SAFETY: a live statement.
            unsafe { ffi::sqlite3_bind_null(self.raw.as_ptr(), index) };
        }
    }
}

fn is_bytes(value: &ValueRef<'_>) -> bool {
    matches!(value, ValueRef::Text(_) | ValueRef::Blob(_))
}

/// A statement whose bindings point into somebody's borrow.
struct Lent<'a> {
    statement: &'a mut Statement,
    params: &'a [ValueRef<'a>],
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // In this order: a running statement has copies of the pointers in its registers, and
        // the reset lets go of them.
        self.statement.rewind();
        for (index, value) in self.params.iter().enumerate() {
            // Numbers may stay bound: they are no pointers.
            if is_bytes(value) {
                self.statement.unbind_one(index + 1);
            }
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        if self.db.has_connection() {
            // SAFETY: ours, finalized once. SQLite may close a zombie connection in this
            // call; the handle is told by the destructor, and is not used after.
            unsafe { ffi::sqlite3_finalize(self.raw.as_ptr()) };
        }
    }
}
