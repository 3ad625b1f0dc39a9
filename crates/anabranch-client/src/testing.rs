//! A client without sockets and clocks, for the simulated world: the caller carries frames,
//! tells the time, and says what a directory's storage does.
//!
//! What decides and what touches the store is what ships: [`Talk`], [`Channel`],
//! [`Directory`].

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use anabranch_core::vector::VersionVector;
use anabranch_sync::Time;
use anabranch_sync::frame::StoreName;
use bytes::Bytes;
use rusqlite::Connection;

use crate::directory::Directory;
use crate::relay::{Channel, State, Talk};
use crate::replica::{Replica, StoreError};
use crate::report::{Event, Report, Told};
use crate::storage::{Entry, Pieces, Storage, StorageError};

/// One store's connection to a relay.
pub struct Client<'a> {
    channels: [Channel<'a>; 1],
    talk: Talk,
    told: VecDeque<Told>,
}

impl<'a> Client<'a> {
    /// A connection that was just made.
    ///
    /// # Errors
    /// What is wrong with the store's own file.
    pub fn begin(
        now: Time,
        store: &'a Connection,
        name: &StoreName,
        url: &str,
        token: &Bytes,
    ) -> Result<Client<'a>, StoreError> {
        let channel = Channel::new(Replica::new(store), name.clone(), url.to_string());
        let mut channels = [channel];
        let talk = Talk::begin(now, token, &mut channels)?;
        Ok(Client { channels, talk, told: VecDeque::new() })
    }

    /// Looks at store and clock, and does what the session asks.
    ///
    /// # Errors
    /// What is wrong with the store's own file.
    pub fn turn(&mut self, now: Time) -> Result<(), StoreError> {
        self.talk.turn(now, &mut self.channels, &mut self.told)
    }

    /// A frame came, of those that come together: [`Client::drain`] follows the last.
    ///
    /// # Errors
    /// What is wrong with the store's own file.
    pub fn take(&mut self, now: Time, frame: Bytes) -> Result<(), StoreError> {
        self.talk.take(now, frame, &mut self.channels, &mut self.told)
    }

    /// Says what was taken to be on the disk, and answers all that the session asks.
    ///
    /// # Errors
    /// What is wrong with the store's own file.
    pub fn drain(&mut self, now: Time) -> Result<(), StoreError> {
        self.talk.drain(now, &mut self.channels, &mut self.told)
    }

    /// Shows a new token.
    pub fn renew_token(&mut self, token: &Bytes) {
        for id in self.talk.places.keys() {
            // A token that is too long is refused with the next connection.
            let _ = self.talk.session.renew_token(*id, token.clone());
        }
    }

    /// Whether frames may be given.
    pub fn is_reading(&self) -> bool {
        self.talk.session.is_reading()
    }

    /// The next frame to be sent.
    pub fn poll_frame(&mut self) -> Option<Bytes> {
        self.talk.session.poll_transmit().map(|frame| frame.into_bytes().into())
    }

    /// When [`Client::turn`] is due, if nothing happens before.
    pub fn deadline(&self) -> Option<Time> {
        self.talk.session.poll_timeout()
    }

    /// What happened, oldest first.
    pub fn poll_told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// What ended the session, in words; `None` while it goes on.
    pub fn ended(&self) -> Option<String> {
        self.talk.ending.as_ref().map(|error| format!("{:?}: {}", error.code, error.text))
    }

    /// Whether both ends are known to hold the same.
    pub fn is_converged(&self) -> bool {
        *self.channels[0].state() == State::Converged
    }

    /// Whether the relay has said what it holds.
    pub fn is_open(&self) -> bool {
        matches!(self.channels[0].state(), State::Exchanging | State::Converged)
    }

    /// What the relay has on its disk, as far as it said.
    pub fn held(&self) -> &VersionVector {
        self.channels[0].held()
    }

    /// The connection is gone.
    ///
    /// # Errors
    /// What is wrong with the store's own file.
    pub fn lost(mut self, why: &str) -> Result<(), StoreError> {
        self.channels.iter_mut().try_for_each(|channel| channel.lost(why))
    }
}

