//! `ana_conflicts`: what was written concurrently and does not stand, and why.

use anabranch_sqlite::Embedded;

use crate::support::{Store, give};

const SCHEMA: &str = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)";
const CONFLICTS: &str =
    "SELECT hex(pk), \"column\", value, why FROM ana_conflicts ORDER BY 1, 2, 3";

#[test]
fn each_reason() {
    let (a, b) = (Store::with(SCHEMA, &["t"]), Store::with(SCHEMA, &["t"]));
    a.run("INSERT INTO t VALUES(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)");
    give(&a, &b);
    a.run("UPDATE t SET b = 'a' WHERE a = 1; UPDATE t SET c = 'kept' WHERE a = 2");
    a.run("UPDATE t SET c = 'former' WHERE a = 3; UPDATE t SET c = 'mine' WHERE a = 4");
    b.run("UPDATE t SET b = 'b' WHERE a = 1; DELETE FROM t WHERE a IN (2, 3)");
    b.run("INSERT INTO t VALUES(3, 'again', NULL); UPDATE t SET b = 'other cell' WHERE a = 4");
    give(&a, &b);
    give(&b, &a);
    let expected = "010901|b|a|overwritten\n010902|c|kept|row deleted\n\
                    010903|c|former|row inserted again";
    a.expect(CONFLICTS, expected);
    b.expect(CONFLICTS, expected);
    // In sequence nothing is a conflict.
    a.run("UPDATE t SET b = 'later' WHERE a = 1; DELETE FROM t WHERE a = 4");
    give(&a, &b);
    b.expect(CONFLICTS, expected);
    let site = a.rows("SELECT crsql_site_id()");
    assert_eq!(b.rows("SELECT DISTINCT site FROM ana_conflicts"), site);
    for (filter, n) in [
        ("\"table\" = 't'", "3"),
        ("\"table\" = 'u'", "0"),
        ("pk = x'010902'", "1"),
        ("\"table\" = 't' AND pk = x'010903'", "1"),
        ("\"table\" = 't' AND pk = x'010904'", "0"),
        ("pk IS NULL", "0"),
        ("why = 'overwritten'", "1"),
    ] {
        b.expect(&format!("SELECT count(*) FROM ana_conflicts WHERE {filter}"), n);
    }
    b.run("DROP TABLE t");
    b.expect(CONFLICTS, "");
}

/// The time is that of the change that does not stand, also far from a stored chain.
#[test]
fn when_it_was_written() {
    let at = |now_ms: u64| {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        let conn = Embedded::new(conn).unwrap();
        let clock = std::rc::Rc::new(std::cell::Cell::new(now_ms));
        let told = clock.clone();
        let tell = std::rc::Rc::new(move || told.get());
        anabranch_store::install_with_clock(conn.db(), tell).unwrap();
        let store = Store { conn };
        store.run(&format!("{SCHEMA}; SELECT crsql_as_crr('t')"));
        (store, clock)
    };
    let ((a, time), (b, _)) = (at(1_700_000_000_000), at(1_700_000_000_500));
    a.run("INSERT INTO t VALUES(1, 1, 1)");
    give(&a, &b);
    for n in 0..200 {
        time.set(1_700_000_001_000 + n);
        a.run(&format!("INSERT INTO t VALUES({}, 1, 1)", n + 10));
        if n == 100 {
            a.run("UPDATE t SET b = 'a' WHERE a = 1");
        }
    }
    b.run("UPDATE t SET b = 'b' WHERE a = 1");
    give(&b, &a);
    a.expect("SELECT time, value FROM ana_conflicts", "1700000001100|a");
    // Who hears of it later is not told: the value was left out.
    give(&a, &b);
    b.expect("SELECT time, value FROM ana_conflicts", "");
}
