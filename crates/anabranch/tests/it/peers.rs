//! What the tests of this binary share: stores in memory, and ways to compare them.

use anabranch::Store;
use anabranch::rusqlite::Connection;

/// Tables of several shapes: integer, text, NOCASE and composite keys, a table of keys only.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE note(id INTEGER PRIMARY KEY NOT NULL, title TEXT, body, rank INT DEFAULT 7);
    CREATE TABLE tag(name TEXT COLLATE NOCASE NOT NULL PRIMARY KEY, colour TEXT);
    CREATE TABLE pair(a ANY NOT NULL, b TEXT NOT NULL, v REAL, PRIMARY KEY(b, a)) WITHOUT ROWID;
    CREATE TABLE member(who TEXT NOT NULL PRIMARY KEY);";
const TABLES: [&str; 4] = ["note", "tag", "pair", "member"];

/// A store with [`SCHEMA`], all of it conflict-free.
pub(crate) fn store() -> Store {
    let store = Store::from_connection(Connection::open_in_memory().unwrap()).unwrap();
    with_schema(store)
}

pub(crate) fn with_schema(store: Store) -> Store {
    store.sql().execute_batch(SCHEMA).unwrap();
    TABLES.iter().for_each(|table| store.make_conflict_free(table).unwrap());
    store
}

pub(crate) fn run(store: &Store, sql: &str) {
    store.sql().execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// All rows of a query as text, for comparing.
pub(crate) fn rows(store: &Store, sql: &str) -> Vec<String> {
    let mut statement = store.sql().prepare(sql).unwrap();
    let n = statement.column_count();
    let row = |row: &anabranch::rusqlite::Row<'_>| {
        let cell = |i| format!("{:?}", row.get_ref_unwrap(i));
        Ok((0..n).map(cell).collect::<Vec<_>>().join("|"))
    };
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

/// All that must not move when something is refused.
pub(crate) fn image(store: &Store) -> Vec<String> {
    let mut image =
        vec![format!("{:?}", store.digest().unwrap()), store.version_vector().unwrap().to_json()];
    image.extend(rows(store, "SELECT * FROM crsql_changes"));
    image.extend(rows(store, "SELECT * FROM ana_log"));
    image.extend(rows(store, "SELECT crsql_db_version(), (SELECT count(*) FROM ana_part)"));
    image
}

pub(crate) fn is_clean(store: &Store) {
    assert_eq!(store.check().unwrap(), []);
}

/// Gives `to` what it lacks of `from`, as one delta.
pub(crate) fn give(from: &Store, to: &Store) -> u64 {
    let parts = from.export(&to.version_vector().unwrap()).unwrap();
    parts.iter().map(|part| to.apply(part).unwrap()).sum()
}
