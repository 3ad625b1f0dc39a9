//! The doors for deltas: `ana_export`, `ana_parts`, `ana_apply`, and the vector that says
//! what to ask for.
//!
//! Invariant: a delta is applied whole or not at all, and what is refused leaves tables,
//! clocks, log, vector and staged parts as they were.

mod apply;
mod complete;
mod conflicts;
mod error;
mod export;
mod headers;
mod held;
mod holding;
mod intake;
mod names;
mod parts;
mod quarantine;
mod report;
mod show;
mod stage;
mod start;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anabranch_core::clock::Chain;
use anabranch_core::forest::Reading;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::VersionVector;
use anabranch_sqlite::SqlError;
use anabranch_sqlite::function::{Call, Flags};
use anabranch_sqlite::vtab::Operator;

pub(crate) use error::DeltaError;
pub(crate) use held::{changes as held_changes, keys as held_keys};
use holding::Holding;
pub(crate) use quarantine::check as check_held;

use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::limits::MAX_EXPORT_BYTES;
use crate::listing::{Listing, Rows};
use crate::registry::TableInfo;
use crate::snapshot;

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
    applied: RefCell<Applied>,
    /// What the hidden table answers to the function that called it.
    n_applied: Cell<u64>,
    /// What the pass under way leaves out.
    holding: RefCell<Holding>,
    /// What it found that the next must leave out.
    blamed: RefCell<Holding>,
}

/// Registers the functions and tables of this module.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let flags = Flags { direct_only: true, ..Flags::default() };
    for n_args in [0, 1] {
        let at = cx.clone();
        cx.db.create_function("ana_export", n_args, flags, move |call| {
            Ok(export_blob(&at, call)?)
        })?;
    }
    let at = cx.clone();
    cx.db.create_function("ana_apply", 1, flags, move |call| match call.arg(0) {
        blob @ ValueRef::Blob(_) => Ok(Value::Integer(apply::apply(&at, blob)?.cast_signed())),
        _ => Err(SqlError::new("ana_apply: the delta must be a BLOB")),
    })?;
    let at = cx.clone();
    let parts = move |arguments: Vec<Option<Value>>| {
        let asked = vector_of("ana_parts", arguments[0].as_ref().map(Value::as_ref))?;
        let mut parts = export::export(&at, "ana_parts", &asked, usize::MAX)?;
        let (mut number, of) = (0, Value::Integer(parts.of().into()));
        let rows: Rows = Box::new(move || {
            let row = |bytes| vec![Value::Integer(number), of.clone(), Value::Blob(bytes)];
            let row = parts.next()?.map(row);
            number += 1;
            Ok(row)
        });
        Ok(rows)
    };
    let table = Listing {
        declaration: "CREATE TABLE x(part INTEGER, of INTEGER, bytes BLOB, vector HIDDEN)",
        arguments: &[(3, Operator::Eq)],
        ordered_by: Some(0),
        start: parts,
    };
    cx.db.create_table("ana_parts", false, table)?;
    let at = cx.clone();
    cx.db.create_function("ana_retry", 0, flags, move |_| {
        Ok(Value::Integer(show::show(&at)?.cast_signed()))
    })?;
    apply::register(cx)?;
    quarantine::register(cx)?;
    conflicts::register(cx)?;
    report::register(cx)
}

fn export_blob(cx: &Context, call: &Call<'_>) -> Result<Value> {
    let asked = (!call.is_empty()).then(|| call.arg(0));
    let asked = vector_of("ana_export", asked)?;
    let parts = export::export(cx, "ana_export", &asked, MAX_EXPORT_BYTES)?;
    Ok(Value::Blob(parts.concat()?))
}

/// The vector a function was given: NULL or none means that nothing is held.
pub(crate) fn vector_of(
    function: &'static str,
    value: Option<ValueRef<'_>>,
) -> Result<VersionVector> {
    match value {
        None | Some(ValueRef::Null) => Ok(VersionVector::new()),
        Some(ValueRef::Text(text)) => {
            let text = std::str::from_utf8(text).map_err(|_| not_a_vector(function))?;
            let named = |source| DeltaError::Vector { function, source };
            Ok(VersionVector::from_json(text).map_err(named)?)
        }
        Some(_) => Err(not_a_vector(function)),
    }
}

/// Reads another copy's vector by its chains.
pub(crate) fn read(cx: &Context, function: &'static str, value: ValueRef<'_>) -> Result<Reading> {
    let theirs = vector_of(function, Some(value))?;
    cx.refresh()?;
    snapshot::read(cx, || {
        let ours = cx.metadata.borrow().vector();
        names::read(cx, &ours, &theirs)
    })
}

fn not_a_vector(function: &'static str) -> StoreError {
    StoreError::Refused(format!(
        "{function}: the vector must be a text, as ana_version_vector() writes it, or NULL"
    ))
}

/// Tries to show what is held, after tables may have changed.
///
/// # Errors
/// The transaction of the host's was undone, and what rekeying answers.
pub(crate) fn tables_changed(cx: &Context, name: &str) -> Result<()> {
    if !held::is_any(cx)? {
        return Ok(());
    }
    let table = cx.registry.borrow().by_name(name);
    if let Some(table) = table {
        held::rekey(cx, &table)?;
    }
    show::beside(cx)
}

/// All tables by name, as deltas and digests have them.
pub(crate) fn tables_by_name(cx: &Context) -> Vec<Rc<TableInfo>> {
    let mut tables = cx.registry.borrow().all();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables
}

/// The chain of a site at a version that is held.
fn chain_at(cx: &Context, site: SiteId, version: u64) -> Result<Chain> {
    let chain = cx.metadata.borrow_mut().chain_at(site, version)?;
    chain.ok_or_else(|| StoreError::Damaged {
        place: format!("ana_chain, site {site}, version {version}"),
        what: "no chain of a version that is held",
    })
}

/// The last position of the log.
fn log_position(cx: &Context) -> Result<u64> {
    match cx.db.query_value("SELECT coalesce(max(id), 0) FROM main.ana_entry", &[])? {
        Some(Value::Integer(id)) => Ok(id.cast_unsigned()),
        _ => Err(StoreError::Damaged { place: "ana_entry".into(), what: "an id is no integer" }),
    }
}
