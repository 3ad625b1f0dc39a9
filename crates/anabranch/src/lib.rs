//! Local-first data that merges: the library people depend on.
//!
//! A [`Store`] is a SQLite database whose conflict-free tables can be edited on any copy
//! and merged with any other. Everything is SQL on [`Store::sql`]; the methods here are
//! the same functions with Rust types.
//!
//! ```
//! # fn main() -> anabranch::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let (here, there) = (dir.path().join("a.db"), dir.path().join("b.db"));
//! use anabranch::Store;
//!
//! let a = Store::open(here)?;
//! let b = Store::open(there)?;
//! for store in [&a, &b] {
//!     store.sql().execute_batch("CREATE TABLE note(id TEXT NOT NULL PRIMARY KEY, body TEXT)")?;
//!     store.make_conflict_free("note")?;
//! }
//! a.sql().execute("INSERT INTO note VALUES('x', 'from a')", [])?;
//! b.sql().execute("INSERT INTO note VALUES('y', 'from b')", [])?;
//!
//! let report = anabranch::merge(&a, &b, &mut |_, _| ())?;
//! assert!(report.is_equal);
//! assert_eq!(a.digest()?, b.digest()?);
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod compact;
mod error;
mod identity;
mod literal;
mod merge;
mod status;
mod store;
mod sync;
mod transaction;

pub use anabranch_client::{
    AddressError, End, Event, ForkedBranch, Moved, Peer, PeerRole, Place, Progress, Reached,
    Receipts, Report, Skipped, Told,
};
pub use anabranch_core::branch::Branch;
pub use anabranch_core::site::SiteId;
pub use anabranch_core::value::Value;
pub use anabranch_core::vector::{Held, VersionVector};
pub use anabranch_core::wire::{HEAD_BYTES as PART_HEAD_BYTES, PartHead, WireError, part_head};
pub use compact::Compaction;
pub use error::{Error, Result};
pub use merge::{ConcurrentCell, MergeReport, MergeSide, merge};
pub use rusqlite;
pub use status::{Finding, LogRecord, Status};
pub use store::Store;
pub use sync::{Sync, Watch};
pub use transaction::Transaction;
