//! Being told that the connection closes.
//!
//! SQLite has no hook for it. After everything else, `sqlite3_close` destroys the functions:
//! the destructor of an unused one is [`Db::on_close`]. But before that it refuses to close
//! while statements are open, and ours are kept open; the first thing it does is to
//! disconnect every virtual table, so a table that is connected only to be disconnected is
//! [`Db::before_close`] (SQLite's `sqlite3Close` in main.c: `disconnectAllVtab` comes before
//! the look for statements, on purpose).
//!
//! A close that is refused (the host has a statement open) has disconnected the table all
//! the same. Statements prepared after that need it again, so [`Db::prepare`] connects it.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_int, c_void};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use libsqlite3_sys as ffi;

use crate::db::Db;
use crate::error::Result;
use crate::poison::Poison;
use crate::vtab::{Cursor, Plan, Table};
use crate::{SqlError, vtab};

/// The table that announces the closing of one connection.
#[derive(Default)]
pub(crate) struct Closing {
    hooks: RefCell<Vec<Rc<Hook>>>,
    /// The table's name, once there is one.
    name: RefCell<Option<String>>,
    /// Whether SQLite has the table connected.
    is_armed: Cell<bool>,
}

struct Hook {
    f: Box<dyn Fn()>,
    poison: Poison,
}

/// Names of this library's hooks: two copies of it in one process must not share any.
fn fresh_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let address = (&raw const COUNTER).addr();
    format!("ana_close_{address:x}_{}", COUNTER.fetch_add(1, Ordering::Relaxed))
}

impl Closing {
    /// Lets go of the hooks.
    pub(crate) fn clear(&self) {
        // Taken out first: a hook's destructor may come back here.
        let hooks = self.hooks.take();
        drop(hooks);
    }
}

/// Connects the table again if SQLite disconnected it.
pub(crate) fn rearm(db: &Db) -> Result<()> {
    let closing = db.closing();
    if closing.is_armed.get() {
        return Ok(());
    }
    let Some(name) = closing.name.borrow().clone() else { return Ok(()) };
    // Compiling connects; the connection outlives the statement.
    db.compile(&format!("SELECT 1 FROM {name}"), 0)?;
    closing.is_armed.set(true);
    Ok(())
}

impl Db {
    /// Calls `f` when `sqlite3_close` starts, before it looks for unfinalized statements:
    /// the place to drop kept statements. (An eponymous table's xDisconnect.)
    ///
    /// `f` may be called more than once, and may be called although the connection stays
    /// open (the close is refused for a statement of the host's): what it drops must be
    /// made again when it is needed.
    pub fn before_close(&self, f: impl Fn() + 'static) -> Result<()> {
        self.live()?;
        let closing = self.closing();
        if closing.name.borrow().is_none() {
            let name = fresh_name();
            vtab::create_announcing(self, &name, Announcer, announce)?;
            *closing.name.borrow_mut() = Some(name);
        }
        let hook = Hook { f: Box::new(f), poison: Poison::new("a hook before closing") };
        closing.hooks.borrow_mut().push(Rc::new(hook));
        rearm(self)
    }

    /// Calls `f` when the connection closes (after host statements are gone).
    ///
    /// The connection cannot be called any more.
    pub fn on_close(&self, f: impl FnOnce() + 'static) -> Result<()> {
        let raw = self.live()?;
        let name = CString::new(fresh_name()).map_err(|_| SqlError::new("name with a NUL"))?;
        let last =
            Box::new(LastCall { f: Box::new(f), db: self.clone(), is_armed: Cell::new(false) });
        let last = Box::into_raw(last);
        // SAFETY: an open connection; the destructor takes back the box, and is called also
        // when SQLite refuses (then the box is not armed, and calls nothing).
        let rc = unsafe {
            ffi::sqlite3_create_function_v2(
                raw,
                name.as_ptr(),
                0,
                ffi::SQLITE_UTF8 | ffi::SQLITE_DIRECTONLY,
                last.cast(),
                Some(refuse),
                None,
                None,
                Some(destroy_last),
            )
        };
        if rc != ffi::SQLITE_OK {
            return Err(self.error(rc));
        }
        // SAFETY: registered, so alive until the connection closes.
        unsafe { &*last }.is_armed.set(true);
        Ok(())
    }
}

/// What SQLite owns in the name of [`Db::on_close`].
struct LastCall {
    f: Box<dyn FnOnce()>,
    db: Db,
    /// Whether the registration succeeded: SQLite destroys what it refuses, too.
    is_armed: Cell<bool>,
}

/// # Safety
/// SQLite calls it, with its own arguments.
unsafe extern "C" fn refuse(
    context: *mut ffi::sqlite3_context,
    _argc: c_int,
    _argv: *mut *mut ffi::sqlite3_value,
) {
    let error = SqlError::new("not to be called");
    // SAFETY: the context of this call.
    unsafe { crate::raw_value::set_error(context, &error) }
}

/// # Safety
/// SQLite calls it once, with the box that was registered.
unsafe extern "C" fn destroy_last(last: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `on_close`, and given back once.
    let last = unsafe { Box::from_raw(last.cast::<LastCall>()) };
    let LastCall { f, db, is_armed } = *last;
    db.in_destructor(move || {
        if is_armed.get() {
            f();
        }
    });
}

/// Called by the table's xDisconnect.
fn announce(db: &Db) {
    let closing = db.closing();
    closing.is_armed.set(false);
    // A copy: a hook may register another.
    let hooks: Vec<_> = closing.hooks.borrow().clone();
    for hook in hooks {
        // The error is the hook's panic, of which a closing connection tells nobody.
        let _ = hook.poison.guard(|| {
            (hook.f)();
            Ok(())
        });
    }
}

/// The table: empty, and only there to be disconnected.
struct Announcer;

impl Table for Announcer {
    fn declaration(&self) -> String {
        "CREATE TABLE x(unused)".into()
    }

    fn plan(&self, _: &[vtab::Constraint], _: &[vtab::OrderTerm]) -> Result<Plan> {
        Ok(Plan { cost: 1.0, ..Plan::default() })
    }

    fn open(&self) -> Result<Box<dyn Cursor>> {
        Ok(Box::new(vtab::Nothing))
    }
}
