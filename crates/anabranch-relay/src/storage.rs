//! What a relay keeps, behind a trait small enough for another database to stand in.
//!
//! A backend stores deltas as they came, in the order in which it committed them, and what
//! their headers say: the vector of each store, and for each (site, version) its chain and
//! who delivered it first. It decides nothing about sessions.
//!
//! **Invariant:** what [`DeltaLog::append`] answered with [`Appended`] is on disk, its blobs
//! too. A client at vector V is served by the deltas that V does not cover, in order: each
//! was taken when its `from` was at or below the vector of that time, and that vector is
//! what the deltas before it lead to. What a delta brought beyond the changes that were new
//! is in deltas before it, so V covers a delta when it covers the changes it brought.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use anabranch_core::clock::{Chain, ClockAhead};
use anabranch_core::forest::Reading;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use anabranch_core::wire::WireError;
use anabranch_sync::frame;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::blobs::BlobHash;
use crate::outline::Outline;
use crate::store_id::StoreId;

pub(crate) mod sqlite;

/// What a backend answers later.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Takes what became of a delta, on the thread that committed it: must be quick. It gives who is
/// to be woken for it, which is done once for all that one commit answers.
pub(crate) type Answer =
    Box<dyn FnOnce(Result<Appended, StorageError>) -> Option<Arc<Notify>> + Send>;

/// An answer that is waited for.
pub(crate) fn awaited() -> (Answer, impl Future<Output = Result<Appended, StorageError>>) {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let answer: Answer = Box::new(move |appended| {
        // Who asked may be gone.
        drop(answer.send(appended));
        None
    });
    (answer, async move { answered.await.map_err(|_| StorageError::Stopping)? })
}

/// A backend: its parts. All methods are safe to call at the same time.
pub(crate) trait Storage: DeltaLog + Catalog + BlobNames {}

impl<T: DeltaLog + Catalog + BlobNames> Storage for T {}

/// The deltas of all stores.
pub(crate) trait DeltaLog: Send + Sync {
    /// Checks a delta against its store's vector and commits it.
    ///
    /// Answered when it is on disk; refused without a trace. Deltas are taken in the order in
    /// which this is called, unless so many wait that this one must wait outside: then for what
    /// this gives.
    fn append(&self, incoming: Incoming, answer: Answer) -> Option<Pending<'static, ()>>;

    /// Makes room for a file that no delta names yet, before it is written. What a store may
    /// hold counts these files too, until a delta names them or they are old enough to go:
    /// deltas that are never finished, refused, or of nothing new fill no disk.
    fn reserve(&self, store: &StoreId, file: LooseFile) -> Pending<'static, ()>;

    /// Keeps a part of a delta whose other parts are still to come: on disk when answered.
    ///
    /// Of a store's unfinished deltas the last to begin are kept, as many as a Have can name.
    fn stage(&self, store: &StoreId, part: StagedPart) -> Pending<'static, ()>;

    /// The unfinished deltas of a store, the last to begin last.
    fn staged(&self, store: &StoreId) -> Pending<'_, Vec<StagedDelta>>;

    /// Forgets what was staged, room that was made, and blobs that nothing has named since,
    /// before `before_ms`.
    fn unstage(&self, before_ms: u64) -> Pending<'_, ()>;

    /// What is held of a store; nothing if there is no such store.
    fn vector(&self, store: &StoreId) -> Pending<'_, VersionVector>;

    /// Deltas in the order of their arrival that `wanted.held` does not cover.
    fn deltas(&self, store: &StoreId, wanted: Wanted) -> Pending<'_, Vec<StoredDelta>>;

    /// Chains of a site at those of `versions` that are held.
    fn chains(
        &self,
        store: &StoreId,
        site: SiteId,
        versions: Vec<u64>,
    ) -> Pending<'_, Vec<(u64, Chain)>>;

    /// A peer's vector by the names that its sites have here.
    fn read(&self, store: &StoreId, theirs: Arc<VersionVector>) -> Pending<'_, Reading>;

