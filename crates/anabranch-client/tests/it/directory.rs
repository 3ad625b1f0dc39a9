//! A directory as a relay: two copies that never meet become equal, whatever a stick, a cloud
//! drive or a clone does to the files.

use std::fs;
use std::path::{Path, PathBuf};

use anabranch_client::{Address, End};
use tempfile::TempDir;

use crate::copy::Copy;

struct Shared {
    folder: TempDir,
}

impl Shared {
    fn new() -> Shared {
        Shared { folder: tempfile::tempdir().unwrap() }
    }

    fn address(&self) -> Address {
        format!("dir:{}", self.folder.path().display()).parse().unwrap()
    }

    fn changes(&self) -> PathBuf {
        self.folder.path().join("changes")
    }

    /// The delta files, by name.
    fn files(&self) -> Vec<PathBuf> {
        files(&self.changes())
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The whole promise in its shortest form.
#[test]
fn two_copies_that_never_met() {
    let shared = Shared::new();
    let (a, b) = (Copy::new(), Copy::new());
    a.write("x", "from a");
    b.write("y", "from b");
    let report = a.sync(&shared.address());
    assert!(report.is_converged(), "{report:?}");
    assert_eq!((report.took.changes, report.gave.changes), (0, 1));
    let report = b.sync(&shared.address());
    assert!(report.is_converged(), "{report:?}");
    assert_eq!((report.took.changes, report.gave.changes), (1, 1));
    let report = a.sync(&shared.address());
    assert_eq!((report.took.changes, report.gave.changes), (1, 0));
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.n_rows(), 2);
    // Nothing is left to do, and nothing is done.
    let before = shared.files();
    for copy in [&a, &b] {
        let report = copy.sync(&shared.address());
        assert!(report.is_converged());
        assert_eq!((report.took.bytes, report.gave.bytes), (0, 0));
    }
    assert_eq!(shared.files(), before);
}

/// A folder that is not there is offline, and stays unmade: it may be a mount point.
#[test]
fn a_folder_that_is_not_there_is_offline() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("stick");
    let address: Address = format!("dir:{}", missing.display()).parse().unwrap();
    let a = Copy::new();
    a.write("x", "y");
    let report = a.sync(&address);
    assert!(matches!(&report.end, End::Offline(why) if why.contains("mounted")), "{report:?}");
    assert!(!missing.exists());
    let peers = anabranch_client::peers(a.sql()).unwrap();
    assert!(peers[0].error.is_some());
    fs::create_dir(&missing).unwrap();
    assert!(a.sync(&address).is_converged());
    assert_eq!(anabranch_client::peers(a.sql()).unwrap()[0].error, None);
    // The drive is pulled out, and an empty folder is where it was.
    fs::rename(&missing, folder.path().join("elsewhere")).unwrap();
    fs::create_dir(&missing).unwrap();
    let report = a.sync(&address);
    assert!(matches!(&report.end, End::Offline(why) if why.contains("anew")), "{report:?}");
    assert_eq!(files(&missing), Vec::<PathBuf>::new());
}
