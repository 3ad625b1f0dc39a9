//! Files that only their owner reads.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::blobs::sync_folder;

/// Writes a new file, on disk when this returns; readable by its owner only.
///
/// # Errors
/// Of the file system; also if the file exists.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}
