//! A copy that takes a new site id, because its file was copied.
//!
//! Author 0 and ordinal 0 mean "this copy" in all stored bytes. What was stored under the
//! former id is not rewritten: a [`Former`] says that rows of the log up to its end mean
//! an ordinary author and an ordinary ordinal when they say 0. The log applies it where it
//! decodes; the small tables are renamed here.

use std::rc::Rc;

use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};

use super::Metadata;
use super::entry::Entry;
use super::header::StoredHeader;
use super::sql::{damaged, int};
use super::state::{decode_versions, encode_versions};
use super::varint::{Corrupt, Decoded, Reader, put};
use crate::error::{Result, StoreError};
use crate::ids::{AuthorId, EntryId, LocalDot, Ordinal};

/// Key of the list of formers in `ana_meta`: (last, author, ordinal), ascending.
const KEY: &str = "formers";

/// Who this copy was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Former {
    /// The last row of the log it wrote.
    last: EntryId,
    author: AuthorId,
    ordinal: Ordinal,
}

/// The former selves of a copy, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Formers(Vec<Former>);

impl Formers {
    /// Who wrote a row of the log as "this copy", if that is not who this copy is.
    fn at(&self, id: EntryId) -> Option<&Former> {
        self.0.iter().find(|former| id <= former.last)
    }

    /// Whether a row of the log was written by a former self.
    pub(crate) fn has_any_at(&self, id: EntryId) -> bool {
        self.at(id).is_some()
    }

    /// Names the former self in a header.
    pub(crate) fn name_in_header(&self, id: EntryId, header: &mut StoredHeader) {
        let Some(former) = self.at(id) else { return };
        former.name_author(&mut header.author);
        header.deps.iter_mut().for_each(|dep| former.name_author(&mut dep.author));
    }

    /// Names the former self as the author of a header.
    pub(crate) fn name_author(&self, id: EntryId, author: &mut AuthorId) {
        if let Some(former) = self.at(id) {
            former.name_author(author);
        }
    }

    /// Names the former self in records.
    pub(crate) fn name_in_entry(&self, id: EntryId, entry: &mut Entry) {
        let Some(former) = self.at(id) else { return };
        entry.written_as(former.author, former.ordinal);
        for (_, cell) in &mut entry.superseded {
            former.name_dot(&mut cell.dot);
            former.name_author(&mut cell.origin);
        }
    }

    fn decode(bytes: &[u8]) -> Decoded<Formers> {
        let mut reader = Reader::new(bytes);
        let mut formers = Vec::new();
        while reader.len() > 0 {
            formers.push(Former {
                last: EntryId(reader.number()?),
                author: AuthorId(reader.number32()?),
                ordinal: Ordinal(reader.number32()?),
            });
        }
        Ok(Formers(formers))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for Former { last, author, ordinal } in &self.0 {
            put(&mut out, last.0);
            put(&mut out, u64::from(author.0));
            put(&mut out, u64::from(ordinal.0));
        }
        out
    }
}

impl Former {
    fn name_author(&self, author: &mut AuthorId) {
        if *author == AuthorId(0) {
            *author = self.author;
        }
    }

    fn name_dot(&self, dot: &mut LocalDot) {
        self.name_author(&mut dot.author);
    }
}

impl Metadata {
    /// Gives this copy another site id. What it wrote so far was written by its former
    /// self, a site like any other; its own versions begin at 1 again.
    ///
    /// Call it before the present transaction writes anything else.
    pub(crate) fn take_site(&mut self, site: SiteId) -> Result<()> {
        self.ensure()?;
        self.or_stale(|this| this.rename_self(site).map(drop))?;
        self.reload()
    }

    /// Reads anew what was rewritten.
    pub(super) fn reload(&mut self) -> Result<()> {
        self.is_stale = true;
        self.ensure()
    }

