//! Our own tables in the file, and whether this version can read them.
//!
//! Nothing is written when nothing is missing, so that a file that was initialised can be
//! opened read-only, and while another connection writes.

use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::{Db, SqlError};

use crate::atomic::{Bracket, atomically};
use crate::blob;
use crate::error::{Result, StoreError};
use crate::metadata::tables;
use crate::shape::{integer, text};

/// The format of our tables that this version writes, and the newest that it reads.
const FORMAT: i64 = 1;
/// `crsqlite_version` of the release whose SQL surface this is: 0.16.3 as MMmmppxx.
const CRSQLITE_VERSION: i64 = 160_300;
/// Older files of cr-sqlite have another layout.
const OLDEST_CRSQLITE_VERSION: i64 = 150_000;

/// Everything that a file of ours holds.
const OBJECTS: &[&str] = &[
    "crsql_master",
    "crsql_site_id",
    "crsql_site_id_site_id",
    "crsql_tracked_peers",
    "ana_registry",
    "ana_names",
    "ana_part",
    "ana_meta",
    "ana_entry",
    "ana_clock",
    "ana_site",
    "ana_vector",
    "ana_chain",
    "ana_salt",
    "ana_floor",
    "ana_restart",
    "ana_seen",
    "ana_peer",
    "ana_peer_file",
    "ana_blob",
    "ana_blob_chunk",
    "ana_held",
    "ana_held_cell",
];

