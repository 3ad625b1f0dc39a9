//! SQLite's values, columns and results as [`ValueRef`]: without a copy on the way in, with
//! SQLite's own copy on the way out.

use std::ffi::{c_char, c_int, c_void};
use std::{ptr, slice};

use anabranch_core::value::ValueRef;
use libsqlite3_sys as ffi;

use crate::error::{Result, SqlError};

/// Reads an argument.
///
/// # Errors
/// SQLITE_NOMEM when SQLite cannot convert a text.
///
/// # Safety
/// `value` is a protected value that lives for `'a`, and nothing converts it meanwhile.
#[inline]
pub(crate) unsafe fn argument<'a>(value: *mut ffi::sqlite3_value) -> Result<ValueRef<'a>> {
    // SAFETY: the caller's promise, for each call. Asking for the length may convert to UTF-8;
    // asking for the bytes then converts nothing.
    unsafe {
        match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => Ok(ValueRef::Integer(ffi::sqlite3_value_int64(value))),
            ffi::SQLITE_FLOAT => Ok(ValueRef::Real(ffi::sqlite3_value_double(value))),
            ffi::SQLITE_TEXT => {
                // As bytes: SQLite would copy a text for the sake of a terminator.
                let n_bytes = ffi::sqlite3_value_bytes(value);
                let start = match n_bytes {
                    // Of no bytes, or of too many to be converted: only a text tells which.
                    0 => ffi::sqlite3_value_text(value),
                    _ => ffi::sqlite3_value_blob(value).cast(),
                };
                text(start, n_bytes)
            }
            ffi::SQLITE_BLOB => {
                let start = ffi::sqlite3_value_blob(value);
                blob(start, ffi::sqlite3_value_bytes(value))
            }
            _ => Ok(ValueRef::Null),
        }
    }
}

/// Whether two arguments are the same value of the same type, as [`ValueRef::is_same`] has
/// it. SQLite hands out no NaN.
///
/// # Errors
/// As [`argument`].
///
/// # Safety
/// As [`argument`], for both.
#[inline]
pub(crate) unsafe fn are_same(
    a: *mut ffi::sqlite3_value,
    b: *mut ffi::sqlite3_value,
) -> std::result::Result<bool, NoMemory> {
    // SAFETY: the caller's promise, for each call. Asking for the length may convert to UTF-8;
    // asking for the bytes then converts nothing.
    unsafe {
        let kind = ffi::sqlite3_value_type(a);
        if kind != ffi::sqlite3_value_type(b) {
            return Ok(false);
        }
        match kind {
            ffi::SQLITE_INTEGER => Ok(ffi::sqlite3_value_int64(a) == ffi::sqlite3_value_int64(b)),
            ffi::SQLITE_FLOAT => Ok(ffi::sqlite3_value_double(a) == ffi::sqlite3_value_double(b)),
            ffi::SQLITE_NULL => Ok(true),
            _ => {
                let n_bytes = ffi::sqlite3_value_bytes(a);
                if n_bytes != ffi::sqlite3_value_bytes(b) {
                    return Ok(false);
                }
                let start = |value| match (kind, n_bytes) {
                    (ffi::SQLITE_TEXT, 0) => ffi::sqlite3_value_text(value),
                    _ => ffi::sqlite3_value_blob(value).cast(),
                };
                let (a, b, n_bytes) = (start(a), start(b), n_bytes.max(0) as usize);
                if a.is_null() || b.is_null() {
                    // As for [`text`] and [`blob`].
                    let is_empty = n_bytes == 0 && kind == ffi::SQLITE_BLOB;
                    return if is_empty { Ok(true) } else { Err(NoMemory) };
                }
                Ok(slice::from_raw_parts(a, n_bytes) == slice::from_raw_parts(b, n_bytes))
            }
        }
    }
}

/// SQLite had no memory to convert a text.
pub(crate) struct NoMemory;

/// An argument that is an integer.
///
/// # Safety
/// As [`argument`].
#[inline]
pub(crate) unsafe fn integer(value: *mut ffi::sqlite3_value) -> Option<i64> {
    // SAFETY: the caller's promise.
    unsafe {
        let is_integer = ffi::sqlite3_value_type(value) == ffi::SQLITE_INTEGER;
        is_integer.then(|| ffi::sqlite3_value_int64(value))
    }
}

