//! A [`Table`] as SQLite's `sqlite3_module`: the callbacks, and the planner's question and
//! answer in both directions. Eponymous only: xCreate is null.

use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

use anabranch_core::value::ValueRef;
use libsqlite3_sys as ffi;

use super::object::{Object, connect, disconnect, enter, try_sqlite_string};
use super::{Constraint, Cursor, Operator, OrderTerm, Plan, Table};
use crate::db::Db;
use crate::error::{Result, SqlError};
use crate::raw_value;

/// Registers a table.
pub(super) fn create<T: Table>(
    db: &Db,
    name: &str,
    is_innocuous: bool,
    table: T,
    on_disconnect: Option<fn(&Db)>,
) -> Result<()> {
    let declaration = table.declaration();
    Object::new(db, name, table, &declaration)?
        .innocuous(is_innocuous)
        .on_disconnect(on_disconnect)
        .register(name, Callbacks::<T>::MODULE)
}

/// Registers a table that tells when SQLite disconnects it.
pub(crate) fn create_announcing<T: Table>(
    db: &Db,
    name: &str,
    table: T,
    on_disconnect: fn(&Db),
) -> Result<()> {
    create(db, name, false, table, Some(on_disconnect))
}

/// Gives each table type its own static module.
struct Callbacks<T>(std::marker::PhantomData<T>);

impl<T: Table> Callbacks<T> {
    const MODULE: &'static ffi::sqlite3_module = &ffi::sqlite3_module {
        iVersion: 1,
        xCreate: None,
        xConnect: Some(connect::<T>),
        xBestIndex: Some(best_index::<T>),
        xDisconnect: Some(disconnect::<T>),
        xDestroy: None,
        xOpen: Some(open::<T>),
        xClose: Some(close),
        xFilter: Some(filter::<T>),
        xNext: Some(next::<T>),
        xEof: Some(eof),
        xColumn: Some(column::<T>),
        xRowid: Some(rowid::<T>),
        xUpdate: Some(update::<T>),
        xBegin: None,
        xSync: None,
        xCommit: None,
        xRollback: None,
        xFindFunction: None,
        xRename: None,
        xSavepoint: None,
        xRelease: None,
        xRollbackTo: None,
        xShadowName: None,
        xIntegrity: None,
    };
}

/// What SQLite knows as `sqlite3_vtab_cursor`.
#[repr(C)]
struct Opened {
    base: ffi::sqlite3_vtab_cursor,
    cursor: Box<dyn Cursor>,
    /// What the cursor said after it last moved: SQLite asks for it after each move.
    is_eof: bool,
}

impl Operator {
    fn of(op: u8) -> Operator {
        match i32::from(op) {
            ffi::SQLITE_INDEX_CONSTRAINT_EQ => Operator::Eq,
            ffi::SQLITE_INDEX_CONSTRAINT_GT => Operator::Gt,
            ffi::SQLITE_INDEX_CONSTRAINT_GE => Operator::Ge,
            ffi::SQLITE_INDEX_CONSTRAINT_LT => Operator::Lt,
            ffi::SQLITE_INDEX_CONSTRAINT_LE => Operator::Le,
            ffi::SQLITE_INDEX_CONSTRAINT_NE => Operator::Ne,
            ffi::SQLITE_INDEX_CONSTRAINT_IS => Operator::Is,
            ffi::SQLITE_INDEX_CONSTRAINT_ISNOT => Operator::IsNot,
            ffi::SQLITE_INDEX_CONSTRAINT_ISNULL => Operator::IsNull,
            ffi::SQLITE_INDEX_CONSTRAINT_ISNOTNULL => Operator::IsNotNull,
            ffi::SQLITE_INDEX_CONSTRAINT_LIMIT => Operator::Limit,
            ffi::SQLITE_INDEX_CONSTRAINT_OFFSET => Operator::Offset,
            _ => Operator::Other(op),
        }
    }
}

