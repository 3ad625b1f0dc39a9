//! Syncing a store with a relay or a shared directory.

use std::time::Duration;

use anabranch_client::{
    Address, ClientError, Event, Options, Peer, Receipts, Report, StoreError, Told,
};
use anabranch_core::site::SiteId;
use anabranch_core::vector::Dot;

use crate::error::{Error, Result};
use crate::store::Store;

/// Longer than any program runs; a wait for it can be added to any time.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// Brings a store and a peer to the same state.
///
/// The peer is named by a URL: `wss://host/sync/notes` is the store `notes` of a relay;
/// `dir:/media/stick` is a folder (a stick, a share, a cloud drive's folder, a git checkout);
/// `s3://bucket/prefix` the same in a bucket, with the cargo feature `s3`.
///
/// Whatever happens to the connection, each side keeps what it has committed, and the next
/// sync goes on from there: what this store has not given yet is in its own log, and nowhere
/// else.
///
/// ```
/// # fn main() -> anabranch::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let (here, there) = (dir.path().join("a.db"), dir.path().join("b.db"));
/// use anabranch::{Store, Sync};
///
/// let a = Store::open(here)?;
/// let b = Store::open(there)?;
/// for store in [&a, &b] {
///     store.sql().execute_batch("CREATE TABLE note(id TEXT NOT NULL PRIMARY KEY, body TEXT)")?;
///     store.make_conflict_free("note")?;
/// }
/// a.sql().execute("INSERT INTO note VALUES('x', 'from a')", [])?;
///
/// let stick = format!("dir:{}", dir.path().display());
/// assert!(Sync::once(&a, &stick)?.is_converged());
/// let report = Sync::once(&b, &stick)?;
/// assert!(report.is_converged());
/// assert_eq!(report.took.changes, 1);
/// assert_eq!(a.digest()?, b.digest()?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Sync {
    address: Address,
    options: Options,
}

impl Sync {
    /// A sync with the peer at this URL.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn to(url: &str) -> Result<Sync> {
        Ok(Sync { address: url.parse()?, options: Options::default() })
    }

    /// Shows this token to the relay.
    pub fn token(mut self, token: impl Into<String>) -> Sync {
        self.options.token = token.into();
        self
    }

    /// Brings a blob along, by its BLAKE3 hash: to this store, if it lacks it, and into a
    /// directory that does. A relay takes blobs that it asks for.
    pub fn blob(mut self, hash: [u8; 32]) -> Sync {
        self.options.blobs.push(hash);
        self
    }

    /// Asks a relay how far these changes got, by site and version, once both hold the same: the
    /// answer is [`Report::receipts`], or [`Event::Receipts`] of a watch.
    pub fn ask_about(mut self, changes: impl IntoIterator<Item = (SiteId, u64)>) -> Sync {
        let changes = changes.into_iter().map(|(site, version)| Dot { site, version });
        self.options.receipts.extend(changes);
        self
    }

    /// Takes and gives what there is now, and returns.
    ///
    /// A peer that is out of reach, that refuses, or that went away in between is no error:
    /// [`Report::end`] says so.
    ///
    /// # Errors
    /// [`Error::Address`], and what is wrong with this store's own file.
    pub fn once(store: &Store, url: &str) -> Result<Report> {
        Sync::to(url)?.run(store, &mut |_| ())
    }

    /// Stays in sync until the watch is dropped: see [`Watch`].
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn watch<'s>(store: &'s Store, url: &str) -> Result<Watch<'s>> {
        Sync::to(url)?.start(store)
    }

    /// Like [`Sync::once`], and tells what happens while it does.
    ///
    /// # Errors
    /// What is wrong with this store's own file.
    pub fn run(&self, store: &Store, tell: &mut dyn FnMut(Event)) -> Result<Report> {
        Ok(anabranch_client::once(store.sql(), &self.address, &self.options, tell)?)
    }

    /// Like [`Sync::watch`], with a token.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn start<'s>(&self, store: &'s Store) -> Result<Watch<'s>> {
        self.start_unnamed(&[(store, None)])
    }

    /// Watches many stores over one connection to a relay, whose URL ends with `/sync`; each
    /// has its name there.
    ///
    /// # Errors
    /// [`Error::Address`], also for names that no relay takes, and for a directory;
    /// [`Error::Sync`] for more than 1,024 stores, which is what one connection carries.
    ///
    /// ```
    /// # fn main() -> anabranch::Result<()> {
    /// # let open = || anabranch::Store::from_connection(
    /// #     anabranch::rusqlite::Connection::open_in_memory()?);
    /// use anabranch::Sync;
    ///
    /// let (list, notes) = (open()?, open()?);
    /// let sync = Sync::to("wss://relay.example/sync")?.token("eyJ…");
    /// let watch = sync.start_many(&[(&list, "list"), (&notes, "notes")])?;
    /// # drop(watch);
    /// # Ok(()) }
    /// ```
    pub fn start_many<'s>(&self, stores: &[(&'s Store, &str)]) -> Result<Watch<'s>> {
        let stores: Vec<(&Store, Option<&str>)> =
            stores.iter().map(|(store, name)| (*store, Some(*name))).collect();
        self.start_unnamed(&stores)
    }

    fn start_unnamed<'s>(&self, stores: &[(&'s Store, Option<&str>)]) -> Result<Watch<'s>> {
        let stores: Vec<_> = stores.iter().map(|(store, name)| (store.sql(), *name)).collect();
        let watch = anabranch_client::Watch::new(&stores, &self.address, &self.options)?;
        Ok(Watch { watch })
    }

    /// The peer's name in [`Store::peers`]: its URL without anything secret.
    pub fn peer(&self) -> String {
        self.address.to_string()
    }
}