/// Reads a column of a statement's present row.
///
/// # Errors
/// SQLITE_NOMEM when SQLite cannot convert a text.
///
/// # Safety
/// `statement` is live, and is not stepped, reset or finalized during `'a`.
pub(crate) unsafe fn column<'a>(
    statement: *mut ffi::sqlite3_stmt,
    index: c_int,
) -> Result<ValueRef<'a>> {
    // SAFETY: as in `argument`.
    unsafe {
        match ffi::sqlite3_column_type(statement, index) {
            ffi::SQLITE_INTEGER => {
                Ok(ValueRef::Integer(ffi::sqlite3_column_int64(statement, index)))
            }
            ffi::SQLITE_FLOAT => Ok(ValueRef::Real(ffi::sqlite3_column_double(statement, index))),
            ffi::SQLITE_TEXT => {
                let n_bytes = ffi::sqlite3_column_bytes(statement, index);
                let start = match n_bytes {
                    0 => ffi::sqlite3_column_text(statement, index),
                    _ => ffi::sqlite3_column_blob(statement, index).cast(),
                };
                text(start, n_bytes)
            }
            ffi::SQLITE_BLOB => {
                let start = ffi::sqlite3_column_blob(statement, index);
                blob(start, ffi::sqlite3_column_bytes(statement, index))
            }
            _ => Ok(ValueRef::Null),
        }
    }
}

/// # Safety
/// `start` is null or has `n_bytes` bytes that live for `'a`.
unsafe fn text<'a>(start: *const u8, n_bytes: c_int) -> Result<ValueRef<'a>> {
    // An empty text has a terminator to point to: null is a failed allocation.
    if start.is_null() {
        return Err(SqlError::out_of_memory());
    }
    // SAFETY: the caller's promise.
    Ok(ValueRef::Text(unsafe { slice::from_raw_parts(start, n_bytes.max(0) as usize) }))
}

/// # Safety
/// `start` is null or has `n_bytes` bytes that live for `'a`.
unsafe fn blob<'a>(start: *const c_void, n_bytes: c_int) -> Result<ValueRef<'a>> {
    if start.is_null() {
        // An empty blob has no bytes to point to; a zeroblob that did not fit has a length.
        return if n_bytes == 0 { Ok(ValueRef::Blob(&[])) } else { Err(SqlError::out_of_memory()) };
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice::from_raw_parts(start.cast(), n_bytes.max(0) as usize) };
    Ok(ValueRef::Blob(bytes))
}

/// Gives a function or column its result; SQLite copies the bytes. Too long for the
/// connection's limit: SQLITE_TOOBIG; no memory: SQLITE_NOMEM.
///
/// # Safety
/// `context` is that of the running call.
pub(crate) unsafe fn set_result(context: *mut ffi::sqlite3_context, value: ValueRef<'_>) {
    // SAFETY: the caller's promise; pointers with their own lengths.
    unsafe {
        match value {
            ValueRef::Null => ffi::sqlite3_result_null(context),
            ValueRef::Integer(i) => ffi::sqlite3_result_int64(context, i),
            ValueRef::Real(r) => ffi::sqlite3_result_double(context, r),
            ValueRef::Text(t) => ffi::sqlite3_result_text64(
                context,
                t.as_ptr().cast(),
                t.len() as u64,
                ffi::SQLITE_TRANSIENT(),
                ffi::SQLITE_UTF8 as u8,
            ),
            ValueRef::Blob(b) => ffi::sqlite3_result_blob64(
                context,
                b.as_ptr().cast(),
                b.len() as u64,
                ffi::SQLITE_TRANSIENT(),
            ),
        }
    }
}

/// Makes the running call fail with `error`.
///
/// # Safety
/// `context` is that of the running call.
pub(crate) unsafe fn set_error(context: *mut ffi::sqlite3_context, error: &SqlError) {
    // Also keeps texts of absurd length out of a c_int.
    let n_bytes = error.message.len().min(MAX_MESSAGE_BYTES) as c_int;
    // SAFETY: the caller's promise; a pointer with its length, which SQLite copies.
    unsafe {
        match error.primary() {
            ffi::SQLITE_NOMEM => ffi::sqlite3_result_error_nomem(context),
            ffi::SQLITE_TOOBIG => ffi::sqlite3_result_error_toobig(context),
            _ => {
                ffi::sqlite3_result_error(context, error.message.as_ptr().cast(), n_bytes);
                ffi::sqlite3_result_error_code(context, failure(error.code));
            }
        }
    }
}

/// Longest message handed to SQLite, in bytes: nobody reads more.
const MAX_MESSAGE_BYTES: usize = 1 << 16;

/// A code that means failure: an error that says OK, ROW or DONE is still an error.
pub(crate) fn failure(code: i32) -> c_int {
    match code {
        ffi::SQLITE_OK | ffi::SQLITE_ROW | ffi::SQLITE_DONE => ffi::SQLITE_ERROR,
        code => code,
    }
}

/// A terminated copy in SQLite's memory, which SQLite frees; null without memory.
pub(crate) fn sqlite_string(text: &str) -> *mut c_char {
    // A NUL would end it early anyway.
    let bytes = text.as_bytes().split(|byte| *byte == 0).next().unwrap_or_default();
    let bytes = &bytes[..bytes.len().min(MAX_MESSAGE_BYTES)];
    // SAFETY: any size may be asked for; null is checked.
    let copy = unsafe { ffi::sqlite3_malloc64(bytes.len() as u64 + 1) }.cast::<u8>();
    if copy.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the copy has room for the bytes and the terminator, and is fresh.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
        *copy.add(bytes.len()) = 0;
    }
    copy.cast()
}
