//! The connection our code was loaded into.
//!
//! Invariant: a handle's raw pointer is an open connection or null. Null ("dead") is set
//! once, by the destructor of a function that SQLite destroys while it closes.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use libsqlite3_sys as ffi;

use crate::error::{Result, SqlError};
use crate::statement::Statement;

/// A connection that its host owns. Clones are handles of the same connection.
///
/// When the connection closes, every handle turns dead: calls answer SQLITE_MISUSE, or the
/// neutral value where they cannot fail. Not `Send`: a handle is used only inside calls that
/// SQLite makes on the connection, or beside the connection in [`crate::Embedded`].
#[derive(Clone)]
pub struct Db {
    inner: Rc<Inner>,
}

struct Inner {
    /// The connection; null once it closed.
    raw: Cell<*mut ffi::sqlite3>,
    /// How many destructors that SQLite called are running: they may finalize statements,
    /// but must not call a connection that may be half closed.
    n_destroying: Cell<u32>,
    /// The table whose xDisconnect announces the closing; see `close.rs`.
    closing: crate::close::Closing,
}

impl Db {
    /// Takes the raw connection.
    ///
    /// # Safety
    /// `raw` is an open connection, and whoever closes it first calls [`Db::detach`]
    /// ([`Db::attach`] arranges that). SQLite calls, and this handle's users call, from one
    /// thread at a time, and clones move between threads only together with the connection.
    pub unsafe fn from_raw(raw: *mut ffi::sqlite3) -> Db {
        Db {
            inner: Rc::new(Inner {
                raw: Cell::new(raw),
                n_destroying: Cell::new(0),
                closing: crate::close::Closing::default(),
            }),
        }
    }

    /// Takes the raw connection and arranges that the handles turn dead when it closes.
    ///
    /// # Errors
    /// SQLite's, when it refuses to register the function whose destructor does it.
    ///
    /// # Safety
    /// `raw` is an open connection. SQLite calls, and this handle's users call, from one
    /// thread at a time, and clones move between threads only together with the connection.
    pub unsafe fn attach(raw: *mut ffi::sqlite3) -> Result<Db> {
        // SAFETY: the caller's promise; the hook below detaches before the memory goes.
        let db = unsafe { Db::from_raw(raw) };
        let handle = db.clone();
        db.on_close(move || handle.detach())?;
        Ok(db)
    }

    /// Marks every handle dead.
    pub fn detach(&self) {
        self.inner.raw.set(ptr::null_mut());
        // Hooks hold handles, which hold the hooks: here the ring is broken.
        self.inner.closing.clear();
    }

    /// Whether the connection can be used: it has not closed, and no destructor that it
    /// called is running.
    pub fn is_alive(&self) -> bool {
        !self.inner.raw.get().is_null() && self.inner.n_destroying.get() == 0
    }

    /// Compiles one statement to be kept (SQLITE_PREPARE_PERSISTENT).
    ///
    /// # Errors
    /// SQLite's; SQLITE_MISUSE for a text without a statement or with a second one.
    pub fn prepare(&self, sql: &str) -> Result<Statement> {
        crate::close::rearm(self)?;
        self.prepare_one(sql, ffi::SQLITE_PREPARE_PERSISTENT)
    }

