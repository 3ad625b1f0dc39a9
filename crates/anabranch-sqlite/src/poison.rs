//! What stands between a panic and C: caught, told to SQLite as an error, remembered.
//!
//! Invariant: no unwinding crosses into SQLite, and an object whose code panicked is never
//! entered again.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::error::{Result, SqlError};

/// Remembers the first panic of one function or table.
pub(crate) struct Poison {
    /// For messages: the function's or table's name.
    name: String,
    /// Asked at every entry: each value of each row is one.
    has_panicked: Cell<bool>,
    /// The panic's text.
    panic: RefCell<String>,
}

/// Payload of an unwinding that is no bug: SQLite had no memory for a text.
struct OutOfMemory;

/// Leaves for the nearest [`Poison::guard`], which answers SQLITE_NOMEM.
pub(crate) fn unwind_out_of_memory() -> ! {
    // Not `panic!`: no panic hook should print it, and nothing is poisoned.
    resume_unwind(Box::new(OutOfMemory))
}

impl Poison {
    pub(crate) fn new(name: &str) -> Poison {
        Poison { name: name.into(), has_panicked: Cell::new(false), panic: RefCell::default() }
    }

    /// Runs `f` unless an earlier run panicked; a panic becomes an error.
    #[inline]
    pub(crate) fn guard<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.has_panicked.get() {
            return Err(self.refusal());
        }
        // What `f` left half done is behind the poison.
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(result) => result,
            Err(payload) => Err(self.caught(payload)),
        }
    }

    #[cold]
    fn refusal(&self) -> SqlError {
        let text = self.panic.borrow();
        SqlError::new(format!("{}: poisoned by an earlier panic: {text}", self.name))
    }

    #[cold]
    fn caught(&self, payload: Box<dyn Any + Send>) -> SqlError {
        if payload.is::<OutOfMemory>() {
            return SqlError::out_of_memory();
        }
        let text = text_of(&*payload);
        let error = SqlError::new(format!("{}: panic: {text}", self.name));
        *self.panic.borrow_mut() = text;
        self.has_panicked.set(true);
        // A payload may panic when it is dropped.
        drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
        error
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        return (*text).into();
    }
    payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "of an unknown kind".into())
}