/// A sync that stays: what is committed here goes at once, what comes is committed here.
///
/// It works while [`Watch::next`] or [`Watch::next_within`] waits, on the thread that calls:
/// a program that does something else in between lets the other side wait, and loses
/// nothing. Commits of other connections and processes are noticed within 20 ms; those that
/// the store itself made between two calls, at once.
///
/// ```
/// # fn main() -> anabranch::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = anabranch::Store::open(dir.path().join("a.db"))?;
/// # store.sql().execute_batch("CREATE TABLE note(id TEXT NOT NULL PRIMARY KEY, body TEXT)")?;
/// # store.make_conflict_free("note")?;
/// # let url = format!("dir:{}", dir.path().display());
/// use anabranch::{Event, Sync};
///
/// let mut watch = Sync::watch(&store, &url)?;
/// while watch.next()?.event != Event::Converged {}
/// store.sql().execute("INSERT INTO note VALUES('x', 'live')", [])?;
/// loop {
///     match watch.next()?.event {
///         Event::Gave(moved) => assert_eq!(moved.changes, 1),
///         Event::Converged => break,
///         _ => {}
///     }
/// }
/// # Ok(()) }
/// ```
pub struct Watch<'s> {
    watch: anabranch_client::Watch<'s>,
}

impl Watch<'_> {
    /// Syncs until something happens.
    ///
    /// # Errors
    /// What is wrong with a store's own file; the watch is of no more use then.
    #[expect(clippy::should_implement_trait, reason = "an event or an error, and never the end")]
    pub fn next(&mut self) -> Result<Told> {
        loop {
            if let Some(told) = self.watch.next_within(FOREVER)? {
                return Ok(told);
            }
        }
    }

    /// Syncs until something happens, for at most `wait`; `None` when that is over.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn next_within(&mut self, wait: Duration) -> Result<Option<Told>> {
        Ok(self.watch.next_within(wait.min(FOREVER))?)
    }

    /// Shows a new token in place of one that ends soon ([`Event::TokenWanted`]).
    pub fn renew_token(&mut self, token: &str) {
        self.watch.renew_token(token);
    }

    /// Shows up to 4 KiB to others on a store (a name, a cursor) for as long as this is
    /// connected, and again whenever it is; `None`: nothing any more. What others show comes as
    /// [`Event::Present`]. It is stored nowhere, and forgotten 30 s after who shows it fell
    /// silent. `store` is its name at the relay; the only one may be left empty.
    ///
    /// `examples/presence.rs` of this crate is a program that does it.
    ///
    /// # Errors
    /// For more than 4 KiB.
    pub fn set_presence(&mut self, store: &str, state: Option<&[u8]>) -> Result<()> {
        Ok(self.watch.set_presence(store, state)?)
    }

    /// Asks a relay how far changes of a store got, by site and version, once both hold the
    /// same: the answer is [`Event::Receipts`]. `store` is its name at the relay; the only one
    /// may be left empty.
    pub fn ask_about(&mut self, store: &str, changes: &[(SiteId, u64)]) {
        let dot = |(site, version): &(SiteId, u64)| Dot { site: *site, version: *version };
        self.watch.ask_receipts(store, &changes.iter().map(dot).collect::<Vec<_>>());
    }

    /// Ends, and says goodbye to a relay; dropping ends too, without a word.
    ///
    /// # Errors
    /// What is wrong with a store's own file.
    pub fn close(self) -> Result<()> {
        Ok(self.watch.close()?)
    }
}