    /// All deltas of a store in the order of their arrival, without their bytes.
    fn list(&self, store: &StoreId) -> Pending<'_, Vec<Listed>>;

    /// Puts one delta in the place of those from `first` to `joined.id`, which it joins.
    ///
    /// `false` if other deltas stand there than the `n_joined` that were read.
    fn replace(
        &self,
        store: &StoreId,
        first: u64,
        joined: StoredDelta,
        n_joined: u64,
    ) -> Pending<'_, bool>;
}

/// What stores there are, who may do what in them, and what they name.
pub(crate) trait Catalog: Send + Sync {
    /// Stores by name, after `after`.
    fn stores(&self, after: Option<StoreId>, limit: u32) -> Pending<'_, Vec<StoreFacts>>;

    /// Everything about one store.
    fn facts(&self, store: &StoreId) -> Pending<'_, Option<StoreFacts>>;

    /// Who delivered which versions first, by site, then version; as many as are listed.
    fn deliverers(&self, store: &StoreId) -> Pending<'_, Vec<Delivered>>;

    /// Notes that `subject` calls `site` its own, unless the site has an owner.
    fn claim(&self, store: &StoreId, site: SiteId, subject: Arc<str>) -> Pending<'_, ()>;

    /// Forgets a store; whether there was one.
    fn delete(&self, store: &StoreId) -> Pending<'_, bool>;

    /// Remembers that a token or a subject is worth nothing any more, until `until`.
    fn revoke(&self, revoked: Revoked) -> Pending<'_, ()>;

    /// All that is revoked.
    fn revoked(&self) -> Pending<'_, Vec<Revoked>>;

    /// Keeps what is known of a place of a store (`ReceiptBook::remember`), as of `now_ms`.
    fn remember(&self, store: &StoreId, place: Remembered) -> Pending<'static, ()>;

    /// What was kept of the places of a store.
    fn remembered(&self, store: &StoreId) -> Pending<'_, Vec<Remembered>>;
}

/// What is known of one place: bytes that only `ReceiptBook` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Which.
    pub(crate) site: SiteId,
    /// What.
    pub(crate) bytes: Vec<u8>,
    /// As of when, Unix milliseconds.
    pub(crate) now_ms: u64,
}

/// Which blobs the changes of a store name.
pub(crate) trait BlobNames: Send + Sync {
    /// Makes room for a blob that comes, within what the store may hold. What does not become
    /// whole and named is forgotten with the parts of deltas that nobody goes on with.
    fn make_room(&self, store: &StoreId, room: BlobRoom) -> Pending<'static, ()>;

    /// A blob is whole, and on disk.
    fn came(&self, store: &StoreId, blob: BlobHash) -> Pending<'static, ()>;

    /// Blobs that changes of the store name and that never came, as many as may be wanted at
    /// once.
    fn missing(&self, store: &StoreId) -> Pending<'_, Vec<BlobHash>>;

    /// Stores that took a complete delta since their blobs were looked through.
    fn to_be_swept(&self) -> Pending<'_, Vec<StoreId>>;

    /// Blobs of a store that are named, or were and are not forgotten yet.
    fn named(&self, store: &StoreId) -> Pending<'_, HashSet<BlobHash>>;

    /// The store was looked through from `now_ms` on, and names these of its blobs: the others
    /// fade, and are forgotten with what [`DeltaLog::unstage`] forgets. How many fade.
    fn fade(&self, store: &StoreId, named: HashSet<BlobHash>, now_ms: u64)
    -> Pending<'static, u64>;

    /// Those of `blobs` that nothing stored names.
    fn unnamed(&self, blobs: Vec<BlobHash>) -> Pending<'_, Vec<BlobHash>>;

    /// Whether a change of the store names a blob.
    fn names(&self, store: &StoreId, blob: BlobHash) -> Pending<'_, bool>;
}

