//! How a relay comes to its data directory, and why it may not.

use std::path::Path;

use crate::limits::FIRST_TOKEN_LIFE_S;
use crate::token::{Audience, KeyError, Order, Tokens};
use anabranch_clock as clock;

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A file or folder.
    #[error("{path}")]
    Io {
        /// Which.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
    /// Another relay uses the data directory.
    #[error("{path}: another relay uses this data directory")]
    InUse {
        /// Which.
        path: String,
    },
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database.
    #[error("{path}")]
    Storage {
        /// Which.
        path: String,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// What happened.
        source: std::io::Error,
    },
    /// Certificate or key of TLS.
    #[error("TLS: {what}")]
    Tls {
        /// What is wrong.
        what: String,
    },
}

/// Makes the data directory, open to its owner only.
pub(super) fn make_private_dir(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// Makes an empty file for its owner only, unless it is there: the directory may be one that
/// others read. SQLite gives its log the mode of its database.
pub(super) fn make_private_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path).map(drop)
}

/// Keeps a second relay out for as long as the file is open.
pub(super) fn lock(data: &Path) -> Result<std::fs::File, StartError> {
    let path = data.join("lock");
    let io = |source| StartError::Io { path: path.display().to_string(), source };
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(StartError::InUse { path: data.display().to_string() })
        }
        Err(std::fs::TryLockError::Error(error)) => Err(io(error)),
    }
}

/// The token that whoever starts a relay for the first time is given.
pub(super) fn first_token(tokens: &Tokens) -> Result<String, KeyError> {
    let now_s = clock::now_s();
    let order = Order {
        subject: "admin".to_string(),
        audience: Audience::new("*").into_iter().collect(),
        scope: vec!["admin".to_string()],
        expires_s: now_s + FIRST_TOKEN_LIFE_S,
    };
    Ok(tokens.make(&order, now_s)?.token)
}