impl Store {
    /// The peers this store has synced with, and what each is known to hold.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn peers(&self) -> Result<Vec<Peer>> {
        Ok(anabranch_client::peers(self.sql())?)
    }

    /// Forgets a peer, by its URL in [`Store::peers`]: one that is gone for good, or was mistyped.
    /// What it was known to hold counts no more. Whether it was known.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn forget_peer(&self, url: &str) -> Result<bool> {
        Ok(anabranch_client::forget_peer(self.sql(), url)?)
    }

    /// How far each change is known to have got: see [`Receipts`].
    ///
    /// # Errors
    /// What SQLite says.
    ///
    /// ```
    /// # fn main() -> anabranch::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = anabranch::Store::open(dir.path().join("a.db"))?;
    /// # store.sql().execute_batch("CREATE TABLE note(id TEXT NOT NULL PRIMARY KEY, body TEXT)")?;
    /// # store.make_conflict_free("note")?;
    /// # let url = format!("dir:{}", dir.path().display());
    /// store.sql().execute("INSERT INTO note VALUES('x', 'y')", [])?;
    /// let (site, version) = (store.site()?, store.version_vector()?.version(store.site()?));
    /// assert_eq!(store.receipts()?.on_disk_of(site, version).count(), 0);
    /// assert_eq!(store.status()?.unsynced, 1);
    /// anabranch::Sync::once(&store, &url)?;
    /// assert_eq!(store.receipts()?.on_disk_of(site, version).count(), 1);
    /// assert_eq!(store.status()?.unsynced, 0);
    /// # Ok(()) }
    /// ```
    pub fn receipts(&self) -> Result<Receipts> {
        Ok(Receipts::of(self.sql())?)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        match error {
            StoreError::Sql(error) => error.into(),
            StoreError::Temporary(_) => Error::Temporary(error.to_string()),
            StoreError::Busy(error) => Error::Busy(error),
            StoreError::Missing(what) => Error::Missing(what),
            StoreError::SiteReused(what) | StoreError::FalseBranch(what) => Error::SiteReused(what),
            StoreError::ClockAhead(what) => Error::ClockAhead(what),
            StoreError::Answer(function) => Error::Answer(function),
            other => Error::Sync(other.to_string()),
        }
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Error {
        match error {
            ClientError::Store(error) => error.into(),
            other => Error::Sync(other.to_string()),
        }
    }
}
