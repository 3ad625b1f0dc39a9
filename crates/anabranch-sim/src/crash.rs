//! Crash tests: a workload in steps, each of which fails, tears or dies at its k-th write or
//! sync, for every k until the step ends unharmed.
//!
//! After each death the file is opened again: it must be in the state before the step or
//! after it (after it, if the step was acknowledged), with `ana_check` and SQLite's own
//! integrity check clean. After a failure without a death the connection must be in one of
//! the two states, and work on.

use anabranch::Store;
use anabranch_sqlite::vfs::{Fault, SimDisk};
use rusqlite::{Connection, OpenFlags};

use crate::model::Value;
use crate::replica::{query, scalar, text};

/// How much work the steps do, and how SQLite keeps its journal.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// `WAL` or `DELETE`.
    pub journal: &'static str,
    /// Rows of a bulk step.
    pub n_rows: u64,
    /// Whether deltas in parts are staged too: megabytes.
    pub has_parts: bool,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Steps.
    pub n_steps: u64,
    /// Faults that happened, each at its own k.
    pub n_faults: u64,
    /// Faults after which the step was there nevertheless.
    pub n_kept: u64,
}

/// One step: SQL with at most one blob as parameter, in one transaction or call.
struct Step {
    name: &'static str,
    sql: Vec<String>,
    blob: Option<Vec<u8>>,
}

impl Step {
    fn new(name: &'static str, sql: &[&str]) -> Step {
        Step { name, sql: sql.iter().map(|sql| sql.to_string()).collect(), blob: None }
    }

    fn with_blob(name: &'static str, sql: &[&str], blob: Vec<u8>) -> Step {
        Step { blob: Some(blob), ..Step::new(name, sql) }
    }

    fn run(&self, store: &Store) -> Result<(), String> {
        for sql in &self.sql {
            let params: Vec<Value> = match &self.blob {
                Some(blob) if sql.contains("?1") => vec![Value::Blob(blob.clone())],
                _ => Vec::new(),
            };
            query(store.sql(), sql, &params)?;
        }
        Ok(())
    }
}

/// Runs the whole workload under one kind of fault, on a disk of its own; tells `heard` of each
/// step that ended, with its number of k.
///
/// # Errors
/// A state that never existed, a lost acknowledgement, or a finding of a check.
pub fn run(
    plan: Plan,
    fault: Fault,
    seed: u64,
    mut heard: impl FnMut(&str, u64),
) -> Result<Report, String> {
    let disk = SimDisk::new(seed);
    let vfs = disk.register().map_err(|error| error.to_string())?;
    let world = World { disk, vfs, plan };
    let store = world.open()?;
    store.sql().execute_batch(SETUP).map_err(|error| format!("set up: {error}"))?;
    drop(store);
    let mut report = Report::default();
    for step in steps(plan)? {
        report.n_steps += 1;
        let n_faults = report.n_faults;
        world
            .torture(&step, fault, seed, &mut report)
            .map_err(|what| format!("{}, {fault:?}, seed {seed}: {what}", step.name))?;
        heard(step.name, report.n_faults - n_faults);
    }
    Ok(report)
}

const SETUP: &str = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c);
    CREATE TABLE n(k TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, v);
    SELECT crsql_as_crr('t'); SELECT crsql_as_crr('n');
    INSERT INTO t VALUES(1, 'one', 1), (2, 'two', 2); INSERT INTO n VALUES('Key', 'v');";

struct World {
    disk: SimDisk,
    vfs: String,
    plan: Plan,
}

impl World {
    fn open(&self) -> Result<Store, String> {
        let flags = OpenFlags::default();
        let db = Connection::open_with_flags_and_vfs("crash.db", flags, self.vfs.as_str())
            .map_err(|error| error.to_string())?;
        let page_size = if self.plan.has_parts { 65536 } else { 4096 };
        let setup = format!(
            "PRAGMA page_size = {page_size}; PRAGMA journal_mode = {}; PRAGMA synchronous = EXTRA;
             PRAGMA cache_size = 20",
            self.plan.journal
        );
        db.execute_batch(&setup).map_err(|error| error.to_string())?;
        Store::from_connection(db).map_err(|error| error.to_string())
    }

    /// Runs one step with a fault at every k; leaves the disk with the step done.
    fn torture(
        &self,
        step: &Step,
        fault: Fault,
        seed: u64,
        report: &mut Report,
    ) -> Result<(), String> {
        let before_image = self.disk.image();
        let before = self.look()?;
        self.disk.never_fail();
        let store = self.open()?;
        step.run(&store)?;
        drop(store);
        let after = self.look()?;
        let after_image = self.disk.image();
        for k in 1.. {
            self.disk.restore(&before_image);
            let here = format!("k = {k}");
            let kept = self
                .try_at(k, step, fault, seed, &before, &after)
                .map_err(|what| format!("{here}: {what}"))?;
            match kept {
                None => break,
                Some(is_kept) => {
                    report.n_faults += 1;
                    report.n_kept += u64::from(is_kept);
                }
            }
        }
        self.disk.restore(&after_image);
        Ok(())
    }

