//! A directory as a relay: two copies that never meet become equal, whatever a stick, a cloud
//! drive or a clone does to the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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

/// What a stick, a cloud drive, or a hand does to the files between two syncs.
type Trick = fn(&Shared);

/// Name, trick, and whether the copy that reads afterwards can have everything at once. If
/// not, one round of the copy that wrote makes it good.
const TRICKS: &[(&str, Trick, bool)] = &[
    ("nothing", |_| (), true),
    ("renamed", |shared| rename_all(shared, |name| name.replace(".ana", " (1).ana")), true),
    ("another ending", |shared| rename_all(shared, |name| format!("{name} (conflicted)")), true),
    ("names in the wrong order", |shared| reverse_names(shared), true),
    (
        "twice",
        |shared| {
            for file in shared.files() {
                let copy = file.with_file_name(format!("{} 2.ana", stem(&file)));
                fs::copy(&file, copy).unwrap();
            }
        },
        true,
    ),
    (
        "among strangers",
        |shared| {
            fs::write(shared.changes().join("notes.txt"), "buy milk").unwrap();
            fs::write(shared.changes().join("empty"), "").unwrap();
            fs::write(shared.changes().join(".20990101-x.ana.tmp"), "half").unwrap();
            fs::create_dir(shared.changes().join("folder.ana")).unwrap();
        },
        true,
    ),
    (
        "the last is late",
        |shared| {
            fs::rename(shared.files().last().unwrap(), shared.folder.path().join("late")).unwrap();
        },
        false,
    ),
    (
        "the first is late",
        |shared| {
            fs::rename(&shared.files()[0], shared.folder.path().join("late")).unwrap();
        },
        false,
    ),
    ("torn in the head", |shared| tear(shared, |n| n.min(20)), false),
    ("torn in the frame", |shared| tear(shared, |n| n - 1), false),
    (
        "zeros",
        |shared| {
            let file = &shared.files()[1];
            overwrite(file, &vec![0; fs::read(file).unwrap().len()]);
        },
        false,
    ),
    (
        "a flipped bit",
        |shared| {
            let file = &shared.files()[1];
            let mut bytes = fs::read(file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            overwrite(file, &bytes);
        },
        false,
    ),
    (
        "more behind the end",
        |shared| {
            let file = &shared.files()[1];
            let bytes = [fs::read(file).unwrap(), b"more".to_vec()].concat();
            fs::write(file, bytes).unwrap();
        },
        false,
    ),
    (
        "of a later version",
        |shared| {
            let file = &shared.files()[1];
            let mut bytes = fs::read(file).unwrap();
            bytes[4] = 9;
            overwrite(file, &bytes);
        },
        false,
    ),
    ("all lost", |shared| fs::remove_dir_all(shared.changes()).unwrap(), false),
];

fn stem(file: &Path) -> String {
    file.file_stem().unwrap().to_string_lossy().into_owned()
}

fn rename_all(shared: &Shared, name: impl Fn(&str) -> String) {
    for file in shared.files() {
        let old = file.file_name().unwrap().to_string_lossy().into_owned();
        fs::rename(&file, file.with_file_name(name(&old))).unwrap();
    }
}

fn reverse_names(shared: &Shared) {
    for (n, file) in shared.files().iter().rev().enumerate() {
        fs::rename(file, file.with_file_name(format!("{n:04}.ana"))).unwrap();
    }
}

/// Changes a file a second after it was made: within a tick of the file system's clock, and of
/// the same length, it would pass for the one that was read.
fn overwrite(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).unwrap();
    let later = SystemTime::now() + Duration::from_secs(1);
    fs::File::options().write(true).open(file).unwrap().set_modified(later).unwrap();
}

fn tear(shared: &Shared, len: impl Fn(usize) -> usize) {
    let file = &shared.files()[1];
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..len(bytes.len())]).unwrap();
}

