//! The store without memory, at each of SQLite's allocations: what stands is what SQLite
//! kept, and the connection works on. The allocator is the process's, so the work is done by
//! this executable started again.

use std::process::Command;

use anabranch_sqlite::alloc_fault::{self, Repeat};

use crate::support::Store;

/// Set in the process that does the work.
const CHILD: &str = "ANABRANCH_ALLOC_CHILD";
/// Every how many-th allocation fails; 1 takes minutes.
const STRIDE: &str = "ANABRANCH_ALLOC_STRIDE";

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

const STEPS: &[&str] = &[
    "INSERT INTO t VALUES(1, 'a', 1)",
    "BEGIN",
    "INSERT INTO t VALUES(2, 'b', 2), (3, 'c', 3)",
    "SAVEPOINT s",
    "UPDATE t SET b = b || 'x'",
    "SELECT crsql_get_seq()",
    "INSERT INTO crsql_changes VALUES('t', x'010904', 'b', 4, 1, 7, x'aa', 1, 0)",
    "UPDATE OR REPLACE t SET a = 1 WHERE a = 2",
    "ROLLBACK TO s",
    "INSERT OR REPLACE INTO t VALUES(3, 'd', 4)",
    "SELECT count(*) FROM crsql_changes",
    "COMMIT",
    "CREATE TABLE u(a TEXT PRIMARY KEY COLLATE NOCASE, b)",
    "INSERT INTO u VALUES('k', 1)",
    "SELECT crsql_as_crr('u')",
    "INSERT OR REPLACE INTO u VALUES('K', 1)",
    "ALTER TABLE t ADD COLUMN d DEFAULT 3",
    "SELECT crsql_as_crr('t')",
    "DELETE FROM t WHERE a = 1",
    "SELECT crsql_as_table('u')",
];

/// Every live row has its changes, and nothing else does.
fn check(store: &Store, k: u64, log: &[String]) {
    let rows = store.rows("SELECT a FROM t ORDER BY a");
    let found = store.rows(
        "SELECT (SELECT cell FROM crsql_unpack_columns WHERE package = pk) FROM crsql_changes
         WHERE cid = 'b' AND [table] = 't' ORDER BY 1",
    );
    assert_eq!(found, rows, "k = {k}, {log:#?}");
    assert_eq!(store.rows("SELECT * FROM ana_check"), [""; 0], "k = {k}, {log:#?}");
}

/// Runs the steps with the k-th allocation refused; whether one was.
fn run(k: u64, repeat: Repeat) -> bool {
    alloc_fault::never_fail();
    let store = Store::with("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)", &["t"]);
    alloc_fault::fail_at(k, repeat);
    let mut log = Vec::new();
    for sql in STEPS {
        // Refused or not: the check says what must hold.
        let outcome = store.try_rows(sql, vec![]);
        log.push(format!("{sql}: {outcome:?}"));
        if let (Err(error), Repeat::Forever) = (outcome, repeat) {
            assert!(!error.to_string().contains("poisoned"), "k = {k}, {sql}: {error}");
            alloc_fault::never_fail();
        }
    }
    let has_failed = alloc_fault::has_failed();
    alloc_fault::never_fail();
    if !store.conn.is_autocommit() {
        store.run("COMMIT");
    }
    store.run("SELECT crsql_as_crr('t')");
    check(&store, k, &log);
    store.run("INSERT INTO t(a) VALUES(77); UPDATE t SET b = 0");
    check(&store, k, &log);
    has_failed
}

#[test]
fn the_store_survives_a_lack_of_memory() {
    in_a_process_of_its_own("memory::the_store_survives_a_lack_of_memory", || {
        let stride = std::env::var(STRIDE).ok().and_then(|stride| stride.parse().ok());
        let stride: u64 = stride.unwrap_or(97);
        for repeat in [Repeat::Once, Repeat::Forever] {
            let mut k = 1;
            while run(k, repeat) {
                k += stride;
            }
            println!("{repeat:?}: up to k = {k}");
            assert!(k > 1000);
        }
    });
}