    /// `None`: no fault happened. Otherwise whether the step was there at last.
    fn try_at(
        &self,
        k: u64,
        step: &Step,
        fault: Fault,
        seed: u64,
        before: &State,
        after: &State,
    ) -> Result<Option<bool>, String> {
        self.disk.fail_at(k, fault);
        let mut has_failed = false;
        let end = self.open().and_then(|store| {
            let end = step.run(&store);
            if end.is_err() && self.disk.has_failed() && fault != Fault::Die {
                has_failed = true;
                self.disk.never_fail();
                self.works_on(&store, before, after)?;
            }
            end
        });
        has_failed |= self.disk.has_failed();
        match (&end, has_failed) {
            (Err(error), false) if !error.contains("works on") => {
                return Err(format!("failed without a fault: {error}"));
            }
            (Err(error), _) if error.contains("works on") => return Err(error.clone()),
            (Ok(()), false) => return Ok(None),
            _ => {}
        }
        if k.is_multiple_of(2) {
            self.disk.restart()
        } else {
            self.disk.crash(seed ^ k)
        }
        let found = self.look().map_err(|what| format!("after {end:?}: {what}"))?;
        let is_kept = found == *after;
        if found != *before && !is_kept {
            return Err(format!("a state that never existed, after {end:?}: {found:?}"));
        }
        if end.is_ok() && !is_kept {
            return Err("the step was acknowledged and is lost".into());
        }
        Ok(Some(is_kept))
    }

    /// The connection that saw a fault goes on: what it shows existed, and it can write.
    fn works_on(&self, store: &Store, before: &State, after: &State) -> Result<(), String> {
        let named = |what: String| format!("the connection does not work on: {what}");
        let db = store.sql();
        if !db.is_autocommit() {
            query(db, "ROLLBACK", &[]).map_err(named)?;
        }
        let found = State::read(db).map_err(named)?;
        if found != *before && found != *after {
            return Err(named(format!("it shows {found:?}")));
        }
        query(db, "BEGIN", &[]).map_err(named)?;
        query(db, "INSERT INTO t VALUES(-1, 'after a fault', 0)", &[]).map_err(named)?;
        query(db, "DELETE FROM n", &[]).map_err(named)?;
        let n = scalar(
            db,
            "SELECT count(*) FROM crsql_changes WHERE pk = x'0141ffffffffffffffff'",
            &[],
        );
        if n.clone().map_err(named)? != Value::Integer(2) {
            return Err(named(format!("it records {n:?} changes of a new row")));
        }
        query(db, "ROLLBACK", &[]).map_err(named)?;
        if State::read(db).map_err(named)? != found {
            return Err(named("ROLLBACK changes something".into()));
        }
        Ok(())
    }

