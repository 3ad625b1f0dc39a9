//! The functions that triggers call: what changed, compared natively.
//!
//! A call appends one operation to the transaction's buffer. Values are compared by type and
//! bytes, not by SQL: `IS NOT` would miss 'A' → 'a' in a NOCASE column and 2 → 2.0 in an
//! untyped one. While a merge writes the users' tables every call returns at once.
//!
//! A call costs some ten nanoseconds beside SQLite's own. What may change only between
//! statements is looked at once in each: SQLite's count of changes stands still while one
//! runs, but for the statements of triggers inside it, and differs in the next.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::SqlError;
use anabranch_sqlite::function::{Call, Flags};
use smallvec::SmallVec;

use crate::base;
use crate::buffer::LocalKind;
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::metadata::mask::Mask;
use crate::registry::TableInfo;
use crate::transaction::{self, Buffered};

mod partial;
mod spelling;

use partial::Partial;

/// What capture keeps between calls.
#[derive(Default)]
pub(crate) struct CaptureState {
    /// SQLite's count of changes when the schema was last looked at.
    checked: Cell<Option<u32>>,
    /// The table of the last call, and the generation of the registry it is from.
    last: RefCell<Option<Rc<TableInfo>>>,
    /// Triggers of somebody's fire before those of that table.
    is_outrun: Cell<bool>,
    generation: Cell<u64>,
    /// What the calls before the last one of a trigger brought.
    partial: RefCell<Partial>,
    /// Keys of rows about to be written over a row that spells its key otherwise.
    respelled: RefCell<spelling::Respelled>,
}

impl CaptureState {
    /// Looks at everything anew at the next call; something was undone, or is over.
    pub(crate) fn forget(&self) {
        self.checked.set(None);
        self.last.take();
        self.forget_spellings();
    }

    /// Forgets what was noted of keys: a merge may write to any of their rows.
    pub(crate) fn forget_spellings(&self) {
        self.respelled.borrow_mut().clear();
    }
}

/// Values of a key, or of both.
type Values<'a> = SmallVec<[ValueRef<'a>; 4]>;

/// Registers the functions.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    type Capture = fn(&Context, &Rc<TableInfo>, &Call<'_>) -> Result<()>;
    let functions: [(&str, Capture); 6] = [
        ("ana_internal_old", spelling::note),
        ("crsql_internal_ins", insert),
        ("crsql_internal_upd", update),
        ("crsql_internal_del", delete),
        ("ana_internal_key", partial::add_key),
        ("ana_internal_compare", partial::add_pairs),
    ];
    let flags = Flags { innocuous: true, ..Flags::default() };
    for (name, capture) in functions {
        let cx = cx.clone();
        cx.clone().db.create_function(name, -1, flags, move |call| {
            cx.recent.note_write();
            if cx.sync_bit.get() {
                return Ok(Value::Null);
            }
            let table = table_of(&cx, name, call)?;
            capture(&cx, &table, call)?;
            Ok(Value::Null)
        })?;
    }
    Ok(())
}

/// The table whose trigger calls, once everything that may have changed is looked at.
fn table_of(cx: &Context, function: &str, call: &Call<'_>) -> Result<Rc<TableInfo>> {
    let token = if call.is_empty() { None } else { call.integer(0) };
    let Some(token) = token else {
        return Err(StoreError::Refused(format!(
            "{function}: the token must be an integer; only triggers call this"
        )));
    };
    let n_changes = cx.db.total_changes();
    if cx.capture.checked.get() != Some(n_changes) {
        // Enrolling counts as a change.
        let is_enrolled = cx.is_followed.get();
        look_anew(cx)?;
        let n_changes = if is_enrolled { n_changes } else { cx.db.total_changes() };
        cx.capture.checked.set(Some(n_changes));
    }
    if let Some(last) = cx.capture.last.borrow().as_ref().filter(|last| last.token == token) {
        return Ok(last.clone());
    }
    let table = cx.registry.borrow().by_token(token);
    let table = table.ok_or_else(|| {
        StoreError::Refused(
            "this table belongs to an attached database; conflict-free tables are written only \
             where their file is opened as main"
                .to_string(),
        )
    })?;
    table.refuse_stale()?;
    cx.capture.is_outrun.set(cx.registry.borrow().is_outrun(&table));
    cx.capture.last.replace(Some(table.clone()));
    Ok(table)
}

/// What is looked at in each statement: schema, attached databases; in each transaction: the
/// other connections' commits.
fn look_anew(cx: &Context) -> Result<()> {
    let is_first = !cx.is_followed.get();
    transaction::enrol(cx)?;
    if !is_first {
        cx.settle();
        cx.registry.borrow_mut().refresh(&cx.db, true)?;
    }
    cx.registry.borrow_mut().refresh_temp(&cx.db)?;
    if cx.db.has_attached() {
        refuse_attached_copies(cx)?;
    }
    let generation = cx.registry.borrow().generation();
    if cx.capture.generation.replace(generation) != generation {
        cx.capture.last.take();
    }
    Ok(())
}

