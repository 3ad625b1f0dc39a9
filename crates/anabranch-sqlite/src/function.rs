//! SQL functions. A panic inside one is caught and poisons it: later calls answer an error.
//!
//! One trampoline for all, made by the compiler for each closure: a call costs the lookup
//! of the user data and a `catch_unwind`, no allocation and no dynamic dispatch.

use std::ffi::{CString, c_int, c_void};
use std::slice;

use anabranch_core::value::{Value, ValueRef};
use libsqlite3_sys as ffi;

use crate::db::{Db, misuse};
use crate::error::Result;
use crate::poison::{self, Poison};
use crate::raw_value;

/// Flags of a function, as SQLite has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// SQLITE_DETERMINISTIC.
    pub deterministic: bool,
    /// SQLITE_DIRECTONLY.
    pub direct_only: bool,
    /// SQLITE_INNOCUOUS: callable from triggers with `trusted_schema=OFF`.
    pub innocuous: bool,
}

impl Flags {
    fn bits(self) -> c_int {
        let bit = |is_set: bool, bit: c_int| if is_set { bit } else { 0 };
        ffi::SQLITE_UTF8
            | bit(self.deterministic, ffi::SQLITE_DETERMINISTIC)
            | bit(self.direct_only, ffi::SQLITE_DIRECTONLY)
            | bit(self.innocuous, ffi::SQLITE_INNOCUOUS)
    }
}

/// One call of a function.
pub struct Call<'a> {
    args: &'a [*mut ffi::sqlite3_value],
}

impl Call<'_> {
    /// Number of arguments.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Argument `index`, from 0.
    ///
    /// When SQLite has no memory to hand out a text, the call is left and fails with
    /// SQLITE_NOMEM.
    ///
    /// # Panics
    /// Past the last argument.
    #[inline]
    pub fn arg(&self, index: usize) -> ValueRef<'_> {
        // SAFETY: arguments live as long as the call, and only `argument` converts them: a
        // second reading of the same one moves nothing.
        let value = unsafe { raw_value::argument(self.args[index]) };
        value.unwrap_or_else(|_| poison::unwind_out_of_memory())
    }

    /// Argument `index` if it is an integer, from 0.
    ///
    /// # Panics
    /// Past the last argument.
    #[inline]
    pub fn integer(&self, index: usize) -> Option<i64> {
        // SAFETY: arguments live as long as the call.
        unsafe { raw_value::integer(self.args[index]) }
    }

    /// Whether two arguments are the same value of the same type, as
    /// [`ValueRef::is_same`] has it; without memory for a text, as [`Call::arg`].
    ///
    /// # Panics
    /// Past the last argument.
    #[inline]
    pub fn are_same(&self, a: usize, b: usize) -> bool {
        // SAFETY: as in `arg`.
        let are_same = unsafe { raw_value::are_same(self.args[a], self.args[b]) };
        are_same.unwrap_or_else(|_| poison::unwind_out_of_memory())
    }
}

/// A registered function: SQLite owns it and hands it back with each call.
struct Function<F> {
    f: F,
    poison: Poison,
    db: Db,
}

impl Db {
    /// Registers a function with `n_args` arguments (-1: any number).
    ///
    /// `f` must not be entered twice with a borrow held: SQL run inside may call it again.
    ///
    /// # Errors
    /// SQLite's: SQLITE_BUSY when a function of that name and number is replaced while a
    /// statement runs. `f` is dropped then.
    pub fn create_function(
        &self,
        name: &str,
        n_args: i32,
        flags: Flags,
        f: impl Fn(&Call<'_>) -> Result<Value> + 'static,
    ) -> Result<()> {
        self.create_function_object(name, n_args, flags, f)
    }

    fn create_function_object<F>(&self, name: &str, n_args: i32, flags: Flags, f: F) -> Result<()>
    where
        F: Fn(&Call<'_>) -> Result<Value> + 'static,
    {
        let raw = self.live()?;
        let c_name = CString::new(name).map_err(|_| misuse("a function's name holds a NUL"))?;
        let function = Box::new(Function { f, poison: Poison::new(name), db: self.clone() });
        // SAFETY: an open connection; the trampoline and the destructor are those of `F`, of
        // which the user data is a box. SQLite calls the destructor also when it refuses.
        let rc = unsafe {
            ffi::sqlite3_create_function_v2(
                raw,
                c_name.as_ptr(),
                n_args,
                flags.bits(),
                Box::into_raw(function).cast(),
                Some(call::<F>),
                None,
                None,
                Some(destroy::<F>),
            )
        };
        if rc == ffi::SQLITE_OK { Ok(()) } else { Err(self.error(rc)) }
    }
}

/// What SQLite calls.
///
/// # Safety
/// Only SQLite calls it, for a function that was registered with a `Function<F>`.
unsafe extern "C" fn call<F>(
    context: *mut ffi::sqlite3_context,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) where
    F: Fn(&Call<'_>) -> Result<Value> + 'static,
{
    // SAFETY: the user data is the box that was registered, and SQLite does not destroy a
    // function that is running. Shared: a nested call may be inside the same object.
    let function = unsafe { &*ffi::sqlite3_user_data(context).cast::<Function<F>>() };
    let args = match usize::try_from(argc) {
        // SAFETY: SQLite's array of `argc` values, alive during the call.
        Ok(n) if n > 0 => unsafe { slice::from_raw_parts(argv.cast_const(), n) },
        _ => &[],
    };
    let result = function.poison.guard(|| (function.f)(&Call { args }));
    // SAFETY: the context of this call.
    unsafe {
        match result {
            // What SQLite has of a function that tells no result.
            Ok(Value::Null) => {}
            Ok(value) => raw_value::set_result(context, value.as_ref()),
            Err(error) => raw_value::set_error(context, &error),
        }
    }
}

/// # Safety
/// SQLite calls it once, with the box that was registered.
unsafe extern "C" fn destroy<F>(function: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `create_function_object`, and given back once.
    let function = unsafe { Box::from_raw(function.cast::<Function<F>>()) };
    let db = function.db.clone();
    db.in_destructor(|| drop(function));
}
