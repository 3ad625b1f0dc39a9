//! Rows that were written while no trigger of ours could tell: clocks are made to agree with
//! the table.
//!
//! Rows without a living clock are inserted, living clocks without a row deleted. Which cells
//! of the other rows were written nobody knows: if updates went untold, all of them were.

use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::value::Value;
use anabranch_core::vector::VersionVector;
use hashbrown::HashMap;

use super::backfill;
use crate::base;
use crate::buffer::LocalKind;
use crate::capture;
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::Key;
use crate::metadata::mask::Mask;
use crate::registry::TableInfo;

/// Brings clocks and rows together; `untold`: columns whose cells may have been written.
pub(super) fn rows(cx: &Context, table: &Rc<TableInfo>, untold: &Mask) -> Result<()> {
    unknown_rows(cx, table, untold)?;
    let none = Mask::new();
    for gone in vanished(cx, table)? {
        let values = table.unfold(&gone)?;
        let values: Vec<_> = values.iter().map(Value::as_ref).collect();
        capture::push(cx, table, &[(LocalKind::Delete, &values, &none)])?;
    }
    Ok(())
}

/// Inserts rows without a living clock, and updates the `untold` cells of the others.
pub(super) fn unknown_rows(cx: &Context, table: &Rc<TableInfo>, untold: &Mask) -> Result<()> {
    backfill::each_key(cx, table, |values| {
        let folded = key::fold(values, &table.key_columns)
            .map_err(|error| StoreError::Refused(format!("table {}: {error}", table.name)))?;
        let clock = cx.metadata.borrow_mut().row(table.id, &folded)?;
        if !clock.is_some_and(|clock| clock.is_alive()) {
            capture::push(cx, table, &[(LocalKind::Insert, values, &table.mask)])
        } else if !untold.is_empty() {
            capture::push(cx, table, &[(LocalKind::Update, values, untold)])
        } else {
            Ok(())
        }
    })
}

/// Keys whose clock is alive and that have no row.
fn vanished(cx: &Context, table: &Rc<TableInfo>) -> Result<Vec<Key>> {
    let mut gone: Vec<Key> = Vec::new();
    let mut scan = cx.metadata.borrow_mut().scan_above(&VersionVector::new(), &HashMap::new())?;
    loop {
        // The borrow ends before the user's rows are read.
        let batch = scan.next_batch(&mut cx.metadata.borrow_mut())?;
        if batch.is_empty() {
            return Ok(gone);
        }
        for record in batch {
            let is_alive = record.causal_length % 2 == 1;
            if record.table != table.id || !is_alive || gone.last() == Some(&record.key) {
                continue;
            }
            if base::read_with(cx, table, &record.key, |_| ())?.is_none() {
                gone.push(record.key);
            }
        }
    }
}
