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
    let n_before = bytes_of(cx, &head.delta, Some(head.part))?;
    let n_staged = make_room(cx, head, part.len() as u64, n_before)?;
    cx.db.execute(
        "INSERT OR REPLACE INTO main.ana_part(delta, part, of, bytes) VALUES(?1, ?2, ?3, ?4)",
        &[
            ValueRef::Blob(&head.delta),
            ValueRef::Integer(head.part.into()),
            ValueRef::Integer(head.of.into()),
            ValueRef::Blob(part),
        ],
    )?;
    set_staged(cx, n_staged)?;
    Ok(n_parts(cx, &head.delta)? == u64::from(head.of))
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
    let n_bytes = bytes_of(cx, delta, None)?;
    cx.db.execute("DELETE FROM main.ana_part WHERE delta = ?1", &[ValueRef::Blob(delta)])?;
    set_staged(cx, staged(cx)?.saturating_sub(n_bytes))
}

/// Drops the parts of all other deltas if this one would not fit beside them, a part of
/// `n_bytes` for one of `n_before`; the bytes that are staged with it.
fn make_room(cx: &Context, head: PartHead, n_bytes: u64, n_before: u64) -> Result<u64> {
    let delta = [ValueRef::Blob(&head.delta)];
    let is_one_more = n_parts(cx, &head.delta)? == 0;
    let n_deltas = match is_one_more {
        true => number(cx, "SELECT count(DISTINCT delta) FROM main.ana_part", &[])?,
        false => 0,
    };
    let n_staged = (staged(cx)? + n_bytes).saturating_sub(n_before);
    if n_deltas < MAX_STAGED_DELTAS && n_staged <= MAX_STAGED_BYTES {
        return Ok(n_staged);
    }
    cx.db.execute("DELETE FROM main.ana_part WHERE delta <> ?1", &delta)?;
    let n_staged = (bytes_of(cx, &head.delta, None)? + n_bytes).saturating_sub(n_before);
    if n_staged > MAX_STAGED_BYTES {
        let reason = "its delta is larger than what may be staged";
        return Err(DeltaError::Part { part: head.part, of: head.of, reason }.into());
    }
    Ok(n_staged)
}

/// How many parts of a delta are there.
fn n_parts(cx: &Context, delta: &[u8; 16]) -> Result<u64> {
    let sql = "SELECT count(*) FROM main.ana_part WHERE delta = ?1";
    number(cx, sql, &[ValueRef::Blob(delta)])
}

/// Bytes of one staged part of a delta (0 if it is not there), or of all.
fn bytes_of(cx: &Context, delta: &[u8; 16], part: Option<u32>) -> Result<u64> {
    let part = part.map_or(ValueRef::Null, |part| ValueRef::Integer(part.into()));
    let sql = "SELECT coalesce(sum(length(bytes)), 0) FROM main.ana_part
               WHERE delta = ?1 AND part BETWEEN coalesce(?2, 0) AND coalesce(?2, 4294967295)";
    number(cx, sql, &[ValueRef::Blob(delta), part])
}

/// Bytes of all that is staged: kept as a sum, for adding them up touches every part.
fn staged(cx: &Context) -> Result<u64> {
    let sql = "SELECT coalesce((SELECT value FROM main.ana_meta WHERE key = 'staged'), 0)";
    number(cx, sql, &[])
}

fn set_staged(cx: &Context, n_bytes: u64) -> Result<()> {
    let sql = "REPLACE INTO main.ana_meta(key, value) VALUES('staged', ?1)";
    Ok(cx.db.execute(sql, &[ValueRef::Integer(n_bytes.cast_signed())])?)
}

fn number(cx: &Context, sql: &str, params: &[ValueRef<'_>]) -> Result<u64> {
    match cx.db.query_value(sql, params)? {
        Some(Value::Integer(number)) => Ok(number.cast_unsigned()),
        _ => Err(StoreError::Damaged { place: "ana_part".into(), what: "a count is no integer" }),
    }
}
