//! Local numbers of sites: authors of changes (`ana_site`) and origins of cells
//! (`crsql_site_id`). What is remembered is forgotten whenever anything is undone: whoever
//! adds a site has enrolled the transaction, so that SQLite tells.

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
    }

    /// The id of a site, if it has one.
    pub(crate) fn find(&mut self, db: &Db, site: SiteId) -> Result<Option<u32>> {
        if site == self.own {
            return Ok(Some(0));
        }
        if let Some(id) = self.ids.get(&site) {
            return Ok(Some(*id));
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
        let id = self.find(db, site)?;
        id.ok_or_else(|| damaged(self.table, Corrupt("a site that was added is not there")))
    }

    /// The site of an id.
    pub(crate) fn site_of(&mut self, db: &Db, id: u32) -> Result<SiteId> {
        if id == 0 {
            return Ok(self.own);
        }
        if let Some(site) = self.sites.get(&id) {
            return Ok(*site);
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
