//! What SQLite tells the hidden table, and when: the facts that a buffer beside the
//! transaction stands on. A change of SQLite's that breaks one of them fails here.
//!
//! A trigger calls `cap`, which enrols the transaction and appends to a buffer. Beside it
//! the trigger fills an ordinary shadow table, which SQLite itself rolls back: after every
//! statement the buffer must hold the shadow's uncommitted rows.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::error::Result;
use anabranch_sqlite::vtab::TransactionFate;
use anabranch_sqlite::{Db, Embedded, SqlError};
use libsqlite3_sys as ffi;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A buffer that follows the transaction, and a record of what it was told.
#[derive(Default)]
pub(crate) struct Follower {
    events: RefCell<Vec<String>>,
    pub(crate) items: RefCell<Vec<i64>>,
    /// Length of `items` at each savepoint level.
    marks: RefCell<Vec<usize>>,
    is_enrolled: Cell<bool>,
    /// SQL that `sync` runs, and how many times it fails first, with which code.
    on_sync: RefCell<String>,
    sync_failures: Cell<(u32, i32)>,
    /// What the last `sync` would have kept.
    pub(crate) synced: RefCell<Vec<i64>>,
    db: RefCell<Option<Db>>,
}

impl Follower {
    fn note(&self, event: impl Into<String>) {
        self.events.borrow_mut().push(event.into());
    }

    fn end(&self) {
        self.items.borrow_mut().clear();
        self.marks.borrow_mut().clear();
        self.is_enrolled.set(false);
    }

    /// The trigger's function.
    fn capture(&self, item: i64) -> Result<()> {
        let db = self.db.borrow().clone().expect("set at registration");
        if !self.is_enrolled.get() {
            let rowid = db.last_insert_rowid();
            db.execute("INSERT INTO fate VALUES(0)", &[])?;
            db.set_last_insert_rowid(rowid);
        }
        self.items.borrow_mut().push(item);
        Ok(())
    }
}

struct Fate(Rc<Follower>);

impl TransactionFate for Fate {
    fn begin(&self) -> Result<()> {
        assert!(!self.0.is_enrolled.replace(true), "begin within a transaction");
        self.0.note("begin");
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.0.note("sync");
        *self.0.synced.borrow_mut() = self.0.items.borrow().clone();
        let sql = self.0.on_sync.borrow().clone();
        let db = self.0.db.borrow().clone().expect("set at registration");
        db.execute_batch(&sql)?;
        let (n_failures, code) = self.0.sync_failures.get();
        if n_failures > 0 {
            self.0.sync_failures.set((n_failures - 1, code));
            return Err(SqlError { code, message: "sync fails".into() });
        }
        Ok(())
    }

    fn commit(&self) {
        self.0.note("commit");
        self.0.end();
    }

    fn rollback(&self) {
        self.0.note("rollback");
        self.0.end();
    }

    fn savepoint(&self, level: i32) {
        self.0.note(format!("savepoint {level}"));
        let level = usize::try_from(level).expect("never below 0");
        let mut marks = self.0.marks.borrow_mut();
        marks.truncate(level);
        // Lower levels may never have been announced.
        marks.resize(level + 1, self.0.items.borrow().len());
    }

    fn release(&self, level: i32) {
        self.0.note(format!("release {level}"));
        self.0.marks.borrow_mut().truncate(usize::try_from(level).unwrap_or(0));
    }

    fn rollback_to(&self, level: i32) {
        self.0.note(format!("rollback to {level}"));
        let mut marks = self.0.marks.borrow_mut();
        match usize::try_from(level) {
            Ok(level) => {
                self.0.items.borrow_mut().truncate(marks[level]);
                marks.truncate(level + 1);
            }
            Err(_) => {
                self.0.items.borrow_mut().clear();
                marks.clear();
            }
        }
    }
}

