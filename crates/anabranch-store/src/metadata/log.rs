//! The statements on `ana_entry`.

use std::collections::VecDeque;
use std::rc::Rc;

use anabranch_core::value::ValueRef;
use anabranch_sqlite::Db;

use super::branches::Branches;
use super::entry::{self, Entry, KeyOf};
use super::header::{self, StoredHeader};
use super::renew::Formers;
use super::sql::{damaged, int, read_blob, read_u32, read_u64};
use crate::error::Result;
use crate::ids::{AuthorId, EntryId, LocalDot, TableId};
use crate::kept::Kept;
use crate::limits::MAX_LOG_BYTES_AHEAD;

/// A row of the log, its body decoded.
#[derive(Clone, Debug)]
pub(crate) struct LogRow {
    pub(crate) id: EntryId,
    pub(crate) table: TableId,
    /// Upper bound of `db_version` here and before.
    pub(crate) dbv: u64,
    /// Bytes of the header; empty: none.
    pub(crate) head: Vec<u8>,
    pub(crate) entry: Option<Entry>,
}

impl LogRow {
    /// For each record its change, and bytes that are equal for one row, and differ for two
    /// rows of one transaction.
    pub(crate) fn records(&self) -> impl Iterator<Item = (LocalDot, &[u8])> {
        self.entry.iter().flat_map(|entry| {
            (0..entry.len()).filter_map(|index| {
                let (KeyOf::Whole(name) | KeyOf::Prefix(name)) = entry.key(index);
                Some((entry.stamp(index)?.dot, name))
            })
        })
    }
}

/// A header where it stands.
pub(crate) struct Head<'a> {
    id: EntryId,
    dbv: u64,
    bytes: &'a [u8],
    formers: &'a Formers,
    branches: &'a Branches,
}

impl Head<'_> {
    /// Author and version only.
    pub(crate) fn dot(&self) -> Result<(AuthorId, u64)> {
        let (mut author, version) =
            header::decode_dot(self.bytes, self.dbv).map_err(|what| damaged(self.place(), what))?;
        self.formers.name_author(self.id, &mut author);
        let mut dot = LocalDot { author, version };
        self.branches.rename(&mut dot);
        Ok((dot.author, dot.version))
    }

    /// All of it.
    pub(crate) fn header(&self) -> Result<StoredHeader> {
        let mut header =
            header::decode(self.bytes, self.dbv).map_err(|what| damaged(self.place(), what))?;
        self.formers.name_in_header(self.id, &mut header);
        self.branches.rename_header(&mut header);
        Ok(header)
    }

    fn place(&self) -> String {
        format!("ana_entry {}", self.id.0)
    }
}

impl Head<'_> {
    /// The row it stands in, and that row's `dbv`.
    pub(crate) fn row(&self) -> (EntryId, u64) {
        (self.id, self.dbv)
    }
}

/// The log.
pub(crate) struct Log {
    db: Db,
    /// Who wrote what stands here as written by this copy.
    pub(crate) formers: Formers,
    /// What became of authors that stand here.
    pub(crate) branches: Rc<Branches>,
    /// Version of this copy's change whose entries have no header yet.
    pub(crate) pending_version: u64,
    insert: Kept,
    set_head: Kept,
    last: Kept,
    by_id: Kept,
    next: Kept,
    next_id: Kept,
    dbv_at: Kept,
    heads: Kept,
    starts: Kept,
    drop: Kept,
    raw: Kept,
    rewrite: Kept,
    delete: Kept,
}

impl Log {
    /// Drops what is kept, so that the connection can close.
    pub(crate) fn drop_statements(&mut self) {
        let kept = [
            &mut self.insert,
            &mut self.set_head,
            &mut self.last,
            &mut self.by_id,
            &mut self.next,
            &mut self.next_id,
            &mut self.dbv_at,
            &mut self.heads,
            &mut self.starts,
            &mut self.drop,
            &mut self.raw,
            &mut self.rewrite,
            &mut self.delete,
        ];
        kept.into_iter().for_each(Kept::clear);
    }