    /// Gives this copy another site id; who it was is an author like any other.
    pub(super) fn rename_self(&mut self, site: SiteId) -> Result<AuthorId> {
        self.entries.clear();
        self.fold_tail()?;
        let author = AuthorId(self.make_former("ana_site", "id", "site", site)?);
        let ordinal = Ordinal(self.make_former("crsql_site_id", "ordinal", "site_id", site)?);
        for table in ["ana_vector", "ana_chain", "ana_salt", "ana_floor"] {
            let sql = format!("UPDATE main.{table} SET author = ?1 WHERE author = 0");
            self.db.execute(&sql, &[int(u64::from(author.0))])?;
        }
        self.rename_in_contexts(author)?;
        let mut formers = self.stored_formers()?;
        formers.0.push(Former { last: self.state.last, author, ordinal });
        self.db.execute(
            "REPLACE INTO main.ana_meta(key, value) VALUES(?1, ?2)",
            &[ValueRef::Text(KEY.as_bytes()), ValueRef::Blob(&formers.encode())],
        )?;
        if !self.log.branches.is_empty() {
            Rc::make_mut(&mut self.log.branches).leave_self(author);
            self.store_branches()?;
        }
        Ok(author)
    }

    /// Whether a site has a number here, as an author or as an origin.
    pub(crate) fn is_known(&mut self, site: SiteId) -> Result<bool> {
        let is_author = self.authors.find(&self.db, site)?.is_some();
        Ok(is_author || self.origins.find(&self.db, site)?.is_some())
    }

    /// Moves this copy to the end of a table of sites, and puts `site` in its place; where
    /// the former self went.
    fn make_former(&self, table: &str, id: &str, name: &str, site: SiteId) -> Result<u32> {
        let next = format!("SELECT 1 + coalesce(max({id}), 0) FROM main.{table}");
        let next = match self.db.query_value(&next, &[])? {
            Some(Value::Integer(next)) => u32::try_from(next).ok(),
            _ => None,
        };
        let next = next.ok_or_else(|| damaged(table, Corrupt("an id too large")))?;
        self.db.execute(&format!("DELETE FROM main.{table} WHERE {id} = 0"), &[])?;
        let insert = format!("INSERT INTO main.{table}({id}, {name}) VALUES(?1, ?2), (0, ?3)");
        let (former, site) = (ValueRef::Blob(self.own.as_bytes()), ValueRef::Blob(site.as_bytes()));
        self.db.execute(&insert, &[int(u64::from(next)), former, site])?;
        Ok(next)
    }

    /// Others' contexts name this copy where they had seen it.
    fn rename_in_contexts(&self, author: AuthorId) -> Result<()> {
        for (table, key) in [("ana_vector", "0"), ("ana_chain", "version")] {
            let select = format!("SELECT author, {key}, context FROM main.{table}");
            for row in self.db.query_rows(&select, &[])? {
                let [Value::Integer(of), Value::Integer(at), Value::Blob(context)] = &row[..]
                else {
                    continue;
                };
                let renamed = renamed(context, author).map_err(|what| damaged(table, what))?;
                if let Some(renamed) = renamed {
                    let update = format!(
                        "UPDATE main.{table} SET context = ?3 WHERE author = ?1 AND {key} = ?2"
                    );
                    let (of, at) = (ValueRef::Integer(*of), ValueRef::Integer(*at));
                    self.db.execute(&update, &[of, at, ValueRef::Blob(&renamed)])?;
                }
            }
        }
        Ok(())
    }

    /// The site id in the file.
    pub(super) fn stored_site(&self) -> Result<SiteId> {
        let missing =
            || -> StoreError { damaged("crsql_site_id", Corrupt("no site id of this copy")) };
        let sql = "SELECT site_id FROM main.crsql_site_id WHERE ordinal=0";
        match self.db.query_value(sql, &[])? {
            Some(Value::Blob(bytes)) => SiteId::new(&bytes).ok_or_else(missing),
            _ => Err(missing()),
        }
    }

    pub(super) fn stored_formers(&self) -> Result<Formers> {
        let sql = "SELECT value FROM main.ana_meta WHERE key = ?1";
        match self.db.query_value(sql, &[ValueRef::Text(KEY.as_bytes())])? {
            Some(Value::Blob(bytes)) => {
                Formers::decode(&bytes).map_err(|what| damaged("ana_meta", what))
            }
            _ => Ok(Formers::default()),
        }
    }
}

/// A context in which this copy is called `author`; `None` if it does not occur.
fn renamed(context: &[u8], author: AuthorId) -> Decoded<Option<Vec<u8>>> {
    let mut versions = decode_versions(context)?;
    let Some(version) = versions.remove(&AuthorId(0)) else { return Ok(None) };
    versions.insert(author, version);
    Ok(Some(encode_versions(&versions)))
}
