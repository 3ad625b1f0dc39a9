//! `ana_check`: every invariant, looked at.

use std::rc::Rc;

use anabranch_sqlite::SqlError;

use crate::context::Context;

/// Registers the functions and tables of this module.
pub(crate) fn register(_cx: &Rc<Context>) -> Result<(), SqlError> {
    Ok(())
}