/// A slice of SQLite's array, which is null when empty.
///
/// # Safety
/// `start` has `n` elements that live for `'a`, or `n` is 0.
unsafe fn array<'a, E>(start: *const E, n: c_int) -> &'a [E] {
    match usize::try_from(n) {
        // SAFETY: the caller's promise.
        Ok(n) if n > 0 => unsafe { slice::from_raw_parts(start, n) },
        _ => &[],
    }
}

/// # Safety
/// SQLite calls it with a connected `T` and a question to answer. So for all below.
unsafe extern "C" fn best_index<T: Table>(
    table: *mut ffi::sqlite3_vtab,
    info: *mut ffi::sqlite3_index_info,
) -> c_int {
    // SAFETY: SQLite's, for this call alone.
    let info = unsafe { &mut *info };
    // SAFETY: a connected `T`.
    unsafe {
        enter::<T>(table, |object| {
            let offered: Vec<Constraint> = array(info.aConstraint, info.nConstraint)
                .iter()
                .map(|c| Constraint {
                    column: c.iColumn,
                    operator: Operator::of(c.op),
                    is_usable: c.usable != 0,
                })
                .collect();
            let order: Vec<OrderTerm> = array(info.aOrderBy, info.nOrderBy)
                .iter()
                .map(|o| OrderTerm { column: o.iColumn, is_desc: o.desc != 0 })
                .collect();
            answer(info, &offered, &object.table.plan(&offered, &order)?)
        })
    }
}

/// Writes a plan where SQLite reads it.
///
/// # Safety
/// `info` is the question of the running xBestIndex, about `offered`.
unsafe fn answer(
    info: &mut ffi::sqlite3_index_info,
    offered: &[Constraint],
    plan: &Plan,
) -> Result<()> {
    for (index, constraint) in offered.iter().enumerate() {
        // SAFETY: SQLite's array has one element for each constraint, ours alone now.
        let usage = unsafe { &mut *info.aConstraintUsage.add(index) };
        let argument = plan.arguments.get(index).copied().flatten();
        usage.argvIndex = match argument {
            Some(_) if !constraint.is_usable => {
                return Err(SqlError::new("plan uses an unusable constraint"));
            }
            Some(n) => c_int::try_from(n + 1).map_err(|_| SqlError::new("plan out of range"))?,
            None => 0,
        };
        usage.omit = u8::from(plan.omit.get(index).copied().unwrap_or(false));
    }
    info.idxNum = plan.index_number;
    if !plan.index_string.is_empty() {
        info.idxStr = try_sqlite_string(&plan.index_string)?;
        info.needToFreeIdxStr = 1;
    }
    info.orderByConsumed = c_int::from(plan.is_ordered);
    info.estimatedCost = plan.cost;
    info.estimatedRows = plan.rows;
    info.idxFlags = if plan.is_unique { ffi::SQLITE_INDEX_SCAN_UNIQUE } else { 0 };
    Ok(())
}

