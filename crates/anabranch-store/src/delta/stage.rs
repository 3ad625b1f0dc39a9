//! Parts that came and wait for the others, in `ana_part`.
//!
//! Bounded in bytes and deltas: what does not fit pushes out the parts of other deltas,
//! which are asked for again.

use anabranch_core::value::{Value, ValueRef};
use anabranch_core::wire::{self, PartHead};

use super::DeltaError;
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::limits::{MAX_STAGED_BYTES, MAX_STAGED_DELTAS};

/// Keeps a part, once it is known to be whole; whether all parts of its delta are there.
///
/// # Errors
/// A damaged part; one that says another number of parts than its siblings.
pub(super) fn keep(cx: &Context, head: PartHead, part: &[u8]) -> Result<bool> {
    wire::body(part).map_err(DeltaError::from)?;
    let others = number(
        cx,
        "SELECT count(*) FROM main.ana_part WHERE delta = ?1 AND of <> ?2",
        &[ValueRef::Blob(&head.delta), ValueRef::Integer(head.of.into())],
    )?;
    if others > 0 {
        let reason = "its delta was said to have another number of parts";
        return Err(DeltaError::Part { part: head.part, of: head.of, reason }.into());
    }
    make_room(cx, head, part.len() as u64)?;
    cx.db.execute(
        "INSERT OR REPLACE INTO main.ana_part(delta, part, of, bytes) VALUES(?1, ?2, ?3, ?4)",
        &[
            ValueRef::Blob(&head.delta),
            ValueRef::Integer(head.part.into()),
            ValueRef::Integer(head.of.into()),
            ValueRef::Blob(part),
        ],
    )?;
    let n_parts = number(
        cx,
        "SELECT count(*) FROM main.ana_part WHERE delta = ?1",
        &[ValueRef::Blob(&head.delta)],
    )?;
    Ok(n_parts == u64::from(head.of))
}

/// One part of a staged delta.
pub(super) fn part(cx: &Context, delta: &[u8; 16], part: u32) -> Result<Vec<u8>> {
    let bytes = cx.db.query_value(
        "SELECT bytes FROM main.ana_part WHERE delta = ?1 AND part = ?2",
        &[ValueRef::Blob(delta), ValueRef::Integer(part.into())],
    )?;
    match bytes {
        Some(Value::Blob(bytes)) => Ok(bytes),
        _ => Err(StoreError::Damaged { place: format!("ana_part, part {part}"), what: "no blob" }),
    }
}

/// Drops the parts of a delta.
pub(super) fn forget(cx: &Context, delta: &[u8; 16]) -> Result<()> {
    Ok(cx.db.execute("DELETE FROM main.ana_part WHERE delta = ?1", &[ValueRef::Blob(delta)])?)
}

/// Drops the parts of all other deltas if this one would not fit beside them.
fn make_room(cx: &Context, head: PartHead, n_bytes: u64) -> Result<()> {
    let delta = [ValueRef::Blob(&head.delta)];
    let n_deltas =
        number(cx, "SELECT count(DISTINCT delta) FROM main.ana_part WHERE delta <> ?1", &delta)?;
    let staged = |condition: &str| {
        let sql = format!("SELECT coalesce(sum(length(bytes)), 0) FROM main.ana_part {condition}");
        number(cx, &sql, if condition.is_empty() { &[] } else { &delta })
    };
    if n_deltas < MAX_STAGED_DELTAS && staged("")? + n_bytes <= MAX_STAGED_BYTES {
        return Ok(());
    }
    cx.db.execute("DELETE FROM main.ana_part WHERE delta <> ?1", &delta)?;
    if staged("WHERE delta = ?1")? + n_bytes > MAX_STAGED_BYTES {
        let reason = "its delta is larger than what may be staged";
        return Err(DeltaError::Part { part: head.part, of: head.of, reason }.into());
    }
    Ok(())
}

fn number(cx: &Context, sql: &str, params: &[ValueRef<'_>]) -> Result<u64> {
    match cx.db.query_value(sql, params)? {
        Some(Value::Integer(number)) => Ok(number.cast_unsigned()),
        _ => Err(StoreError::Damaged { place: "ana_part".into(), what: "a count is no integer" }),
    }
}
