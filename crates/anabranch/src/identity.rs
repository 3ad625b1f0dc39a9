//! Notices that a database file was copied: a changed (host id, inode, birth time) makes
//! the next write take a new site id, so that both copies may go on and merge.
//!
//! What is compared is a hash of the three, kept in the file. A file that moved to another
//! disk or was restored from a backup looks like a copy too: its new id costs an entry in
//! the vector and is harmless, whereas a copy that is not noticed forks its history.

use std::path::Path;

use crate::error::Result;
use crate::store::Store;

/// Tells the engine which file this is; it compares with what the database remembers.
pub(crate) fn notice_copy(store: &Store) -> Result<()> {
    let Some(path) = store.sql().path().filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let Some(place) = place_of(Path::new(path)) else { return Ok(()) };
    Ok(store.sql().query_row("SELECT ana_internal_place(?1)", [place], |_| Ok(()))?)
}

/// 32 bytes that differ for any two files, as far as the system tells; `None` where it
/// tells nothing. Hashed, for the host's id is nothing to hand on with a database.
fn place_of(path: &Path) -> Option<[u8; 32]> {
    let metadata = std::fs::metadata(path).ok()?;
    let born = metadata
        .created()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |age| age.as_nanos());
    let mut place = host_id();
    place.push(0);
    place.extend_from_slice(&file_number(&metadata).to_le_bytes());
    place.extend_from_slice(&born.to_le_bytes());
    Some(blake3::derive_key("anabranch place of a database file, version 1", &place))
}

#[cfg(unix)]
fn file_number(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// The standard library tells no file number here: the birth time must do.
#[cfg(not(unix))]
fn file_number(_metadata: &std::fs::Metadata) -> u64 {
    0
}

/// What names this machine, or nothing where no such file is (then copies between
/// machines are told apart by inode and birth time alone).
fn host_id() -> Vec<u8> {
    ["/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostid"]
        .iter()
        .find_map(|path| std::fs::read(path).ok())
        .map(|id| id.trim_ascii().to_vec())
        .unwrap_or_default()
}