/// Room for a blob that comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlobRoom {
    /// Its name.
    pub(crate) blob: BlobHash,
    /// Its bytes.
    pub(crate) n_bytes: u64,
    /// Most bytes of blobs that the store may hold with it.
    pub(crate) max_store_blob_bytes: u64,
    /// When it began to come, Unix milliseconds.
    pub(crate) now_ms: u64,
}

/// A blob that a delta names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamedBlob {
    /// Which.
    pub(crate) blob: BlobHash,
    /// Its bytes, if it is here.
    pub(crate) n_bytes: Option<u64>,
}

/// A delta on its way to disk.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Where it belongs.
    pub(crate) store: StoreId,
    /// Whose token let it in.
    pub(crate) subject: Arc<str>,
    /// Its own name.
    pub(crate) name: [u8; 16],
    /// Its vectors and headers.
    pub(crate) outline: Outline,
    /// Its bytes.
    pub(crate) body: Body,
    /// The blobs that it names.
    pub(crate) blobs: Vec<NamedBlob>,
    /// Most bytes of blobs that the store may hold with them.
    pub(crate) max_store_blob_bytes: u64,
    /// Whose changes are taken from whom.
    pub(crate) owners: Owners,
    /// Most bytes that the store may hold with it.
    pub(crate) max_store_bytes: u64,
    /// When it came, Unix milliseconds.
    pub(crate) now_ms: u64,
}

/// How much a delta brings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaSize {
    /// Changes.
    pub(crate) n_changes: u64,
    /// Bytes of its parts.
    pub(crate) n_bytes: u64,
}

/// A part of a delta whose other parts are still to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedPart {
    /// The delta's name.
    pub(crate) delta: [u8; 16],
    /// From 0; those before it are staged.
    pub(crate) part: u32,
    /// How many the delta has.
    pub(crate) of: u32,
    /// Its bytes.
    pub(crate) hash: BlobHash,
    /// How many.
    pub(crate) n_bytes: u32,
    /// When it came, Unix milliseconds.
    pub(crate) now_ms: u64,
}

/// A file with a part of a delta, before the delta is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LooseFile {
    /// Its name.
    pub(crate) hash: BlobHash,
    /// Its bytes.
    pub(crate) n_bytes: u32,
    /// Most bytes that the store may hold with all such files.
    pub(crate) max_store_bytes: u64,
    /// When it came, Unix milliseconds.
    pub(crate) now_ms: u64,
}

/// A delta of which the first parts are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StagedDelta {
    /// Its name.
    pub(crate) delta: [u8; 16],
    /// How many parts it has.
    pub(crate) of: u32,
    /// Those that are here, from part 0 on.
    pub(crate) parts: Vec<(BlobHash, u32)>,
}

/// Whose changes a delta may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Everybody's.
    Any,
    /// Only those of sites that the subject owns (`strict-sites`).
    Strict,
}

/// The bytes of a delta: its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// One small part.
    Inline(Bytes),
    /// Parts in files, by hash and length in bytes, in order.
    Blobs(Arc<[(BlobHash, u32)]>),
}

impl Body {
    /// Bytes of all parts.
    pub(crate) fn n_bytes(&self) -> u64 {
        match self {
            Body::Inline(part) => part.len() as u64,
            Body::Blobs(parts) => parts.iter().map(|(_, n_bytes)| u64::from(*n_bytes)).sum(),
        }
    }

    /// How many parts.
    pub(crate) fn n_parts(&self) -> u32 {
        match self {
            Body::Inline(_) => 1,
            Body::Blobs(parts) => parts.len() as u32,
        }
    }
}

/// Versions of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Whose.
    pub(crate) site: SiteId,
    /// The first, from 1.
    pub(crate) first: u64,
    /// The last, included.
    pub(crate) last: u64,
    /// The chain at the last.
    pub(crate) chain: Chain,
}

/// A delta on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredDelta {
    /// Its place in the order of arrival; ascending in a store, not dense.
    pub(crate) id: u64,
    /// Its own name, as its parts give it.
    pub(crate) name: [u8; 16],
    /// The changes that were new when it came.
    pub(crate) spans: Vec<Span>,
    /// Its bytes.
    pub(crate) body: Body,
    /// Of a delta that was just committed: what all who follow its store are told.
    pub(crate) live: Option<Live>,
}

