//! All that is kept about the rows of conflict-free tables: the log and the clocks.
//!
//! The log is `ana_entry`, one row for each transaction and table (cut at
//! [`crate::limits::MAX_ENTRY_RECORDS`]); a row that begins a change carries its header,
//! so that a one-row transaction writes one row. The clocks are `ana_clock`: every key in
//! sorted packed blocks; each group of a row's columns points at the log record that
//! wrote it. Small local transactions write only their log row and are folded into the
//! blocks later: until then they live in [`Tail`]. Everything else folds at once.
//!
//! Order of the log is arrival order, and `db_version` never falls along it.

pub(crate) mod mask;
pub(crate) mod record;
pub(crate) mod row_clock;
pub(crate) mod scan;

use anabranch_core::change::ChangeHeader;
use anabranch_core::clock::Hlc;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_sqlite::Db;

use crate::buffer::{LocalBuffer, MergedBuffer};
use crate::error::Result;
use crate::ids::{AuthorId, LocalDot, Ordinal, TableId};
use row_clock::RowClock;
use scan::{LiveRecord, Scan};

/// The own change that this transaction is making.
#[derive(Clone, Debug, Default)]
pub(crate) struct PendingChange {
    /// `db_version` for the next local write; 0 until the first flush or merge asks for it.
    pub(crate) db_version: u64,
    /// Next `seq` of this transaction.
    pub(crate) next_seq: u64,
    /// Whether some write was local: kind `edit`, else `import`.
    pub(crate) is_edit: bool,
    /// Whether entries of this change are in the log already (early flush).
    pub(crate) first_entry: Option<crate::ids::EntryId>,
    /// `ana_message`.
    pub(crate) message: Option<String>,
    /// `ana_author`.
    pub(crate) author: Option<String>,
}

/// The metadata of one store, as one connection sees it.
///
/// All methods see the present transaction's own flushed writes. After a rollback of
/// anything that was flushed, call [`Metadata::invalidate`].
pub(crate) struct Metadata {
    db: Db,
}

impl Metadata {
    /// Reads what is needed of an initialised file.
    pub(crate) fn open(_db: &Db) -> Result<Metadata> {
        todo!()
    }

    /// Notices commits of other connections (`PRAGMA data_version`); cheap when none.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        todo!()
    }

    /// Forgets all that was read: something written was rolled back.
    pub(crate) fn invalidate(&mut self) {
        todo!()
    }

    /// The transaction committed: what was written is now everybody's.
    pub(crate) fn committed(&mut self) {
        todo!()
    }

    /// Largest committed `db_version`.
    pub(crate) fn db_version(&self) -> u64 {
        todo!()
    }

    /// The clock of one row (tail, then block); sees flushed writes, not buffers.
    pub(crate) fn row(&mut self, _table: TableId, _key: &[u8]) -> Result<Option<RowClock>> {
        todo!()
    }

    /// Writes buffered local operations as records of the pending change and applies the
    /// local write rules to their rows (specs: `seq` and versions exactly).
    pub(crate) fn write_local(
        &mut self,
        _change: &mut PendingChange,
        _ops: &LocalBuffer,
    ) -> Result<()> {
        todo!()
    }

    /// Writes merged records and the rows they made.
    pub(crate) fn write_merged(
        &mut self,
        _change: &mut PendingChange,
        _ops: &MergedBuffer,
    ) -> Result<()> {
        todo!()
    }

    /// Writes (or rewrites, after BUSY or an early flush) the header of the pending change.
    /// `now_ms`: Unix milliseconds. Does nothing when the change has no entries.
    pub(crate) fn write_header(&mut self, _change: &PendingChange, _now_ms: u64) -> Result<()> {
        todo!()
    }

    /// Appends headers of foreign changes, in order, and moves the vector to them.
    pub(crate) fn append_headers(&mut self, _headers: &[ChangeHeader]) -> Result<()> {
        todo!()
    }

    /// The local dot of the pending change (version = own vector entry + 1).
    pub(crate) fn pending_dot(&self) -> LocalDot {
        todo!()
    }

    /// What this copy holds, with chains.
    pub(crate) fn vector(&self) -> VersionVector {
        todo!()
    }

    /// The chain of a site at any version at or below what is held; `None` above.
    pub(crate) fn chain_at(
        &mut self,
        _site: SiteId,
        _version: u64,
    ) -> Result<Option<anabranch_core::clock::Chain>> {
        todo!()
    }

    /// Whether the context of the change `later` (its deps, transitively) covers `earlier`.
    pub(crate) fn context_covers(&mut self, _later: LocalDot, _earlier: LocalDot) -> Result<bool> {
        todo!()
    }

    /// Headers of all changes held above `from`, by site then version.
    pub(crate) fn headers_above(&mut self, _from: &VersionVector) -> Result<Vec<ChangeHeader>> {
        todo!()
    }

    /// The header of one held change.
    pub(crate) fn header(&mut self, _dot: LocalDot) -> Result<Option<ChangeHeader>> {
        todo!()
    }

    /// Largest time of any change held.
    pub(crate) fn latest_time(&self) -> Hlc {
        todo!()
    }

    /// Scans live records with `db_version` above `after`, in `(db_version, seq)` order.
    pub(crate) fn scan_since(&mut self, _after: u64) -> Result<Scan> {
        todo!()
    }

    /// Scans live records whose dot `from` does not cover, by table then key.
    pub(crate) fn scan_above(&mut self, _from: &VersionVector) -> Result<Scan> {
        todo!()
    }

    /// The live records of one row.
    pub(crate) fn row_records(&mut self, _table: TableId, _key: &[u8]) -> Result<Vec<LiveRecord>> {
        todo!()
    }

    /// This copy's site id.
    pub(crate) fn own_site(&self) -> SiteId {
        todo!()
    }

    /// Site of an ordinal of `crsql_site_id`.
    pub(crate) fn origin_site(&mut self, _ordinal: Ordinal) -> Result<SiteId> {
        todo!()
    }

    /// Ordinal of a site in `crsql_site_id`, made if missing (own site: 0).
    pub(crate) fn ordinal_of(&mut self, _site: SiteId) -> Result<Ordinal> {
        todo!()
    }

    /// Site of an author.
    pub(crate) fn author_site(&mut self, _author: AuthorId) -> Result<SiteId> {
        todo!()
    }

    /// Local id of an author, made if missing (own site: 0).
    pub(crate) fn author_of(&mut self, _site: SiteId) -> Result<AuthorId> {
        todo!()
    }

    /// Drops all metadata of a table (`crsql_as_table`, a dropped table); `db_version` stays.
    pub(crate) fn drop_table(&mut self, _table: TableId) -> Result<()> {
        todo!()
    }
}