const SCHEMA: &str = "
    CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE, c CHECK(c IS NOT 'bad'));
    CREATE TABLE wr(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    CREATE TABLE shadow(item);
    CREATE TABLE out(x);
    CREATE TRIGGER t_i AFTER INSERT ON t BEGIN
      SELECT cap(new.a); INSERT INTO shadow VALUES(new.a); END;
    CREATE TRIGGER t_u AFTER UPDATE ON t BEGIN
      SELECT cap(1000 + new.a); INSERT INTO shadow VALUES(1000 + new.a); END;
    CREATE TRIGGER t_d AFTER DELETE ON t BEGIN
      SELECT cap(-old.a); INSERT INTO shadow VALUES(-old.a); END;
    CREATE TRIGGER wr_i AFTER INSERT ON wr BEGIN
      SELECT cap(length(new.k)); INSERT INTO shadow VALUES(length(new.k)); END;
    CREATE TRIGGER wr_d AFTER DELETE ON wr BEGIN
      SELECT cap(-length(old.k)); INSERT INTO shadow VALUES(-length(old.k)); END;";

/// A connection that is followed.
pub(crate) struct Bed {
    pub(crate) conn: Embedded,
    pub(crate) follower: Rc<Follower>,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        Bed::on(rusqlite::Connection::open_in_memory().unwrap(), SCHEMA)
    }

    fn on(conn: rusqlite::Connection, schema: &str) -> Bed {
        let conn = Embedded::new(conn).unwrap();
        let follower = Rc::new(Follower::default());
        *follower.db.borrow_mut() = Some(conn.db().clone());
        conn.db().create_fate("fate", Fate(follower.clone())).unwrap();
        let capturing = follower.clone();
        let cap = move |call: &anabranch_sqlite::function::Call<'_>| {
            let ValueRef::Integer(item) = call.arg(0) else { panic!("an integer") };
            capturing.capture(item).map(|()| Value::Null)
        };
        conn.db().create_function("cap", 1, Default::default(), cap).unwrap();
        conn.db().execute_batch(schema).unwrap();
        Bed { conn, follower }
    }

    pub(crate) fn run(&self, sql: &str) -> Result<()> {
        self.conn.db().execute_batch(sql)
    }

    /// What the table was told since the last call.
    pub(crate) fn events(&self) -> String {
        self.follower.events.take().join(", ")
    }

    pub(crate) fn shadow(&self) -> Vec<i64> {
        let rows = self.conn.db().query_rows("SELECT item FROM shadow ORDER BY rowid", &[]);
        let item = |row: &Vec<Value>| match row[0] {
            Value::Integer(item) => item,
            _ => panic!("an integer"),
        };
        rows.unwrap().iter().map(item).collect()
    }

    fn scalar(&self, sql: &str) -> i64 {
        match self.conn.db().query_value(sql, &[]).unwrap() {
            Some(Value::Integer(value)) => value,
            other => panic!("{sql}: {other:?}"),
        }
    }
}

/// Runs statements one by one (some fail), and compares what the table was told by all.
fn check(statements: &[&str], expected: &str) {
    let bed = Bed::new();
    for sql in statements {
        let _ = bed.run(sql);
    }
    assert_eq!(bed.events(), expected, "{statements:?}");
}

#[test]
fn a_transaction_is_announced_synced_and_ended() {
    check(&["INSERT INTO t VALUES(1,1,1)"], "begin, sync, commit");
    check(
        &["BEGIN", "INSERT INTO t VALUES(1,1,1)", "INSERT INTO t VALUES(2,2,2)", "COMMIT"],
        "begin, savepoint 0, release 0, savepoint 0, release 0, sync, commit",
    );
    check(&["BEGIN", "INSERT INTO fate VALUES(0)", "ROLLBACK"], "begin, rollback");
    check(&["SELECT * FROM fate", "BEGIN", "SELECT * FROM t", "COMMIT"], "");
    check(&["INSERT INTO fate VALUES(0)"], "begin, sync, commit");
}

