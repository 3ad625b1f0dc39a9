//! Files that are kept, read, collected, and come chunk by chunk.

use super::*;

/// As on a disk that is full: a file stands where the folder of what is put would be.
#[test]
fn what_could_not_be_kept_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let name = BlobHash::of(b"bytes").to_string();
    fs::write(folder.path().join(&name[..2]), b"in the way").unwrap();
    for _ in 0..3 {
        blobs.put(b"bytes").unwrap_err();
    }
    assert_eq!(fs::read_dir(folder.path().join("staging")).unwrap().count(), 0);
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn blobs_are_kept_read_and_collected() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let hash = blobs.put(b"bytes").unwrap();
    assert_eq!(blobs.put(b"bytes").unwrap(), hash, "twice is once");
    assert_eq!(blobs.get(hash).unwrap().as_deref(), Some(&b"bytes"[..]));
    assert_eq!(blobs.get(BlobHash::of(b"other")).unwrap(), None);
    let name = hash.to_string();
    let path = folder.path().join(&name[..2]).join(&name[2..4]).join(&name);
    assert!(path.is_file());

    // Found by its age; who puts it again makes it young.
    let later = SystemTime::now() + 8 * DAY;
    assert_eq!(blobs.older_than(7 * DAY, SystemTime::now()).unwrap(), []);
    assert_eq!(blobs.older_than(7 * DAY, later).unwrap(), [hash]);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - 8 * DAY).unwrap();
    blobs.put(b"bytes").unwrap();
    blobs.collect(hash, 7 * DAY, SystemTime::now()).unwrap();
    assert!(path.exists(), "put again meanwhile");
    blobs.collect(hash, 7 * DAY, later).unwrap();
    assert!(!path.exists());
    blobs.collect(hash, 7 * DAY, later).unwrap();

    // A damaged file is none, and what was half written goes at the next start.
    let hash = blobs.put(b"good").unwrap();
    let name = hash.to_string();
    let path = folder.path().join(&name[..2]).join(&name[2..4]).join(&name);
    fs::write(&path, b"bad").unwrap();
    assert_eq!(blobs.get(hash).unwrap(), None);
    fs::write(folder.path().join("staging/half"), b"x").unwrap();
    BlobDir::open(folder.path()).unwrap();
    assert!(!folder.path().join("staging/half").exists());
}
