//! Drives sync of a store: through a relay over WebSocket, or through a shared directory.
//!
//! The library's face is `anabranch::Sync`; here is what it stands on. A store is a rusqlite
//! connection that `anabranch-store` was installed on. Everything runs on the thread that
//! calls: a store is one connection for one thread.
//!
//! Invariant: nothing that must not be lost is in memory only. The outbox is the store's log
//! and, in `ana_peer`, what each peer has acknowledged.
#![forbid(unsafe_code)]

mod address;
mod backoff;
mod blob;
mod client;
mod directory;
mod limits;
mod peer;
mod receipt;
mod relay;
mod replica;
mod report;
mod socket;
mod spool;
mod storage;
#[cfg(feature = "testing")]
pub mod testing;
mod watch;

pub use address::{Address, AddressError};
pub use client::{ClientError, Options, forget_peer, once, peers};
pub use peer::{Peer, PeerRole};
pub use receipt::Receipts;
pub use replica::StoreError;
pub use report::{
    End, Event, ForkedBranch, Moved, Place, Progress, Reached, Report, Skipped, Told,
};
pub use storage::StorageError;
pub use watch::Watch;