/// Three files by one copy, a trick, then another copy reads and writes; the trick never costs
/// a change, is never taken for convergence, and heals as soon as the writer comes by.
#[test]
fn tricks_cost_nothing() {
    for (name, trick, is_harmless) in TRICKS {
        let shared = Shared::new();
        let (a, b) = (Copy::new(), Copy::new());
        for n in ["1", "2", "3"] {
            a.write(n, "from a");
            assert!(a.sync(&shared.address()).is_converged());
        }
        assert_eq!(shared.files().len(), 3);
        trick(&shared);
        b.write("b", "from b");
        let report = b.sync(&shared.address());
        let has_all = b.n_rows() == 4;
        assert_eq!(has_all, *is_harmless, "{name}: {report:?}");
        // A file that is lost without a trace cannot be missed; what is seen and not read is.
        let is_seen = !matches!(*name, "the last is late" | "all lost");
        assert_eq!(report.is_converged(), has_all || !is_seen, "{name}: {report:?}");
        if *name == "all lost" {
            // Its writer takes an empty folder for a drive that is not mounted.
            fs::create_dir_all(shared.changes()).unwrap();
        }
        a.sync(&shared.address());
        b.sync(&shared.address());
        a.sync(&shared.address());
        assert_eq!((a.n_rows(), b.n_rows()), (4, 4), "{name}");
        assert_eq!(a.digest(), b.digest(), "{name}");
        // A newcomer needs nobody.
        let c = Copy::new();
        c.sync(&shared.address());
        assert_eq!(c.digest(), a.digest(), "{name}");
        // Late files arrive after all.
        let late = shared.folder.path().join("late");
        if late.exists() {
            fs::rename(&late, shared.changes().join("late.ana")).unwrap();
            for copy in [&a, &b, &c] {
                assert!(copy.sync(&shared.address()).is_converged(), "{name}");
                assert_eq!(copy.n_rows(), 4, "{name}");
            }
        }
    }
}

/// A clone of the directory is a valid relay, and two clones become one by copying files.
#[test]
fn clones_of_a_directory_go_on_and_meet_again() {
    let (one, two) = (Shared::new(), Shared::new());
    let (a, b) = (Copy::new(), Copy::new());
    a.write("1", "before");
    a.sync(&one.address());
    fs::create_dir(two.changes()).unwrap();
    let copy_all = |from: &Shared, to: &Shared| {
        for file in from.files() {
            fs::copy(&file, to.changes().join(file.file_name().unwrap())).unwrap();
        }
    };
    copy_all(&one, &two);
    b.sync(&two.address());
    a.write("2", "in one");
    b.write("3", "in two");
    a.sync(&one.address());
    b.sync(&two.address());
    copy_all(&one, &two);
    copy_all(&two, &one);
    assert!(a.sync(&one.address()).is_converged());
    assert!(b.sync(&two.address()).is_converged());
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.n_rows(), 3);
}

/// More than a part holds, through parts.
#[test]
fn a_large_delta_comes_in_parts() {
    let shared = Shared::new();
    let (a, b) = (Copy::new(), Copy::new());
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
                INSERT INTO note SELECT i, hex(randomblob(2000)) FROM n";
    a.sql().execute_batch(fill).unwrap();
    a.sync(&shared.address());
    assert!(fs::metadata(&shared.files()[0]).unwrap().len() > 5 << 20);
    let whole = fs::read(&shared.files()[0]).unwrap();
    fs::write(&shared.files()[0], &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(b.sync(&shared.address()).end, End::Partly(_)));
    assert_eq!(b.n_rows(), 0);
    fs::write(&shared.files()[0], whole).unwrap();
    let mut told = 0;
    let report = b.sync_telling(&shared.address(), &mut |event| {
        if let anabranch_client::Event::Progress(_) = event {
            told += 1;
        }
    });
    assert!(report.is_converged(), "{report:?}");
    assert!(told >= 2, "{told}");
    assert_eq!(a.digest(), b.digest());
}
