//! The simulated disk, judged by what SQLite itself promises: with the syncs it asks for,
//! every crash leaves a state that existed; without them, some crash does not.

use anabranch_sqlite::vfs::{Fault, SimDisk};
use rusqlite::{Connection, OpenFlags};

fn open(vfs: &str, mode: &str, sync: &str) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags_and_vfs("a.db", OpenFlags::default(), vfs)?;
    conn.execute_batch(&format!("PRAGMA journal_mode={mode}; PRAGMA synchronous={sync}"))?;
    Ok(conn)
}

/// Rows whose sum is 0 in every state; `n` counts the transactions.
const SCHEMA: &str = "CREATE TABLE account(id INTEGER PRIMARY KEY, v, filler);
    CREATE TABLE state(n); INSERT INTO state VALUES(0);
    WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i < 60)
    INSERT INTO account SELECT i, 0, hex(zeroblob(200)) FROM c;";

/// Ten transactions over many pages; the number of the last that was acknowledged.
fn work(conn: &Connection) -> (i64, rusqlite::Result<()>) {
    for n in 1..=10 {
        let sql = format!(
            "BEGIN; UPDATE account SET v = v + iif(id % 2, {n}, -{n}) WHERE id % 5 = {n} % 5
               OR (id + 5) % 10 = {n} % 5;
             UPDATE account SET filler = hex(zeroblob({n} * 40)) WHERE id % 7 = {n} % 7;
             UPDATE state SET n = {n}; COMMIT;"
        );
        let done = conn.execute_batch(&sql).and_then(|()| match n {
            6 if conn.query_row("PRAGMA journal_mode", [], |r| r.get::<_, String>(0))? == "wal" => {
                conn.query_row("PRAGMA wal_checkpoint", [], |_| Ok(()))
            }
            _ => Ok(()),
        });
        if let Err(error) = done {
            return (n - 1, Err(error));
        }
    }
    (10, Ok(()))
}

/// What a database says of itself after a crash: its transaction, or what is broken.
fn verdict(vfs: &str, mode: &str) -> Result<i64, String> {
    let conn = open(vfs, mode, "FULL").map_err(|e| e.to_string())?;
    let text = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, String>(0));
    match text("PRAGMA integrity_check") {
        Ok(ok) if ok == "ok" => {}
        Ok(finding) => return Err(finding),
        Err(error) => return Err(error.to_string()),
    }
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (n, n_rows) = (number("SELECT n FROM state"), number("SELECT count(*) FROM account"));
    match (n, n_rows) {
        (Ok(n), Ok(60)) => Ok(n),
        other => Err(format!("{other:?}")),
    }
}

/// Crashes the workload at each operation; how many there were, and what was found.
fn crash_everywhere(mode: &str, sync: &str, fault: Fault) -> (u64, Vec<String>) {
    // A death leaves unsynced work in the most states; an error that is told, in few.
    let n_seeds = if fault == Fault::Die { 3 } else { 1 };
    let disk = SimDisk::new(7);
    let vfs = disk.register().unwrap();
    open(&vfs, mode, sync).unwrap().execute_batch(SCHEMA).unwrap();
    disk.restart();
    let before = disk.image();
    let mut findings = Vec::new();
    for k in 1.. {
        disk.restore(&before);
        disk.fail_at(k, fault);
        let (acknowledged, error) = match open(&vfs, mode, sync) {
            Ok(conn) => work(&conn),
            Err(error) => (0, Err(error)),
        };
        let has_failed = disk.has_failed();
        assert!(has_failed || error.is_ok(), "{mode} {k}: {error:?}");
        let at_death = disk.image();
        for seed in 0..n_seeds {
            disk.restore(&at_death);
            disk.crash(k * 100 + seed);
            match verdict(&vfs, mode) {
                Ok(n) if n == acknowledged || (has_failed && n == acknowledged + 1) => {}
                Ok(n) => findings.push(format!("{mode} {k}/{seed}: {n} after {acknowledged}")),
                Err(text) => findings.push(format!("{mode} {k}/{seed}: {text}")),
            }
        }
        if !has_failed {
            return (k, findings);
        }
    }
    unreachable!("the workload ends")
}

