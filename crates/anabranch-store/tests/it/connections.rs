//! Several connections, and connections that a host has restricted.

use anabranch_sqlite::Embedded;
use rusqlite::{Connection, OpenFlags};

use crate::support::Store;

const SCHEMA: &str = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)";

/// A file that several connections open.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    /// A file with table `t`, conflict-free, in one of SQLite's journal modes.
    fn new(journal: &str) -> File {
        let file = File { folder: tempfile::tempdir().unwrap() };
        let store = file.open();
        store.run(&format!("PRAGMA journal_mode = {journal}"));
        store.run(SCHEMA);
        store.run("SELECT crsql_as_crr('t')");
        file
    }

    fn connect(&self, flags: OpenFlags) -> Embedded {
        let path = self.folder.path().join("x.db");
        let conn = Connection::open_with_flags(path, flags).unwrap();
        conn.busy_timeout(std::time::Duration::ZERO).unwrap();
        Embedded::new(conn).unwrap()
    }

    fn open_with(&self, flags: OpenFlags) -> Store {
        let conn = self.connect(flags);
        anabranch_store::install(conn.db()).unwrap();
        Store { conn }
    }

    fn open(&self) -> Store {
        self.open_with(OpenFlags::default())
    }
}

#[test]
fn two_connections_share_versions_and_site() {
    for journal in ["WAL", "DELETE"] {
        let file = File::new(journal);
        let (a, b) = (file.open(), file.open());
        assert_eq!(a.rows("SELECT crsql_site_id()"), b.rows("SELECT crsql_site_id()"));
        a.run("INSERT INTO t VALUES(1, 1)");
        b.expect("SELECT crsql_db_version()", "1");
        b.run("INSERT INTO t VALUES(2, 1)");
        a.run("UPDATE t SET b = 2");
        b.run("DELETE FROM t WHERE a = 1");
        let shown = "SELECT pk, cid, col_version, db_version FROM crsql_changes";
        a.expect(shown, "x'010902'|b|2|3\nx'010901'|-1|2|4");
        assert_eq!(a.rows(shown), b.rows(shown));
        a.expect("SELECT * FROM ana_check", "");
    }
}

/// A commit that fails when all is written may stand on the disk, and in a copy of the file that is
/// made then. What takes its version has another salt, so that both are not taken for one history.
#[test]
fn what_takes_the_version_of_a_failed_commit_has_another_salt() {
    let file = File::new("DELETE");
    let (a, reader) = (file.open(), file.open());
    let salts = "SELECT version FROM ana_salt ORDER BY version";
    a.run("INSERT INTO t VALUES(1, 1)");
    a.run("BEGIN; INSERT INTO t VALUES(2, 1); ROLLBACK; INSERT INTO t VALUES(2, 1)");
    a.expect(salts, "1");
    // Who reads keeps the pages of the commit out of the file.
    reader.run("BEGIN; SELECT * FROM t");
    a.run("BEGIN; INSERT INTO t VALUES(3, 1)");
    let message = a.refuse("COMMIT", vec![]);
    assert!(message.contains("locked"), "{message}");
    a.run("ROLLBACK");
    reader.run("COMMIT");
    a.run("INSERT INTO t VALUES(3, 2)");
    a.expect(salts, "1\n3");
    a.expect("SELECT * FROM ana_check", "");
}

#[test]
fn a_table_altered_by_another_connection() {
    let file = File::new("WAL");
    let (a, b) = (file.open(), file.open());
    a.run("INSERT INTO t VALUES(1, 1)");
    b.run("ALTER TABLE t ADD COLUMN c");
    let message = a.refuse("UPDATE t SET c = 1", vec![]);
    assert_eq!(message, "table t was altered: run SELECT crsql_as_crr('t')");
    b.run("SELECT crsql_as_crr('t')");
    a.run("UPDATE t SET c = 1");
    b.run("SELECT crsql_as_table('t')");
    a.run("UPDATE t SET c = 2");
    a.expect("SELECT * FROM crsql_changes", "");
    b.run("SELECT crsql_as_crr('t'); DROP TABLE t");
    a.expect("SELECT * FROM crsql_changes", "");
    a.expect("SELECT * FROM ana_check", "");
}

/// Somebody without us cannot write, and cannot make us miss what he altered.
#[test]
fn a_process_without_us() {
    let file = File::new("WAL");
    let store = file.open();
    store.run("INSERT INTO t VALUES(1, 1)");
    let plain = file.connect(OpenFlags::default());
    let error = plain.execute("INSERT INTO t VALUES(2, 1)", []).unwrap_err().to_string();
    assert!(error.contains("no such function: crsql_internal_ins"), "{error}");
    plain.execute_batch("ALTER TABLE t ADD COLUMN c; CREATE TABLE other(x)").unwrap();
    plain.execute_batch("ALTER TABLE other RENAME TO another; DROP TABLE another").unwrap();
    store.refuse("UPDATE t SET c = 1", vec![]);
    store.run("SELECT crsql_as_crr('t'); UPDATE t SET c = 1");
    store.expect("SELECT cid, val FROM crsql_changes", "b|1\nc|1");
}

