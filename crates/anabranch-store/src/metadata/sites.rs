//! Local numbers of sites: authors of changes (`ana_site`) and origins of cells
//! (`crsql_site_id`). What this transaction added is remembered only once it is committed.

use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use anabranch_sqlite::Db;
use hashbrown::HashMap;

use super::sql::{damaged, int, read_blob, read_u32};
use super::varint::Corrupt;
use crate::error::{Result, StoreError};
use crate::kept::Kept;

/// One table of sites with ids from 0 (this copy).
pub(crate) struct Sites {
    table: &'static str,
    own: SiteId,
    ids: HashMap<SiteId, u32>,
    sites: HashMap<u32, SiteId>,
    /// Added by this transaction: a rollback that we may not hear of takes them back, so
    /// they are looked up each time.
    added: Vec<SiteId>,
    by_site: Kept,
    by_id: Kept,
    add: Kept,
}

impl Sites {
    /// Drops what is kept, so that the connection can close.
    pub(crate) fn drop_statements(&mut self) {
        let kept = [&mut self.by_site, &mut self.by_id, &mut self.add];
        kept.into_iter().for_each(Kept::clear);
    }

    /// The authors of changes.
    pub(crate) fn authors(own: SiteId) -> Sites {
        Sites {
            table: "ana_site",
            own,
            ids: HashMap::new(),
            sites: HashMap::new(),
            added: Vec::new(),
            by_site: Kept::new("SELECT id FROM main.ana_site WHERE site=?1"),
            by_id: Kept::new("SELECT site FROM main.ana_site WHERE id=?1"),
            add: Kept::new(
                "INSERT INTO main.ana_site(id, site)
                 SELECT 1+coalesce(max(id),0), ?1 FROM main.ana_site",
            ),
        }
    }

    /// The origins of cells.
    pub(crate) fn origins(own: SiteId) -> Sites {
        Sites {
            table: "crsql_site_id",
            own,
            ids: HashMap::new(),
            sites: HashMap::new(),
            added: Vec::new(),
            by_site: Kept::new("SELECT ordinal FROM main.crsql_site_id WHERE site_id=?1"),
            by_id: Kept::new("SELECT site_id FROM main.crsql_site_id WHERE ordinal=?1"),
            add: Kept::new(
                "INSERT INTO main.crsql_site_id(site_id, ordinal)
                 SELECT ?1, 1+coalesce(max(ordinal),0) FROM main.crsql_site_id",
            ),
        }
    }

    /// This copy is another site from now on.
    pub(crate) fn be(&mut self, own: SiteId) {
        self.own = own;
    }

    /// Forgets what is remembered.
    pub(crate) fn forget_ids(&mut self) {
        self.ids.clear();
        self.sites.clear();
        self.added.clear();
    }

    /// The transaction ended: what it added is read anew from what was kept.
    pub(crate) fn settle(&mut self) {
        for site in self.added.drain(..) {
            if let Some(id) = self.ids.remove(&site) {
                self.sites.remove(&id);
            }
        }
    }

    /// The id of a site, if it has one.
    pub(crate) fn find(&mut self, db: &Db, site: SiteId) -> Result<Option<u32>> {
        if site == self.own {
            return Ok(Some(0));
        }
        match self.ids.get(&site) {
            Some(id) if !self.added.contains(&site) => return Ok(Some(*id)),
            _ => {}
        }
        let table = self.table;
        let found = self
            .by_site
            .first(db, &[ValueRef::Blob(site.as_bytes())], |row| read_u32(row, 0, table))?;
        let Some(id) = found else { return Ok(None) };
        self.ids.insert(site, id);
        self.sites.insert(id, site);
        Ok(Some(id))
    }

    /// The id of a site, made if missing.
    pub(crate) fn id_of(&mut self, db: &Db, site: SiteId) -> Result<u32> {
        if let Some(id) = self.find(db, site)? {
            return Ok(id);
        }
        self.add.run(db, &[ValueRef::Blob(site.as_bytes())])?;
        self.added.push(site);
        let id = self.find(db, site)?;
        id.ok_or_else(|| damaged(self.table, Corrupt("a site that was added is not there")))
    }

    /// The site of an id.
    pub(crate) fn site_of(&mut self, db: &Db, id: u32) -> Result<SiteId> {
        if id == 0 {
            return Ok(self.own);
        }
        match self.sites.get(&id) {
            Some(site) if !self.added.contains(site) => return Ok(*site),
            _ => {}
        }
        let table = self.table;
        let missing =
            || -> StoreError { damaged(table, Corrupt("a site that is named is missing")) };
        let found = self.by_id.first(db, &[int(u64::from(id))], |row| {
            SiteId::new(read_blob(row, 0, table)?)
                .ok_or_else(|| damaged(table, Corrupt("a site id that is not 1 to 16 bytes")))
        })?;
        let site = found.ok_or_else(missing)?;
        self.ids.insert(site, id);
        self.sites.insert(id, site);
        Ok(site)
    }
}
