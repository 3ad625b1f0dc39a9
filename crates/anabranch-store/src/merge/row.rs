//! What a delta says of one row.
use super::*;

/// Merges one row of a delta. `seq` counts the stamped cells of the delta.
///
/// # Errors
/// Constraints and triggers of the table, with table and row named; the transaction must
/// then be undone, for a new life takes two statements.
pub(crate) fn merge_row_delta(
    _cx: &Context,
    _table: &Rc<TableInfo>,
    _incoming: &IncomingRow<'_>,
    _scope: &DeltaScope<'_>,
    _seq: &mut u64,
) -> Result<RowOutcome> {
    todo!()
}