#[test]
fn aborts() {
    // In autocommit: a rollback.
    check(&["INSERT INTO t VALUES(1,1,1),(2,1,1)"], "begin, rollback");
    // In a transaction: the statement's own savepoint, which only a statement has that can
    // stop half-way.
    check(
        &["BEGIN", "INSERT INTO t VALUES(1,1,1)", "INSERT INTO t VALUES(2,2,2),(3,1,3)", "COMMIT"],
        "begin, savepoint 0, release 0, savepoint 0, rollback to 0, release 0, sync, commit",
    );
    check(
        &["BEGIN", "INSERT INTO t VALUES(1,1,1),(2,1,1)", "COMMIT"],
        "begin, savepoint 0, rollback to 0, release 0, sync, commit",
    );
    check(
        &["BEGIN", "INSERT OR ROLLBACK INTO t VALUES(1,1,1),(2,1,1)"],
        "begin, savepoint 0, rollback",
    );
    check(
        &["BEGIN", "INSERT OR FAIL INTO t VALUES(1,1,1),(2,1,1)", "COMMIT"],
        "begin, savepoint 0, release 0, sync, commit",
    );
    check(&["INSERT OR FAIL INTO t VALUES(1,1,1),(2,1,1)"], "begin, sync, commit");
}

#[test]
fn levels_below_the_first_use_are_not_announced() {
    check(
        &[
            "BEGIN",
            "SAVEPOINT a",
            "SAVEPOINT b",
            "INSERT INTO t VALUES(1,1,1)",
            "ROLLBACK TO a",
            "INSERT INTO t VALUES(1,1,1)",
            "COMMIT",
        ],
        "begin, savepoint 2, release 2, rollback to 0, savepoint 1, release 1, sync, commit",
    );
    // The savepoint that opens the transaction has no number: it is rolled back to as -1.
    check(
        &[
            "SAVEPOINT a",
            "SAVEPOINT b",
            "INSERT INTO t VALUES(1,1,1)",
            "ROLLBACK TO b",
            "ROLLBACK TO a",
            "RELEASE a",
        ],
        "begin, savepoint 1, release 1, rollback to 0, rollback to -1, sync, commit",
    );
    check(
        &["SAVEPOINT a", "INSERT INTO t VALUES(1,1,1)", "RELEASE a"],
        "begin, savepoint 0, release 0, sync, commit",
    );
    // After a rollback the savepoint stands.
    check(
        &[
            "BEGIN",
            "INSERT INTO fate VALUES(0)",
            "SAVEPOINT a",
            "ROLLBACK TO a",
            "ROLLBACK TO a",
            "RELEASE a",
            "COMMIT",
        ],
        "begin, savepoint 0, rollback to 0, rollback to 0, release 0, sync, commit",
    );
}

#[test]
fn an_interrupt_undoes_the_whole_transaction() {
    let bed = Bed::new();
    let handle = bed.conn.get_interrupt_handle();
    let stop = move |_: &anabranch_sqlite::function::Call<'_>| {
        handle.interrupt();
        Ok(Value::Null)
    };
    bed.conn.db().create_function("stop", 0, Default::default(), stop).unwrap();
    bed.run("BEGIN; INSERT INTO t VALUES(1,1,1)").unwrap();
    bed.run("CREATE TRIGGER z AFTER INSERT ON t WHEN new.a=3 BEGIN SELECT stop(); END").unwrap();
    bed.events();
    let error = bed.run("INSERT INTO t VALUES(2,2,2),(3,3,3),(4,4,4),(5,5,5)").unwrap_err();
    assert_eq!(error.code, ffi::SQLITE_INTERRUPT);
    assert_eq!(bed.events(), "savepoint 0, rollback");
    assert!(bed.conn.db().is_autocommit());
}

#[test]
fn sync_may_write_ordinary_tables() {
    let folder = tempfile::tempdir().unwrap();
    let writes = ["INSERT INTO t VALUES(1,1,1)", "INSERT INTO fate VALUES(0)"];
    let mut n_files = 0;
    for mode in ["WAL", "DELETE", "MEMORY"] {
        for write in writes {
            for (open, end) in [("", ""), ("BEGIN", "COMMIT"), ("SAVEPOINT s", "RELEASE s")] {
                n_files += 1;
                let path = folder.path().join(format!("{n_files}.db"));
                let conn = rusqlite::Connection::open(&path).unwrap();
                let schema = format!("PRAGMA journal_mode={mode}; {SCHEMA}");
                let bed = Bed::on(conn, &schema);
                *bed.follower.on_sync.borrow_mut() = "INSERT INTO out VALUES(1),(2)".into();
                let script = format!("{open}; {write}; {end}");
                bed.run(&script).unwrap_or_else(|e| panic!("{mode} {script}: {e}"));
                drop(bed);
                let conn = rusqlite::Connection::open(&path).unwrap();
                let n: i64 = conn.query_row("SELECT count(*) FROM out", [], |r| r.get(0)).unwrap();
                assert_eq!(n, 2, "{mode} {script}");
            }
        }
    }
}

