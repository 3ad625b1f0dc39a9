//! The tables of the log and the clocks, as they are made in a fresh file.
//!
//! `docs/format.md`, "Storage", says what their blobs hold.

/// Makes the tables; harmless where they exist.
pub(crate) const CREATE: &str = "
CREATE TABLE IF NOT EXISTS ana_meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ana_entry(
    id INTEGER PRIMARY KEY, tbl INTEGER, dbv INTEGER, head BLOB, body BLOB);
CREATE TABLE IF NOT EXISTS ana_clock(
    tbl INTEGER, first BLOB, body BLOB, PRIMARY KEY(tbl, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ana_site(id INTEGER PRIMARY KEY, site BLOB UNIQUE);
CREATE TABLE IF NOT EXISTS ana_vector(
    author INTEGER PRIMARY KEY, version INTEGER, chain BLOB, context BLOB);
CREATE TABLE IF NOT EXISTS ana_chain(
    author INTEGER, version INTEGER, chain BLOB, entry INTEGER, context BLOB,
    PRIMARY KEY(author, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ana_salt(
    author INTEGER, version INTEGER, salt INTEGER, PRIMARY KEY(author, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ana_floor(author INTEGER PRIMARY KEY, version INTEGER);
CREATE TABLE IF NOT EXISTS ana_restart(tbl TEXT PRIMARY KEY, cl INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ana_seen(
    tbl INTEGER, key BLOB, gone INTEGER, PRIMARY KEY(tbl, key)) WITHOUT ROWID;
";
