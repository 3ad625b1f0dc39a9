//! What is refused leaves everything as it was: rows, clocks, log, vector, staged parts.

use std::rc::Rc;

use anabranch::rusqlite::Connection;
use anabranch::{Error, Store, VersionVector};
use anabranch_sqlite::Embedded;

use crate::peers::{SCHEMA, image, is_clean, rows, run, store};

/// A receiver with something in it, and a delta that it can take.
fn pair() -> (Store, Store, Vec<u8>) {
    let (a, b) = (store(), store());
    run(&b, "INSERT INTO note(id, title) VALUES(1, 'mine'), (9, 'nine')");
    run(&a, "INSERT INTO note(id, title) VALUES(1, 'theirs'), (2, 'two')");
    run(&a, "INSERT INTO tag VALUES('x', 'red')");
    let delta = a.export(&VersionVector::new()).unwrap().concat();
    (a, b, delta)
}

/// Applies, expects an error with `words` in it, and that nothing changed: in autocommit,
/// and inside a transaction that has work of its own.
fn refuses(store: &Store, delta: &[u8], words: &str) -> Error {
    let before = image(store);
    let error = store.apply(delta).expect_err(words);
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(image(store), before, "{words}");
    assert!(store.sql().is_autocommit());

    run(store, "BEGIN; INSERT INTO member VALUES('during')");
    let inside = rows(store, "SELECT * FROM crsql_changes");
    store.apply(delta).expect_err(words);
    assert!(!store.sql().is_autocommit(), "the transaction stands");
    assert_eq!(rows(store, "SELECT * FROM crsql_changes"), inside, "{words}");
    run(store, "ROLLBACK");
    assert_eq!(image(store), before, "{words}");

    // The error of a function inside another writing statement fails that one.
    run(store, "CREATE TEMP TABLE IF NOT EXISTS taken(n)");
    run(store, "BEGIN");
    store.sql().execute("INSERT INTO taken SELECT ana_apply(?1)", [delta]).expect_err(words);
    run(store, "COMMIT");
    assert_eq!(image(store), before, "{words}");
    is_clean(store);
    error
}

#[test]
fn bytes_that_are_no_delta() {
    let (_, b, delta) = pair();
    refuses(&b, b"", "no part of a delta");
    refuses(&b, b"anything", "no part of a delta");
    refuses(&b, &delta[..delta.len() - 1], "bytes");
    for at in [3, 4, 20, 40, 60, delta.len() / 2, delta.len() - 1] {
        let mut damaged = delta.clone();
        damaged[at] ^= 0x55;
        let before = image(&b);
        b.apply(&damaged).expect_err("damaged");
        assert_eq!(image(&b), before, "byte {at}");
    }
    for sql in ["SELECT ana_apply(NULL)", "SELECT ana_apply('x')", "SELECT ana_apply(1)"] {
        let error = b.sql().query_row(sql, [], |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("must be a BLOB"), "{error}");
    }
    assert!(b.apply(&delta).unwrap() > 0);
}

#[test]
fn a_delta_above_what_is_held_names_what_is_missing() {
    let (a, b, _) = pair();
    let from = a.version_vector().unwrap();
    run(&a, "INSERT INTO member VALUES('late')");
    let late = a.export(&from).unwrap().concat();
    let error = refuses(&b, &late, "from version 1");
    assert!(matches!(error, Error::Missing(_)));
    assert!(error.to_string().contains(&a.site().unwrap().to_string()));
}

