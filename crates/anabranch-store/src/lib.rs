//! A store inside a SQLite database: conflict-free tables, their log and their clocks.
//!
//! [`install`] teaches a connection everything. A local write goes
//! [`capture`] (trigger functions) → [`buffer`] (this transaction's operations) →
//! [`transaction`] (SQLite tells its fate) → [`metadata`] (log entries and clock blocks).
//! A foreign change goes [`changes`] (`INSERT INTO crsql_changes`) or [`delta`]
//! (`ana_apply`) → [`merge`] (the rule) → [`base`] (the user's table) → the same buffer.
//!
//! Invariant: no `RefCell` borrow is held while SQL runs on a user's table, because its
//! triggers call back into [`capture`].
#![forbid(unsafe_code)]

pub mod clock;
pub mod error;
mod ids;
mod limits;
#[cfg(feature = "testing")]
pub mod random;
#[cfg(not(feature = "testing"))]
mod random;

mod atomic;
mod context;
mod crr;
mod identity;
mod kept;
mod registry;
mod schema;
mod settings;
mod shape;
mod triggers;

mod buffer;
mod capture;
mod transaction;

mod metadata;

mod base;
mod blob;
mod changes;
mod compact;
mod delta;
mod merge;

mod listing;
mod snapshot;
mod spool;

mod check;
mod digest;
mod functions;
mod repair;
mod report;
mod writers;

pub use context::{install, install_with_clock};
