//! The laws and tables of the core; every random case names its seed.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod random;

mod delta;
mod digest;
mod forest;
mod format;
mod key;
mod key_sqlite;
mod merge;
mod vector;
mod wire;
mod wire_hostile;
