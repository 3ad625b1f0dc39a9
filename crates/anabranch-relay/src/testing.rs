//! A relay without sockets, threads and clocks, for the simulated world: the caller carries
//! frames, tells the time and says when waiting deltas are committed.
//!
//! What decides and what touches the storage is what ships.

use std::path::Path;
use std::sync::Arc;

use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, VersionVector};
use anabranch_sync::frame::Receipt;
use bytes::Bytes;
use futures_util::FutureExt;

use crate::config::{Config, Settings};
use crate::connection::stepped::Stepped;
use crate::joining::{Terms, join_runs, make_checkpoints};
use crate::limits::MAX_TOKEN_LIFE_S;
use crate::storage::{Revoked, RevokedKind, StorageError};
use crate::store_id::StoreId;

/// A relay that runs when it is told to.
pub struct Relay(Arc<crate::relay::Relay>);

impl Relay {
    /// Opens the relay whose keys and blobs lie in `data`; its database lies on SQLite's disk
    /// `vfs`.
    ///
    /// # Errors
    /// What is wrong with either, in words.
    pub fn open(data: &Path, vfs: &str) -> Result<Relay, String> {
        let settings = Settings { data: Some(data.to_path_buf()), ..Settings::default() };
        let config = Config::new(settings).map_err(|error| error.to_string())?;
        let relay = crate::relay::Relay::open_stepped(config, vfs).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", source.unwrap_or_default())
        })?;
        Ok(Relay(Arc::new(relay)))
    }

    /// A connection that was just made.
    pub fn connect(&self) -> Connection {
        Connection(Stepped::new(Arc::clone(&self.0)))
    }

    /// What the relay calls itself.
    pub fn site(&self) -> SiteId {
        self.0.site()
    }

    /// Commits what waits, in one transaction; whether anything waited.
    pub fn step(&self) -> bool {
        self.0.step()
    }

    /// What is on its disk of a store.
    ///
    /// # Errors
    /// The storage's, in words.
    pub fn vector(&self, store: &str) -> Result<VersionVector, String> {
        let store = StoreId::new(store).ok_or("no name of a store")?;
        let vector = self.0.storage().vector(&store).now_or_never();
        vector.ok_or("not answered at once")?.map_err(|error| error.to_string())
    }

    /// How far it says that changes got; nothing of a store that nobody is connected to.
    pub fn receipts(&self, store: &str, changes: &[Dot]) -> Vec<Receipt> {
        let store = StoreId::new(store).map(|store| self.0.hub().open(&store));
        store.map(|store| store.receipts(&self.0, changes)).unwrap_or_default()
    }

    /// Joins runs of at least so many small deltas, as a relay does now and then; how many
    /// deltas went.
    ///
    /// # Errors
    /// The storage's, in words.
    pub fn join(&self, store: &str, min_deltas: usize) -> Result<u64, String> {
        let store = StoreId::new(store).ok_or("no name of a store")?;
        self.wait(join_runs(&self.0, &store, min_deltas))
    }

    /// Makes checkpoints of all that is there, where enough has come since the last one, as a
    /// relay does of what is old; how many deltas went.
    ///
    /// # Errors
    /// The storage's, in words.
    pub fn make_checkpoints(&self, store: &str) -> Result<u64, String> {
        let store = StoreId::new(store).ok_or("no name of a store")?;
        let terms = Terms { before_ms: u64::MAX, min_bytes: 0, min_gain: u64::MAX };
        self.wait(make_checkpoints(&self.0, &store, terms))
    }

    /// Revokes all tokens of a subject, those on live connections too.
    ///
    /// # Errors
    /// The storage's, in words; then nothing is revoked.
    pub fn revoke(&self, subject: &str) -> Result<(), String> {
        let until_s = anabranch_clock::now_s() + MAX_TOKEN_LIFE_S;
        let revoked = Revoked { kind: RevokedKind::Subject, name: subject.to_string(), until_s };
        self.wait(self.0.storage().revoke(revoked.clone()))?;
        self.0.revocations().add([revoked]);
        Ok(())
    }

    /// Waits for what waits for a transaction.
    fn wait<T>(&self, work: impl Future<Output = Result<T, StorageError>>) -> Result<T, String> {
        let mut work = std::pin::pin!(work);
        loop {
            match work.as_mut().now_or_never() {
                Some(done) => return done.map_err(|error| error.to_string()),
                None if self.step() => {}
                None => return Err("it waits for nothing".to_string()),
            }
        }
    }
}

/// A connection whose frames the caller carries.
pub struct Connection(Stepped);

impl Connection {
    /// A frame came.
    pub fn take(&mut self, frame: Bytes) {
        self.0.take(frame);
    }

    /// Looks at the clock, the storage and the news.
    pub fn turn(&mut self) {
        self.0.turn();
    }

    /// Whether frames may be given.
    pub fn is_reading(&self) -> bool {
        self.0.is_reading()
    }

    /// Whether the session has ended; it may have frames left.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Whether it still talks about a store.
    pub fn is_serving(&self) -> bool {
        self.0.is_serving()
    }

    /// The next frame to be sent.
    pub fn poll_frame(&mut self) -> Option<Bytes> {
        self.0.poll_frame()
    }

    /// When [`Connection::turn`] is due, if nothing happens before: milliseconds of the
    /// told clock.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.0.deadline_ms()
    }
}