    pub(crate) fn new(db: &Db) -> Log {
        Log {
            db: db.clone(),
            pending_version: 1,
            formers: Formers::default(),
            branches: Rc::default(),
            insert: Kept::new(
                "INSERT INTO main.ana_entry(id, tbl, dbv, head, body) VALUES(?1,?2,?3,?4,?5)",
            ),
            set_head: Kept::new("UPDATE main.ana_entry SET head=?2 WHERE id=?1"),
            last: Kept::new("SELECT id, dbv FROM main.ana_entry ORDER BY id DESC LIMIT 1"),
            by_id: Kept::new("SELECT id, tbl, dbv, head, body FROM main.ana_entry WHERE id=?1"),
            next: Kept::new(
                "SELECT id, tbl, dbv, head, body FROM main.ana_entry WHERE id>=?1 ORDER BY id",
            ),
            next_id: Kept::new("SELECT id FROM main.ana_entry WHERE id>=?1 ORDER BY id LIMIT 1"),
            dbv_at: Kept::new(
                "SELECT id, dbv FROM main.ana_entry WHERE id<=?1 ORDER BY id DESC LIMIT 1",
            ),
            // As many bytes as `entry::first_seq` looks at.
            starts: Kept::new(
                "SELECT id, dbv, substr(body, 1, 32) FROM main.ana_entry
                 WHERE id>=?1 ORDER BY id",
            ),
            heads: Kept::new(
                "SELECT id, dbv, head FROM main.ana_entry WHERE id>=?1 AND head IS NOT NULL
                 ORDER BY id",
            ),
            drop: Kept::new("UPDATE main.ana_entry SET tbl=NULL, body=NULL WHERE tbl=?1"),
            raw: Kept::new("SELECT head, body FROM main.ana_entry WHERE id=?1"),
            rewrite: Kept::new("UPDATE main.ana_entry SET head=?2, body=?3 WHERE id=?1"),
            delete: Kept::new("DELETE FROM main.ana_entry WHERE id=?1"),
        }
    }

    /// Appends a row.
    pub(crate) fn insert(
        &mut self,
        id: EntryId,
        table: Option<TableId>,
        dbv: u64,
        head: Option<&[u8]>,
        body: Option<&[u8]>,
    ) -> Result<()> {
        let table = table.map_or(ValueRef::Null, |table| int(u64::from(table.0)));
        let head = head.map_or(ValueRef::Null, ValueRef::Blob);
        let body = body.map_or(ValueRef::Null, ValueRef::Blob);
        self.insert.run(&self.db, &[int(id.0), table, int(dbv), head, body])
    }

    /// Writes the header into a row.
    pub(crate) fn set_head(&mut self, id: EntryId, head: &[u8]) -> Result<()> {
        self.set_head.run(&self.db, &[int(id.0), ValueRef::Blob(head)])
    }

    /// Id and `dbv` of the last row; zeros for an empty log.
    pub(crate) fn last(&mut self) -> Result<(EntryId, u64)> {
        let last = self.last.first(&self.db, &[], |row| {
            Ok((EntryId(read_u64(row, 0, "ana_entry")?), read_u64(row, 1, "ana_entry")?))
        })?;
        Ok(last.unwrap_or((EntryId(0), 0)))
    }

    /// A row by id.
    pub(crate) fn row(&mut self, id: EntryId) -> Result<Option<LogRow>> {
        let names = (&self.formers, &self.branches);
        let pending = self.pending_version;
        self.by_id.first(&self.db, &[int(id.0)], |row| read_row(row, names, pending))
    }

    /// The first row at or after `id`.
    pub(crate) fn next(&mut self, id: EntryId) -> Result<Option<LogRow>> {
        let names = (&self.formers, &self.branches);
        let pending = self.pending_version;
        self.next.first(&self.db, &[int(id.0)], |row| read_row(row, names, pending))
    }

    /// Appends rows from `id` on until they hold `n_records` or more, or many bytes; at least
    /// one if there is one.
    pub(crate) fn read_ahead(
        &mut self,
        id: EntryId,
        n_records: usize,
        rows: &mut VecDeque<LogRow>,
    ) -> Result<()> {
        let (names, pending) = ((&self.formers, &self.branches), self.pending_version);
        let (mut n_found, mut n_bytes) = (0, 0);
        self.next.each(&self.db, &[int(id.0)], |row| {
            n_bytes += read_blob(row, 4, "ana_entry")?.len();
            let row = read_row(row, names, pending)?;
            n_found += row.entry.as_ref().map_or(1, |entry| entry.len() as usize);
            rows.push_back(row);
            Ok(n_found < n_records && n_bytes < MAX_LOG_BYTES_AHEAD)
        })
    }

    /// The id of the first row at or after `id`, whatever the row holds.
    pub(crate) fn next_id(&mut self, id: EntryId) -> Result<Option<EntryId>> {
        self.next_id.first(&self.db, &[int(id.0)], |row| read_u64(row, 0, "ana_entry").map(EntryId))
    }

    /// Whether the rows of one `db_version` from `id` on go on above `seq` and ascend, and
    /// the id after the last of them. (A transaction that merged and wrote has rows that
    /// begin anew.) Looks at the first bytes of each row only.
    pub(crate) fn ascends(&mut self, id: EntryId, dbv: u64, seq: u64) -> Result<(bool, EntryId)> {
        let (mut is_ascending, mut last, mut end) = (true, seq, id);
        self.starts.each(&self.db, &[int(id.0)], |row| {
            if read_u64(row, 1, "ana_entry")? != dbv {
                return Ok(false);
            }
            let id = read_u64(row, 0, "ana_entry")?;
            end = EntryId(id + 1);
            let body = read_blob(row, 2, "ana_entry")?;
            if !body.is_empty() {
                let first = entry::first_seq(body)
                    .map_err(|what| damaged(format!("ana_entry {id}"), what))?;
                is_ascending &= first.is_some_and(|first| first > last);
                last = first.unwrap_or(u64::MAX);
            }
            Ok(true)
        })?;
        Ok((is_ascending, end))
    }