/// A copy of this file has the same tokens: whose trigger calls cannot be told.
fn refuse_attached_copies(cx: &Context) -> Result<()> {
    for name in cx.db.attached() {
        let schema = crate::base::quote_name(&name);
        let sql = format!("SELECT 1 FROM {schema}.sqlite_master WHERE name = 'ana_registry'");
        if cx.db.query_value(&sql, &[])?.is_none() {
            continue;
        }
        let sql = format!(
            "SELECT 1 FROM {schema}.ana_registry WHERE token IN \
             (SELECT token FROM main.ana_registry) LIMIT 1"
        );
        if cx.db.query_value(&sql, &[])?.is_some() {
            return Err(StoreError::Refused(format!(
                "{name} is a copy of this database: while it is attached, writes to the one \
                 cannot be told from writes to the other; detach it"
            )));
        }
    }
    Ok(())
}

/// Hands over the first `n` arguments after the token: of a key of one column without a list.
#[inline]
fn with_values<T>(call: &Call<'_>, n: usize, f: impl FnOnce(&[ValueRef<'_>]) -> T) -> T {
    match n {
        1 => f(&[call.arg(1)]),
        _ => {
            let values: Values<'_> = (1..=n).map(|i| call.arg(i)).collect();
            f(&values)
        }
    }
}

fn insert(cx: &Context, table: &Rc<TableInfo>, call: &Call<'_>) -> Result<()> {
    let n_key = table.key.len();
    if call.len() == 1 + n_key {
        return with_values(call, n_key, |key| push_insert(cx, table, key));
    }
    let partial = partial::finish(cx, table, call, n_key, 0)?;
    push_insert(cx, table, &partial.keys())
}

