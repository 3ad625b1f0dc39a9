//! Directories in memory: every call fails once, hours pass, many write.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use anabranch_sqlite::Embedded;

use super::*;
use crate::limits::{MIN_JOINED_FILES, REPLACED_AFTER_MS};
use crate::storage::{Entry, Pieces};

/// What a call answers when it fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Offline,
    Gone,
    Denied,
    Full,
    Failed,
}

/// Files in memory, a clock, and a call that fails.
#[derive(Default)]
struct Memory {
    files: RefCell<BTreeMap<String, (Vec<u8>, u64)>>,
    now_ms: Cell<u64>,
    /// Calls until one fails; `None`: none does.
    fails_in: Cell<Option<u64>>,
    fault: Cell<Option<Fault>>,
    /// Files that are not there yet: after each listing the last of them appears.
    late: RefCell<Vec<(String, Vec<u8>)>>,
}

impl Memory {
    fn call(&self, place: &str) -> Result<(), StorageError> {
        match self.fails_in.get() {
            Some(0) => {
                self.fails_in.set(None);
                let (place, why) = (place.to_string(), "injected".to_string());
                Err(match self.fault.get().expect("set with the count") {
                    Fault::Offline => StorageError::Offline { place, why },
                    Fault::Gone => StorageError::Gone { place },
                    Fault::Denied => StorageError::Denied { place, why },
                    Fault::Full => StorageError::Full { place },
                    Fault::Failed => StorageError::Failed { place, why },
                })
            }
            left => {
                self.fails_in.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.files.borrow().keys().cloned().collect()
    }
}

impl Storage for Rc<Memory> {
    fn list(&self, folder: &str) -> Result<Vec<Entry>, StorageError> {
        self.call(folder)?;
        let files = self.files.borrow();
        let entry = |(path, (bytes, modified_ms)): (&String, &(Vec<u8>, u64))| {
            let name = path.strip_prefix(&format!("{folder}/"))?.to_string();
            Some(Entry { name, n_bytes: bytes.len() as u64, modified_ms: *modified_ms })
        };
        let listed = files.iter().filter_map(entry).collect();
        drop(files);
        if let Some((path, bytes)) = self.late.borrow_mut().pop() {
            self.files.borrow_mut().insert(path, (bytes, self.now_ms.get()));
        }
        Ok(listed)
    }

    fn get(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        self.call(path)?;
        let files = self.files.borrow();
        let (bytes, _) =
            files.get(path).ok_or_else(|| StorageError::Gone { place: path.to_string() })?;
        let end = bytes.len().min(range.end as usize);
        Ok(bytes[end.min(range.start as usize)..end].to_vec())
    }

    fn put(&self, path: &str, pieces: &dyn Pieces) -> Result<(), StorageError> {
        self.call(path)?;
        self.files.borrow_mut().insert(path.to_string(), (pieces.concat(), self.now_ms.get()));
        Ok(())
    }

    fn delete(&self, path: &str) -> Result<(), StorageError> {
        self.call(path)?;
        self.files.borrow_mut().remove(path);
        Ok(())
    }

    fn has_folder(&self, folder: &str) -> Result<Option<bool>, StorageError> {
        self.call(folder)?;
        Ok(None)
    }
}

/// A copy, and its view of a directory.
struct Site {
    connection: Embedded,
    directory: Directory,
}

impl Site {
    fn new(memory: &Rc<Memory>) -> Site {
        Site::open(memory, ":memory:".as_ref())
    }

    fn open(memory: &Rc<Memory>, path: &std::path::Path) -> Site {
        let connection = Embedded::new(rusqlite::Connection::open(path).unwrap()).unwrap();
        anabranch_store::install(connection.db()).unwrap();
        let sql = "CREATE TABLE IF NOT EXISTS note(id INTEGER PRIMARY KEY NOT NULL, body TEXT);
                   SELECT crsql_as_crr('note');";
        connection.execute_batch(sql).unwrap();
        Site { connection, directory: Directory::new(Box::new(memory.clone()), "dir:x".into()) }
    }

    fn write(&self, id: u64, body: &str) {
        let sql = "INSERT OR REPLACE INTO note VALUES(?1, ?2)";
        self.connection.execute(sql, (id.cast_signed(), body)).unwrap();
    }

    fn round(&mut self, now_ms: u64) -> Report {
        let replica = Replica::new(&self.connection);
        self.directory.round(replica, now_ms, &mut |_| ()).unwrap()
    }

    fn digest(&self) -> Vec<u8> {
        self.connection.query_row("SELECT ana_digest()", [], |row| row.get(0)).unwrap()
    }
}

/// The first call fails, the second, the third …: nothing is lost, nothing is called
/// converged that is not, and the next round goes on.
#[test]
fn every_call_fails_once() {
    for fault in [Fault::Offline, Fault::Gone, Fault::Denied, Fault::Full, Fault::Failed] {
        for k in 0.. {
            let memory = Rc::new(Memory::default());
            let (mut a, mut b) = (Site::new(&memory), Site::new(&memory));
            for n in 0..3 {
                a.write(n, "from a");
                a.round(n);
            }
            b.write(9, "from b");
            memory.fault.set(Some(fault));
            memory.fails_in.set(Some(k));
            let report = b.round(10);
            let has_failed = memory.fails_in.take().is_none();
            let held = b.connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0));
            let n_rows: i64 = held.unwrap();
            let is_whole = n_rows == 4 && memory.names().len() == 4;
            assert!(is_whole || !report.is_converged() || has_failed, "{fault:?} {k}: {report:?}");
            a.round(11);
            b.round(12);
            a.round(13);
            assert_eq!(a.digest(), b.digest(), "{fault:?} {k}: {report:?}");
            let mut c = Site::new(&memory);
            assert!(c.round(14).is_converged(), "{fault:?} {k}");
            assert_eq!(a.digest(), c.digest(), "{fault:?} {k}");
            if !has_failed {
                assert!(report.is_converged());
                break;
            }
        }
    }
}