#[test]
fn a_table_or_column_this_copy_lacks() {
    let (a, b, _) = pair();
    run(&b, "CREATE TABLE only_b(id INTEGER PRIMARY KEY NOT NULL)");
    b.make_conflict_free("only_b").unwrap();
    run(&b, "INSERT INTO only_b VALUES(1)");
    let delta = b.export(&VersionVector::new()).unwrap().concat();
    refuses(&a, &delta, "unknown table only_b in change ");
    refuses(&a, &delta, ": create it and run SELECT crsql_as_crr('only_b')");

    let wide = Store::from_connection(Connection::open_in_memory().unwrap()).unwrap();
    run(&wide, "CREATE TABLE member(who TEXT NOT NULL PRIMARY KEY, since INT)");
    wide.make_conflict_free("member").unwrap();
    run(&wide, "INSERT INTO member VALUES('x', 1)");
    let delta = wide.export(&VersionVector::new()).unwrap().concat();
    refuses(&a, &delta, "unknown column since of table member");
}

/// What a constraint of one copy says refuses no delta: its change is held, in autocommit, in
/// a transaction, and inside another writing statement.
#[test]
fn a_row_that_breaks_a_constraint_here_is_held() {
    let trigger = "CREATE TRIGGER no_two BEFORE INSERT ON note WHEN new.id = 2
                   BEGIN SELECT RAISE(ABORT, 'no twos'); END";
    let check = SCHEMA.replace("colour TEXT", "colour TEXT CHECK(colour <> 'red')");
    for (schema, rule, version, words) in
        [(SCHEMA, trigger, 1, "no twos (table note, row 2)"), (&check, "", 2, "(table tag, row")]
    {
        for [begin, apply, end] in [
            ["", "SELECT ana_apply(?1)", ""],
            ["BEGIN", "SELECT ana_apply(?1)", "COMMIT"],
            ["", "INSERT INTO taken SELECT ana_apply(?1) RETURNING n", ""],
        ] {
            let b = Store::from_connection(Connection::open_in_memory().unwrap()).unwrap();
            run(&b, schema);
            for table in ["note", "tag", "pair", "member"] {
                b.make_conflict_free(table).unwrap();
            }
            let (_, _, delta) = pair();
            run(&b, &format!("CREATE TEMP TABLE taken(n); {rule}; {begin}"));
            let n: i64 = b.sql().query_row(apply, [&delta], |row| row.get(0)).unwrap();
            run(&b, end);
            assert_eq!((n, b.quarantined().unwrap()), (2, 1), "{apply}");
            let held = "SELECT version, reason FROM ana_quarantine";
            let held = b.sql().query_row(held, [], |row| Ok((row.get(0)?, row.get(1)?)));
            let (found, reason): (i64, String) = held.unwrap();
            assert!(found == version && reason.contains(words), "{found}: {reason}");
            assert_eq!(b.apply(&delta).unwrap(), 0);
            is_clean(&b);
        }
    }
}

#[test]
fn a_change_from_the_future_says_when_to_come_again() {
    let hour_ahead = Rc::new(|| 3_600_000 + anabranch_store::clock::system()());
    let connection = Embedded::new(Connection::open_in_memory().unwrap()).unwrap();
    anabranch_store::install_with_clock(connection.db(), hour_ahead).unwrap();
    connection.execute_batch("CREATE TABLE member(who TEXT NOT NULL PRIMARY KEY)").unwrap();
    connection.query_row("SELECT crsql_as_crr('member')", [], |_| Ok(())).unwrap();
    connection.execute("INSERT INTO member VALUES('marty')", []).unwrap();
    let delta: Vec<u8> = connection.query_row("SELECT ana_export()", [], |row| row.get(0)).unwrap();
    let b = store();
    let error = refuses(&b, &delta, "try again at");
    assert!(matches!(error, Error::ClockAhead(_)));
}

#[test]
fn an_export_of_what_is_not_committed() {
    let store = store();
    run(&store, "BEGIN; INSERT INTO member VALUES('x')");
    let error = store.export(&VersionVector::new()).unwrap_err().to_string();
    assert!(error.contains("commit first"), "{error}");
    run(&store, "COMMIT");
    store.export(&VersionVector::new()).unwrap();
}