    /// The first id whose `dbv` is above `after`, by galloping back from the end: what is
    /// asked for is mostly near it.
    pub(crate) fn first_above(&mut self, after: u64) -> Result<EntryId> {
        let (last, dbv) = self.last()?;
        if dbv <= after {
            return Ok(EntryId(last.0 + 1));
        }
        // Invariant: rows up to `low` are at or below `after`, those from `high` on above.
        let (mut low, mut high, mut step) = (0, last.0, 1);
        while high > 1 {
            let probe = high.saturating_sub(step).max(1);
            match self.dbv_at(probe)? {
                Some((_, dbv)) if dbv > after => high = probe,
                _ => {
                    low = probe;
                    break;
                }
            }
            step = step.saturating_mul(4);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.dbv_at(middle)? {
                Some((_, dbv)) if dbv > after => high = middle,
                _ => low = middle,
            }
        }
        Ok(EntryId(high))
    }

    fn dbv_at(&mut self, id: u64) -> Result<Option<(u64, u64)>> {
        self.dbv_at.first(&self.db, &[int(id)], |row| {
            Ok((read_u64(row, 0, "ana_entry")?, read_u64(row, 1, "ana_entry")?))
        })
    }

    /// Hands the headers from `id` on to `read`, which says whether to go on.
    pub(crate) fn heads(
        &mut self,
        id: EntryId,
        mut read: impl FnMut(Head<'_>) -> Result<bool>,
    ) -> Result<()> {
        let (formers, branches) = (&self.formers, &*self.branches);
        self.heads.each(&self.db, &[int(id.0)], |row| {
            let id = EntryId(read_u64(row, 0, "ana_entry")?);
            let dbv = read_u64(row, 1, "ana_entry")?;
            read(Head { id, dbv, bytes: read_blob(row, 2, "ana_entry")?, formers, branches })
        })
    }

    /// The header that a row carries.
    pub(crate) fn header_of(&self, row: &LogRow) -> Result<Option<StoredHeader>> {
        if row.head.is_empty() {
            return Ok(None);
        }
        let LogRow { id, dbv, head, .. } = row;
        let (formers, branches) = (&self.formers, &*self.branches);
        Head { id: *id, dbv: *dbv, bytes: head, formers, branches }.header().map(Some)
    }

    /// Head and body of a row as they are stored; empty where there is none.
    pub(super) fn raw(&mut self, id: EntryId) -> Result<(Vec<u8>, Vec<u8>)> {
        let raw = self.raw.first(&self.db, &[int(id.0)], |row| {
            let head = read_blob(row, 0, "ana_entry")?.to_vec();
            Ok((head, read_blob(row, 1, "ana_entry")?.to_vec()))
        })?;
        Ok(raw.unwrap_or_default())
    }

    /// Writes head and body over those of a row; empty: there is none any more.
    pub(super) fn rewrite(&mut self, id: EntryId, head: &[u8], body: &[u8]) -> Result<()> {
        self.rewrite.run(&self.db, &[int(id.0), or_null(head), or_null(body)])
    }

    /// Deletes a row; not the last, whose id says which is the next.
    pub(super) fn delete(&mut self, id: EntryId) -> Result<()> {
        self.delete.run(&self.db, &[int(id.0)])
    }

    /// Forgets the records of a table. The rows stay: positions are never used again.
    pub(crate) fn drop_table(&mut self, table: TableId) -> Result<()> {
        self.drop.run(&self.db, &[int(u64::from(table.0))])
    }
}

fn or_null(bytes: &[u8]) -> ValueRef<'_> {
    if bytes.is_empty() { ValueRef::Null } else { ValueRef::Blob(bytes) }
}

fn read_row(
    row: &anabranch_sqlite::Statement,
    (formers, branches): (&Formers, &Rc<Branches>),
    pending_version: u64,
) -> Result<LogRow> {
    let id = read_u64(row, 0, "ana_entry")?;
    let place = || format!("ana_entry {id}");
    let dbv = read_u64(row, 2, "ana_entry")?;
    let table = TableId(read_u32(row, 1, "ana_entry")?);
    let head = read_blob(row, 3, "ana_entry")?.to_vec();
    let body = read_blob(row, 4, "ana_entry")?;
    let version = match head.as_slice() {
        [] => pending_version,
        head => header::decode_dot(head, dbv).map_err(|what| damaged(place(), what))?.1,
    };
    let mut entry = (!body.is_empty())
        .then(|| entry::decode(body, version, dbv).map_err(|what| damaged(place(), what)))
        .transpose()?;
    if let Some(entry) = &mut entry {
        formers.name_in_entry(EntryId(id), entry);
        branches.rename_entry(entry);
    }
    Ok(LogRow { id: EntryId(id), table, dbv, head, entry })
}