fn push_insert(cx: &Context, table: &Rc<TableInfo>, key: &[ValueRef<'_>]) -> Result<()> {
    if table.has_spellings && spelling::settle(cx, table, key)? {
        return push_respelled(cx, table, key);
    }
    record(cx, table, LocalKind::Insert, key, &table.mask)
}

/// Another spelling of the same key: it travels with a birth, so the row is born anew.
fn push_respelled(cx: &Context, table: &Rc<TableInfo>, key: &[ValueRef<'_>]) -> Result<()> {
    if cx.capture.is_outrun.get() && !is_there(cx, table, key)? {
        return Ok(());
    }
    let none = Mask::new();
    push(cx, table, &[(LocalKind::Delete, key, &none), (LocalKind::Insert, key, &table.mask)])
}

fn delete(cx: &Context, table: &Rc<TableInfo>, call: &Call<'_>) -> Result<()> {
    let n_key = table.key.len();
    if call.len() == 1 + n_key {
        return with_values(call, n_key, |key| push_delete(cx, table, key));
    }
    let partial = partial::finish(cx, table, call, n_key, 0)?;
    push_delete(cx, table, &partial.keys())
}

fn push_delete(cx: &Context, table: &Rc<TableInfo>, key: &[ValueRef<'_>]) -> Result<()> {
    if table.has_spellings {
        spelling::settle(cx, table, key)?;
    }
    if has_null(key) {
        // Written while capture stood aside: no clock knows the row.
        return Ok(());
    }
    record(cx, table, LocalKind::Delete, key, &Mask::new())
}

fn update(cx: &Context, table: &Rc<TableInfo>, call: &Call<'_>) -> Result<()> {
    let (n_key, n_columns) = (table.key.len(), table.columns.len());
    if call.len() == 1 + 2 * n_key + 2 * n_columns {
        let mut mask = Mask::new();
        let mut at = 1 + 2 * n_key;
        for column in &table.columns {
            if !call.are_same(at, at + 1) {
                mask.insert(column.id);
            }
            at += 2;
        }
        if (1..=n_key).all(|i| call.are_same(i, n_key + i)) {
            if mask.is_empty() {
                return Ok(());
            }
            let op = |key: &[ValueRef<'_>]| record(cx, table, LocalKind::Update, key, &mask);
            return with_values(call, n_key, op);
        }
        return with_values(call, 2 * n_key, |keys| push_update(cx, table, keys, &mask));
    }
    let keys_in_call = call.len() == 1 + 2 * n_key;
    let n_keys_before = if keys_in_call { 0 } else { 2 * n_key };
    let partial = partial::finish(cx, table, call, n_keys_before, n_columns)?;
    if keys_in_call {
        return with_values(call, 2 * n_key, |keys| push_update(cx, table, keys, partial.mask()));
    }
    push_update(cx, table, &partial.keys(), partial.mask())
}

/// `keys`: the new key, then the old.
fn push_update(
    cx: &Context,
    table: &Rc<TableInfo>,
    keys: &[ValueRef<'_>],
    mask: &Mask,
) -> Result<()> {
    let (new, old) = keys.split_at(table.key.len());
    let is_same_key = new.iter().zip(old).all(|(new, old)| new.is_same(*old));
    if is_same_key && mask.is_empty() {
        return Ok(());
    }
    if is_same_key {
        return record(cx, table, LocalKind::Update, new, mask);
    }
    if has_null(old) {
        return record(cx, table, LocalKind::Insert, new, &table.mask);
    }
    refuse_null(table, new)?;
    let mut arrival = LocalKind::Rekeyed;
    if table.has_spellings {
        spelling::settle(cx, table, old)?;
        if spelling::settle(cx, table, new)? {
            arrival = LocalKind::RekeyedAnew;
        }
        if folds_alike(table, new, old)? {
            return push_respelled(cx, table, new);
        }
    }
    let none = Mask::new();
    if !cx.capture.is_outrun.get() {
        return push(cx, table, &[(LocalKind::Rekey, old, &none), (arrival, new, mask)]);
    }
    record_outrun(cx, table, LocalKind::Rekey, old, &none)?;
    record_outrun(cx, table, arrival, new, mask)
}

fn folds_alike(table: &TableInfo, new: &[ValueRef<'_>], old: &[ValueRef<'_>]) -> Result<bool> {
    Ok(fold(table, new)? == fold(table, old)?)
}

fn fold(table: &TableInfo, key: &[ValueRef<'_>]) -> Result<Vec<u8>> {
    key::fold(key, &table.key_columns).map_err(|error| bad_key(table, &error))
}

fn has_null(key: &[ValueRef<'_>]) -> bool {
    key.iter().any(|value| matches!(value, ValueRef::Null))
}

fn refuse_null(table: &TableInfo, key: &[ValueRef<'_>]) -> Result<()> {
    match key.iter().position(|value| matches!(value, ValueRef::Null)) {
        None => Ok(()),
        Some(at) => Err(StoreError::Refused(format!(
            "table {}: the key column {} must not be NULL",
            table.name, table.key[at].name
        ))),
    }
}

fn bad_key(table: &TableInfo, error: &key::KeyError) -> StoreError {
    StoreError::Refused(format!("table {}: {error}", table.name))
}

/// Appends what a trigger told of one row.
///
/// Where triggers of somebody's fire before ours, they may have written to the same row, and
/// that was told first: what is told now is older. Then only what the table shows counts.
#[inline]
fn record(
    cx: &Context,
    table: &Rc<TableInfo>,
    kind: LocalKind,
    key: &[ValueRef<'_>],
    mask: &Mask,
) -> Result<()> {
    match cx.capture.is_outrun.get() {
        false => push(cx, table, &[(kind, key, mask)]),
        true => record_outrun(cx, table, kind, key, mask),
    }
}

fn record_outrun(
    cx: &Context,
    table: &Rc<TableInfo>,
    kind: LocalKind,
    key: &[ValueRef<'_>],
    mask: &Mask,
) -> Result<()> {
    let none = Mask::new();
    match (kind, is_there(cx, table, key)?) {
        (LocalKind::Insert | LocalKind::Update, true) => push(cx, table, &[(kind, key, mask)]),
        // The columns may have been told under a key that came between.
        (LocalKind::Rekeyed | LocalKind::RekeyedAnew, true) => {
            push(cx, table, &[(LocalKind::Insert, key, &table.mask)])
        }
        (LocalKind::Delete | LocalKind::Rekey, false) => {
            push(cx, table, &[(LocalKind::Delete, key, &none)])
        }
        _ => Ok(()),
    }
}

fn is_there(cx: &Context, table: &Rc<TableInfo>, key: &[ValueRef<'_>]) -> Result<bool> {
    match key::fold(key, &table.key_columns) {
        Ok(folded) => Ok(base::read_with(cx, table, &folded, |_| ())?.is_some()),
        // Refused when it is appended.
        Err(_) => Ok(true),
    }
}

/// Appends operations: all of them or, after an error, none.
#[inline]
pub(crate) fn push<const N: usize>(
    cx: &Context,
    table: &TableInfo,
    ops: &[(LocalKind, &[ValueRef<'_>], &Mask); N],
) -> Result<()> {
    let mut transaction = cx.transaction.borrow_mut();
    if !transaction.takes_local() {
        drop(transaction);
        transaction::make_room(cx, Buffered::Local)?;
        transaction = cx.transaction.borrow_mut();
    }
    let local = &mut transaction.local;
    let bytes_of_key =
        |(_, key, _): &(_, &[ValueRef<'_>], _)| key.iter().map(bytes_of).sum::<usize>();
    local.reserve(N, ops.iter().map(bytes_of_key).sum())?;
    let before = local.len();
    for (kind, values, mask) in ops {
        let start = local.arena.len();
        if let Err(error) = key::fold_into(values, &table.key_columns, &mut local.arena) {
            local.truncate(before);
            refuse_null(table, values)?;
            return Err(bad_key(table, &error));
        }
        local.push(table.id, *kind, mask, start);
    }
    Ok(())
}

/// Most bytes that folding makes of a value.
#[inline]
fn bytes_of(value: &ValueRef<'_>) -> usize {
    match value {
        // A number that becomes text has at most 24 characters.
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 32,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => 9 + bytes.len(),
    }
}
