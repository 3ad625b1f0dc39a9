//! The connection our code was loaded into.

use std::ffi::c_int;
use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use libsqlite3_sys as ffi;

use crate::error::Result;
use crate::statement::Statement;

/// A connection that its host owns. Clones are handles of the same connection.
///
/// When the connection closes, every handle turns dead: calls answer SQLITE_MISUSE.
/// Not `Send`: a handle is used only inside calls that SQLite makes on the connection.
#[derive(Clone)]
pub struct Db {
    inner: Rc<Inner>,
}

struct Inner {
    raw: std::cell::Cell<*mut ffi::sqlite3>,
}

impl Db {
    /// Takes the raw connection.
    ///
    /// # Safety
    /// `raw` is an open connection, and whoever closes it first calls [`Db::detach`] (the
    /// destructor of a function registered through this handle does).
    pub unsafe fn from_raw(raw: *mut ffi::sqlite3) -> Db {
        Db { inner: Rc::new(Inner { raw: std::cell::Cell::new(raw) }) }
    }

    /// Marks every handle dead.
    pub fn detach(&self) {
        self.inner.raw.set(std::ptr::null_mut());
    }

    /// Compiles one statement; kept statements are prepared with SQLITE_PREPARE_PERSISTENT.
    pub fn prepare(&self, _sql: &str) -> Result<Statement> {
        todo!()
    }

    /// Runs one statement to its end.
    pub fn execute(&self, _sql: &str, _params: &[ValueRef<'_>]) -> Result<()> {
        todo!()
    }

    /// Runs all statements of a text.
    pub fn execute_batch(&self, _sql: &str) -> Result<()> {
        todo!()
    }

    /// The first row's first column; `None` without a row.
    pub fn query_value(&self, _sql: &str, _params: &[ValueRef<'_>]) -> Result<Option<Value>> {
        todo!()
    }

    /// All rows.
    pub fn query_rows(&self, _sql: &str, _params: &[ValueRef<'_>]) -> Result<Vec<Vec<Value>>> {
        todo!()
    }

    /// Whether no explicit transaction is open.
    pub fn is_autocommit(&self) -> bool {
        todo!()
    }

    /// Whether `main` cannot be written.
    pub fn is_read_only(&self) -> bool {
        todo!()
    }

    /// Whether a writing statement of the host's is running on this connection.
    pub fn is_writing(&self) -> bool {
        todo!()
    }

    /// Rowid of the last insert, as `last_insert_rowid()` tells it.
    pub fn last_insert_rowid(&self) -> i64 {
        todo!()
    }

    /// Sets what `last_insert_rowid()` tells.
    pub fn set_last_insert_rowid(&self, _rowid: i64) {
        todo!()
    }

    /// Number of attached databases beyond main and temp; their names.
    pub fn attached(&self) -> Vec<String> {
        todo!()
    }

    /// A limit of this connection (`SQLITE_LIMIT_*`).
    pub fn limit(&self, _id: c_int) -> i32 {
        todo!()
    }

    /// Version number of the SQLite that runs, as 3054001.
    pub fn sqlite_version(&self) -> i32 {
        todo!()
    }
}
