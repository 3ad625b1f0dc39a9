//! Tests of the SQLite edge, on the SQLite that is compiled in.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alloc;
mod close;
mod fate;
mod function;
mod schema_watch;
mod vfs;
mod vtab;
