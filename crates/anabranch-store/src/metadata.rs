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
pub(crate) mod tables;

mod key_code;
mod mask_code;
mod stream;
mod varint;

mod block;
mod patterns;
mod rows;

mod entry;
mod header;
mod local;

mod block_forget;
mod block_merge;
mod block_walk;
mod blocks;
mod cursor;
mod log;
mod sites;
mod sorted;
mod sql;
mod state;
mod tail;

mod branches;
mod floor;
mod fold;
mod headers;
mod load;
mod renew;
mod retime;
mod vector;
mod write;
mod write_bulk;
mod write_rekey;

pub(crate) mod forget;

mod check;
#[cfg(test)]
mod tests;

use anabranch_core::change::ChangeHeader;
use anabranch_core::clock::Hlc;
use anabranch_core::site::SiteId;
use anabranch_core::value::Value;
use anabranch_core::vector::{Held, VersionVector};
use anabranch_sqlite::Db;
use hashbrown::HashMap;

use crate::atomic::{Bracket, atomically};
use crate::buffer::{LocalBuffer, MergedBuffer};
use crate::error::Result;
use crate::ids::{AuthorId, EntryId, Key, LocalDot, Ordinal, TableId};
use crate::kept::Kept;
use blocks::Blocks;
use cursor::Ascending;
use entry::Entry;
use floor::Restarts;
pub(crate) use header::{StoredDep, StoredHeader, decode as decode_header, put as put_header};
use headers::Headers;
use log::Log;
pub(crate) use log::LogRow;
pub(crate) use retime::Retimed;
use row_clock::RowClock;
use scan::{LiveRecord, Scan};
use sites::Sites;
use state::{State, Versions};
use std::rc::Rc;
use tail::Tail;
use varint::Corrupt;
use vector::PendingOwn;

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
    pub(crate) message: Option<Rc<str>>,
    /// `ana_author`.
    pub(crate) author: Option<Rc<str>>,
    /// `ana_blob_put`: what the change names.
    pub(crate) blobs: std::collections::BTreeSet<[u8; 32]>,
    /// What is being written ends the change, at this Unix time in milliseconds: its first
    /// entry takes the header with it.
    pub(crate) closes_at: Option<u64>,
}

/// What `PRAGMA data_version` cannot be.
const PRAGMA_UNKNOWN: i64 = i64::MIN;

/// The statements on the small tables.
struct SmallTables {
    data_version: Kept,
    meta: Kept,
    set_meta: Kept,
    vector: Kept,
    set_vector: Kept,
    context: Kept,
    chain: Kept,
    set_chain: Kept,
    salt: Kept,
    set_salt: Kept,
    restart: Kept,
}

impl SmallTables {
    /// Drops what is kept, so that the connection can close.
    pub(crate) fn drop_statements(&mut self) {
        let kept = [
            &mut self.data_version,
            &mut self.meta,
            &mut self.set_meta,
            &mut self.vector,
            &mut self.set_vector,
            &mut self.context,
            &mut self.chain,
            &mut self.set_chain,
            &mut self.salt,
            &mut self.set_salt,
            &mut self.restart,
        ];
        kept.into_iter().for_each(Kept::clear);
    }

