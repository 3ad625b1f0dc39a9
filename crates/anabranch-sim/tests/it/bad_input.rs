//! What no function takes: an error that names the argument, a connection that works on,
//! and the user's open transaction as it stood.

use anabranch::Store;
use anabranch_sim::model::Value;
use anabranch_sim::replica::{query, scalar};

fn store() -> Store {
    let db = anabranch::rusqlite::Connection::open_in_memory().expect("memory");
    let store = Store::from_connection(db).expect("a fresh store");
    let setup = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c CHECK(c < 10));
        CREATE TABLE k(p TEXT NOT NULL, q BLOB NOT NULL, v NOT NULL DEFAULT 1, PRIMARY KEY(p, q));
        CREATE TABLE s(id INTEGER PRIMARY KEY NOT NULL, x TEXT) STRICT;
        CREATE TABLE u(a PRIMARY KEY, b);
        SELECT crsql_as_crr('t'); SELECT crsql_as_crr('k'); SELECT crsql_as_crr('s');
        SELECT crsql_as_crr('u'); INSERT INTO t VALUES(1, 'one', 1);";
    store.sql().execute_batch(setup).expect("set up");
    store
}

/// All that must not change.
fn state(store: &Store) -> Vec<Vec<Value>> {
    let sql = "SELECT ana_digest(), ana_version_vector(), crsql_db_version(),
                 crsql_rows_impacted(), (SELECT count(*) FROM ana_part)";
    let mut state = query(store.sql(), sql, &[]).expect("state");
    state.extend(query(store.sql(), "SELECT * FROM crsql_changes", &[]).expect("changes"));
    state.extend(query(store.sql(), "SELECT * FROM t", &[]).expect("rows"));
    state
}

/// Runs a statement that must fail with `words` in its message, in and outside of a
/// transaction.
fn check(store: &Store, sql: &str, words: &[&str]) -> Result<(), String> {
    let db = store.sql();
    let bad = |what: &str| Err(format!("{sql}\n      {what}"));
    let before = state(store);
    match query(db, sql, &[]) {
        Ok(rows) => return bad(&format!("is taken in autocommit: {rows:?}")),
        Err(_) if state(store) != before => return bad("changes something in autocommit"),
        Err(_) => {}
    }
    query(db, "BEGIN", &[])?;
    query(db, "INSERT INTO t VALUES(77, 'mine', 1)", &[])?;
    let before = state(store);
    let error = match query(db, sql, &[]) {
        Ok(rows) => return bad(&format!("is taken: {rows:?}")),
        Err(error) => error,
    };
    let message = error.strip_prefix(&format!("{sql}: ")).unwrap_or(&error);
    if db.is_autocommit() {
        return bad("ended the user's transaction");
    }
    if state(store) != before {
        return bad("changes something");
    }
    let rows = query(db, "SELECT b FROM t WHERE a = 77", &[])?;
    if rows.len() != 1 {
        return bad("undid the user's write");
    }
    query(db, "UPDATE t SET b = 'still mine' WHERE a = 77", &[])?;
    query(db, "COMMIT", &[])?;
    query(db, "DELETE FROM t WHERE a = 77", &[])?;
    let findings = query(db, "SELECT * FROM ana_check", &[])?;
    if !findings.is_empty() {
        return bad(&format!("ana_check: {findings:?}"));
    }
    match words.iter().find(|word| !message.contains(**word)) {
        Some(word) => bad(&format!("does not say {word:?}: {message}")),
        None => Ok(()),
    }
}

fn check_all(cases: &[(&str, &[&str])]) {
    let store = store();
    let failures: Vec<String> =
        cases.iter().filter_map(|(sql, words)| check(&store, sql, words).err()).collect();
    assert!(failures.is_empty(), "\n    {}", failures.join("\n    "));
}

