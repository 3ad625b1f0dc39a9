//! `ana repair --clock`: what was written while the clock ran ahead, and who stands in its way.

use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use anabranch::rusqlite::Connection;
use anabranch_sqlite::Embedded;
use serde_json::Value;

use crate::ana::Ana;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Writes a note as a machine does whose clock is a day ahead.
fn write_ahead(ana: &Ana, db: &str, id: &str) {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let connection = Embedded::new(Connection::open(ana.path(db)).unwrap()).unwrap();
    let clock = Rc::new(move || now_ms + DAY_MS);
    anabranch_store::install_with_clock(connection.db(), clock).unwrap();
    connection.execute("INSERT INTO note VALUES(?1, 'ahead')", [id]).unwrap();
}

#[test]
fn what_nobody_has_seen_is_retimed() {
    let ana = Ana::with_notes();
    ana.copy("a.db", "b.db");
    assert!(ana.ok(&["repair", "a.db", "--clock"]).contains("no change is ahead"));
    write_ahead(&ana, "a.db", "n1");
    let (_, refused) =
        (ana.ok(&["export", "a.db", "--output", "x"]), ana.run(&["import", "b.db", "x"]));
    assert_eq!(refused.status, 4, "{refused:?}");
    assert!(refused.err.contains("ClockAhead"), "{refused:?}");
    let planned = ana.ok(&["repair", "a.db", "--clock", "--dry-run"]);
    assert!(planned.contains("1 change (versions 1 to 1)"), "{planned}");
    assert!(planned.contains("would be given the present time"), "{planned}");
    let json = ana.ok(&["repair", "a.db", "--clock", "--json"]);
    let done: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&done["changes"], &done["first"]), (&1.into(), &1.into()), "{json}");
    assert!(ana.ok(&["repair", "a.db", "--clock"]).contains("no change is ahead"));
    assert_eq!(ana.ok(&["check", "a.db"]), "a.db: clean\n");
    ana.ok(&["export", "a.db", "--output", "y"]);
    ana.ok(&["import", "b.db", "y"]);
    assert_eq!(ana.words("a.db"), ana.words("b.db"));
    // What is to be repaired must be said.
    assert_eq!(ana.run(&["repair", "a.db"]).status, 2);
}

/// Two names for one change would be two histories: what a folder has is not touched.
#[test]
fn what_somebody_has_seen_is_not_retimed() {
    let ana = Ana::with_notes();
    write_ahead(&ana, "a.db", "n1");
    std::fs::create_dir(ana.path("stick")).unwrap();
    ana.ok(&["sync", "a.db", "dir:stick"]);
    let before = ana.ok(&["log", "a.db", "--json"]);
    for more in [&[][..], &["--dry-run"]] {
        let refused = ana.run(&[&["repair", "a.db", "--clock"][..], more].concat());
        assert_eq!(refused.status, 4, "{refused:?}");
        assert!(refused.err.contains("has it already"), "{refused:?}");
    }
    assert_eq!(ana.ok(&["log", "a.db", "--json"]), before);
}