/// The tables that clients of cr-sqlite read, those of the registry, the staging of deltas,
/// and what is known of peers; the log's own are in [`tables::CREATE`].
const CREATE: &str = "
CREATE TABLE IF NOT EXISTS crsql_master(\"key\" TEXT PRIMARY KEY, value ANY);
CREATE TABLE IF NOT EXISTS crsql_site_id(site_id BLOB NOT NULL, ordinal INTEGER PRIMARY KEY);
CREATE UNIQUE INDEX IF NOT EXISTS crsql_site_id_site_id ON crsql_site_id(site_id);
CREATE TABLE IF NOT EXISTS crsql_tracked_peers(
    site_id BLOB NOT NULL, version INTEGER NOT NULL, seq INTEGER DEFAULT 0,
    tag INTEGER, event INTEGER, PRIMARY KEY(site_id, tag, event)) STRICT;
CREATE TABLE IF NOT EXISTS ana_registry(
    id INTEGER PRIMARY KEY, name TEXT, token INTEGER, args INTEGER, revision INTEGER, keys BLOB);
CREATE TABLE IF NOT EXISTS ana_names(
    tbl INTEGER, id INTEGER, name TEXT, gone INTEGER, PRIMARY KEY(tbl, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ana_part(
    delta BLOB, part INTEGER, of INTEGER, bytes BLOB, PRIMARY KEY(delta, part));
CREATE TABLE IF NOT EXISTS ana_peer(
    url TEXT PRIMARY KEY, role TEXT, site BLOB, held TEXT, durability INTEGER, ticket BLOB,
    seen_ms INTEGER, error TEXT, error_ms INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ana_peer_file(
    url TEXT, name TEXT, bytes INTEGER, modified_ms INTEGER, delta BLOB, starts TEXT, ends TEXT,
    floor TEXT, PRIMARY KEY(url, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ana_held(
    site BLOB, version INTEGER, time INTEGER, tbl TEXT, pk BLOB, reason TEXT, undoes INTEGER,
    PRIMARY KEY(site, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ana_held_cell(
    tbl TEXT, \"key\" BLOB, pk BLOB, cl INTEGER, cid TEXT, col_version INTEGER, site BLOB,
    version INTEGER, origin BLOB, value,
    PRIMARY KEY(tbl, \"key\", cid, site, version)) WITHOUT ROWID;
";

/// What names of our tables, and of SQLite's, begin with.
const RESERVED: [&str; 3] = ["ana_", "crsql_", "sqlite_"];

/// The beginning of a name that no table of a user's has: it never becomes conflict-free, for
/// later versions may have a table of that name.
pub(crate) fn reserved_prefix(name: &str) -> Option<&'static str> {
    let begins = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    RESERVED.into_iter().find(|prefix| begins(prefix))
}

/// Checks that this version can read the file, and makes what is missing.
///
/// # Errors
/// A file of cr-sqlite before 0.15, or one with tables of cr-sqlite; a file of a newer
/// format; a fresh file that cannot be written.
pub(crate) fn initialise(db: &Db) -> Result<()> {
    let objects = objects(db)?;
    let has = |name: &str| objects.iter().any(|object| object == name);
    if has("crsql_master") {
        check_version(db)?;
    }
    if let Some(clock) = objects.iter().find(|name| name.ends_with("__crsql_clock")) {
        return Err(StoreError::Refused(format!(
            "this file holds tables of cr-sqlite ({clock}), which this version cannot take over"
        )));
    }
    if has("ana_meta") {
        check_format(db)?;
    }
    let is_whole = OBJECTS.iter().all(|name| has(name));
    if is_whole && site_id(db)?.is_some() {
        return Ok(());
    }
    // In a savepoint: the host may be in a transaction.
    let made = atomically(db, Bracket::Savepoint, || Ok(create_objects(db)?));
    made.map_err(|error| {
        let SqlError { code, message } = error.into();
        SqlError { code, message: format!("error during initialization: {message}") }.into()
    })
}

fn objects(db: &Db) -> Result<Vec<String>> {
    let sql = "SELECT name FROM main.sqlite_master WHERE name LIKE 'crsql\\_%' ESCAPE '\\' \
               OR name LIKE 'ana\\_%' ESCAPE '\\' \
               OR (type = 'table' AND name LIKE '%\\_\\_crsql\\_clock' ESCAPE '\\')";
    Ok(db.query_rows(sql, &[])?.iter().map(|row| text(&row[0])).collect())
}

fn check_version(db: &Db) -> Result<()> {
    let sql = "SELECT value FROM main.crsql_master WHERE key = 'crsqlite_version'";
    match db.query_value(sql, &[])? {
        Some(Value::Integer(version)) if version < OLDEST_CRSQLITE_VERSION => {
            Err(StoreError::Refused(format!(
                "Opening a db created with cr-sqlite version {version} is not supported. \
                 Upcoming release 0.15.0 is a breaking change."
            )))
        }
        _ => Ok(()),
    }
}

fn check_format(db: &Db) -> Result<()> {
    let sql = "SELECT value FROM main.ana_meta WHERE key = 'format'";
    match db.query_value(sql, &[])?.as_ref().map(integer) {
        Some(format) if format > FORMAT => Err(StoreError::Refused(format!(
            "this file has format {format}, written by a newer Anabranch; this one reads up to \
             format {FORMAT}"
        ))),
        _ => Ok(()),
    }
}

fn site_id(db: &Db) -> Result<Option<Value>> {
    let sql = "SELECT site_id FROM main.crsql_site_id WHERE ordinal = 0";
    Ok(db.query_value(sql, &[])?)
}

fn create_objects(db: &Db) -> std::result::Result<(), SqlError> {
    db.execute_batch(CREATE)?;
    db.execute_batch(tables::CREATE)?;
    db.execute_batch(blob::CREATE)?;
    let insert = |sql: &str, value: ValueRef<'_>| db.execute(sql, &[value]);
    insert(
        "INSERT OR IGNORE INTO main.crsql_master VALUES ('crsqlite_version', ?1)",
        ValueRef::Integer(CRSQLITE_VERSION),
    )?;
    insert("INSERT OR IGNORE INTO main.ana_meta VALUES ('format', ?1)", ValueRef::Integer(FORMAT))?;
    let mut random = [0; 16];
    crate::random::fill(&mut random)
        .map_err(|error| SqlError::new(format!("no random numbers for a site id: {error}")))?;
    let site = SiteId::from_random(random);
    insert(
        "INSERT OR IGNORE INTO main.crsql_site_id(site_id, ordinal) VALUES (?1, 0)",
        ValueRef::Blob(site.as_bytes()),
    )
}