/// A delta as those hear of it who follow its store: made once for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// What a copy must hold to take it.
    pub(crate) from: Arc<VersionVector>,
    /// As [`StoredDelta::to`].
    pub(crate) to: Arc<VersionVector>,
    /// Its part, if it has one that is small.
    pub(crate) part: Option<frame::Delta>,
}

impl StoredDelta {
    /// A delta that was just stored.
    pub(crate) fn new(id: u64, incoming: Incoming, spans: Vec<Span>) -> StoredDelta {
        let Incoming { name, outline, body, .. } = incoming;
        let part = match &body {
            Body::Inline(part) => frame::Delta::new(part.clone()).ok(),
            Body::Blobs(_) => None,
        };
        let (from, to) = (Arc::new(outline.from), Arc::new(to(&spans)));
        StoredDelta { id, name, spans, body, live: Some(Live { from, to, part }) }
    }

    /// A site was parted.
    pub(crate) fn rename(&mut self, rename: impl FnOnce(&mut Vec<Span>) -> bool) {
        if rename(&mut self.spans)
            && let Some(live) = &mut self.live
        {
            live.to = Arc::new(to(&self.spans));
        }
    }

    /// Whether a copy at `held` gains nothing by it.
    pub(crate) fn is_covered_by(&self, held: &VersionVector) -> bool {
        self.spans.iter().all(|span| held.version(span.site) >= span.last)
    }

    /// Where it leads, without what did not move.
    pub(crate) fn to(&self) -> Arc<VersionVector> {
        self.live.as_ref().map_or_else(|| Arc::new(to(&self.spans)), |live| Arc::clone(&live.to))
    }
}

/// The vector that spans lead to.
pub(crate) fn to(spans: &[Span]) -> VersionVector {
    let mut to = VersionVector::new();
    for span in spans {
        to.set(span.site, Held { version: span.last, chain: span.chain });
    }
    to
}

/// A delta on disk, without its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// As [`StoredDelta::id`].
    pub(crate) id: u64,
    /// As [`StoredDelta::spans`].
    pub(crate) spans: Vec<Span>,
    /// Bytes of all parts.
    pub(crate) n_bytes: u64,
    /// How many parts.
    pub(crate) n_parts: u32,
    /// When the last of it came, in Unix milliseconds.
    pub(crate) received_ms: u64,
}

/// What became of a delta that was not refused.
#[derive(Clone, Debug)]
pub(crate) enum Appended {
    /// It is on disk; `Some`: where it leads, if its sites have other names here.
    Stored(Option<Arc<VersionVector>>),
    /// It brought nothing that was not held; likewise.
    Covered(Option<Arc<VersionVector>>),
}

impl Appended {
    /// Where the delta leads, by the names that its sites have here, if those are others.
    pub(crate) fn to(&self) -> Option<&Arc<VersionVector>> {
        let (Appended::Stored(to) | Appended::Covered(to)) = self;
        to.as_ref()
    }
}

/// Which deltas are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// What the asker holds.
    pub(crate) held: Arc<VersionVector>,
    /// Only those after this place; `None` starts at the first that is not covered.
    pub(crate) after: Option<u64>,
    /// How many at most.
    pub(crate) max_deltas: u32,
    /// No further one once so many bytes are in memory.
    pub(crate) max_bytes: u64,
}

/// What there is to say of a store.
#[derive(Clone, Debug)]
pub(crate) struct StoreFacts {
    /// Its name.
    pub(crate) store: StoreId,
    /// When its first delta came, Unix milliseconds.
    pub(crate) created_ms: u64,
    /// Bytes of its deltas.
    pub(crate) n_bytes: u64,
    /// How many deltas.
    pub(crate) n_deltas: u64,
    /// How many changes.
    pub(crate) n_changes: u64,
    /// How many sites wrote them.
    pub(crate) n_sites: u64,
}