#[test]
fn sync_may_not_write_virtual_tables() {
    let bed = Bed::new();
    bed.run("CREATE VIRTUAL TABLE words USING fts5(w)").unwrap();
    *bed.follower.on_sync.borrow_mut() = "INSERT INTO words VALUES('x')".into();
    let error = bed.run("INSERT INTO t VALUES(1,1,1)").unwrap_err();
    assert_eq!(error.primary(), ffi::SQLITE_LOCKED);
    assert_eq!(bed.scalar("SELECT count(*) FROM t"), 0);
}

#[test]
fn deferred_foreign_keys_are_checked_before_sync() {
    let schema = "CREATE TABLE p(a PRIMARY KEY);
        CREATE TABLE t(a REFERENCES p DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT cap(new.a); END;";
    let bed = Bed::on(rusqlite::Connection::open_in_memory().unwrap(), schema);
    bed.run("PRAGMA foreign_keys=ON; BEGIN; INSERT INTO t VALUES(1)").unwrap();
    bed.events();
    let error = bed.run("COMMIT").unwrap_err();
    assert_eq!(error.code, ffi::SQLITE_CONSTRAINT_FOREIGNKEY);
    assert_eq!(bed.events(), "");
    bed.run("INSERT INTO p VALUES(1); COMMIT").unwrap();
    assert_eq!(bed.events(), "sync, commit");
}

#[test]
fn closing_in_a_transaction_is_a_rollback() {
    let bed = Bed::new();
    bed.run("BEGIN; INSERT INTO t VALUES(1,1,1)").unwrap();
    let follower = bed.follower.clone();
    follower.events.take();
    drop(bed);
    assert_eq!(follower.events.take(), ["rollback"]);
}

#[test]
fn a_failed_sync_undoes_the_transaction() {
    for script in ["INSERT INTO t VALUES(1,1,1)", "BEGIN; INSERT INTO t VALUES(1,1,1); COMMIT"] {
        for code in [ffi::SQLITE_ERROR, ffi::SQLITE_FULL, ffi::SQLITE_IOERR, ffi::SQLITE_NOMEM] {
            let bed = Bed::new();
            *bed.follower.on_sync.borrow_mut() = "INSERT INTO out VALUES(1)".into();
            bed.follower.sync_failures.set((1, code));
            let error = bed.run(script).unwrap_err();
            assert_eq!(error.primary(), code, "{script}");
            assert!(bed.events().ends_with("sync, rollback"), "{script}");
            assert!(bed.conn.db().is_autocommit());
            let left = "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM out)";
            assert_eq!(bed.scalar(left), 0, "{script}");
            bed.run(script).unwrap();
            assert_eq!(bed.scalar(left), 2, "{script}");
        }
    }
}

#[test]
fn busy_at_commit_leaves_all_and_sync_runs_again() {
    for (open, end) in [("BEGIN", "COMMIT"), ("SAVEPOINT s", "RELEASE s")] {
        let bed = Bed::new();
        *bed.follower.on_sync.borrow_mut() = "INSERT INTO out VALUES(1)".into();
        bed.follower.sync_failures.set((2, ffi::SQLITE_BUSY));
        bed.run(&format!("{open}; INSERT INTO t VALUES(1,1,1)")).unwrap();
        bed.events();
        for n_written in [1, 2] {
            assert_eq!(bed.run(end).unwrap_err().primary(), ffi::SQLITE_BUSY);
            assert!(!bed.conn.db().is_autocommit());
            assert_eq!(*bed.follower.items.borrow(), [1]);
            assert_eq!(bed.scalar("SELECT count(*) FROM out"), n_written);
        }
        bed.run(end).unwrap();
        assert_eq!(bed.events(), "sync, sync, sync, commit");
        assert_eq!(bed.scalar("SELECT count(*) FROM out"), 3);
    }
    // A statement in autocommit is not retried by anybody: it is undone.
    let bed = Bed::new();
    bed.follower.sync_failures.set((1, ffi::SQLITE_BUSY));
    bed.run("INSERT INTO t VALUES(1,1,1)").unwrap_err();
    assert_eq!(bed.events(), "begin, sync, rollback");
}

#[test]
fn a_lock_that_is_busy_after_sync_makes_sync_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let bed = Bed::on(rusqlite::Connection::open(&path).unwrap(), SCHEMA);
    bed.run("PRAGMA busy_timeout=0; INSERT INTO out VALUES(0)").unwrap();
    *bed.follower.on_sync.borrow_mut() = "INSERT INTO out VALUES(1)".into();
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM out").unwrap();
    bed.run("BEGIN; SAVEPOINT s; INSERT INTO t VALUES(1,1,1)").unwrap();
    bed.events();
    assert_eq!(bed.run("COMMIT").unwrap_err().primary(), ffi::SQLITE_BUSY);
    assert_eq!(bed.events(), "sync");
    // What sync wrote is in the transaction, and goes with a savepoint.
    assert_eq!(bed.scalar("SELECT count(*) FROM out"), 2);
    bed.run("ROLLBACK TO s").unwrap();
    assert_eq!(bed.scalar("SELECT count(*) FROM out"), 1);
    assert_eq!(*bed.follower.items.borrow(), [0_i64; 0]);
    bed.run("INSERT INTO t VALUES(2,2,2)").unwrap();
    reader.execute_batch("COMMIT").unwrap();
    bed.events();
    bed.run("COMMIT").unwrap();
    assert_eq!(bed.events(), "sync, commit");
    assert_eq!(bed.scalar("SELECT count(*) FROM out"), 2);
}

