//! Rows found by rowid and changes known from memory: whatever a table calls its columns,
//! wherever its rows go, and whoever writes in between.

use rusqlite::types::Value;

use crate::support::Store;

const COLUMNS: &str = "[table], pk, cid, val, col_version, db_version, site_id, cl, seq";
const STATE: &str = "SELECT [table], pk, cid, val, col_version, cl FROM crsql_changes \
                     ORDER BY [table], pk, cid";

fn changes(store: &Store) -> Vec<Vec<Value>> {
    let mut select = store.conn.prepare(&format!("SELECT {COLUMNS} FROM crsql_changes")).unwrap();
    let rows = select.query_map([], |row| (0..9).map(|i| row.get::<_, Value>(i)).collect());
    rows.unwrap().map(Result::unwrap).collect()
}

fn merge(store: &Store, changes: &[Vec<Value>]) {
    store.run("BEGIN");
    for change in changes {
        store.execute("INSERT INTO crsql_changes VALUES(?,?,?,?,?,?,?,?,?)", change.clone());
    }
    store.run("COMMIT");
}

/// Table `t`, a column of its key, a row made of the numbers `i` and `k` (scattered), and what
/// sets all columns but the key.
const TABLES: &[(&str, &str, &str, &str)] = &[
    (
        "CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, a, b)",
        "id",
        "printf('k%03d', k), i, 'b'",
        "a = -a, b = b || a",
    ),
    (
        "CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, _rowid_, b)",
        "id",
        "printf('k%03d', k), i, 'b'",
        "_rowid_ = 7, b = b || '!'",
    ),
    (
        "CREATE TABLE t(id BLOB PRIMARY KEY NOT NULL, rowid, _ROWID_, Oid)",
        "id",
        "CAST(printf('k%03d', k) AS BLOB), i, k, 'b'",
        "rowid = 5, _rowid_ = 6, oid = 7",
    ),
    (
        "CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, a, b) WITHOUT ROWID",
        "id",
        "k || '', i, 'b'",
        "a = 1, b = 2",
    ),
    (
        "CREATE TABLE t(x TEXT NOT NULL, y NOT NULL, a, b, PRIMARY KEY(x, y))",
        "x",
        "k || '', i, i, 'b'",
        "a = 1, b = 2",
    ),
    (
        "CREATE TABLE t(id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, a, b)",
        "id",
        "iif(i % 2, 'K', 'k') || k, i, 'b'",
        "a = 1, b = 2",
    ),
    (
        "CREATE TABLE t(id PRIMARY KEY NOT NULL, a, b)",
        "id",
        "iif(i % 3, k * 0.5, CAST(k AS BLOB)), i, 'b'",
        "a = 1, b = 2",
    ),
];

const NUMBERS: &str = "WITH n(i, k) AS (SELECT 1, 7 UNION ALL SELECT i + 1, (k + 377) % 997 \
                       FROM n WHERE i < 300)";

#[test]
fn rows_are_found_whatever_the_table_looks_like() {
    for (schema, key, row, set) in TABLES {
        let (writer, reader) = (Store::with(schema, &["t"]), Store::with(schema, &["t"]));
        let steps = [
            format!("INSERT INTO t {NUMBERS} SELECT {row} FROM n"),
            format!("UPDATE t SET {set}"),
            format!("DELETE FROM t WHERE {key} IN (SELECT {key} FROM t LIMIT 40)"),
            format!("INSERT OR IGNORE INTO t {NUMBERS} SELECT {row} FROM n WHERE i % 5 = 0"),
        ];
        for step in steps {
            writer.run(&step);
            let changes = changes(&writer);
            for _ in 0..2 {
                merge(&reader, &changes);
                for sql in ["SELECT * FROM t ORDER BY 1, 2", STATE] {
                    assert_eq!(reader.rows(sql), writer.rows(sql), "{schema}: {step}");
                }
            }
        }
        reader.expect("SELECT count(*) FROM ana_check", "0");
    }
}

#[test]
fn a_row_that_a_trigger_moved_gets_all_its_cells() {
    let schema = "CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, a, b, c)";
    let (writer, reader) = (Store::with(schema, &["t"]), Store::with(schema, &["t"]));
    reader.run(
        "CREATE TRIGGER moves AFTER INSERT ON t BEGIN
           UPDATE t SET rowid = new.rowid + 10 WHERE id = new.id; END",
    );
    writer.run("INSERT INTO t VALUES('x', 1, 2, 3), ('y', 4, 5, 6), ('z', 7, 8, 9)");
    merge(&reader, &changes(&writer));
    reader.expect("SELECT * FROM t ORDER BY id", "x|1|2|3\ny|4|5|6\nz|7|8|9");
    writer.run("UPDATE t SET a = 10, b = 11, c = 12");
    merge(&reader, &changes(&writer));
    reader.expect("SELECT * FROM t ORDER BY id", "x|10|11|12\ny|10|11|12\nz|10|11|12");
}

/// What is written between two changes of one row that both are known, and what then stands.
#[test]
fn what_is_written_between_two_known_changes_counts() {
    let cases = [
        ("SELECT 1", "1|2", "a|1|1\nb|1|1"),
        ("UPDATE t SET b = 3", "1|3", "a|1|1\nb|2|1"),
        ("UPDATE t SET b = 3; UPDATE t SET b = 2", "1|2", "a|1|1\nb|3|1"),
        ("DELETE FROM t", "", "-1|2|2"),
        ("SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; RELEASE s", "1|2", "a|1|1\nb|1|1"),
        // Not captured: the value that came with the change is the larger one again.
        (
            "SELECT crsql_internal_sync_bit(1); UPDATE t SET b = 0; \
             SELECT crsql_internal_sync_bit(0)",
            "1|2",
            "a|1|1\nb|1|1",
        ),
    ];
    let schema = "CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, a, b)";
    for (between, row, state) in cases {
        let (writer, reader) = (Store::with(schema, &["t"]), Store::with(schema, &["t"]));
        writer.run("INSERT INTO t VALUES('x', 1, 2)");
        let changes = changes(&writer);
        merge(&reader, &changes);
        reader.run("BEGIN");
        let again = "INSERT INTO crsql_changes VALUES(?,?,?,?,?,?,?,?,?)";
        reader.execute(again, changes[0].clone());
        reader.run(between);
        reader.execute(again, changes[1].clone());
        reader.run("COMMIT");
        reader.expect("SELECT a, b FROM t", row);
        let stands = "SELECT cid, col_version, cl FROM crsql_changes ORDER BY cid";
        reader.expect(stands, state);
    }
}
