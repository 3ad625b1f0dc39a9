//! Closing: kept statements must not keep a connection open, and nothing may be called on
//! a closed one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::{Db, Embedded, Statement};
use libsqlite3_sys as ffi;

/// Opens a raw connection in memory.
fn open() -> *mut ffi::sqlite3 {
    let mut raw = std::ptr::null_mut();
    // SAFETY: a terminated name and a place for the answer.
    assert_eq!(unsafe { ffi::sqlite3_open(c":memory:".as_ptr(), &mut raw) }, ffi::SQLITE_OK);
    raw
}

fn close(raw: *mut ffi::sqlite3) -> i32 {
    // SAFETY: opened by `open`; the tests call this once with success.
    unsafe { ffi::sqlite3_close(raw) }
}

/// A statement on a user's table, kept as the store keeps its own.
struct Kept {
    db: Db,
    statement: RefCell<Option<Statement>>,
}

impl Kept {
    fn new(raw: *mut ffi::sqlite3) -> Rc<Kept> {
        // SAFETY: open, used on this thread only.
        let db = unsafe { Db::attach(raw) }.unwrap();
        db.execute_batch("CREATE TABLE IF NOT EXISTS t(a)").unwrap();
        let kept = Rc::new(Kept { db: db.clone(), statement: RefCell::new(None) });
        let hook = kept.clone();
        db.before_close(move || *hook.statement.borrow_mut() = None).unwrap();
        kept
    }

    /// Uses the statement, preparing it where it is missing.
    fn insert(&self) -> anabranch_sqlite::error::Result<()> {
        let mut kept = self.statement.borrow_mut();
        if kept.is_none() {
            *kept = Some(self.db.prepare("INSERT INTO t VALUES(?1)")?);
        }
        let statement = kept.as_mut().expect("just prepared");
        statement.execute(&[ValueRef::Text(b"x")])
    }
}

#[test]
fn a_kept_statement_does_not_stop_sqlite3_close() {
    for end in ["", "BEGIN; INSERT INTO t VALUES(2)", "SAVEPOINT s; CREATE TABLE u(b)"] {
        let raw = open();
        let kept = Kept::new(raw);
        kept.insert().unwrap();
        kept.db.execute_batch(end).unwrap();
        kept.insert().unwrap();
        assert_eq!(close(raw), ffi::SQLITE_OK, "after {end:?}");
        assert!(!kept.db.is_alive());
        assert_eq!(kept.insert().unwrap_err().code, ffi::SQLITE_MISUSE);
    }
}

#[test]
fn without_the_hook_sqlite3_close_is_refused() {
    let raw = open();
    // SAFETY: open, used on this thread only.
    let db = unsafe { Db::attach(raw) }.unwrap();
    let statement = db.prepare("SELECT 1").unwrap();
    assert_eq!(close(raw), ffi::SQLITE_BUSY);
    drop(statement);
    assert_eq!(close(raw), ffi::SQLITE_OK);
}

#[test]
fn a_refused_close_leaves_a_connection_that_works_and_closes_later() {
    let raw = open();
    let kept = Kept::new(raw);
    kept.insert().unwrap();
    // The host's statement, of which nobody told us.
    let mut hosts = std::ptr::null_mut();
    // SAFETY: open; a terminated text; a place for the answer.
    let rc = unsafe {
        ffi::sqlite3_prepare_v2(raw, c"SELECT 1".as_ptr(), -1, &mut hosts, std::ptr::null_mut())
    };
    assert_eq!(rc, ffi::SQLITE_OK);
    assert_eq!(close(raw), ffi::SQLITE_BUSY);
    assert!(kept.statement.borrow().is_none());
    kept.insert().unwrap();
    assert_eq!(close(raw), ffi::SQLITE_BUSY);
    kept.insert().unwrap();
    // SAFETY: finalized once.
    unsafe { ffi::sqlite3_finalize(hosts) };
    assert_eq!(close(raw), ffi::SQLITE_OK);
}

#[test]
fn schema_changes_do_not_disarm_the_hook() {
    let changes = [
        "CREATE TABLE u(b); DROP TABLE u",
        "BEGIN; CREATE TABLE u(b); ROLLBACK",
        "SAVEPOINT s; ALTER TABLE t ADD COLUMN c; ROLLBACK TO s; RELEASE s",
        "BEGIN; DROP TABLE t; ROLLBACK",
        "ATTACH ':memory:' AS other; CREATE TABLE other.t(a); DETACH other",
        "VACUUM",
        "PRAGMA writable_schema=RESET",
    ];
    for change in changes {
        let raw = open();
        let kept = Kept::new(raw);
        kept.insert().unwrap();
        kept.db.execute_batch(change).unwrap_or_else(|e| panic!("{change}: {e}"));
        kept.insert().unwrap_or_else(|e| panic!("after {change}: {e}"));
        assert_eq!(close(raw), ffi::SQLITE_OK, "after {change}");
    }
}

#[test]
fn a_zombie_connection_dies_with_its_last_statement() {
    let raw = open();
    let kept = Kept::new(raw);
    kept.insert().unwrap();
    let late = kept.db.prepare("SELECT a FROM t").unwrap();
    unsafe extern "C" {
        // libsqlite3-sys leaves it out.
        fn sqlite3_close_v2(raw: *mut ffi::sqlite3) -> i32;
    }
    // SAFETY: open; closed once.
    assert_eq!(unsafe { sqlite3_close_v2(raw) }, ffi::SQLITE_OK);
    assert!(kept.statement.borrow().is_none());
    drop(late);
    assert!(!kept.db.is_alive());
}

#[test]
fn on_close_runs_once_at_the_end_and_finds_no_connection() {
    let n_calls = Rc::new(Cell::new(0));
    let conn = Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
    let (counter, db) = (n_calls.clone(), conn.db().clone());
    let hook = move || {
        counter.set(counter.get() + 1);
        assert_eq!(db.execute("SELECT 1", &[]).unwrap_err().code, ffi::SQLITE_MISUSE);
        assert!(db.attached().is_empty());
    };
    conn.db().on_close(hook).unwrap();
    let db = conn.db().clone();
    assert_eq!(n_calls.get(), 0);
    drop(conn);
    assert_eq!(n_calls.get(), 1);
    assert_eq!(db.query_value("SELECT 1", &[]).unwrap_err().code, ffi::SQLITE_MISUSE);
    assert!(db.is_autocommit() && db.is_read_only() && !db.is_writing());
}

#[test]
fn a_function_that_keeps_a_statement_may_be_replaced() {
    let conn = Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
    let db = conn.db();
    for answer in [1, 2] {
        let statement = RefCell::new(db.prepare("SELECT ?1").unwrap());
        db.create_function("f", 0, Default::default(), move |_| {
            let params = [ValueRef::Integer(answer)];
            let row = statement.borrow_mut().query_row(&params, |row| Ok(row.column(0).into()))?;
            Ok(row.unwrap_or(Value::Null))
        })
        .unwrap();
        assert_eq!(db.query_value("SELECT f()", &[]).unwrap(), Some(Value::Integer(answer)));
    }
    db.create_function("f", 0, Default::default(), |_| Ok(Value::Null)).unwrap();
    drop(conn);
}
