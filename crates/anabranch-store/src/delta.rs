//! The doors for deltas: `ana_export`, `ana_parts`, `ana_apply`.
//!
//! Invariant: a delta is applied whole or not at all, and what is refused leaves tables,
//! clocks, log, vector and staged parts as they were.

mod error;

use std::cell::RefCell;
use std::rc::Rc;

use anabranch_sqlite::SqlError;

pub(crate) use error::DeltaError;

use crate::context::Context;

/// What the last delta that this connection applied did; for `ana merge`.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Log position before it.
    pub(crate) after: u64,
    /// Rows inserted, updated, deleted, by table.
    pub(crate) tables: Vec<(String, [u64; 3])>,
}

/// What a connection keeps for this module.
#[derive(Debug, Default)]
pub(crate) struct DeltaState {
    pub(crate) applied: RefCell<Applied>,
}

/// Registers the functions and tables of this module.
pub(crate) fn register(_cx: &Rc<Context>) -> Result<(), SqlError> {
    Ok(())
}