/// A reader keeps COMMIT from its lock: the transaction stays open, and the second try
/// commits it, once.
#[test]
fn a_commit_that_is_busy_is_tried_again() {
    let file = File::new("DELETE");
    let (a, b) = (file.open(), file.open());
    a.run("INSERT INTO t VALUES(1, 1)");
    let reads = b.conn.prepare("SELECT a FROM t").unwrap();
    b.run("BEGIN");
    b.expect("SELECT count(*) FROM t", "1");
    a.run("BEGIN; INSERT INTO t VALUES(2, 1); SAVEPOINT s; INSERT INTO t VALUES(3, 1)");
    for _ in 0..2 {
        let message = a.refuse("COMMIT", vec![]);
        assert!(message.contains("locked"), "{message}");
        assert!(!a.conn.is_autocommit());
    }
    a.run("ROLLBACK TO s; INSERT INTO t VALUES(4, 1)");
    a.refuse("COMMIT", vec![]);
    a.run("UPDATE t SET b = 2 WHERE a = 1");
    drop(reads);
    b.run("COMMIT");
    a.run("COMMIT");
    let shown = "SELECT pk, col_version, db_version, seq FROM crsql_changes";
    a.expect(shown, "x'010902'|1|2|0\nx'010904'|1|2|1\nx'010901'|2|2|2");
    b.expect("SELECT * FROM ana_check", "");
    b.expect("SELECT count(*) FROM ana_log", "2");
    a.run("INSERT INTO t VALUES(9, 1)");
    b.expect("SELECT max(db_version) FROM crsql_changes", "3");
}

#[test]
fn a_file_that_cannot_be_written() {
    let file = File::new("DELETE");
    file.open().run("INSERT INTO t VALUES(1, 1)");
    let store = file.open_with(OpenFlags::SQLITE_OPEN_READ_ONLY);
    store.expect("SELECT cid, val FROM crsql_changes", "b|1");
    store.expect("SELECT crsql_db_version(), crsql_rows_impacted()", "1|0");
    store.expect("SELECT length(crsql_site_id())", "16");
    for sql in ["INSERT INTO t VALUES(2, 1)", "SELECT crsql_as_table('t')"] {
        let message = store.refuse(sql, vec![]);
        assert!(message.contains("readonly"), "{message}");
    }
    store.expect("SELECT crsql_as_crr('t')", "OK");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn a_fresh_file_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fresh.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE x(a)").unwrap();
    let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let conn = Embedded::new(conn).unwrap();
    let error = anabranch_store::install(conn.db()).unwrap_err();
    assert!(error.message.starts_with("error during initialization: "), "{error}");
}