    /// Opens the file anew, checks it and says what it holds.
    fn look(&self) -> Result<State, String> {
        let store = self.open()?;
        let db = store.sql();
        let findings = query(db, "SELECT * FROM ana_check", &[])?;
        let integrity = scalar(db, "PRAGMA integrity_check", &[])?;
        if !findings.is_empty() || integrity != text("ok") {
            return Err(format!("ana_check: {findings:?}, integrity: {integrity:?}"));
        }
        State::read(db)
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
struct State {
    digest: Value,
    others: Vec<Value>,
}

impl State {
    fn read(db: &Connection) -> Result<State, String> {
        let sql = "SELECT versions.v, crsql_db_version(), (SELECT count(*) FROM ana_part),
            (SELECT count(*) FROM crsql_changes), (SELECT max(position) FROM ana_log)
            FROM (SELECT ana_version_vector() AS v) AS versions";
        let mut others = query(db, sql, &[])?.pop().ok_or("no state")?;
        // The chain hangs on a random salt: a step done again has another one.
        if let Some(Value::Text(json)) = others.first() {
            let json = String::from_utf8_lossy(json).into_owned();
            let versions = crate::replica::read_vector(&json).into_iter();
            let versions: Vec<String> = versions.map(|(s, v, _)| format!("{s:?} {v}")).collect();
            others[0] = text(&versions.join(", "));
        }
        Ok(State { digest: scalar(db, "SELECT hex(ana_digest())", &[])?, others })
    }
}

fn steps(plan: Plan) -> Result<Vec<Step>, String> {
    let n = plan.n_rows;
    let other = other_copy(plan)?;
    let series = |first: u64, last: u64| {
        format!(
            "WITH RECURSIVE n(i) AS (VALUES({first}) UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
        )
    };
    let rows = |first: u64, n: u64| {
        format!("{} INSERT INTO t SELECT i, 'row ' || i, i FROM n", series(first, first + n - 1))
    };
    let mut steps = vec![
        Step::new("one row", &["INSERT INTO t VALUES(3, 'three', 3)"]),
        Step::new("one update", &["UPDATE t SET b = 'x' WHERE a = 1"]),
        Step::new("one delete", &["DELETE FROM t WHERE a = 2"]),
        Step::new("one key", &["UPDATE t SET a = 20 WHERE a = 3"]),
        Step::new("another spelling", &["UPDATE n SET k = 'KEY'"]),
    ];
    // Small transactions until the tail is folded inside one of them.
    for part in 0..5 {
        steps.push(Step { sql: vec![rows(100 + 60 * part, 60)], ..Step::new("sixty rows", &[]) });
    }
    steps.push(Step { sql: vec![rows(1000, n)], ..Step::new("bulk insert", &[]) });
    steps.extend([
        Step::new("bulk update", &["UPDATE t SET c = a % 3 WHERE a >= 1000"]),
        Step::new("bulk delete", &["DELETE FROM t WHERE a % 2 AND a >= 1000"]),
        Step::new(
            "early flush",
            &[
                "BEGIN",
                "INSERT INTO t VALUES(50, 'fifty', 50)",
                "SELECT count(*) FROM crsql_changes",
                "SAVEPOINT s",
                "DELETE FROM t WHERE a < 130 AND a > 100",
                "SELECT count(*) FROM crsql_changes",
                "ROLLBACK TO s",
                "UPDATE t SET b = 'after' WHERE a < 120",
                "COMMIT",
            ],
        ),
        Step::new(
            "changes",
            &[
                "BEGIN",
                "INSERT INTO crsql_changes VALUES('t', x'010901', 'b', 'theirs', 9, 5, x'0b', 1, 0)",
                "INSERT INTO crsql_changes VALUES('t', x'010914', '-1', NULL, 2, 5, x'0b', 2, 1)",
                "INSERT INTO crsql_changes VALUES('t', x'0109ff', 'c', 7, 1, 6, x'0c', 1, 0)",
                "INSERT INTO n VALUES('local', 'between')",
                "INSERT INTO crsql_changes VALUES('n', x'010b036b6579', 'v', 'up', 1, 7, x'0c', 3, 0)",
                "COMMIT",
            ],
        ),
        Step::with_blob("a delta", &["SELECT ana_apply(?1)"], other.whole),
        Step::new("one row more", &["INSERT INTO t VALUES(-5, 'last', 0)"]),
    ]);
    for (index, part) in other.parts.into_iter().enumerate() {
        let name = ["first part", "second part", "third part"][index.min(2)];
        steps.push(Step::with_blob(name, &["SELECT ana_apply(?1)"], part));
    }
    Ok(steps)
}

/// Deltas of another copy: a small one, and one in parts above it.
struct Other {
    whole: Vec<u8>,
    parts: Vec<Vec<u8>>,
}

fn other_copy(plan: Plan) -> Result<Other, String> {
    let db = Connection::open_in_memory().map_err(|error| error.to_string())?;
    let store = Store::from_connection(db).map_err(|error| error.to_string())?;
    let db = store.sql();
    let run = |sql: &str| db.execute_batch(sql).map_err(|error| format!("{sql}: {error}"));
    run(SETUP)?;
    run("UPDATE t SET b = 'other'; DELETE FROM t WHERE a = 1; INSERT INTO t VALUES(9, 9, 9);
         INSERT INTO t VALUES(1, 'again', NULL); INSERT INTO n VALUES('KEY2', x'00')")?;
    run("WITH RECURSIVE n(i) AS (VALUES(100) UNION ALL SELECT i + 1 FROM n WHERE i < 300)
         INSERT INTO t SELECT i, 'theirs', -i FROM n")?;
    let Value::Blob(whole) = scalar(db, "SELECT ana_export()", &[])? else {
        return Err("no delta".into());
    };
    if !plan.has_parts {
        return Ok(Other { whole, parts: Vec::new() });
    }
    let vector = scalar(db, "SELECT ana_version_vector()", &[])?;
    run("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 70)
         INSERT INTO t SELECT 5000 + i, randomblob(100000), i FROM n")?;
    let parts = query(db, "SELECT bytes FROM ana_parts(?1) ORDER BY part", &[vector])?;
    let parts = parts.into_iter().filter_map(|mut row| match row.pop() {
        Some(Value::Blob(bytes)) => Some(bytes),
        _ => None,
    });
    Ok(Other { whole, parts: parts.collect() })
}
