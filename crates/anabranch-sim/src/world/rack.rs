//! What a thread keeps from one world to the next: disks, for SQLite never forgets one, the
//! folders in which relays keep their keys, and databases as they are before the first change.
//!
//! Invariant: no world can tell whether another ran before it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use anabranch_core::site::SiteId;
use anabranch_relay::{TokenOrder, make_token};
use anabranch_sqlite::vfs::{self, Image, SimDisk};
use bytes::Bytes;
use tempfile::TempDir;

use super::START_MS;

/// The keys of the relays: Ed25519 in PKCS#8, so that they are called the same in each run.
const KEYS: [([u8; 32], [u8; 32]); 2] = [([1; 32], PUBLIC_1), ([2; 32], PUBLIC_2)];
const PUBLIC_1: [u8; 32] = [
    0x8a, 0x88, 0xe3, 0xdd, 0x74, 0x09, 0xf1, 0x95, 0xfd, 0x52, 0xdb, 0x2d, 0x3c, 0xba, 0x5d, 0x72,
    0xca, 0x67, 0x09, 0xbf, 0x1d, 0x94, 0x12, 0x1b, 0xf3, 0x74, 0x88, 0x01, 0xb4, 0x0f, 0x6f, 0x5c,
];
const PUBLIC_2: [u8; 32] = [
    0x81, 0x39, 0x77, 0x0e, 0xa8, 0x7d, 0x17, 0x5f, 0x56, 0xa3, 0x54, 0x66, 0xc3, 0x4c, 0x7e, 0xcc,
    0xcb, 0x8d, 0x8a, 0x91, 0xb4, 0xee, 0x37, 0xa2, 0x5d, 0xf6, 0x0f, 0x5b, 0x8f, 0xc9, 0xb3, 0x94,
];

/// A disk and SQLite's name for it.
pub(super) struct Drive {
    pub(super) disk: SimDisk,
    pub(super) vfs: String,
    blank: Image,
}

impl Drive {
    fn new(seed: u64) -> Result<Drive, String> {
        let disk = SimDisk::new(seed);
        let vfs = disk.register().map_err(|error| error.to_string())?;
        Ok(Drive { blank: disk.image(), vfs, disk })
    }

    /// Empties it; who has a file open has nothing any more.
    pub(super) fn wipe(&self) {
        self.disk.restore(&self.blank);
    }

    /// Makes it a copy of another's files.
    pub(super) fn become_copy_of(&self, other: &Drive) {
        self.wipe();
        for (name, _) in other.disk.files() {
            if let Some(bytes) = other.disk.read(&name) {
                self.disk.write(&name, &bytes);
            }
        }
    }
}

/// Where a relay keeps its key, and a token of it for everything.
pub(super) struct Cabinet {
    folder: TempDir,
    pub(super) token: Bytes,
}

impl Cabinet {
    fn new(key: &([u8; 32], [u8; 32])) -> Result<Cabinet, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let pkcs8 = [
            &[0x30, 0x53, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..],
            &key.0,
            &[0xa1, 0x23, 3, 0x21, 0],
            &key.1,
        ];
        std::fs::write(folder.path().join("relay.key"), pkcs8.concat())
            .map_err(|error| error.to_string())?;
        anabranch_clock::tell(START_MS - 1000, 0);
        let (token, _) = token(folder.path(), "world", 10 * 365 * 86_400)?;
        Ok(Cabinet { folder, token })
    }

    /// A token for a subject, which lives so long from the told time on, and when it ends:
    /// Unix milliseconds.
    pub(super) fn token_for(&self, subject: &str, life_s: u64) -> Result<(Bytes, u64), String> {
        token(self.path(), subject, life_s)
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn token(folder: &Path, subject: &str, life_s: u64) -> Result<(Bytes, u64), String> {
    let order = TokenOrder {
        subject: subject.to_string(),
        stores: vec!["*".to_string()],
        scope: vec!["write".to_string()],
        life_s,
    };
    let made = make_token(folder, &order).map_err(|error| error.to_string())?;
    Ok((made.token.into(), made.expires_s * 1000))
}

/// How many databases are kept: some 50 MB.
const MAX_BLANKS: usize = 256;

/// Which tables a database has, by their numbers, and its journal.
pub(super) type Outfit = (u32, &'static str);

/// A database with its tables and without a change.
pub(super) struct Blank {
    bytes: Vec<u8>,
    /// Where it says whose it is.
    named_at: Vec<usize>,
}

impl Blank {
    pub(super) fn new(bytes: Vec<u8>, site: SiteId) -> Blank {
        let parts = bytes.windows(16).enumerate();
        let named_at = parts.filter(|(_, part)| *part == site.as_bytes()).map(|(at, _)| at);
        Blank { named_at: named_at.collect(), bytes }
    }

    /// The same, as if it had been made under another name.
    pub(super) fn of(&self, site: SiteId) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for at in &self.named_at {
            bytes[*at..at + 16].copy_from_slice(site.as_bytes());
        }
        bytes
    }
}

/// See the module.
pub struct Rack {
    blanks: RefCell<HashMap<Outfit, Rc<Blank>>>,
    pub(super) sites: Vec<Drive>,
    pub(super) relays: Vec<Drive>,
    pub(super) cabinets: Vec<Cabinet>,
}

impl Rack {
    /// Disks for so many sites, and two relays.
    ///
    /// # Errors
    /// No memory, or no temporary folder.
    pub fn new(max_sites: usize) -> Result<Rack, String> {
        vfs::count_no_memory();
        Ok(Rack {
            blanks: RefCell::default(),
            sites: (0..max_sites as u64).map(Drive::new).collect::<Result<_, _>>()?,
            relays: (100..102).map(Drive::new).collect::<Result<_, _>>()?,
            cabinets: KEYS.iter().map(Cabinet::new).collect::<Result<_, _>>()?,
        })
    }

    /// The database of an outfit, which `make` makes if it is not there.
    pub(super) fn blank(
        &self,
        outfit: Outfit,
        make: impl FnOnce() -> Result<Blank, String>,
    ) -> Result<Rc<Blank>, String> {
        let mut blanks = self.blanks.borrow_mut();
        if let Some(blank) = blanks.get(&outfit) {
            return Ok(Rc::clone(blank));
        }
        if blanks.len() == MAX_BLANKS {
            blanks.clear();
        }
        let blank = Rc::new(make()?);
        blanks.insert(outfit, Rc::clone(&blank));
        Ok(blank)
    }
}