#[test]
fn files_that_are_not_ours() {
    let refused = |schema: &str| {
        let conn = Embedded::new(Connection::open_in_memory().unwrap()).unwrap();
        conn.execute_batch(schema).unwrap();
        let message = anabranch_store::install(conn.db()).unwrap_err().message;
        let n: i64 = conn
            .query_row("SELECT count(*) FROM sqlite_master WHERE name LIKE 'ana%'", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert!(n <= 1, "{schema}");
        message
    };
    assert_eq!(
        refused(
            "CREATE TABLE crsql_master(key TEXT PRIMARY KEY, value ANY);
             INSERT INTO crsql_master VALUES('crsqlite_version', 140200)"
        ),
        "Opening a db created with cr-sqlite version 140200 is not supported. Upcoming release \
         0.15.0 is a breaking change."
    );
    assert_eq!(
        refused("CREATE TABLE foo__crsql_clock(key, col_name)"),
        "this file holds tables of cr-sqlite (foo__crsql_clock), which this version cannot take \
         over"
    );
    assert_eq!(
        refused("CREATE TABLE ana_meta(key, value); INSERT INTO ana_meta VALUES('format', 2)"),
        "this file has format 2, written by a newer Anabranch; this one reads up to format 1"
    );
}

/// Loading inside a transaction makes our tables in it.
#[test]
fn installed_inside_a_transaction_and_twice() {
    let conn = Embedded::new(Connection::open_in_memory().unwrap()).unwrap();
    conn.execute_batch("BEGIN; CREATE TABLE t(a PRIMARY KEY, b)").unwrap();
    anabranch_store::install(conn.db()).unwrap();
    anabranch_store::install(conn.db()).unwrap();
    let store = Store { conn };
    store.run("SELECT crsql_as_crr('t'); INSERT INTO t VALUES(1, 1)");
    anabranch_store::install(store.conn.db()).unwrap();
    store.run("INSERT INTO t VALUES(2, 1); COMMIT");
    store.expect("SELECT pk, seq FROM crsql_changes", "x'010901'|0\nx'010902'|1");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn a_site_id_that_is_missing_is_made() {
    let file = File::new("DELETE");
    let plain = file.connect(OpenFlags::default());
    plain.execute("DELETE FROM crsql_site_id", []).unwrap();
    drop(plain);
    file.open().expect("SELECT length(site_id), ordinal FROM crsql_site_id", "16|0");
}

/// The connection can be closed at any time, whatever is kept.
#[test]
fn closing_and_finalizing() {
    let file = File::new("WAL");
    let store = file.open();
    store.run("BEGIN; INSERT INTO t VALUES(1, 1)");
    store.expect("SELECT count(*) FROM crsql_changes", "1");
    store.expect("SELECT crsql_finalize()", "finalized");
    store.run("INSERT INTO t VALUES(2, 1)");
    store.expect("SELECT count(*) FROM crsql_changes", "2");
    drop(store);
    let store = file.open();
    store.expect("SELECT count(*) FROM crsql_changes", "0");
    store.run("INSERT INTO t VALUES(1, 1); SELECT crsql_finalize(); INSERT INTO t VALUES(2, 1)");
    store.expect("SELECT count(*) FROM crsql_changes", "2");
}

#[test]
fn restricted_connections() {
    let store = Store::new();
    store.run(SCHEMA);
    store.run("PRAGMA trusted_schema = OFF");
    store.conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).unwrap();
    store.run("SELECT crsql_as_crr('t'); INSERT INTO t VALUES(1, 1); UPDATE t SET b = 2");
    store.run("CREATE TRIGGER v AFTER INSERT ON t BEGIN SELECT crsql_db_version(); END");
    store.run("INSERT INTO t VALUES(2, 1); DELETE FROM t WHERE a = 1");
    store.expect("SELECT cid, cl FROM crsql_changes", "b|1\n-1|2");
    store.expect("SELECT * FROM ana_check", "");
}

/// What was written before `query_only` was set is committed, and shown.
#[test]
fn query_only_in_the_middle_of_a_transaction() {
    let store = Store::with(SCHEMA, &["t"]);
    store.run("BEGIN; INSERT INTO t VALUES(1, 1); PRAGMA query_only = ON");
    store.expect("SELECT cid, val FROM crsql_changes", "b|1");
    store.refuse("INSERT INTO t VALUES(2, 1)", vec![]);
    store.run("COMMIT");
    store.expect("PRAGMA query_only", "1");
    store.run("PRAGMA query_only = OFF; BEGIN; INSERT INTO t VALUES(2, 1); PRAGMA query_only = ON");
    store.run("COMMIT");
    store.expect("SELECT count(*) FROM crsql_changes", "2");
    store.expect("SELECT * FROM ana_check", "");
}

#[test]
fn attached_databases() {
    let file = File::new("DELETE");
    let path = file.folder.path().join("x.db");
    let other = Store::with(SCHEMA, &["t"]);
    other.run(&format!("ATTACH '{}' AS aux", path.display()));
    other.run("INSERT INTO main.t VALUES(1, 1)");
    let message = other.refuse("INSERT INTO aux.t VALUES(7, 1)", vec![]);
    assert!(message.starts_with("this table belongs to an attached database"), "{message}");
    other.expect("SELECT count(*) FROM aux.t", "0");
    other.expect("SELECT count(*) FROM crsql_changes", "1");
    // A copy has the same tables under the same tokens.
    let copy = file.folder.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let store = file.open();
    store.run("INSERT INTO t VALUES(1, 1)");
    store.run(&format!("ATTACH '{}' AS twin", copy.display()));
    for sql in ["INSERT INTO twin.t VALUES(7, 1)", "INSERT INTO main.t VALUES(7, 1)"] {
        let message = store.refuse(sql, vec![]);
        assert!(message.starts_with("twin is a copy of this database"), "{message}");
    }
    store.run("DETACH twin; INSERT INTO t VALUES(2, 1)");
    store.expect("SELECT count(*) FROM crsql_changes", "2");
    store.expect("SELECT * FROM ana_check", "");
}

/// Tables called as ours is that is told what becomes of a transaction.
#[test]
fn a_table_called_as_the_one_that_follows_transactions() {
    for schema in ["temp", "aux"] {
        let store = Store::with(SCHEMA, &["t"]);
        store.run("ATTACH ':memory:' AS aux");
        store.run(&format!("CREATE TABLE {schema}.ana_transaction(x)"));
        store.run("INSERT INTO t VALUES(1, 1)");
        store.expect("SELECT version FROM ana_log", "1");
        store.expect("SELECT * FROM ana_check", "");
    }
}

#[test]
fn what_is_the_users_stays() {
    let store = Store::with(
        "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b); CREATE TABLE u(x); CREATE TABLE w(x)",
        &["t"],
    );
    store.run("INSERT INTO t VALUES(41, 1), (42, 1), (43, 2)");
    store.expect("SELECT changes(), last_insert_rowid()", "3|43");
    store.run("UPDATE t SET b = 5 WHERE a < 43");
    store.expect("SELECT changes(), last_insert_rowid()", "2|43");
    store.run("BEGIN; INSERT INTO t VALUES(50, 1)");
    store.expect("SELECT changes(), last_insert_rowid()", "1|50");
    store.run("SELECT crsql_get_seq(); COMMIT");
    store.expect("SELECT last_insert_rowid()", "50");
    store.run("CREATE TABLE e(k PRIMARY KEY NOT NULL); INSERT INTO e VALUES(1), (2)");
    store.run("SELECT crsql_as_crr('e'); SELECT crsql_config_set('merge-equal-values', 1)");
    store.expect("SELECT last_insert_rowid()", "2");
}

#[test]
fn the_setting_is_kept_in_the_file() {
    let file = File::new("DELETE");
    let store = file.open();
    let get = "SELECT crsql_config_get('merge-equal-values')";
    store.expect(get, "0");
    store.expect("SELECT crsql_config_set('merge-equal-values', 1)", "1");
    store.expect(get, "1");
    let other = file.open();
    other.expect(get, "1");
    // It follows the transaction, and the commits of others.
    store.run("BEGIN; SELECT crsql_config_set('merge-equal-values', 0)");
    store.expect(get, "0");
    store.run("ROLLBACK");
    store.expect(get, "1");
    store
        .run("BEGIN; SAVEPOINT s; SELECT crsql_config_set('merge-equal-values', 0); ROLLBACK TO s");
    store.expect(get, "1");
    store.run("COMMIT");
    other.run("SELECT crsql_config_set('merge-equal-values', 0)");
    store.expect(get, "0");
    store.run("UPDATE crsql_master SET value = 'x' WHERE key LIKE 'config%'");
    let conn = file.connect(OpenFlags::default());
    let error = anabranch_store::install(conn.db()).unwrap_err();
    assert_eq!(error.message, "crsql_master: config.merge-equal-values is not an integer");
}

#[test]
fn a_merge_is_not_captured_and_counted_until_its_end() {
    let store = Store::with(SCHEMA, &["t"]);
    let merge = |key: &str, value: i64, site: &str| {
        format!(
            "INSERT INTO crsql_changes VALUES('t', x'0109{key}', 'b', {value}, 1, 9, x'{site}', 1, 0)"
        )
    };
    store.run("BEGIN");
    store.run(&merge("01", 1, "aa"));
    store.run(&merge("02", 1, "aa"));
    store.run("SAVEPOINT s");
    store.run(&merge("03", 1, "aa"));
    store.expect("SELECT crsql_rows_impacted()", "3");
    store.run("ROLLBACK TO s");
    store.expect("SELECT crsql_rows_impacted()", "2");
    store.expect("SELECT pk, site_id FROM crsql_changes", "x'010901'|x'aa'\nx'010902'|x'aa'");
    store.run("ROLLBACK");
    store.expect("SELECT crsql_rows_impacted()", "0");
    store.run(&merge("01", 1, "bb"));
    store.expect("SELECT crsql_rows_impacted()", "0");
    store.expect("SELECT ordinal, site_id FROM crsql_site_id WHERE ordinal > 0", "1|x'bb'");
    store.run("SELECT crsql_internal_sync_bit(1); INSERT INTO t VALUES(5, 5)");
    store.run("SELECT crsql_internal_sync_bit(0); INSERT INTO t VALUES(6, 6)");
    store.expect("SELECT count(*) FROM crsql_changes", "2");
}

/// A program opened the file while another committed and folded: it read the vector of one
/// state and the log of the next, and called the file damaged.
#[test]
fn what_is_read_at_once_is_of_one_state() {
    let file = File::new("WAL");
    let writing = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let store = file.open();
            store.run("PRAGMA synchronous = OFF");
            for n in 0..1500 {
                store.run(&format!("INSERT INTO t VALUES({n}, 1)"));
            }
            writing.store(false, std::sync::atomic::Ordering::Relaxed);
        });
        let reader = file.open();
        while writing.load(std::sync::atomic::Ordering::Relaxed) {
            file.open().expect("SELECT typeof(crsql_db_version())", "integer");
            reader.expect("SELECT typeof(ana_version_vector())", "text");
        }
        reader.expect("SELECT count(*) FROM t", "1500");
    });
}