#[test]
fn with_its_syncs_sqlite_survives_every_crash() {
    // EXTRA: a rollback journal's deletion is synced too, so that nothing acknowledged is lost.
    let table = [
        ("WAL", "FULL", Fault::Die),
        ("WAL", "FULL", Fault::IoError),
        ("WAL", "FULL", Fault::Torn),
        ("DELETE", "EXTRA", Fault::Die),
        ("DELETE", "EXTRA", Fault::Full),
        ("TRUNCATE", "EXTRA", Fault::Torn),
    ];
    for (mode, sync, fault) in table {
        let (n, findings) = crash_everywhere(mode, sync, fault);
        assert!(n > 50, "{mode}: only {n} operations");
        assert_eq!(findings, [""; 0], "{mode} {fault:?}");
    }
}

#[test]
fn without_syncs_some_crash_is_fatal() {
    for mode in ["WAL", "DELETE"] {
        let (_, findings) = crash_everywhere(mode, "OFF", Fault::Die);
        let is_broken = |finding: &&String| !finding.contains(" after ");
        assert!(findings.iter().filter(is_broken).count() > 0, "{mode}: {findings:?}");
    }
}

#[test]
fn a_dead_process_loses_nothing_that_was_written() {
    for mode in ["WAL", "DELETE"] {
        let disk = SimDisk::new(1);
        let vfs = disk.register().unwrap();
        open(&vfs, mode, "OFF").unwrap().execute_batch(SCHEMA).unwrap();
        let conn = open(&vfs, mode, "OFF").unwrap();
        work(&conn).1.unwrap();
        conn.execute_batch("BEGIN; UPDATE state SET n = 99").unwrap();
        disk.restart();
        assert_eq!(verdict(&vfs, mode), Ok(10));
        assert!(conn.execute_batch("COMMIT").is_err(), "an open file outlives nothing");
    }
}

#[test]
fn connections_lock_each_other_out() {
    for mode in ["WAL", "DELETE"] {
        let disk = SimDisk::new(1);
        let vfs = disk.register().unwrap();
        let (a, b) = (open(&vfs, mode, "FULL").unwrap(), open(&vfs, mode, "FULL").unwrap());
        a.busy_timeout(std::time::Duration::ZERO).unwrap();
        b.busy_timeout(std::time::Duration::ZERO).unwrap();
        a.execute_batch("CREATE TABLE t(a); BEGIN IMMEDIATE; INSERT INTO t VALUES(1)").unwrap();
        let busy = |result: rusqlite::Result<()>| {
            let code = result.unwrap_err().sqlite_error_code();
            assert_eq!(code, Some(rusqlite::ErrorCode::DatabaseBusy), "{mode}");
        };
        busy(b.execute_batch("BEGIN IMMEDIATE"));
        let n = |conn: &Connection| {
            conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!(n(&b), 0);
        b.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        match mode {
            "WAL" => a.execute_batch("COMMIT").unwrap(),
            _ => busy(a.execute_batch("COMMIT")),
        }
        assert_eq!(n(&b), 0, "{mode}: a reader keeps its snapshot");
        b.execute_batch("COMMIT").unwrap();
        if mode == "DELETE" {
            a.execute_batch("COMMIT").unwrap();
        }
        assert_eq!(n(&b), 1, "{mode}");
        b.execute_batch("INSERT INTO t VALUES(2)").unwrap();
        assert_eq!(n(&a), 2, "{mode}");
    }
}

#[test]
fn faults_count_and_files_are_files() {
    let disk = SimDisk::new(1);
    let vfs = disk.register().unwrap();
    let conn = open(&vfs, "DELETE", "FULL").unwrap();
    conn.execute_batch("CREATE TABLE t(a)").unwrap();
    assert!(disk.count() > 0 && !disk.has_failed());
    disk.fail_at(1, Fault::Full);
    let error = conn.execute_batch("INSERT INTO t VALUES(1)").unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    assert!(disk.has_failed());
    // Once is enough: the next attempt goes through.
    conn.execute_batch("INSERT INTO t VALUES(1)").unwrap();
    drop(conn);
    let files = disk.files();
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = disk.read("a.db").unwrap();
    assert_eq!(bytes.len() as u64, files[0].1);
    disk.write("b.db", &bytes);
    let conn = Connection::open_with_flags_and_vfs("b.db", OpenFlags::default(), vfs.as_str());
    let n: i64 = conn.unwrap().query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(n, 1);
    disk.fail_at(1, Fault::Die);
    let conn = open(&vfs, "DELETE", "FULL").unwrap();
    conn.execute_batch("INSERT INTO t VALUES(1)").unwrap_err();
    assert!(open(&vfs, "DELETE", "FULL").is_err(), "dead until it is started again");
}
