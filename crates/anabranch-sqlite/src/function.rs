//! SQL functions. A panic inside one is caught and poisons it: later calls answer an error.

use anabranch_core::value::{Value, ValueRef};

use crate::db::Db;
use crate::error::Result;

/// Flags of a function, as SQLite has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// SQLITE_DETERMINISTIC.
    pub deterministic: bool,
    /// SQLITE_DIRECTONLY.
    pub direct_only: bool,
    /// SQLITE_INNOCUOUS: callable from triggers with `trusted_schema=OFF`.
    pub innocuous: bool,
}

/// One call of a function.
pub struct Call<'a> {
    _phantom: std::marker::PhantomData<&'a ()>,
}

impl Call<'_> {
    /// Number of arguments.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Argument `index`, from 0.
    pub fn arg(&self, _index: usize) -> ValueRef<'_> {
        todo!()
    }

    /// Whether this is the first call at this place in this run of the statement: an
    /// aux-data mark on (constant) argument `index` is missing, and is set.
    pub fn is_first_in_statement(&mut self, _index: usize) -> bool {
        todo!()
    }
}

impl Db {
    /// Registers a function with `n_args` arguments (-1: any number).
    ///
    /// `f` must not be entered twice with a borrow held: SQL run inside may call it again.
    pub fn create_function(
        &self,
        _name: &str,
        _n_args: i32,
        _flags: Flags,
        _f: impl Fn(&mut Call<'_>) -> Result<Value> + 'static,
    ) -> Result<()> {
        todo!()
    }

    /// Calls `f` when the connection closes (after host statements are gone).
    pub fn on_close(&self, _f: impl FnOnce() + 'static) -> Result<()> {
        todo!()
    }

    /// Calls `f` when `sqlite3_close` starts, before it looks for unfinalized statements:
    /// the place to drop kept statements. (An eponymous table's xDisconnect.)
    pub fn before_close(&self, _f: impl Fn() + 'static) -> Result<()> {
        todo!()
    }
}