    const fn new() -> SmallTables {
        SmallTables {
            data_version: Kept::new("PRAGMA main.data_version"),
            meta: Kept::new("SELECT value FROM main.ana_meta WHERE key=?1"),
            set_meta: Kept::new("REPLACE INTO main.ana_meta(key, value) VALUES(?1,?2)"),
            vector: Kept::new("SELECT author, version, chain, context FROM main.ana_vector"),
            set_vector: Kept::new(
                "REPLACE INTO main.ana_vector(author, version, chain, context)
                 VALUES(?1,?2,?3,?4)",
            ),
            context: Kept::new("SELECT context FROM main.ana_vector WHERE author=?1"),
            chain: Kept::new(
                "SELECT version, chain, entry, context FROM main.ana_chain
                 WHERE author=?1 AND version<=?2 ORDER BY version DESC LIMIT 1",
            ),
            set_chain: Kept::new(
                "REPLACE INTO main.ana_chain(author, version, chain, entry, context)
                 VALUES(?1,?2,?3,?4,?5)",
            ),
            salt: Kept::new(
                "SELECT salt FROM main.ana_salt WHERE author=?1 AND version<=?2
                 ORDER BY version DESC LIMIT 1",
            ),
            set_salt: Kept::new(
                "REPLACE INTO main.ana_salt(author, version, salt) VALUES(?1,?2,?3)",
            ),
            restart: Kept::new(
                "SELECT cl FROM main.ana_restart
                 WHERE tbl=(SELECT name FROM main.ana_registry WHERE id=?1)",
            ),
        }
    }
}

/// The metadata of one store, as one connection sees it.
///
/// All methods see the present transaction's own flushed writes. After a rollback of
/// anything that was flushed, call [`Metadata::invalidate`].
pub(crate) struct Metadata {
    db: Db,
    own: SiteId,
    blocks: Blocks,
    /// Lookups that are expected to ascend.
    ascending: Option<Ascending>,
    log: Log,
    authors: Sites,
    origins: Sites,
    sql: SmallTables,
    /// As of the last commit, ours or another's that was noticed.
    committed: State,
    /// With what this transaction wrote.
    state: State,
    tail: Tail,
    /// Numbers of the next new rows, as far as asked for.
    numbers: HashMap<TableId, u64>,
    /// Restart lengths of tables, as far as asked for; `None`: not read, empty: none has one.
    restarts: Option<Restarts>,
    /// The row asked for last: changes come cell after cell of one row.
    recent: Option<(TableId, Key, Option<RowClock>)>,
    /// Contexts of other authors, as far as asked for.
    contexts: HashMap<AuthorId, Rc<Versions>>,
    /// Committed entries that were looked into, and how many records they hold.
    entries: HashMap<EntryId, Rc<Entry>>,
    n_kept: usize,
    /// The header that the pending change's first entry took with it, nothing written since.
    written_head: Option<StoredHeader>,
    /// Set by [`Metadata::write_header`], taken over by [`Metadata::committed`].
    pending_own: Option<PendingOwn>,
    /// What this copy has committed under the name that the open transaction gave it.
    renamed_own: Option<(SiteId, Held, Versions)>,
    /// The salt of this connection.
    drawn_salt: Option<u64>,
    data_version: i64,
    /// How often others' commits were noticed.
    n_commits_noticed: u64,
    /// What [`Db::n_commits`] answered when `data_version` was last asked.
    n_commits: Option<u32>,
    /// All but `committed` must be read anew.
    is_stale: bool,
    /// So must `committed`: a commit came while the rest was stale.
    is_commit_unread: bool,
}

impl Metadata {
    /// Reads what is needed of an initialised file.
    pub(crate) fn open(db: &Db) -> Result<Metadata> {
        let missing = || sql::damaged("crsql_site_id", Corrupt("this copy has no site id"));
        let own = db.query_value("SELECT site_id FROM main.crsql_site_id WHERE ordinal=0", &[])?;
        let own = match own {
            Some(Value::Blob(bytes)) => SiteId::new(&bytes).ok_or_else(missing)?,
            _ => return Err(missing()),
        };
        let mut metadata = Metadata {
            db: db.clone(),
            own,
            blocks: Blocks::new(db),
            ascending: None,
            log: Log::new(db),
            authors: Sites::authors(own),
            origins: Sites::origins(own),
            sql: SmallTables::new(),
            committed: State::empty(),
            state: State::empty(),
            tail: Tail::default(),
            numbers: HashMap::new(),
            restarts: None,
            recent: None,
            contexts: HashMap::new(),
            entries: HashMap::new(),
            n_kept: 0,
            written_head: None,
            pending_own: None,
            renamed_own: None,
            drawn_salt: None,
            data_version: PRAGMA_UNKNOWN,
            n_commits_noticed: 0,
            n_commits: None,
            is_stale: true,
            is_commit_unread: false,
        };
        metadata.refresh()?;
        Ok(metadata)
    }

