//! The store through SQL.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;
mod survivors;

mod altered;
mod blobs;
mod changes_doors;
mod changes_insert;
mod changes_scan;
mod compact;
mod compact_laws;
mod conflicts;
mod connections;
mod faults;
mod held;
mod local;
mod memory;
mod merging;
mod rebuilt;
mod refusals;
mod repair;
mod rowids;
mod savepoints;
mod shapes;
mod spellings;
