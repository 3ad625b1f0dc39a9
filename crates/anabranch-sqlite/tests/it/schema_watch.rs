//! What the watch on the schema sees: nothing may escape it but an ATTACH.

use anabranch_sqlite::{Embedded, SchemaWatch};
use rusqlite::Connection;

/// Two connections of one file, the first of them watched.
struct World {
    watch: SchemaWatch,
    watched: Embedded,
    other: Connection,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(journal: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let open = || Connection::open(folder.path().join("db")).unwrap();
        let (watched, other) = (Embedded::new(open()).unwrap(), open());
        let sql = format!("PRAGMA journal_mode = {journal}");
        watched.db().query_value(&sql, &[]).unwrap();
        let sql = "CREATE TABLE t(a); CREATE TABLE u(a); CREATE TABLE rows(a);
            CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END";
        watched.db().execute_batch(sql).unwrap();
        let world = World { watch: SchemaWatch::default(), watched, other, _folder: folder };
        assert!(world.has_changed(), "nothing was known");
        assert!(!world.has_changed());
        world
    }

    fn run(&self, sql: &str) {
        match sql.strip_prefix("other: ") {
            Some(sql) => self.other.execute_batch(sql).unwrap(),
            None => self.watched.db().execute_batch(sql).unwrap(),
        }
    }

    fn has_changed(&self) -> bool {
        self.watch.has_changed(self.watched.db()).unwrap()
    }
}

const CHANGES: [&str; 12] = [
    "ALTER TABLE t ADD COLUMN b",
    "ALTER TABLE t RENAME COLUMN a TO b",
    "ALTER TABLE t RENAME TO v",
    "CREATE TABLE v(a)",
    "DROP TABLE u",
    "CREATE TRIGGER h AFTER INSERT ON t BEGIN SELECT 2; END",
    "DROP TRIGGER g",
    "CREATE INDEX i ON t(a)",
    "CREATE VIEW w AS SELECT 1",
    "CREATE TEMP TRIGGER h AFTER INSERT ON t BEGIN SELECT 2; END",
    "CREATE TEMP TABLE v(a)",
    "PRAGMA schema_version = 1000",
];

#[test]
fn changes_are_seen_committed_or_not() {
    for journal in ["WAL", "DELETE"] {
        for change in CHANGES {
            for (before, after) in
                [("", ""), ("BEGIN", "COMMIT"), ("BEGIN; INSERT INTO rows VALUES(1)", "COMMIT")]
            {
                let world = World::new(journal);
                world.run(before);
                world.run(change);
                assert!(world.has_changed(), "{before}; {change}");
                assert!(!world.has_changed(), "twice after {change}");
                world.run("INSERT INTO rows VALUES(2)");
                world.run(after);
                assert!(!world.has_changed(), "rows are no change of the schema");
            }
        }
    }
}

#[test]
fn undone_changes_are_seen() {
    for change in &CHANGES[..11] {
        for undo in ["ROLLBACK", "ROLLBACK TO s; COMMIT", "ROLLBACK TO s"] {
            let world = World::new("WAL");
            world.run("BEGIN; INSERT INTO rows VALUES(1); SAVEPOINT s");
            world.run(change);
            assert!(world.has_changed(), "{change}");
            world.run(undo);
            assert!(world.has_changed(), "{change}; {undo}");
            assert!(!world.has_changed());
        }
    }
}

/// The number of the schema is the same again, and the schema is another.
#[test]
fn another_change_in_the_place_of_one_undone_is_seen() {
    let world = World::new("WAL");
    world.run("BEGIN; ALTER TABLE t ADD COLUMN b");
    assert!(world.has_changed());
    world.run("ROLLBACK; BEGIN; ALTER TABLE t ADD COLUMN c");
    assert!(world.has_changed());
    world.run("ROLLBACK; BEGIN; ALTER TABLE t ADD COLUMN d; COMMIT");
    assert!(world.has_changed());
}

#[test]
fn changes_of_others_are_seen() {
    for journal in ["WAL", "DELETE"] {
        for change in &CHANGES[..9] {
            let world = World::new(journal);
            world.run(&format!("other: {change}"));
            assert!(world.has_changed(), "{change}");
            assert!(!world.has_changed());
            world.run("other: PRAGMA user_version = 1");
            assert!(!world.has_changed());
        }
    }
}

#[test]
fn what_was_dropped_knows_nothing() {
    let world = World::new("WAL");
    world.watch.clear();
    assert!(world.has_changed());
    world.watch.clear();
    world.watch.prepare(world.watched.db()).unwrap();
    assert!(world.has_changed());
    assert!(!world.has_changed());
}