#[test]
fn functions() {
    check_all(&[
        ("SELECT crsql_as_crr()", &["number of args"]),
        ("SELECT crsql_as_crr(NULL)", &["table"]),
        ("SELECT crsql_as_crr(5)", &["table"]),
        ("SELECT crsql_as_crr(x'ff')", &["able"]),
        ("SELECT crsql_as_crr('nope')", &["nope"]),
        ("SELECT crsql_as_crr('main', NULL)", &["table"]),
        ("SELECT crsql_as_crr('crsql_changes')", &["crsql_changes"]),
        ("SELECT crsql_as_crr('sqlite_master')", &["sqlite_master"]),
        ("SELECT crsql_as_crr('ana_entry')", &["ana_entry"]),
        ("SELECT crsql_as_table(NULL)", &["able"]),
        ("SELECT crsql_as_table(x'00')", &["able"]),
        ("SELECT crsql_config_set('nope', 1)", &["Unknown setting name"]),
        ("SELECT crsql_config_set(NULL, 1)", &["setting"]),
        ("SELECT crsql_config_set('merge-equal-values', 'x')", &["merge-equal-values"]),
        ("SELECT crsql_config_set('merge-equal-values', NULL)", &["merge-equal-values"]),
        ("SELECT crsql_config_get('nope')", &["Unknown setting name"]),
        ("SELECT crsql_config_get(NULL)", &["setting"]),
        ("SELECT crsql_next_db_version('x')", &["db_version"]),
        ("SELECT crsql_next_db_version(9223372036854775807)", &["db_version"]),
        ("SELECT crsql_next_db_version(1, 2)", &["crsql_next_db_version"]),
        ("SELECT * FROM crsql_unpack_columns WHERE package = x''", &["SQL logic error"]),
        ("SELECT * FROM crsql_unpack_columns WHERE package = NULL", &["package"]),
        ("SELECT * FROM crsql_unpack_columns WHERE package = 'text'", &["SQL logic error"]),
        ("SELECT * FROM crsql_unpack_columns WHERE package = x'0109'", &["SQL logic error"]),
        ("SELECT * FROM crsql_unpack_columns WHERE package = x'01ff'", &["SQL logic error"]),
        (
            "SELECT * FROM crsql_unpack_columns WHERE package = x'01490102030405060708ff'",
            &["SQL logic error"],
        ),
        (
            "SELECT * FROM crsql_unpack_columns WHERE package = x'0143ffffffffffffffff'",
            &["SQL logic error"],
        ),
        ("SELECT * FROM crsql_unpack_columns", &["package"]),
        ("SELECT crsql_internal_ins(1, 2)", &["attached"]),
        ("SELECT crsql_internal_upd(NULL)", &["crsql_internal_upd"]),
        ("SELECT crsql_internal_del()", &["crsql_internal_del"]),
    ]);
}

#[test]
fn deltas() {
    check_all(&[
        ("SELECT ana_export('x')", &["vector"]),
        ("SELECT ana_export('{')", &["vector"]),
        ("SELECT ana_export('{}x')", &["vector"]),
        ("SELECT ana_export(5)", &["vector"]),
        ("SELECT ana_export(x'7b7d')", &["vector"]),
        ("SELECT ana_export('{\"00\":[0,\"00000000000000000000000000000000\"]}')", &["vector"]),
        ("SELECT * FROM ana_parts('x')", &["vector"]),
        ("SELECT * FROM ana_parts(5)", &["vector"]),
        ("SELECT ana_apply(NULL)", &["delta"]),
        ("SELECT ana_apply(5)", &["delta"]),
        ("SELECT ana_apply('text')", &["delta"]),
        ("SELECT ana_apply(x'')", &["delta"]),
        ("SELECT ana_apply(x'00')", &["delta"]),
        ("SELECT ana_apply(zeroblob(100))", &["delta"]),
        ("SELECT ana_apply(zeroblob(5000000))", &["delta"]),
        ("SELECT ana_words('text')", &["ana_words"]),
        ("SELECT ana_words(5)", &["ana_words"]),
        ("SELECT ana_author(x'00')", &["author"]),
        ("SELECT ana_author(5)", &["author"]),
        ("SELECT ana_message(x'00')", &["message"]),
        ("SELECT ana_message(printf('%.*c', 1000000, 'x'))", &["message"]),
        ("INSERT INTO ana_log(position) VALUES(1)", &["read-only"]),
        ("UPDATE ana_log SET message = 'x'", &["read-only"]),
    ]);
}