/// A delta waits for what it needs in the folder: whatever comes in whatever order while a
/// round runs is taken in that round.
#[test]
fn files_that_come_late_are_taken_in_the_same_round() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let memory = Rc::new(Memory::default());
        let mut a = Site::new(&memory);
        for n in 0..3 {
            a.write(n, "a");
            a.round(n);
        }
        let files: Vec<(String, Vec<u8>)> = std::mem::take(&mut *memory.files.borrow_mut())
            .into_iter()
            .map(|(path, (bytes, _))| (path, bytes))
            .collect();
        let [first, rest @ ..] = order.map(|n| files[n].clone());
        memory.files.borrow_mut().insert(first.0, (first.1, 0));
        memory.late.replace(rest.into_iter().rev().collect());
        let mut b = Site::new(&memory);
        // The round ends when nothing waits: the first so many are those that chain.
        let chain = |n: &usize| order[..*n].iter().all(|file| file < n);
        let n_taken = (1..=3).find(chain).unwrap() as u64;
        let report = b.round(10);
        assert!(report.is_converged(), "{order:?}: {report:?}");
        assert_eq!(report.took.changes, n_taken, "{order:?}");
        (0..2).for_each(|_| assert!(b.round(11).is_converged(), "{order:?}"));
        assert_eq!(a.digest(), b.digest(), "{order:?}");
    }
}

