//! The library's face: stores that are edited, merged, copied and refused.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod check;
mod delivery;
mod forks;
mod identity;
mod merge;
mod peers;
mod refusals;
mod transact;
