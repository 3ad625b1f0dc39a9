//! `ana` through the real binary: what it prints, what it leaves, how it exits.
//!
//! Each test has a folder of its own. Hosts (the `sqlite3` program, Python, Node) are
//! programs of the machine: one that cannot be had is told on stderr and, where the check
//! asks for it, in the file that `ANABRANCH_SKIPS` names.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod ana;
mod bad_input;
#[cfg(feature = "s3")]
mod bucket;
mod compact;
mod examples;
mod exchange;
mod forked;
mod hosts;
mod json;
mod kill;
#[cfg(target_os = "linux")]
mod memory;
mod merging;
mod relay;
mod repair;
mod serve;
mod shape;
mod sql;
mod story;
mod syncing;
mod try_it;