#[test]
fn changes() {
    const HUGE: &str = "9223372036854775807";
    let insert = |table: &str, pk: &str, cid: &str, val: &str, rest: &str| {
        format!("INSERT INTO crsql_changes VALUES({table}, {pk}, {cid}, {val}, {rest})")
    };
    let at = |rest: &str| insert("'t'", "x'010901'", "'b'", "9", rest);
    let key = |pk: &str| insert("'t'", pk, "'b'", "9", "2, 1, x'01', 1, 0");
    let cases: Vec<(String, Vec<&str>)> = vec![
        ("UPDATE crsql_changes SET val = 1".into(), vec!["INSERT and SELECT"]),
        ("DELETE FROM crsql_changes".into(), vec!["INSERT and SELECT"]),
        (insert("'nope'", "x'010901'", "'b'", "9", "2, 1, x'01', 1, 0"), vec!["nope"]),
        (insert("NULL", "x'010901'", "'b'", "9", "2, 1, x'01', 1, 0"), vec!["table"]),
        (insert("5", "x'010901'", "'b'", "9", "2, 1, x'01', 1, 0"), vec!["table"]),
        (insert("x'74'", "x'010901'", "'b'", "9", "2, 1, x'01', 1, 0"), vec!["table"]),
        (insert("'ana_entry'", "x'010901'", "'b'", "9", "2, 1, x'01', 1, 0"), vec!["ana_entry"]),
        (
            insert("printf('%.*c', 3000, 'x')", "x'010901'", "'b'", "9", "2, 1, x'01', 1, 0"),
            vec!["table name exceeded max length"],
        ),
        (
            insert("'t'", "x'010901'", "printf('%.*c', 3000, 'x')", "9", "2, 1, x'01', 1, 0"),
            vec!["column name"],
        ),
        (insert("'t'", "x'010901'", "'nope'", "9", "2, 1, x'01', 1, 0"), vec!["nope"]),
        (insert("'t'", "x'010901'", "'nope'", "9", "2, 1, x'01', 3, 0"), vec!["nope"]),
        (insert("'t'", "x'010901'", "'a'", "9", "2, 1, x'01', 1, 0"), vec!["column a"]),
        (insert("'t'", "x'010901'", "NULL", "9", "2, 1, x'01', 1, 0"), vec!["cid"]),
        (insert("'t'", "x'010901'", "5", "9", "2, 1, x'01', 1, 0"), vec!["cid"]),
        (key("NULL"), vec!["pk"]),
        (key("x''"), vec!["pk"]),
        (key("x'00'"), vec!["pk"]),
        (key("x'01'"), vec!["pk"]),
        (key("x'0109'"), vec!["pk"]),
        (key("x'01090100'"), vec!["pk"]),
        (key("x'0149000000000000000001'"), vec!["pk"]),
        (key("x'0143ffffffffffffffff'"), vec!["pk"]),
        (key("x'0105'"), vec!["pk"]),
        (key("x'0206090109'"), vec!["pk"]),
        (key("x'02090109'"), vec!["pk"]),
        (key("x'0209010901'"), vec!["pk"]),
        (key("x'010b0161'"), vec!["pk"]),
        (key("1.5"), vec!["pk"]),
        (key("''"), vec!["pk"]),
        (key("'1; DROP TABLE t'"), vec!["pk"]),
        (key("'''open'"), vec!["pk"]),
        (at("NULL, 1, x'01', 1, 0"), vec!["col_version"]),
        (at("'x', 1, x'01', 1, 0"), vec!["col_version"]),
        (at("-1, 1, x'01', 1, 0"), vec!["col_version"]),
        (at(&format!("{HUGE}, 1, x'01', 1, 0")), vec!["col_version"]),
        (at("2, NULL, x'01', 1, 0"), vec!["db_version"]),
        (at("2, -5, x'01', 1, 0"), vec!["db_version"]),
        (at("2, 1.5, x'01', 1, 0"), vec!["db_version"]),
        (at(&format!("2, {HUGE}, x'01', 1, 0")), vec!["db_version"]),
        (at("2, 1, zeroblob(17), 1, 0"), vec!["site id exceeded max length"]),
        (at("2, 1, 'text', 1, 0"), vec!["site_id"]),
        (at("2, 1, 5, 1, 0"), vec!["site_id"]),
        (at("2, 1, x'01', -1, 0"), vec!["cl"]),
        (at("2, 1, x'01', 'x', 0"), vec!["cl"]),
        (at(&format!("2, 1, x'01', {HUGE}, 0")), vec!["cl"]),
        (at("2, 1, x'01', 1, -1"), vec!["seq"]),
        (at("2, 1, x'01', 1, 'x'"), vec!["seq"]),
        (at(&format!("2, 1, x'01', 1, {HUGE}")), vec!["seq"]),
        (insert("'t'", "x'010901'", "'c'", "99", "2, 1, x'01', 1, 0"), vec!["CHECK"]),
        (insert("'t'", "x'010905'", "'c'", "99", "2, 1, x'01', 1, 0"), vec!["CHECK"]),
        (insert("'s'", "x'010901'", "'x'", "x'00'", "2, 1, x'01', 1, 0"), vec!["s"]),
        (insert("'k'", "x'020b01610c00'", "'v'", "NULL", "2, 1, x'01', 1, 0"), vec!["k"]),
        (
            "INSERT INTO crsql_changes SELECT 't', x'010963', 'b', 1, 1, 1, x'01', 1, 0
               UNION ALL SELECT 't', x'010901', 'nope', 1, 9, 1, x'01', 1, 0"
                .into(),
            vec!["nope"],
        ),
        ("INSERT INTO u VALUES(NULL, 1)".into(), vec!["NULL", "u"]),
        ("UPDATE t SET a = 'text'".into(), vec!["mismatch"]),
    ];
    let cases: Vec<(&str, &[&str])> =
        cases.iter().map(|(sql, words)| (sql.as_str(), words.as_slice())).collect();
    check_all(&cases);
}