#[test]
fn the_users_rowid_and_changes_are_his() {
    let bed = Bed::new();
    *bed.follower.on_sync.borrow_mut() = "INSERT INTO out VALUES(1),(2),(3)".into();
    // `sync` does not restore the rowid here, so it moves; enrolling does, so it stays.
    bed.run("BEGIN; INSERT INTO t VALUES(70,1,1),(71,2,2)").unwrap();
    assert_eq!(bed.conn.db().last_insert_rowid(), 71);
    bed.run("COMMIT").unwrap();
    assert_eq!(bed.conn.db().last_insert_rowid(), 3);
    bed.run("INSERT INTO t VALUES(80,3,3),(81,4,4)").unwrap();
    assert_eq!(bed.scalar("SELECT changes()"), 2);
}

#[test]
fn a_panic_in_sync_undoes_and_poisons() {
    struct Explodes;
    impl TransactionFate for Explodes {
        fn begin(&self) -> Result<()> {
            Ok(())
        }
        fn sync(&self) -> Result<()> {
            panic!("boom")
        }
        fn commit(&self) {}
        fn rollback(&self) {}
        fn savepoint(&self, _: i32) {}
        fn release(&self, _: i32) {}
        fn rollback_to(&self, _: i32) {}
    }
    let conn = Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
    conn.db().create_fate("fate", Explodes).unwrap();
    conn.db().execute_batch("CREATE TABLE t(a); BEGIN; INSERT INTO t VALUES(1)").unwrap();
    conn.db().execute("INSERT INTO fate VALUES(0)", &[]).unwrap();
    let error = conn.db().execute("COMMIT", &[]).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (1, "fate: panic: boom"));
    let n = conn.db().query_value("SELECT count(*) FROM t", &[]).unwrap();
    assert_eq!(n, Some(Value::Integer(0)));
    let error = conn.db().execute("INSERT INTO fate VALUES(0)", &[]).unwrap_err();
    assert!(error.message.contains("poisoned by an earlier panic: boom"), "{error}");
}

