//! Syncing a store with a relay or a shared directory.

use anabranch_client::{Address, ClientError, Event, Peer, Report, StoreError};

use crate::error::{Error, Result};
use crate::store::Store;

/// Brings a store and a peer to the same state.
///
/// The peer is named by a URL: `dir:/media/stick` is a folder (a stick, a share, a cloud
/// drive's folder, a git checkout).
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
}

impl Sync {
    /// A sync with the peer at this URL.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn to(url: &str) -> Result<Sync> {
        Ok(Sync { address: url.parse()? })
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

    /// Like [`Sync::once`], and tells what happens while it does.
    ///
    /// # Errors
    /// What is wrong with this store's own file.
    pub fn run(&self, store: &Store, tell: &mut dyn FnMut(Event)) -> Result<Report> {
        Ok(anabranch_client::once(store.sql(), &self.address, tell)?)
    }

    /// The peer's name in [`Store::peers`]: its URL without anything secret.
    pub fn peer(&self) -> String {
        self.address.to_string()
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
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        match error {
            StoreError::Sql(error) => Error::Sql(error),
            StoreError::Busy(error) => Error::Busy(error),
            StoreError::Missing(what) => Error::Missing(what),
            StoreError::SiteReused(what) => Error::SiteReused(what),
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
