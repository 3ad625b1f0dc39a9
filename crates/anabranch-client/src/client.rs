//! Syncing once.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use crate::address::{Address, Target};
use crate::directory::Directory;
use crate::peer::{self, Peer};
use crate::replica::{Replica, StoreError};
use crate::report::{Event, Report};
use crate::storage::Folder;

/// What is wrong on this side; what went wrong with the peer is in the [`Report`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// This copy's own file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This program was built without what the address needs.
    #[error("{address}: this program was built without {what}")]
    Unsupported {
        /// The address.
        address: String,
        /// What is missing.
        what: &'static str,
    },
}

/// Brings a store and a peer to the same state, as far as it goes now.
///
/// # Errors
/// [`ClientError`], for what is wrong on this side.
pub fn once(
    connection: &Connection,
    address: &Address,
    tell: &mut dyn FnMut(Event),
) -> Result<Report, ClientError> {
    let replica = Replica::new(connection);
    match address.target() {
        Target::Folder(path) => {
            let storage = Box::new(Folder::new(path));
            let mut directory = Directory::new(storage, address.to_string());
            Ok(directory.round(replica, now_ms(), tell)?)
        }
        Target::Bucket { .. } => Err(unsupported(address, "S3")),
        Target::Relay(_) => Err(unsupported(address, "WebSocket")),
    }
}

/// All peers that a store has synced with.
///
/// # Errors
/// What SQLite says.
pub fn peers(connection: &Connection) -> Result<Vec<Peer>, StoreError> {
    peer::all(Replica::new(connection))
}

fn unsupported(address: &Address, what: &'static str) -> ClientError {
    ClientError::Unsupported { address: address.to_string(), what }
}

/// The clock: Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64)
}