/// Bytes that begin like a delta.
#[test]
fn cut_deltas() {
    let hex = scalar(store().sql(), "SELECT hex(ana_export())", &[]).expect("a delta");
    let Value::Text(hex) = hex else { panic!("hex() gives a text") };
    let hex = String::from_utf8(hex).expect("digits");
    let cut = |n: usize| format!("SELECT ana_apply(x'{}')", &hex[..2 * n]);
    let cases = [cut(3), cut(20), cut(63), cut(64), cut(70), cut(hex.len() / 2 - 1)];
    let longer = format!("SELECT ana_apply(x'{hex}00')");
    let flipped = format!("SELECT ana_apply(x'{}00{}')", &hex[..140], &hex[142..]);
    let cases: Vec<(&str, &[&str])> = cases
        .iter()
        .chain([&longer, &flipped])
        .map(|sql| (sql.as_str(), ["delta"].as_slice()))
        .collect();
    check_all(&cases);
}

/// A row that a trigger of this copy refuses: its change is held, and named; the others are
/// shown.
#[test]
fn a_change_that_breaks_a_constraint_here_is_held() {
    let (here, there) = (store(), store());
    let run = |store: &Store, sql: &str| store.sql().execute_batch(sql).expect(sql);
    run(&there, "INSERT INTO s VALUES(5, 'fine'); INSERT INTO t VALUES(8, 'b', 9)");
    run(
        &here,
        "CREATE TRIGGER no BEFORE INSERT ON s WHEN new.id = 5 BEGIN
        SELECT RAISE(ABORT, 'not five'); END",
    );
    let delta = scalar(there.sql(), "SELECT ana_export()", &[]).expect("a delta");
    query(here.sql(), "SELECT ana_apply(?1)", &[delta]).expect("taken");
    let held = "SELECT \"table\" || reason FROM ana_quarantine";
    let Value::Text(held) = scalar(here.sql(), held, &[]).expect("one") else { panic!("a text") };
    assert!(String::from_utf8_lossy(&held).starts_with("snot five"));
    let digest = |store: &Store| scalar(store.sql(), "SELECT ana_digest()", &[]).expect("a digest");
    assert_ne!(digest(&here), digest(&there));
    run(&here, "DROP TRIGGER no; SELECT ana_retry()");
    assert_eq!(digest(&here), digest(&there));
}