#[test]
fn vectors_that_are_none() {
    let store = store();
    for (argument, words) in [
        ("'x'", "not a version vector"),
        ("x'00'", "must be a text"),
        ("1", "must be a text"),
        ("'{\"zz\":[1,\"00\"]}'", "not a version vector"),
    ] {
        for call in ["SELECT ana_export(@)", "SELECT * FROM ana_parts(@)"] {
            let sql = call.replace('@', argument);
            let error = store.sql().query_row(&sql, [], |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("ana_"), "{sql}: {error}");
        }
    }
    let all: Vec<u8> =
        store.sql().query_row("SELECT ana_export(NULL)", [], |row| row.get(0)).unwrap();
    assert_eq!(all, store.export(&VersionVector::new()).unwrap().concat());
}

#[test]
fn a_vector_ahead_of_this_copy_is_cut_to_what_is_held() {
    let (a, b, delta) = pair();
    b.apply(&delta).unwrap();
    run(&a, "INSERT INTO member VALUES('new')");
    let from = a.version_vector().unwrap();
    // b asks a with what only a holds, and gets nothing above it.
    let nothing = b.export(&from).unwrap().concat();
    assert_eq!(a.apply(&nothing).unwrap(), 1, "b's own change");
    assert_eq!(a.apply(&nothing).unwrap(), 0);
}

/// The first part of a delta of two, made of a whole one: its head says so, honestly sealed.
fn half(delta: &[u8], name: [u8; 16], part: u32, of: u32) -> Vec<u8> {
    let mut half = delta.to_vec();
    half[8..24].copy_from_slice(&name);
    half[24..28].copy_from_slice(&part.to_le_bytes());
    half[28..32].copy_from_slice(&of.to_le_bytes());
    let check = blake3::hash(&half[..56]);
    half[56..64].copy_from_slice(&check.as_bytes()[..8]);
    half
}

#[test]
fn parts_that_never_come_together_do_not_pile_up() {
    let (_, b, delta) = pair();
    for n in 0..40 {
        assert_eq!(b.apply(&half(&delta, [n; 16], 0, 2)).unwrap(), 0);
    }
    let staged: i64 = b
        .sql()
        .query_row("SELECT count(DISTINCT delta) FROM ana_part", [], |row| row.get(0))
        .unwrap();
    assert!((1..=16).contains(&staged), "{staged} deltas staged");
    assert!(b.apply(&delta).unwrap() > 0, "a whole one does not mind");
    is_clean(&b);
}

#[test]
fn parts_that_do_not_belong_together() {
    let (_, b, delta) = pair();
    b.apply(&half(&delta, [7; 16], 0, 2)).unwrap();
    refuses(&b, &half(&delta, [7; 16], 1, 3), "another number of parts");
    // Complete by count, and not what was sealed: the last one is refused, the first stays.
    refuses(&b, &half(&delta, [7; 16], 1, 2), "");
}

/// A program died while it wrote: what it left is undone by whoever may write, also for a
/// reader.
#[test]
fn a_file_with_a_hot_journal_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let a = Store::open(path("a.db")).unwrap();
    run(&a, "PRAGMA cache_size = 1; CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)");
    a.make_conflict_free("t").unwrap();
    run(&a, "INSERT INTO t VALUES(1, 'before')");
    run(&a, "BEGIN; UPDATE t SET b = 'during'");
    run(
        &a,
        "WITH RECURSIVE n(i) AS (VALUES(2) UNION ALL SELECT i + 1 FROM n WHERE i < 100)
             INSERT INTO t SELECT i, randomblob(1000) FROM n",
    );
    for (from, to) in [("a.db", "b.db"), ("a.db-journal", "b.db-journal")] {
        std::fs::copy(path(from), path(to)).unwrap();
    }
    run(&a, "ROLLBACK");
    let b = Store::open_read_only(path("b.db")).unwrap();
    assert_eq!(rows(&b, "SELECT * FROM t"), rows(&a, "SELECT * FROM t"));
    is_clean(&b);
    let folder = path("gone.db");
    assert!(matches!(Store::open_read_only(folder), Err(Error::Open { .. })));
}
