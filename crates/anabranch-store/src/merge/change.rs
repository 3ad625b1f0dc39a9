//! One row of `crsql_changes`.
use super::*;

/// Merges one change; answers how much `crsql_rows_impacted` grows.
pub(crate) fn merge_change(
    _cx: &Context,
    _table: &Rc<TableInfo>,
    _incoming: &IncomingChange<'_>,
) -> Result<u32> {
    todo!()
}
