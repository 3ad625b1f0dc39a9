//! Forgetting: `ana_compact([vector])`, and what it would do (`docs/decisions/0008-forgetting.md`).
//!
//! Invariant: one transaction raises the floor and the restart lengths and drops what they
//! cover; a copy never lacks anything above its floor.

use std::collections::BTreeMap;
use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::VersionVector;
use anabranch_sqlite::SqlError;
use anabranch_sqlite::function::{Call, Flags};

mod floor;

use floor::Floor;

use crate::atomic::{Bracket, atomically};
use crate::context::Context;
use crate::delta::{self, vector_of};
use crate::error::{Result, StoreError};
use crate::ids::TableId;
use crate::metadata::forget::{Forgettable, Forgotten};
use crate::{snapshot, transaction};

/// Registers the functions.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let flags = Flags { direct_only: true, ..Flags::default() };
    for n_args in [0, 1] {
        let at = cx.clone();
        cx.db.create_function("ana_compact", n_args, flags, move |call| {
            let named = named_floor(call)?;
            let done = compact(&at, named.as_ref())?;
            Ok(Value::Integer(done.forgotten.n_bytes.cast_signed()))
        })?;
    }
    let at = cx.clone();
    cx.db.create_function("ana_internal_floor", 0, flags, move |_| {
        at.refresh()?;
        let floor = at.metadata.borrow_mut().floor()?;
        Ok(Value::Text(floor.to_json().into_bytes()))
    })?;
    // The same for programs: what went or, where the second argument is not 0, would go.
    let at = cx.clone();
    cx.db.create_function("ana_internal_compact", 2, flags, move |call| {
        let named = named_floor(call)?;
        let done = match call.arg(1) {
            ValueRef::Integer(0) => compact(&at, named.as_ref())?,
            _ => plan(&at, named.as_ref())?,
        };
        Ok(Value::Text(done.to_json(&at)?.into_bytes()))
    })
}

fn named_floor(call: &Call<'_>) -> Result<Option<VersionVector>> {
    match (!call.is_empty()).then(|| call.arg(0)) {
        None | Some(ValueRef::Null) => Ok(None),
        named => vector_of("ana_compact", named).map(Some),
    }
}

/// A compaction that was done, or is planned.
struct Compaction {
    floor: Floor,
    forgotten: Forgotten,
}

/// What would go.
fn plan(cx: &Context, named: Option<&VersionVector>) -> Result<Compaction> {
    snapshot::read(cx, || {
        let floor = Floor::choose(cx, named)?;
        let what = forgettable(cx, &floor.vector, true)?;
        let forgotten = cx.metadata.borrow_mut().forget(&what)?;
        Ok(Compaction { floor, forgotten })
    })
}

fn compact(cx: &Context, named: Option<&VersionVector>) -> Result<Compaction> {
    if cx.transaction.borrow().has_writes() {
        return Err(StoreError::Refused(
            "ana_compact: this transaction has uncommitted writes; commit first".into(),
        ));
    }
    let work = || {
        // What is undone is told only to who takes part.
        transaction::enrol(cx)?;
        cx.refresh()?;
        let floor = Floor::choose(cx, named)?;
        let what = forgettable(cx, &floor.vector, false)?;
        let mut metadata = cx.metadata.borrow_mut();
        metadata.raise_floor(&floor.vector, &BTreeMap::new())?;
        let forgotten = metadata.forget(&what)?;
        let restarts = restarts_by_name(cx, &forgotten.restarts);
        metadata.raise_floor(&floor.vector, &restarts)?;
        Ok(Compaction { floor, forgotten })
    };
    let rowid = cx.db.last_insert_rowid();
    let done = match cx.db.is_autocommit() && !cx.db.is_writing() {
        true => atomically(&cx.db, Bracket::Transaction, work),
        false => atomically(&cx.db, Bracket::Savepoint, work),
    };
    cx.db.set_last_insert_rowid(rowid);
    done
}

fn restarts_by_name(cx: &Context, restarts: &BTreeMap<TableId, u64>) -> BTreeMap<String, u64> {
    let registry = cx.registry.borrow();
    let named = restarts.iter().filter_map(|(table, length)| {
        registry.by_id(*table).map(|table| (table.name.clone(), *length))
    });
    named.collect()
}

/// What the floor covers of this file. A table that is not there (any more) keeps its clocks:
/// one of its name may go on above them.
fn forgettable(cx: &Context, floor: &VersionVector, is_dry: bool) -> Result<Forgettable> {
    let mut what = Forgettable { is_dry, ..Forgettable::default() };
    for table in cx.registry.borrow().all() {
        let keys = delta::held_keys(cx, &table.name)?;
        what.tables.insert(table.id, keys.into_iter().collect());
    }
    let mut metadata = cx.metadata.borrow_mut();
    what.floor = metadata.versions_of(floor)?;
    for change in delta::held_changes(cx)? {
        let author = metadata.author_of(change.site)?;
        let version = change.version;
        what.held.insert(crate::ids::LocalDot { author, version });
    }
    Ok(what)
}

impl Compaction {
    fn to_json(&self, cx: &Context) -> Result<String> {
        let Forgotten { n_tombstones, n_headers, n_records, n_values, n_bytes, restarts } =
            &self.forgotten;
        let waits: Vec<String> = self.floor.waits.iter().map(|peer| quoted(peer)).collect();
        let restarts: Vec<String> = restarts_by_name(cx, restarts)
            .iter()
            .map(|(name, length)| format!("{}:{length}", quoted(name)))
            .collect();
        Ok(format!(
            "{{\"floor\":{},\"waits_for\":[{}],\"tombstones\":{n_tombstones},\
             \"headers\":{n_headers},\"records\":{n_records},\"values\":{n_values},\
             \"bytes\":{n_bytes},\"restart_lengths\":{{{}}}}}",
            self.floor.vector.to_json(),
            waits.join(","),
            restarts.join(","),
        ))
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