/// A clone's file waits for another that has not come yet; meanwhile the history that it goes on
/// from is written on here. What is given is what the files do not hold, and once the other has
/// come both branches are held.
#[test]
fn a_file_that_waits_may_become_one_of_another_history() {
    let (memory, folder) = (Rc::new(Memory::default()), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    let mut a = Site::open(&memory, &path("a"));
    a.write(1, "common");
    a.round(0);
    std::fs::copy(path("a"), path("clone")).unwrap();
    let (mut clone, mut other) = (Site::open(&memory, &path("clone")), Site::new(&memory));
    let before = memory.names();
    other.write(2, "other");
    other.round(1);
    let late = memory.names().into_iter().find(|name| !before.contains(name)).unwrap();
    clone.round(2);
    clone.write(1, "clone");
    clone.round(3);
    let bytes = memory.files.borrow_mut().remove(&late).unwrap();
    let report = a.round(4);
    assert!(report.skipped[0].why.contains("waits"), "{report:?}");
    a.write(1, "a");
    a.write(3, "a");
    let report = a.round(5);
    assert_eq!(report.gave.changes, 2, "{report:?}");
    memory.files.borrow_mut().insert(late, bytes);
    for now_ms in 6..9 {
        a.round(now_ms);
        clone.round(now_ms);
        other.round(now_ms);
    }
    assert_eq!(a.digest(), clone.digest());
    assert_eq!(a.digest(), other.digest());
    assert!(a.round(9).is_converged());
}

/// A year of two writers leaves a handful of files, never lacks a change, and a newcomer who
/// comes at any time gets all of it.
#[test]
fn old_files_are_joined_and_replaced() {
    const HOUR_MS: u64 = 60 * 60 * 1000;
    let memory = Rc::new(Memory::default());
    let (mut a, mut b) = (Site::new(&memory), Site::new(&memory));
    let mut most = 0;
    for n in 0..100 {
        memory.now_ms.set(n * HOUR_MS / 4);
        a.write(n % 40, "a");
        b.write(n % 30 + 5, "b");
        assert!(a.round(memory.now_ms.get()).is_converged());
        assert!(b.round(memory.now_ms.get()).is_converged());
        most = most.max(memory.names().len());
        if n % 25 == 0 {
            a.round(memory.now_ms.get());
            let mut c = Site::new(&memory);
            assert!(c.round(memory.now_ms.get()).is_converged());
            assert_eq!(c.digest(), a.digest(), "{n}");
        }
    }
    assert!(most < 40, "{most} files at one time");
    memory.now_ms.set(1000 * HOUR_MS);
    a.round(memory.now_ms.get());
    b.round(memory.now_ms.get());
    assert_eq!(a.digest(), b.digest());
    assert!(memory.names().len() < 16, "{:?}", memory.names());
}

/// Parts are still there for an hour after they were joined: who has not seen the joined file
/// yet reads them.
#[test]
fn nothing_is_deleted_at_once() {
    let memory = Rc::new(Memory::default());
    let mut a = Site::new(&memory);
    for n in 0..MIN_JOINED_FILES as u64 {
        a.write(n, "a");
        a.round(n);
    }
    let all = memory.names();
    assert_eq!(all.len(), MIN_JOINED_FILES + 1, "the joined file is one more");
    memory.now_ms.set(REPLACED_AFTER_MS - 1);
    a.round(memory.now_ms.get());
    assert_eq!(memory.names(), all);
    memory.now_ms.set(REPLACED_AFTER_MS + MIN_JOINED_FILES as u64);
    a.round(memory.now_ms.get());
    assert_eq!(memory.names().len(), 1);
    let mut b = Site::new(&memory);
    assert!(b.round(memory.now_ms.get()).is_converged());
    assert_eq!(a.digest(), b.digest());
}

/// The example of `docs/protocol.md`: its name comes from the part that `docs/format.md`
/// draws.
#[test]
fn the_documented_name_is_right() {
    let page = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/");
        std::fs::read_to_string(format!("{path}{name}")).unwrap()
    };
    let block = |text: &str, kind: &str| {
        let start = text.find(&format!("```{kind}")).expect(kind);
        let block = &text[start..];
        block[..block[3..].find("```").unwrap() + 3].to_string()
    };
    let protocol = page("protocol.md");
    let example = block(&protocol, "directory example");
    let line = example.lines().nth(1).unwrap();
    let (documented, what) = line.split_once(" | ").unwrap();
    let at = what.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    let part: Vec<u8> = block(&page("format.md"), "bytes part")
        .lines()
        .skip(2)
        .filter_map(|line| line.split('|').next())
        .flat_map(|hex| hex.split_whitespace().map(str::to_string).collect::<Vec<_>>())
        .map(|byte| u8::from_str_radix(&byte, 16).unwrap())
        .collect();
    let file = DeltaFile::of_parts(&vec![part], at).unwrap();
    assert_eq!(file.name, documented);
}