unsafe extern "C" fn open<T: Table>(
    table: *mut ffi::sqlite3_vtab,
    cursor: *mut *mut ffi::sqlite3_vtab_cursor,
) -> c_int {
    // SAFETY: a connected `T`, and where SQLite wants the cursor; it fills the base in.
    unsafe {
        enter::<T>(table, |object| {
            let base = ffi::sqlite3_vtab_cursor { pVtab: ptr::null_mut() };
            let new = object.table.open()?;
            let opened = Box::new(Opened { base, cursor: new, is_eof: true });
            *cursor = Box::into_raw(opened).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn close(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: made by `Box::into_raw` in `open`, and given back once.
    let opened = unsafe { Box::from_raw(cursor.cast::<Opened>()) };
    // Not through `enter`: a poisoned table's cursors are closed, too.
    match catch_unwind(AssertUnwindSafe(|| drop(opened))) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_ERROR,
    }
}

/// Runs `f` on a cursor.
///
/// # Safety
/// `cursor` was opened on a connected `T` and is not closed. SQLite never enters one cursor
/// twice at a time.
#[inline]
unsafe fn on_cursor<T: Table>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    f: impl FnOnce(&mut Opened) -> Result<()>,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let table = (*cursor).pVtab;
        enter::<T>(table, |_| f(&mut *cursor.cast::<Opened>()))
    }
}

unsafe extern "C" fn filter<T: Table>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    index_number: c_int,
    index_string: *const c_char,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) -> c_int {
    // SAFETY: SQLite's arguments; the text is the one that `answer` gave, or null.
    unsafe {
        on_cursor::<T>(cursor, |opened| {
            let text = match index_string.is_null() {
                true => "",
                false => CStr::from_ptr(index_string)
                    .to_str()
                    .map_err(|_| SqlError::new("index string is not UTF-8"))?,
            };
            with_values(array(argv.cast_const(), argc), |args| {
                opened.cursor.filter(index_number, text, args)
            })?;
            opened.is_eof = opened.cursor.is_eof();
            Ok(())
        })
    }
}

/// Tables of up to so many columns get their values without an allocation.
const N_VALUES_ON_STACK: usize = 16;

/// Reads values and hands them to `f`.
///
/// # Safety
/// The values are those of the running callback.
unsafe fn with_values<R>(
    raw: &[*mut ffi::sqlite3_value],
    f: impl FnOnce(&[ValueRef<'_>]) -> Result<R>,
) -> Result<R> {
    let mut few = [ValueRef::Null; N_VALUES_ON_STACK];
    let mut many = Vec::new();
    let values = match few.get_mut(..raw.len()) {
        Some(few) => few,
        None => {
            many.resize(raw.len(), ValueRef::Null);
            &mut many[..]
        }
    };
    for (value, raw) in values.iter_mut().zip(raw) {
        // SAFETY: the caller's promise: alive as long as the callback runs.
        *value = unsafe { raw_value::argument(*raw)? };
    }
    f(values)
}

unsafe extern "C" fn next<T: Table>(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: an opened cursor of `T`.
    unsafe {
        on_cursor::<T>(cursor, |opened| {
            opened.cursor.next()?;
            opened.is_eof = opened.cursor.is_eof();
            Ok(())
        })
    }
}

unsafe extern "C" fn eof(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: an opened cursor, which nobody has entered.
    c_int::from(unsafe { (*cursor.cast::<Opened>()).is_eof })
}

unsafe extern "C" fn column<T: Table>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    index: c_int,
) -> c_int {
    // SAFETY: an opened cursor of `T`; the context of this call.
    unsafe {
        on_cursor::<T>(cursor, |opened| {
            let index = usize::try_from(index).map_err(|_| SqlError::new("column below 0"))?;
            raw_value::set_result(context, opened.cursor.column(index)?);
            Ok(())
        })
    }
}

unsafe extern "C" fn rowid<T: Table>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    rowid: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an opened cursor of `T`, and where SQLite wants the rowid.
    unsafe {
        on_cursor::<T>(cursor, |opened| {
            *rowid = opened.cursor.rowid()?;
            Ok(())
        })
    }
}

/// xUpdate. One value: DELETE. More: the old rowid (NULL: INSERT), the new one, the columns.
unsafe extern "C" fn update<T: Table>(
    table: *mut ffi::sqlite3_vtab,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
    rowid: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: a connected `T`; SQLite's arguments; where SQLite wants the new rowid.
    unsafe {
        enter::<T>(table, |object| {
            let values = array(argv.cast_const(), argc);
            let [old, _new, columns @ ..] = values else {
                return object.table.update_or_delete();
            };
            if ffi::sqlite3_value_type(*old) != ffi::SQLITE_NULL {
                return object.table.update_or_delete();
            }
            *rowid = with_values(columns, |columns| object.table.insert(columns))?;
            Ok(())
        })
    }
}