/// The files of a directory, in memory: all who have a clone see the same.
#[derive(Clone, Default)]
pub struct Files(Rc<RefCell<Shelves>>);

#[derive(Default)]
struct Shelves {
    files: BTreeMap<String, (Vec<u8>, u64)>,
    now_ms: u64,
    /// Calls until one fails; `None`: none does.
    fails_in: Option<u64>,
    has_changes: bool,
}

impl Files {
    /// Tells the storage's clock, in Unix milliseconds.
    pub fn tell_time(&self, now_ms: u64) {
        self.0.borrow_mut().now_ms = now_ms;
    }

    /// The call after `n` more fails, as if the drive was pulled out; the next works again.
    pub fn fail_in(&self, n: Option<u64>) {
        self.0.borrow_mut().fails_in = n;
    }

    /// Names and lengths.
    pub fn list(&self) -> Vec<(String, usize)> {
        let shelves = self.0.borrow();
        shelves.files.iter().map(|(name, (bytes, _))| (name.clone(), bytes.len())).collect()
    }

    /// The bytes of a file.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.0.borrow().files.get(name).map(|(bytes, _)| bytes.clone())
    }

    /// Puts, or with `None` removes, a file, whatever was there.
    pub fn set(&self, name: &str, bytes: Option<Vec<u8>>) {
        let mut shelves = self.0.borrow_mut();
        let now_ms = shelves.now_ms;
        match bytes {
            Some(bytes) => shelves.files.insert(name.to_string(), (bytes, now_ms)),
            None => shelves.files.remove(name),
        };
    }

    fn call(&self, place: &str) -> Result<(), StorageError> {
        let mut shelves = self.0.borrow_mut();
        match shelves.fails_in {
            Some(0) => {
                shelves.fails_in = None;
                let (place, why) = (place.to_string(), "pulled out".to_string());
                Err(StorageError::Offline { place, why })
            }
            left => {
                shelves.fails_in = left.map(|left| left - 1);
                Ok(())
            }
        }
    }
}

impl Storage for Files {
    fn list(&self, folder: &str) -> Result<Vec<Entry>, StorageError> {
        self.call(folder)?;
        let shelves = self.0.borrow();
        let entry = |(path, (bytes, modified_ms)): (&String, &(Vec<u8>, u64))| {
            let name = path.strip_prefix(folder)?.strip_prefix('/')?;
            let is_shown = !name.starts_with('.');
            is_shown.then(|| Entry {
                name: name.to_string(),
                n_bytes: bytes.len() as u64,
                modified_ms: *modified_ms,
            })
        };
        Ok(shelves.files.iter().filter_map(entry).collect())
    }

    fn get(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        self.call(path)?;
        let shelves = self.0.borrow();
        let (bytes, _) = shelves
            .files
            .get(path)
            .ok_or_else(|| StorageError::Gone { place: path.to_string() })?;
        let end = bytes.len().min(range.end as usize);
        Ok(bytes[end.min(range.start as usize)..end].to_vec())
    }

    fn put(&self, path: &str, pieces: &dyn Pieces) -> Result<(), StorageError> {
        self.call(path)?;
        let mut shelves = self.0.borrow_mut();
        let now_ms = shelves.now_ms;
        shelves.has_changes = true;
        shelves.files.entry(path.to_string()).or_insert_with(|| (pieces.concat(), now_ms));
        Ok(())
    }

    fn delete(&self, path: &str) -> Result<(), StorageError> {
        self.call(path)?;
        self.0.borrow_mut().files.remove(path);
        Ok(())
    }

    fn has_folder(&self, _folder: &str) -> Result<Option<bool>, StorageError> {
        Ok(Some(self.0.borrow().has_changes))
    }
}

/// Takes from a directory and gives to it, once.
///
/// # Errors
/// What is wrong with the store's own file.
pub fn round(
    store: &Connection,
    files: &Files,
    url: &str,
    now_ms: u64,
    tell: &mut dyn FnMut(Event),
) -> Result<Report, StoreError> {
    let mut directory = Directory::new(Box::new(files.clone()), url.to_string());
    directory.round(Replica::new(store), now_ms, tell)
}