    /// Runs one statement to its end.
    pub fn execute(&self, sql: &str, params: &[ValueRef<'_>]) -> Result<()> {
        self.prepare_one(sql, 0)?.execute(params)
    }

    /// Runs all statements of a text.
    pub fn execute_batch(&self, sql: &str) -> Result<()> {
        let mut rest = sql;
        while !rest.is_empty() {
            let (statement, tail) = self.compile(rest, 0)?;
            if let Some(mut statement) = statement {
                statement.execute(&[])?;
            }
            rest = tail;
        }
        Ok(())
    }

    /// The first row's first column; `None` without a row.
    pub fn query_value(&self, sql: &str, params: &[ValueRef<'_>]) -> Result<Option<Value>> {
        let mut statement = self.prepare_one(sql, 0)?;
        if !statement.query(params)? {
            return Ok(None);
        }
        Ok(Some(statement.try_column(0)?.into()))
    }

    /// Whether the connection knows a function; asked without calling it, for a call of one
    /// that is not there goes to the host's error log.
    pub fn has_function(&self, name: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM pragma_function_list WHERE name = ?1";
        Ok(self.query_value(sql, &[ValueRef::Text(name.as_bytes())])?.is_some())
    }

    /// All rows.
    pub fn query_rows(&self, sql: &str, params: &[ValueRef<'_>]) -> Result<Vec<Vec<Value>>> {
        let mut statement = self.prepare_one(sql, 0)?;
        let mut rows = Vec::new();
        let mut has_row = statement.query(params)?;
        while has_row {
            let columns = (0..statement.column_count()).map(|i| statement.try_column(i));
            rows.push(columns.map(|value| value.map(Value::from)).collect::<Result<_>>()?);
            has_row = statement.step()?;
        }
        Ok(rows)
    }

    /// Whether no explicit transaction is open. A dead handle has none.
    pub fn is_autocommit(&self) -> bool {
        // SAFETY: `raw` answers only open connections.
        self.raw().is_none_or(|raw| unsafe { ffi::sqlite3_get_autocommit(raw) } != 0)
    }

    /// Whether `main` cannot be written. A dead handle cannot.
    pub fn is_read_only(&self) -> bool {
        let main = c"main".as_ptr();
        // SAFETY: an open connection and a terminated name.
        self.raw().is_none_or(|raw| unsafe { ffi::sqlite3_db_readonly(raw, main) } != 0)
    }

    /// Whether the temporary database exists: it is made when something is first put there,
    /// or asked of it by name.
    pub fn has_temp(&self) -> bool {
        let temp = c"temp".as_ptr();
        // SAFETY: an open connection and a terminated name. -1 means: no such database.
        self.raw().is_some_and(|raw| unsafe { ffi::sqlite3_db_readonly(raw, temp) } != -1)
    }

    /// Whether a writing statement is running on this connection: the host's, or one of
    /// ours that is between steps.
    pub fn is_writing(&self) -> bool {
        let Some(raw) = self.raw() else { return false };
        let mut statement = ptr::null_mut();
        loop {
            // SAFETY: `statement` is null (the start) or was answered by the call before,
            // and nothing between the calls finalizes it.
            statement = unsafe { ffi::sqlite3_next_stmt(raw, statement) };
            if statement.is_null() {
                return false;
            }
            // SAFETY: a live statement of this connection.
            let is_busy = unsafe { ffi::sqlite3_stmt_busy(statement) } != 0;
            // SAFETY: as above.
            if is_busy && unsafe { ffi::sqlite3_stmt_readonly(statement) } == 0 {
                return true;
            }
        }
    }

    /// Rowid of the last insert, as `last_insert_rowid()` tells it.
    pub fn last_insert_rowid(&self) -> i64 {
        // SAFETY: `raw` answers only open connections.
        self.raw().map_or(0, |raw| unsafe { ffi::sqlite3_last_insert_rowid(raw) })
    }

    /// Rows that the last finished INSERT, UPDATE or DELETE wrote, those of its triggers
    /// not counted.
    pub fn changes(&self) -> u64 {
        // SAFETY: `raw` answers only open connections.
        self.raw().map_or(0, |raw| unsafe { ffi::sqlite3_changes(raw) }.max(0) as u64)
    }

    /// Rows written on this connection so far, modulo 2^32: differs between two statements
    /// that wrote rows, and stands still while one of them runs (triggers that write aside).
    pub fn total_changes(&self) -> u32 {
        // SAFETY: `raw` answers only open connections.
        self.raw().map_or(0, |raw| unsafe { ffi::sqlite3_total_changes(raw) } as u32)
    }

    /// A count that differs when `main` differs: it grows with each commit to it, of this
    /// connection when it is made, of others when a transaction begins after it. `None`:
    /// cannot be asked.
    pub fn n_commits(&self) -> Option<u32> {
        let raw = self.raw()?;
        let mut count: c_uint = 0;
        let place = (&raw mut count).cast::<c_void>();
        // SAFETY: an open connection, a terminated name, and room for the answer of this
        // operation, an unsigned int.
        let rc = unsafe {
            let operation = ffi::SQLITE_FCNTL_DATA_VERSION;
            ffi::sqlite3_file_control(raw, c"main".as_ptr(), operation, place)
        };
        (rc == ffi::SQLITE_OK).then_some(count)
    }

    /// Whether a transaction is open on `main`: what is read there stays as it is.
    pub fn is_in_transaction(&self) -> bool {
        let main = c"main".as_ptr();
        // SAFETY: an open connection and a terminated name.
        let state = self.raw().map(|raw| unsafe { ffi::sqlite3_txn_state(raw, main) });
        state.is_some_and(|state| state >= ffi::SQLITE_TXN_READ)
    }

    /// Whether a database beyond main and temp is attached.
    pub fn has_attached(&self) -> bool {
        // SAFETY: an open connection; without such a database the answer is null.
        self.raw().is_some_and(|raw| !unsafe { ffi::sqlite3_db_name(raw, 2) }.is_null())
    }

    /// Sets what `last_insert_rowid()` tells.
    pub fn set_last_insert_rowid(&self, rowid: i64) {
        if let Some(raw) = self.raw() {
            // SAFETY: an open connection.
            unsafe { ffi::sqlite3_set_last_insert_rowid(raw, rowid) }
        }
    }

    /// Names of the databases beyond main and temp.
    pub fn attached(&self) -> Vec<String> {
        let Some(raw) = self.raw() else { return Vec::new() };
        // Databases 0 and 1 are main and temp.
        let names = (2..).map_while(|index: c_int| {
            // SAFETY: an open connection; past the last database the answer is null.
            let name = unsafe { ffi::sqlite3_db_name(raw, index) };
            // SAFETY: SQLite's terminated name, copied before the next call.
            (!name.is_null()).then(|| unsafe { text_of(name) })
        });
        names.collect()
    }

    /// A limit of this connection (`SQLITE_LIMIT_*`).
    pub fn limit(&self, id: c_int) -> i32 {
        // SAFETY: an open connection; -1 asks without setting.
        self.raw().map_or(0, |raw| unsafe { ffi::sqlite3_limit(raw, id, -1) })
    }

    /// Sets a limit of this connection; above the compiled maximum it is that.
    pub fn set_limit(&self, id: c_int, value: i32) {
        if let Some(raw) = self.raw() {
            // SAFETY: an open connection; a negative value changes nothing.
            unsafe { ffi::sqlite3_limit(raw, id, value) };
        }
    }

    /// Version number of the SQLite that runs, as 3054001.
    pub fn sqlite_version(&self) -> i32 {
        // SAFETY: needs no connection.
        unsafe { ffi::sqlite3_libversion_number() }
    }

    /// The connection, if it can be used.
    pub(crate) fn raw(&self) -> Option<*mut ffi::sqlite3> {
        self.is_alive().then(|| self.inner.raw.get())
    }

    /// The connection, or the error of a dead handle.
    pub(crate) fn live(&self) -> Result<*mut ffi::sqlite3> {
        self.raw().ok_or_else(|| misuse("the connection is closed"))
    }

    /// Whether statements may still be finalized (also inside destructors).
    pub(crate) fn has_connection(&self) -> bool {
        !self.inner.raw.get().is_null()
    }

    pub(crate) fn closing(&self) -> &crate::close::Closing {
        &self.inner.closing
    }

    /// Runs `f` for a destructor that SQLite called: whatever runs inside may finalize
    /// statements, but finds the connection closed.
    pub(crate) fn in_destructor(&self, f: impl FnOnce()) {
        self.inner.n_destroying.set(self.inner.n_destroying.get() + 1);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        // A panicking destructor has nobody to tell: the connection is closing.
        drop(caught);
        self.inner.n_destroying.set(self.inner.n_destroying.get() - 1);
    }

    /// The error that a call with result `rc` left on the connection.
    pub(crate) fn error(&self, rc: c_int) -> SqlError {
        let Some(raw) = self.raw() else { return misuse("the connection is closed") };
        // SAFETY: an open connection.
        let code = unsafe { ffi::sqlite3_extended_errcode(raw) };
        if code & 0xff != rc & 0xff {
            // Another call's error is on the connection: ours has only its number.
            return SqlError { code: rc, message: name_of(rc) };
        }
        // SAFETY: SQLite's terminated text, copied before the next call.
        SqlError { code, message: unsafe { text_of(ffi::sqlite3_errmsg(raw)) } }
    }

    fn prepare_one(&self, sql: &str, flags: u32) -> Result<Statement> {
        let (statement, tail) = self.compile(sql, flags)?;
        if !tail.trim_matches(|c: char| c.is_ascii_whitespace() || c == ';').is_empty() {
            return Err(misuse("more than one statement in one text"));
        }
        statement.ok_or_else(|| misuse("no statement in the text"))
    }

    /// Compiles the first statement of a text; `None` where there is only a comment.
    pub(crate) fn compile<'a>(
        &self,
        sql: &'a str,
        flags: u32,
    ) -> Result<(Option<Statement>, &'a str)> {
        let raw = self.live()?;
        let n_bytes = c_int::try_from(sql.len()).map_err(|_| SqlError {
            code: ffi::SQLITE_TOOBIG,
            message: "statement too long".into(),
        })?;
        if sql.as_bytes().contains(&0) {
            return Err(misuse("a statement's text holds a NUL"));
        }
        let start: *const c_char = sql.as_ptr().cast();
        let (mut statement, mut tail) = (ptr::null_mut(), start);
        // SAFETY: an open connection; `n_bytes` bytes at `start`; two places to answer to.
        let rc = unsafe {
            ffi::sqlite3_prepare_v3(raw, start, n_bytes, flags, &mut statement, &mut tail)
        };
        if rc != ffi::SQLITE_OK {
            return Err(self.error(rc));
        }
        // SAFETY: SQLite points the tail into the text that it was given, or to its end.
        let consumed = unsafe { tail.offset_from(start) } as usize;
        // SAFETY: a fresh statement of this connection, owned by nobody else.
        let statement = unsafe { Statement::from_raw(self.clone(), statement) };
        Ok((statement, sql.get(consumed..).unwrap_or("")))
    }
}

/// An error that says the call itself was wrong.
pub(crate) fn misuse(message: &str) -> SqlError {
    SqlError { code: ffi::SQLITE_MISUSE, message: message.into() }
}

/// SQLite's English for a result code.
fn name_of(rc: c_int) -> String {
    // SAFETY: answers a static text for every number.
    unsafe { text_of(ffi::sqlite3_errstr(rc)) }
}

/// Copies a text of SQLite's.
///
/// # Safety
/// `text` is null, or terminated and alive during the call.
unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
