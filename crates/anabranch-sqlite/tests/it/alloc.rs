//! SQLite without memory, at each of its allocations. The allocator is the process's, so the
//! work is done by this executable started again.

use std::process::Command;

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::Embedded;
use anabranch_sqlite::alloc_fault::{self, Repeat};
use libsqlite3_sys as ffi;

use crate::fate::Bed;

/// Set in the process that does the work.
const CHILD: &str = "ANABRANCH_ALLOC_CHILD";

/// Starts one test of this executable again, alone, with the allocator that fails.
fn in_a_process_of_its_own(test: &str, work: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        alloc_fault::install().unwrap();
        return work();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

/// Runs `work`, which lets the k-th allocation fail, for each k; returns how many there were.
fn at_each_allocation(mut work: impl FnMut(u64)) -> u64 {
    for k in 1.. {
        work(k);
        if !alloc_fault::has_failed() {
            return k;
        }
    }
    unreachable!("the work ends")
}

#[test]
fn the_buffer_survives_a_lack_of_memory() {
    in_a_process_of_its_own("alloc::the_buffer_survives_a_lack_of_memory", || {
        let steps = [
            "BEGIN",
            "INSERT INTO t VALUES(1,1,1),(2,2,2)",
            "SAVEPOINT s",
            "UPDATE t SET a = a + 10",
            "INSERT OR REPLACE INTO t VALUES(11,2,3)",
            "ROLLBACK TO s",
            "DELETE FROM t WHERE a = 1",
            "COMMIT",
        ];
        for repeat in [Repeat::Once, Repeat::Forever] {
            let n = at_each_allocation(|k| {
                let bed = Bed::new();
                let mut committed = 0;
                alloc_fault::fail_at(k, repeat);
                for sql in steps {
                    let result = bed.run(sql);
                    let has_failed = alloc_fault::has_failed();
                    if result.is_err() {
                        assert!(has_failed, "{k}: {sql}: {result:?}");
                    }
                    if has_failed {
                        alloc_fault::never_fail();
                    }
                    if bed.events().contains("commit") {
                        committed += bed.follower.synced.take().len();
                    }
                    let expected = committed + bed.follower.items.borrow().len();
                    let shadow = alloc_fault::suspended(|| bed.shadow());
                    assert_eq!(shadow.len(), expected, "{k}: {sql}: {result:?}");
                }
                alloc_fault::never_fail();
                bed.run("ROLLBACK").ok();
                bed.run("INSERT INTO t VALUES(100,100,100)").unwrap();
            });
            assert!(n > 100, "only {n} allocations");
        }
    });
}

#[test]
fn values_are_whole_or_an_error() {
    in_a_process_of_its_own("alloc::values_are_whole_or_an_error", || {
        for encoding in ["UTF-8", "UTF-16le"] {
            let n = at_each_allocation(|k| {
                let conn = Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
                let db = conn.db();
                let text = "é".repeat(500);
                let setup = format!("PRAGMA encoding='{encoding}'; CREATE TABLE t(a, b);");
                db.execute_batch(&setup).unwrap();
                let params = [ValueRef::Text(text.as_bytes()), ValueRef::Blob(&[7; 3000])];
                db.execute("INSERT INTO t VALUES(?1, ?2)", &params).unwrap();
                db.create_function("same", 1, Default::default(), |c| Ok(c.arg(0).into())).unwrap();
                let expected = [Value::Text(text.clone().into()), Value::Blob(vec![7; 3000])];
                alloc_fault::fail_at(k, Repeat::Once);
                let rows = db.query_rows("SELECT same(a), b FROM t", &[]);
                alloc_fault::never_fail();
                let has_failed = alloc_fault::has_failed();
                match rows {
                    Ok(rows) => assert_eq!(rows, [expected.to_vec()], "{k}"),
                    Err(error) => {
                        assert!(has_failed);
                        assert_eq!(error.primary(), ffi::SQLITE_NOMEM, "{k}: {error:?}");
                    }
                }
                // Nothing is poisoned.
                let rows = db.query_rows("SELECT same(a), b FROM t", &[]).unwrap();
                assert_eq!(rows, [expected.to_vec()], "{k}");
            });
            assert!(n > 10, "only {n} allocations");
        }
    });
}

#[test]
fn registration_is_whole_or_an_error() {
    in_a_process_of_its_own("alloc::registration_is_whole_or_an_error", || {
        at_each_allocation(|k| {
            let conn = rusqlite::Connection::open_in_memory().unwrap();
            alloc_fault::fail_at(k, Repeat::Once);
            let Ok(conn) = Embedded::new(conn) else { return alloc_fault::never_fail() };
            let db = conn.db();
            let hooked = db.before_close(|| {}).is_ok();
            let made = db.create_function("f", 0, Default::default(), |_| Ok(Value::Null)).is_ok();
            let prepared = db.prepare("SELECT 1").map(|mut s| s.execute(&[]));
            assert!(alloc_fault::has_failed() || (hooked && made && prepared.is_ok()), "{k}");
            alloc_fault::never_fail();
            drop(conn);
        });
    });
}
