//! Local-first data that merges: the library people depend on.
//!
//! A [`Store`] is a SQLite database whose conflict-free tables can be edited on any copy
//! and merged with any other. Everything is SQL on [`Store::sql`]; the methods here are
//! the same functions with Rust types.
#![forbid(unsafe_code)]

mod error;
mod identity;
mod merge;
mod store;

pub use anabranch_core::site::SiteId;
pub use anabranch_core::value::Value;
pub use anabranch_core::vector::VersionVector;
pub use error::{Error, Result};
pub use merge::{ConcurrentCell, MergeReport, MergeSide, merge};
pub use rusqlite;
pub use store::{Finding, LogRecord, Status, Store, Transaction};