#[test]
fn it_works_with_an_untrusted_schema() {
    let bed = Bed::new();
    let innocuous = anabranch_sqlite::function::Flags { innocuous: true, ..Default::default() };
    let follower = bed.follower.clone();
    let cap =
        move |_: &anabranch_sqlite::function::Call<'_>| follower.capture(1).map(|()| Value::Null);
    bed.conn.db().create_function("cap", 1, innocuous, cap).unwrap();
    bed.run(
        "PRAGMA trusted_schema=OFF; CREATE TABLE u(a);
        CREATE TRIGGER g AFTER INSERT ON u BEGIN INSERT INTO fate VALUES(0); END;",
    )
    .unwrap();
    bed.run("BEGIN; INSERT INTO t VALUES(1,1,1); INSERT INTO u VALUES(1); COMMIT").unwrap();
}

/// One random statement. Many fail, some half-way.
fn random_statement(rng: &mut StdRng) -> String {
    let or = ["", " OR ABORT", " OR FAIL", " OR IGNORE", " OR REPLACE", " OR ROLLBACK"];
    let or = or[rng.random_range(0..or.len())];
    let mut small = || rng.random_range(0..12_i64);
    let (a, b, c) = (small(), small(), small());
    match rng.random_range(0..24) {
        0..3 => "BEGIN".into(),
        3 => "COMMIT".into(),
        4 => "ROLLBACK".into(),
        5..8 => format!("SAVEPOINT s{}", a % 4),
        8 => format!("RELEASE s{}", a % 4),
        9..11 => format!("ROLLBACK TO s{}", a % 4),
        11 => format!("INSERT{or} INTO t VALUES({a},{b},{c})"),
        12 | 13 => format!("INSERT{or} INTO t VALUES({a},{b},{c}),({b},{c},1),({c},{a},2)"),
        14 => format!("INSERT{or} INTO t VALUES({a},{b},1),({c},{a},'bad'),({b},{c},1)"),
        15 => format!("UPDATE{or} t SET b = {b} WHERE a >= {a}"),
        16 => format!("UPDATE{or} t SET a = a + {b}, c = iif(a = {c}, 'bad', c)"),
        17 => format!("DELETE FROM t WHERE a % 3 = {}", a % 3),
        18 => "DELETE FROM t".into(),
        19 => format!("INSERT{or} INTO t SELECT a + {a}, b + {b}, c FROM t"),
        20 => format!(
            "INSERT INTO t VALUES({a},{b},{c}),({b},{a},0) \
            ON CONFLICT DO UPDATE SET c = iif(a = {c}, 'bad', excluded.c)"
        ),
        21 => format!("INSERT{or} INTO wr VALUES('{a}', 1), ('{b}{b}', 2), ('{c}', 3)"),
        22 => "DELETE FROM wr; CREATE TABLE IF NOT EXISTS extra(a)".into(),
        _ => "DROP TABLE IF EXISTS extra".into(),
    }
}

/// Runs one random history; the buffer must hold what the shadow holds, at every step.
fn follow(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let bed = Bed::new();
    let mut committed = Vec::new();
    let mut history = Vec::new();
    for _ in 0..80 {
        let sql = random_statement(&mut rng);
        if rng.random_ratio(1, 20) {
            let code = if rng.random() { ffi::SQLITE_BUSY } else { ffi::SQLITE_ERROR };
            bed.follower.sync_failures.set((1, code));
        }
        history.push(sql.clone());
        let _ = bed.run(&sql);
        let events = bed.events();
        if events.contains("commit") {
            committed.append(&mut bed.follower.synced.take());
        }
        let mut expected = committed.clone();
        expected.extend_from_slice(&bed.follower.items.borrow());
        assert_eq!(bed.shadow(), expected, "seed {seed}, told {events}, after {history:#?}");
        if bed.conn.db().is_autocommit() {
            assert!(bed.follower.items.borrow().is_empty(), "seed {seed}");
            assert!(!bed.follower.is_enrolled.get(), "seed {seed}");
        }
    }
}

#[test]
fn the_buffer_holds_what_the_transaction_holds() {
    for seed in 0..200 {
        follow(seed);
    }
}