    /// Drops what is kept, so that the connection can close; it is compiled again at need.
    pub(crate) fn drop_statements(&mut self) {
        self.sql.drop_statements();
        self.blocks.drop_statements();
        self.log.drop_statements();
        self.authors.drop_statements();
        self.origins.drop_statements();
    }

    /// Notices commits of other connections (`PRAGMA data_version`); cheap when none.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        let n_commits = self.db.n_commits().filter(|_| self.db.is_in_transaction());
        if n_commits.is_some() && n_commits == self.n_commits && !self.is_commit_unread {
            return self.ensure();
        }
        let version = self.read_data_version()?;
        if version != self.data_version || self.is_commit_unread {
            self.on_one_state(Metadata::take_commits)?;
            self.n_commits_noticed += 1;
            self.data_version = version;
            self.is_commit_unread = false;
        }
        self.n_commits = n_commits;
        if self.is_stale {
            self.on_one_state(Metadata::ensure)?
        }
        Ok(())
    }

    /// Runs `read` on one state of the file: outside of a transaction each of its statements
    /// would see another, if somebody commits in between.
    fn on_one_state(&mut self, read: impl FnOnce(&mut Metadata) -> Result<()>) -> Result<()> {
        if self.db.is_in_transaction() || !self.db.is_autocommit() {
            return read(self);
        }
        let db = self.db.clone();
        atomically(&db, Bracket::Reading, || read(self))
    }

    /// How often [`Metadata::refresh`] noticed commits.
    pub(crate) fn commits_noticed(&self) -> u64 {
        self.n_commits_noticed
    }

    /// Forgets all that was read: something written was rolled back.
    pub(crate) fn invalidate(&mut self) {
        self.state = self.committed.clone();
        if let Some(site) = self.state.site {
            self.be(site);
        }
        self.ascending = None;
        self.blocks.forget();
        self.tail = Tail::default();
        self.restarts = None;
        self.recent = None;
        self.written_head = None;
        if self.pending_own.take().is_some() {
            // A commit that failed may stand on the disk all the same, and whoever copies the file
            // now has this version with this salt. What takes its number needs another, or both
            // pass for one history.
            self.drawn_salt = None;
        }
        self.entries.clear();
        self.n_kept = 0;
        self.authors.forget_ids();
        self.origins.forget_ids();
        self.is_stale = true;
    }

    /// The transaction committed: what was written is now everybody's.
    pub(crate) fn committed(&mut self) {
        self.blocks.end_lookups();
        if self.is_stale {
            self.is_commit_unread = true;
            return;
        }
        // While it was open nobody else could commit.
        self.n_commits = self.db.n_commits();
        self.settle_own();
        self.committed = self.state.clone();
    }

    /// Largest committed `db_version`.
    pub(crate) fn db_version(&self) -> u64 {
        self.committed.dbv
    }

    /// The clock of one row (tail, then block); sees flushed writes, not buffers.
    pub(crate) fn row(&mut self, table: TableId, key: &[u8]) -> Result<Option<RowClock>> {
        self.ensure()?;
        if let Some((recent_table, recent_key, clock)) = &self.recent
            && (*recent_table, recent_key.as_slice()) == (table, key)
        {
            return Ok(clock.clone());
        }
        // Two rows of one table in a row: more will follow, mostly near each other.
        let is_run = self.recent.as_ref().is_some_and(|(recent, ..)| *recent == table);
        if is_run && self.ascending.as_ref().is_none_or(|known| known.table() != table) {
            self.ascending = Some(Ascending::new(table));
        }
        let clock = self.clock(table, key)?;
        self.recent = Some((table, Key::from_slice(key), clock.clone()));
        Ok(clock)
    }

    /// The clock of the row that was asked for last, if it is this one and has a clock.
    pub(crate) fn recent_clock(&self, table: TableId, key: &[u8]) -> Option<&RowClock> {
        let (recent_table, recent_key, clock) = self.recent.as_ref()?;
        let is_it = (*recent_table, recent_key.as_slice()) == (table, key);
        clock.as_ref().filter(|_| is_it && !self.is_stale)
    }

    fn clock(&mut self, table: TableId, key: &[u8]) -> Result<Option<RowClock>> {
        match self.tail.row(table, key) {
            Some(clock) => Ok(Some(clock.clone())),
            None => match &mut self.ascending {
                Some(ascending) if ascending.table() == table => {
                    ascending.row(&mut self.blocks, key)
                }
                _ => self.blocks.row(table, key),
            },
        }
    }

    /// Says that rows of a table will be asked for by nearly ascending keys, inside the
    /// present transaction; `None`: not any more.
    pub(crate) fn expect_ascending(&mut self, table: Option<TableId>) {
        self.ascending = table.map(Ascending::new);
    }

    /// Writes buffered local operations as records of the pending change and applies the
    /// local write rules to their rows (specs: `seq` and versions exactly).
    pub(crate) fn write_local(
        &mut self,
        change: &mut PendingChange,
        ops: &LocalBuffer,
    ) -> Result<()> {
        if ops.ops.is_empty() {
            return Ok(());
        }
        self.ensure()?;
        self.written_head = None;
        change.is_edit = true;
        self.or_stale(|this| this.write_ops(change, ops))
    }

    /// Writes merged records and the rows they made.
    pub(crate) fn write_merged(
        &mut self,
        change: &mut PendingChange,
        ops: &MergedBuffer,
    ) -> Result<()> {
        if ops.records.is_empty() {
            return Ok(());
        }
        self.ensure()?;
        self.written_head = None;
        self.or_stale(|this| this.write_records(change, ops))
    }

    /// Writes (or rewrites, after BUSY or an early flush) the header of the pending change.
    /// `now_ms`: Unix milliseconds. Does nothing when the change has no entries.
    pub(crate) fn write_header(&mut self, change: &PendingChange, now_ms: u64) -> Result<()> {
        self.ensure()?;
        self.or_stale(|this| this.store_header(change, now_ms))
    }

    /// Writes an entry without operations, for a change that only names blobs.
    pub(crate) fn write_nothing(&mut self, change: &mut PendingChange) -> Result<()> {
        self.ensure()?;
        self.written_head = None;
        change.is_edit = true;
        self.or_stale(|this| {
            change.first_entry = Some(this.add_empty_entry()?);
            Ok(())
        })
    }

    /// Appends headers of foreign changes, each site's in order, and moves the vector to them.
    pub(crate) fn append_headers(
        &mut self,
        headers: impl IntoIterator<Item = Result<ChangeHeader>>,
    ) -> Result<()> {
        self.ensure()?;
        self.or_stale(|this| this.add_headers(headers))
    }

    /// Runs a writer; what it left half done in memory is read anew.
    fn or_stale<T>(&mut self, write: impl FnOnce(&mut Metadata) -> Result<T>) -> Result<T> {
        if let Some(ascending) = &mut self.ascending {
            ascending.forget();
        }
        self.recent = None;
        let written = write(self);
        if written.is_err() {
            self.invalidate();
        }
        written
    }

    /// The local dot of the pending change (version = own vector entry + 1).
    pub(crate) fn pending_dot(&self) -> LocalDot {
        LocalDot { author: AuthorId(0), version: self.state.own.version + 1 }
    }

    /// What this copy holds, with chains.
    pub(crate) fn vector(&self) -> VersionVector {
        self.present_vector()
    }

    /// The chain of a site at any version at or below what is held; `None` above.
    pub(crate) fn chain_at(
        &mut self,
        site: SiteId,
        version: u64,
    ) -> Result<Option<anabranch_core::clock::Chain>> {
        self.ensure()?;
        self.chain_of(site, version)
    }

    /// Whether the context of the change `later` (its deps, transitively) covers `earlier`.
    pub(crate) fn context_covers(&mut self, later: LocalDot, earlier: LocalDot) -> Result<bool> {
        self.ensure()?;
        self.covers(later, earlier)
    }

    /// What a site had seen of others when it wrote its last change that is held here.
    pub(crate) fn context_at_last(&mut self, site: SiteId) -> Result<Vec<(SiteId, u64)>> {
        self.ensure()?;
        self.seen_by(site)
    }

    /// Headers of all changes held above `from`, by site then version.
    pub(crate) fn headers_above(&mut self, from: &VersionVector) -> Result<Headers> {
        self.ensure()?;
        self.collect_headers(from)
    }

    /// When a change that is held was made.
    pub(crate) fn time_of(&mut self, change: LocalDot) -> Result<Option<Hlc>> {
        self.ensure()?;
        self.find_time(change)
    }

    /// Scans live records with `db_version` above `after`, in `(db_version, seq)` order.
    pub(crate) fn scan_since(&mut self, after: u64) -> Result<Scan> {
        self.ensure()?;
        self.start_scan_since(after)
    }

    /// Scans live records whose dot `from` does not cover, by table (in the order that
    /// `rank` gives) then key.
    pub(crate) fn scan_above(
        &mut self,
        from: &VersionVector,
        rank: &HashMap<TableId, u32>,
    ) -> Result<Scan> {
        self.ensure()?;
        self.start_scan_above(from, rank)
    }

    /// The first row of the log at or after `id`, and the header it carries.
    pub(crate) fn log_row(
        &mut self,
        id: EntryId,
    ) -> Result<Option<(LogRow, Option<StoredHeader>)>> {
        let Some(row) = self.log.next(id)? else { return Ok(None) };
        let header = self.log.header_of(&row)?;
        Ok(Some((row, header)))
    }

    /// The live records of one row.
    pub(crate) fn row_records(&mut self, table: TableId, key: &[u8]) -> Result<Vec<LiveRecord>> {
        self.ensure()?;
        self.records_of(table, key)
    }

    /// This copy's site id.
    pub(crate) fn own_site(&self) -> SiteId {
        self.own
    }

    /// Site of an ordinal of `crsql_site_id`.
    pub(crate) fn origin_site(&mut self, ordinal: Ordinal) -> Result<SiteId> {
        self.origins.site_of(&self.db, ordinal.0)
    }

    /// Ordinal of a site in `crsql_site_id`, made if missing (own site: 0).
    pub(crate) fn ordinal_of(&mut self, site: SiteId) -> Result<Ordinal> {
        Ok(Ordinal(self.origins.id_of(&self.db, site)?))
    }

    /// Site of an author.
    pub(crate) fn author_site(&mut self, author: AuthorId) -> Result<SiteId> {
        self.authors.site_of(&self.db, author.0)
    }

    /// Local id of an author, made if missing (own site: 0).
    pub(crate) fn author_of(&mut self, site: SiteId) -> Result<AuthorId> {
        Ok(AuthorId(self.authors.id_of(&self.db, site)?))
    }

    /// Drops all metadata of a table (`crsql_as_table`, a dropped table); `db_version` stays.
    pub(crate) fn drop_table(&mut self, table: TableId) -> Result<()> {
        self.ensure()?;
        self.or_stale(|this| {
            this.fold_tail()?;
            this.entries.clear();
            this.blocks.drop_table(table)?;
            this.log.drop_table(table)
        })
    }
}