/// Who delivered changes first.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    /// Whose changes.
    pub(crate) site: SiteId,
    /// From 1.
    pub(crate) first: u64,
    /// Included.
    pub(crate) last: u64,
    /// The subject of the token that let them in.
    pub(crate) subject: String,
}

/// What is worth nothing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revoked {
    /// Which word it is.
    pub(crate) kind: RevokedKind,
    /// The token's id (`jti`), or the subject.
    pub(crate) name: String,
    /// When it can be forgotten, Unix seconds.
    pub(crate) until_s: u64,
}

/// What a revocation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RevokedKind {
    /// One token.
    Token,
    /// All tokens of a subject.
    Subject,
}

/// Learns what was committed, in that order, from the thread that did it: must be quick.
pub(crate) trait Observer: Send + Sync {
    /// A site's history has forked, and the names in this store have changed: all of it is
    /// this. What is committed with it is told afterwards.
    fn renamed(&self, store: &StoreId, vector: VersionVector);

    /// These deltas of one store are on disk.
    fn committed(&self, store: &StoreId, deltas: Vec<Arc<StoredDelta>>);

    /// All that a transaction committed was told, here and to who waited for it: who follows
    /// its stores may look.
    fn announce(&self);
}

/// Why a backend refused, or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StorageError {
    /// Changes before the delta are missing: the sender must begin lower.
    #[error("the delta begins at version {from} of site {site}, the relay holds {held}")]
    Gap {
        /// Whose.
        site: SiteId,
        /// Where the delta begins.
        from: u64,
        /// What is held.
        held: u64,
    },
    /// Two histories under one name.
    #[error("SiteReused: site {site} has another history at version {version} here")]
    SiteReused {
        /// Whose.
        site: SiteId,
        /// Where they are known to differ.
        version: u64,
    },
    /// A branch that is not called after its first change, or one too many of a root.
    #[error("SiteReused: site {site} is no branch of that name")]
    FalseBranch {
        /// Which.
        site: SiteId,
    },
    /// `strict-sites`.
    #[error("changes of site {site} are taken from its owner only, and that is not {subject}")]
    NotOwner {
        /// Whose changes.
        site: SiteId,
        /// Who sent them.
        subject: Arc<str>,
    },
    /// From the future.
    #[error(transparent)]
    ClockAhead(#[from] ClockAhead),
    /// A quota of the store.
    #[error("quota store-bytes: store {store} may hold {limit} bytes")]
    StoreFull {
        /// Which.
        store: StoreId,
        /// Its quota.
        limit: u64,
    },
    /// A quota of the store.
    #[error("quota store-blob-bytes: store {store} may name blobs of {limit} bytes")]
    BlobsFull {
        /// Which.
        store: StoreId,
        /// Its quota.
        limit: u64,
    },
    /// The delta names blobs that its sender must bring before.
    #[error("blobs first: the delta names {} that are not here", blobs.len())]
    BlobsFirst {
        /// Which.
        blobs: Vec<BlobHash>,
    },
    /// A quota of the store.
    #[error(
        "quota changes-per-second: store {store} takes {limit} changes a second; \
         try again in {retry_ms} ms"
    )]
    TooFast {
        /// Which.
        store: StoreId,
        /// Its quota.
        limit: u64,
        /// When it takes changes again.
        retry_ms: u64,
    },
    /// The bytes are no delta.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The database failed: nothing of this was kept, and trying again may help.
    #[error("the relay's storage failed")]
    Backend(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// What was stored cannot be read any more.
    #[error("damaged storage: {what}")]
    Damaged {
        /// Where, and what is wrong.
        what: &'static str,
    },
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopping,
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> StorageError {
        StorageError::Backend(Arc::new(error))
    }
}

impl From<std::io::Error> for StorageError {
    fn from(error: std::io::Error) -> StorageError {
        StorageError::Backend(Arc::new(error))
    }
}
