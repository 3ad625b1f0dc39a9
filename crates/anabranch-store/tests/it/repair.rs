//! Changes of a copy whose clock ran ahead, retimed before anybody has seen them.

use std::cell::Cell;
use std::rc::Rc;

use anabranch_sqlite::Embedded;

use crate::compact::give;
use crate::support::Store;

const SCHEMA: &str = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b)";
const NOW: u64 = 1_700_000_000_000;
const DAY: u64 = 86_400_000;

fn at(now_ms: u64) -> (Store, Rc<Cell<u64>>) {
    let conn = Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
    let clock = Rc::new(Cell::new(now_ms));
    let told = clock.clone();
    anabranch_store::install_with_clock(conn.db(), Rc::new(move || told.get())).unwrap();
    let store = Store { conn };
    store.run(&format!("{SCHEMA}; SELECT crsql_as_crr('t')"));
    (store, clock)
}

#[test]
fn what_nobody_has_seen_is_retimed() {
    let ((a, clock), (b, _)) = (at(NOW), at(NOW + 1000));
    a.run("INSERT INTO t VALUES(1, 'right')");
    give(&a, &b);
    clock.set(NOW + DAY);
    a.run("INSERT INTO t VALUES(2, 'ahead')");
    for n in 0..300 {
        a.run(&format!("INSERT INTO t VALUES({}, 'ahead')", 10 + n));
    }
    clock.set(NOW + 500);
    a.run("INSERT INTO t VALUES(3, 'drawn along')");
    let delta = a.rows("SELECT hex(ana_export())").concat();
    assert!(b.refuse(&format!("SELECT ana_apply(x'{delta}')"), vec![]).contains("ClockAhead"));
    let planned = "{\"changes\":302,\"first\":2,\"last\":303,\"ahead_ms\":86399500}";
    a.expect("SELECT ana_internal_retime(1)", planned);
    a.expect("SELECT ana_internal_retime(0)", planned);
    a.expect(
        "SELECT ana_internal_retime(0)",
        "{\"changes\":0,\"first\":0,\"last\":0,\"ahead_ms\":0}",
    );
    a.expect("SELECT severity, place, what FROM ana_check", "");
    a.run("INSERT INTO t VALUES(4, 'after')");
    give(&a, &b);
    b.expect("SELECT count(*) FROM t", "304");
    a.expect(&format!("SELECT count(*) FROM ana_log WHERE time > {}", NOW + 1000), "0");
    assert_eq!(a.rows("SELECT hex(ana_digest())"), b.rows("SELECT hex(ana_digest())"));
}

#[test]
fn what_somebody_has_seen_stays() {
    let ((a, clock), (b, ahead_too)) = (at(NOW + DAY), at(NOW + DAY));
    a.run("INSERT INTO t VALUES(1, 'ahead')");
    give(&a, &b);
    b.run("INSERT INTO t VALUES(2, 'knows')");
    give(&b, &a);
    clock.set(NOW);
    ahead_too.set(NOW);
    let refused = a.refuse("SELECT ana_internal_retime(0)", vec![]);
    assert!(refused.contains("has it already"), "{refused}");
    let (c, clock) = at(NOW + DAY);
    c.run("INSERT INTO t VALUES(1, 'ahead')");
    clock.set(NOW);
    c.run("INSERT INTO ana_peer(url, role, held) VALUES('ws://r', 'relay', ana_version_vector())");
    let refused = c.refuse("SELECT ana_internal_retime(0)", vec![]);
    assert!(refused.contains("ws://r has it already"), "{refused}");
}
