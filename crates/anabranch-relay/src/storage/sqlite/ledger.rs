//! What the writing thread knows: the database, the vectors of the stores it wrote to last,
//! and what the open transaction will tell the observer.
//!
//! What deltas add to the rows of their store and sites is summed up in memory and written once
//! for each transaction, so that a delta itself costs one row.
//!
//! **Invariant:** the vectors in memory are those of the open transaction; when it is undone
//! all are forgotten. Whatever reads the rows of a store's vector calls [`Ledger::flush`] before.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_core::branch::Branch;
use anabranch_core::clock::Chain;
use anabranch_core::forest::{self, Split};
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use rusqlite::{Connection, OptionalExtension};

use super::forks::{self, Fresh};
use super::unwritten::{Run, Unwritten};
use super::{named, rows, staging};
use crate::limits::MAX_WARM_STORES;
use crate::outline::Outline;
use crate::storage::{Appended, Body, Incoming, Observer, Owners, Span, StorageError, StoredDelta};
use crate::store_id::StoreId;

type Result<T> = std::result::Result<T, StorageError>;

/// The writer's side of the database.
pub(super) struct Ledger {
    db: Connection,
    /// Stores written to lately.
    stores: HashMap<StoreId, WarmStore>,
    /// Row ids of subjects met lately.
    subjects: HashMap<Arc<str>, i64>,
    /// Stores that the open transaction wrote deltas to, in order.
    touched: Vec<StoreId>,
    /// The id of the next delta: none is given twice while a reader may remember it.
    next_delta: i64,
    observer: Arc<dyn Observer>,
    /// Stores in which names have changed in the open transaction.
    renamed: Vec<StoreId>,
    /// Why the open transaction cannot be committed.
    failure: Option<StorageError>,
}

/// A store's vector and counters, as of the open transaction.
pub(super) struct WarmStore {
    id: i64,
    n_bytes: u64,
    sites: HashMap<SiteId, WarmSite>,
    /// What the store's rows lack of the open transaction.
    unwritten: Unwritten,
}

#[derive(Clone, Copy)]
struct WarmSite {
    id: i64,
    version: u64,
    chain: Chain,
    owner: Option<i64>,
    branch: Option<Branch>,
}

/// What a delta brings, and what must be renamed before.
struct Taken {
    fresh: Vec<Fresh>,
    splits: Vec<Split>,
    /// Whether its names are read by their chains.
    is_read: bool,
}

impl Ledger {
    pub(super) fn new(db: Connection, observer: Arc<dyn Observer>) -> Result<Ledger> {
        let last = "SELECT coalesce(max(id), 0) FROM delta";
        let next_delta = 1 + db.query_row(last, [], |row| row.get::<_, i64>(0))?;
        Ok(Ledger {
            db,
            stores: HashMap::new(),
            subjects: HashMap::new(),
            touched: Vec::new(),
            next_delta,
            renamed: Vec::new(),
            observer,
            failure: None,
        })
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.stores.len() > MAX_WARM_STORES {
            self.stores.clear();
        }
        if self.subjects.len() > MAX_WARM_STORES {
            self.subjects.clear();
        }
        Ok(self.db.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Ends the transaction, on disk or undone, and tells the observer.
    pub(super) fn commit(&mut self) -> Result<()> {
        let touched = std::mem::take(&mut self.touched);
        let outcome = match self.failure.take() {
            Some(failure) => Err(failure),
            None => touched
                .iter()
                .try_for_each(|store| self.flush(store))
                .and_then(|()| Ok(self.db.execute_batch("COMMIT")?)),
        };
        if outcome.is_err() {
            if !self.db.is_autocommit() {
                // If even that fails the next BEGIN says so.
                let _ = self.db.execute_batch("ROLLBACK");
            }
            self.stores.clear();
            self.subjects.clear();
            self.renamed.clear();
        }
        for store in std::mem::take(&mut self.renamed) {
            if let Some(warm) = self.stores.get(&store) {
                self.observer.renamed(&store, warm.vector());
            }
        }
        for store in touched {
            let warm = self.stores.get_mut(&store);
            let stored = warm.map(|warm| std::mem::take(&mut warm.unwritten.stored));
            if let Some(stored) = stored.filter(|stored| !stored.is_empty()) {
                self.observer.committed(&store, stored);
            }
        }
        outcome
    }

    /// Lets those look who follow what was committed.
    pub(super) fn announce(&self) {
        self.observer.announce();
    }

    /// Writes what the rows of a store lack.
    pub(super) fn flush(&mut self, store: &StoreId) -> Result<()> {
        match self.stores.get_mut(store) {
            Some(warm) => warm.flush(&self.db),
            None => Ok(()),
        }
    }

    /// Dooms the open transaction.
    pub(super) fn fail(&mut self, error: &StorageError) {
        let error = match error {
            StorageError::Backend(source) => StorageError::Backend(Arc::clone(source)),
            _ => StorageError::Damaged { what: "see the log" },
        };
        self.failure.get_or_insert(error);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The database, for what concerns no vector.
    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    /// Checks a delta and stores it.
    pub(super) fn append(&mut self, incoming: Incoming) -> Result<Appended> {
        let subject = self.subject(&incoming.subject)?;
        self.warm(&incoming.store)?;
        let Taken { fresh, splits, is_read } = self.take(&incoming, subject)?;
        if fresh.is_empty() {
            self.finish_staged(&incoming)?;
            return Ok(Appended::Covered(self.led_to(&incoming, is_read)?));
        }
        let n_bytes = incoming.body.n_bytes();
        let held = self.stores.get(&incoming.store).map_or(0, |store| store.n_bytes);
        if held.saturating_add(n_bytes) > incoming.max_store_bytes {
            let limit = incoming.max_store_bytes;
            return Err(StorageError::StoreFull { store: incoming.store, limit });
        }
        named::check(&self.db, &incoming.store, &incoming.blobs, incoming.max_store_blob_bytes)?;
        // From here on only the database can refuse, and then undoes everything.
        let row = self.store_row(&incoming.store, incoming.now_ms)?;
        splits.iter().try_for_each(|split| self.split(&incoming.store, split))?;
        let spans: Vec<Span> = fresh.iter().map(|fresh| fresh.span).collect();
        let id = self.insert_delta(row, subject, &incoming, &spans, n_bytes)?;
        self.finish_staged(&incoming)?;
        if let Body::Blobs(parts) = &incoming.body {
            staging::settle(&self.db, &incoming.store, parts)?;
        }
        named::name(&self.db, &incoming.store, &incoming.blobs, incoming.now_ms)?;
        if incoming.outline.has_forgotten {
            let set = "UPDATE store SET forgot_ms = ?2 WHERE id = ?1";
            self.db.execute(set, (row, incoming.now_ms as i64))?;
        }
        for fresh in fresh {
            self.advance(&incoming.store, fresh, id, subject)?;
        }
        let to = self.led_to(&incoming, is_read)?;
        let warm = self.stores.get_mut(&incoming.store).expect("the store's row was made before");
        warm.n_bytes += n_bytes;
        if warm.unwritten.stored.is_empty() {
            self.touched.push(incoming.store.clone());
        }
        warm.unwritten.count(n_bytes, &spans);
        warm.unwritten.stored.push(Arc::new(StoredDelta::new(id as u64, incoming, spans)));
        Ok(Appended::Stored(to))
    }

    /// What a delta brings, by the names that its sites have here, or why it is refused.
    fn take(&mut self, incoming: &Incoming, subject: i64) -> Result<Taken> {
        let empty = WarmStore::new(0);
        let warm = self.stores.get(&incoming.store).unwrap_or(&empty);
        if warm.unwritten.must_be_read(warm, &incoming.outline) {
            self.flush(&incoming.store)?;
        }
        let warm = self.stores.get(&incoming.store).unwrap_or(&empty);
        if !warm.has_branches(&incoming.outline) {
            match warm.take(&self.db, incoming, subject) {
                // Perhaps it begins where the histories are alike.
                Err(StorageError::SiteReused { .. }) => {}
                taken => return taken,
            }
        }
        self.flush(&incoming.store)?;
        let warm = self.stores.get(&incoming.store).unwrap_or(&empty);
        warm.take_by_chains(&self.db, incoming, subject)
    }

    /// Where a delta leads whose names are others than those used here.
    fn led_to(&self, incoming: &Incoming, is_read: bool) -> Result<Option<Arc<VersionVector>>> {
        let Some(store) = self.stores.get(&incoming.store).filter(|_| is_read) else {
            return Ok(None);
        };
        let chain = &mut |site, version| store.chain_at(&self.db, site, version);
        let reading = forest::read(&store.vector(), &incoming.outline.to, chain)?;
        Ok(Some(Arc::new(reading.vector)))
    }

    /// Parts a site: what follows `split.at` gets another name.
    fn split(&mut self, store: &StoreId, split: &Split) -> Result<()> {
        let old = self.site_row(store, split.site)?;
        let new = self.site_row(store, split.name)?;
        let (id, version) = (self.stores[store].id, old.version - split.at);
        forks::move_versions(&self.db, id, (old.id, new.id), split)?;
        let set = "UPDATE site SET version = ?2, chain = ?3 WHERE id = ?1";
        self.db.execute(set, (old.id, split.at as i64, split.branch.chain.0))?;
        self.db.execute(set, (new.id, version as i64, old.chain.0))?;
        self.set_branch(store, split.name, split.branch)?;
        self.db.execute("UPDATE site SET owner = ?2 WHERE id = ?1", (new.id, old.owner))?;
        let warm = self.stores.get_mut(store).expect("the store's row was made before");
        for delta in &mut warm.unwritten.stored {
            Arc::make_mut(delta).rename(|spans| forks::rename(spans, split));
        }
        let warm = self.warm_site(store, split.site);
        (warm.version, warm.chain) = (split.at, split.branch.chain);
        let warm = self.warm_site(store, split.name);
        (warm.version, warm.chain, warm.owner) = (version, old.chain, old.owner);
        Ok(())
    }

    /// Notes what a site branched from. Who follows the store hears of it by a whole vector:
    /// what deltas are said to bring does not tell branches.
    fn set_branch(&mut self, store: &StoreId, site: SiteId, branch: Branch) -> Result<()> {
        let Branch { root, base, chain } = branch;
        let row = self.site_row(store, site)?;
        self.db.execute(
            "UPDATE site SET root = ?2, base = ?3, start = ?4 WHERE id = ?1",
            (row.id, root.as_bytes(), base as i64, chain.0),
        )?;
        self.warm_site(store, site).branch = Some(branch);
        if !self.renamed.contains(store) {
            self.renamed.push(store.clone());
        }
        Ok(())
    }

    /// Notes the owner of a site that has none.
    pub(super) fn claim(
        &mut self,
        store: &StoreId,
        site: SiteId,
        subject: &Arc<str>,
        now_ms: u64,
    ) -> Result<()> {
        self.warm(store)?;
        let known = self.stores.get(store).and_then(|store| store.sites.get(&site));
        if known.is_some_and(|site| site.owner.is_some()) {
            return Ok(());
        }
        let subject = self.subject(subject)?;
        self.store_row(store, now_ms)?;
        let row = self.site_row(store, site)?;
        self.db
            .prepare_cached("UPDATE site SET owner = ?2 WHERE id = ?1")?
            .execute((row.id, subject))?;
        self.warm_site(store, site).owner = Some(subject);
        Ok(())
    }

    /// Puts `joined` in the place of the deltas from `first` to its id, if there are
    /// `n_joined`.
    pub(super) fn replace(
        &mut self,
        store: &StoreId,
        first: u64,
        joined: &StoredDelta,
        n_joined: u64,
    ) -> Result<bool> {
        self.warm(store)?;
        let Some(warm) = self.stores.get(store) else { return Ok(false) };
        let (store_id, first, id) = (warm.id, first as i64, joined.id as i64);
        let (n_found, n_bytes): (i64, i64) = self.db.query_row(
            "SELECT count(*), coalesce(sum(n_bytes), 0) FROM delta \
             WHERE store = ?1 AND id BETWEEN ?2 AND ?3",
            (store_id, first, id),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if n_found as u64 != n_joined || !self.brought(store_id, (first, id), &joined.spans)? {
            return Ok(false);
        }
        self.db.execute(
            "DELETE FROM blob WHERE delta IN \
             (SELECT id FROM delta WHERE store = ?1 AND id BETWEEN ?2 AND ?3)",
            (store_id, first, id),
        )?;
        self.db.execute(
            "DELETE FROM delta WHERE store = ?1 AND id >= ?2 AND id < ?3",
            (store_id, first, id),
        )?;
        let spans = rows::spans_bytes(&joined.spans);
        let new_bytes = joined.body.n_bytes() as i64;
        self.db.execute(
            "UPDATE delta SET n_bytes = ?2, spans = ?3, part = ?4, name = ?5 WHERE id = ?1",
            (id, new_bytes, spans, inline(&joined.body), joined.name),
        )?;
        self.insert_blobs(id, &joined.body)?;
        self.db.execute(
            "UPDATE store SET n_bytes = n_bytes + ?2, n_deltas = n_deltas - ?3 WHERE id = ?1",
            (store_id, new_bytes - n_bytes, n_found - 1),
        )?;
        if let Some(store) = self.stores.get_mut(store) {
            store.n_bytes = store.n_bytes.saturating_add_signed(new_bytes - n_bytes);
        }
        Ok(true)
    }

    /// Whether the deltas of a range brought this: names may have changed since they were read.
    fn brought(&self, store: i64, (first, last): (i64, i64), spans: &[Span]) -> Result<bool> {
        let mut statement = self
            .db
            .prepare_cached("SELECT spans FROM delta WHERE store = ?1 AND id BETWEEN ?2 AND ?3")?;
        let mut rows = statement.query((store, first, last))?;
        while let Some(row) = rows.next()? {
            let found = rows::spans(row.get_ref(0)?.as_blob().unwrap_or_default())?;
            let is_within = |found: &Span| {
                let mut of_it = spans.iter().filter(|span| span.site == found.site);
                of_it.any(|span| span.first <= found.first && found.last <= span.last)
            };
            if !found.iter().all(is_within) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Forgets a store.
    pub(super) fn delete(&mut self, store: &StoreId) -> Result<bool> {
        self.stores.remove(store);
        let id: Option<i64> = self
            .db
            .query_row("SELECT id FROM store WHERE name = ?1", [store.as_str()], |row| row.get(0))
            .optional()?;
        self.db.execute("DELETE FROM staged WHERE store = ?1", [store.as_str()])?;
        self.db.execute("DELETE FROM named WHERE store = ?1", [store.as_str()])?;
        self.db.execute("DELETE FROM known WHERE store = ?1", [store.as_str()])?;
        let Some(id) = id else { return Ok(false) };
        for statement in [
            "DELETE FROM span WHERE site IN (SELECT id FROM site WHERE store = ?1)",
            "DELETE FROM site WHERE store = ?1",
            "DELETE FROM blob WHERE delta IN (SELECT id FROM delta WHERE store = ?1)",
            "DELETE FROM delta WHERE store = ?1",
            "DELETE FROM store WHERE id = ?1",
        ] {
            self.db.execute(statement, [id])?;
        }
        Ok(true)
    }

    /// The parts of a delta are no longer on their way.
    fn finish_staged(&self, incoming: &Incoming) -> Result<()> {
        match incoming.body.n_parts() {
            1 => Ok(()),
            _ => staging::finish(&self.db, &incoming.store, &incoming.name),
        }
    }

    fn insert_delta(
        &mut self,
        store: i64,
        subject: i64,
        incoming: &Incoming,
        fresh: &[Span],
        n_bytes: u64,
    ) -> Result<i64> {
        let id = self.next_delta;
        self.next_delta += 1;
        self.db
            .prepare_cached(
                "INSERT INTO delta(id, store, name, subject, received_ms, n_bytes, spans, part) \
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute((
                id,
                store,
                incoming.name,
                subject,
                incoming.now_ms as i64,
                n_bytes as i64,
                rows::spans_bytes(fresh),
                inline(&incoming.body),
            ))?;
        self.insert_blobs(id, &incoming.body)?;
        Ok(id)
    }

    fn insert_blobs(&self, delta: i64, body: &Body) -> Result<()> {
        let Body::Blobs(parts) = body else { return Ok(()) };
        let mut statement = self.db.prepare_cached(
            "INSERT INTO blob(delta, part, hash, n_bytes) VALUES(?1, ?2, ?3, ?4)",
        )?;
        for (part, (hash, n_bytes)) in (0_i64..).zip(parts.iter()) {
            statement.execute((delta, part, hash.0, n_bytes))?;
        }
        Ok(())
    }

    /// Takes new versions of one site into the vector.
    fn advance(&mut self, store: &StoreId, fresh: Fresh, delta: i64, subject: i64) -> Result<()> {
        let Fresh { span, branch, salts } = fresh;
        let row = self.site_row(store, span.site)?;
        debug_assert_eq!(row.version + 1, span.first);
        if let Some(branch) = branch.filter(|_| row.branch.is_none()) {
            self.set_branch(store, span.site, branch)?;
        }
        let origin = branch.unwrap_or_else(|| Branch::trunk(span.site));
        let before = if row.version == 0 { origin.chain } else { row.chain };
        let warm = self.stores.get_mut(store).expect("the store's row was made before");
        let run = Run { row: row.id, first: span.first, delta, subject, before, salts };
        warm.unwritten.advance(&self.db, span.site, origin, run)?;
        let warm = self.warm_site(store, span.site);
        (warm.version, warm.chain) = (span.last, span.chain);
        Ok(())
    }

    /// Reads a store's vector, unless it is in memory or there is no such store.
    fn warm(&mut self, store: &StoreId) -> Result<()> {
        if self.stores.contains_key(store) {
            return Ok(());
        }
        let found = self
            .db
            .prepare_cached("SELECT id, n_bytes FROM store WHERE name = ?1")?
            .query_row([store.as_str()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))
            .optional()?;
        let Some((id, n_bytes)) = found else { return Ok(()) };
        let mut warm = WarmStore { n_bytes, ..WarmStore::new(id) };
        let mut statement = self.db.prepare_cached(
            "SELECT site, id, version, chain, owner, root, base, start FROM site \
                 WHERE store = ?1",
        )?;
        let mut rows = statement.query([id])?;
        while let Some(row) = rows.next()? {
            let site = rows::site(row.get_ref(0)?.as_blob().unwrap_or_default())?;
            let (id, version) = (row.get(1)?, row.get::<_, i64>(2)? as u64);
            let chain = rows::chain(row.get_ref(3)?.as_blob().unwrap_or_default())?;
            let (owner, branch) = (row.get(4)?, rows::branch(row, 5)?);
            warm.sites.insert(site, WarmSite { id, version, chain, owner, branch });
        }
        self.stores.insert(store.clone(), warm);
        Ok(())
    }

    /// The row of a store, made if there is none.
    fn store_row(&mut self, store: &StoreId, now_ms: u64) -> Result<i64> {
        if let Some(warm) = self.stores.get(store) {
            return Ok(warm.id);
        }
        self.db
            .prepare_cached("INSERT INTO store(name, created_ms) VALUES(?1, ?2)")?
            .execute((store.as_str(), now_ms as i64))?;
        let id = self.db.last_insert_rowid();
        self.stores.insert(store.clone(), WarmStore::new(id));
        Ok(id)
    }

    /// The row of a site of a warm store, made if there is none.
    fn site_row(&mut self, store: &StoreId, site: SiteId) -> Result<WarmSite> {
        let warm = self.stores.get_mut(store).expect("the store's row was made before");
        if let Some(found) = warm.sites.get(&site) {
            return Ok(*found);
        }
        let chain = Chain::default();
        self.db
            .prepare_cached("INSERT INTO site(store, site, version, chain) VALUES(?1, ?2, 0, ?3)")?
            .execute((warm.id, site.as_bytes(), chain.0))?;
        let (id, owner, branch) = (self.db.last_insert_rowid(), None, None);
        let row = WarmSite { id, version: 0, chain, owner, branch };
        warm.sites.insert(site, row);
        Ok(row)
    }

    fn warm_site(&mut self, store: &StoreId, site: SiteId) -> &mut WarmSite {
        let warm = self.stores.get_mut(store).expect("the store's row was made before");
        warm.sites.get_mut(&site).expect("the site's row was made before")
    }

    /// The row of a subject, made if there is none.
    fn subject(&mut self, name: &Arc<str>) -> Result<i64> {
        if let Some(id) = self.subjects.get(name) {
            return Ok(*id);
        }
        let found = self
            .db
            .prepare_cached("SELECT id FROM subject WHERE name = ?1")?
            .query_row([&**name], |row| row.get(0))
            .optional()?;
        let id = match found {
            Some(id) => id,
            None => {
                self.db
                    .prepare_cached("INSERT INTO subject(name) VALUES(?1)")?
                    .execute([&**name])?;
                self.db.last_insert_rowid()
            }
        };
        self.subjects.insert(Arc::clone(name), id);
        Ok(id)
    }
}

impl WarmSite {
    fn origin(&self, site: SiteId) -> Branch {
        self.branch.unwrap_or_else(|| Branch::trunk(site))
    }
}

impl WarmStore {
    fn new(id: i64) -> WarmStore {
        WarmStore { id, n_bytes: 0, sites: HashMap::new(), unwritten: Unwritten::default() }
    }

    /// What is held, by site.
    pub(super) fn vector(&self) -> VersionVector {
        let mut vector = VersionVector::new();
        for (site, WarmSite { version, chain, branch, .. }) in &self.sites {
            vector.set(*site, Held { version: *version, chain: *chain });
            branch.iter().for_each(|branch| vector.set_branch(*site, *branch));
        }
        vector
    }

    /// The highest version held of a site.
    pub(super) fn version(&self, site: SiteId) -> u64 {
        self.sites.get(&site).map_or(0, |site| site.version)
    }

    fn flush(&mut self, db: &Connection) -> Result<()> {
        self.unwritten.write(db, self.id)
    }

    /// The chain of a site at a version that is held; what is not written is not found.
    pub(super) fn chain_at(
        &self,
        db: &Connection,
        site: SiteId,
        version: u64,
    ) -> Result<Option<Chain>> {
        let Some(warm) = self.sites.get(&site) else { return Ok(None) };
        if warm.version == version {
            return Ok(Some(warm.chain));
        }
        rows::chain_at(db, warm.origin(site), warm.id, version)
    }

    /// Whether names are to be read by their chains.
    fn has_branches(&self, outline: &Outline) -> bool {
        outline.to.has_branches() || self.sites.values().any(|site| site.branch.is_some())
    }

    /// What a delta brings, or why it is refused.
    fn take(&self, db: &Connection, incoming: &Incoming, subject: i64) -> Result<Taken> {
        let outline = &incoming.outline;
        let fresh = |span: Span| {
            let skipped = span.first - 1 - outline.from.version(span.site);
            let salts = outline.salts(span.site)[skipped as usize..].to_vec();
            Fresh { span, branch: None, salts }
        };
        let fresh = self.fresh(db, incoming, subject)?.into_iter().map(fresh).collect();
        Ok(Taken { fresh, splits: Vec::new(), is_read: false })
    }

    /// As [`WarmStore::take`], by the names that its sites have here.
    fn take_by_chains(&self, db: &Connection, incoming: &Incoming, subject: i64) -> Result<Taken> {
        let outline = &incoming.outline;
        check_ends(outline, &outline.spans().collect::<Vec<Span>>())?;
        let plan = forks::plan(db, self, outline)?;
        let fresh = forks::fresh(&plan, outline);
        for Fresh { span, branch, .. } in &fresh {
            let owned = self.sites.get(&branch.map_or(span.site, |branch| branch.root));
            let own = self.sites.get(&span.site);
            let is_owner = own.or(owned).is_some_and(|site| site.owner == Some(subject));
            if incoming.owners == Owners::Strict && !is_owner {
                let subject = Arc::clone(&incoming.subject);
                return Err(StorageError::NotOwner { site: span.site, subject });
            }
        }
        Ok(Taken { fresh, splits: plan.splits, is_read: true })
    }

    /// The changes of a delta that are not held yet, or why it is refused.
    fn fresh(&self, db: &Connection, incoming: &Incoming, subject: i64) -> Result<Vec<Span>> {
        let outline = &incoming.outline;
        for (site, low) in outline.from.iter() {
            let held = self.version(site);
            if held < low.version {
                return Err(StorageError::Gap { site, from: low.version, held });
            }
            self.check_chain(db, site, low.version, low.chain)?;
        }
        let mut fresh = Vec::new();
        let spans: Vec<Span> = outline.spans().collect();
        for span in &spans {
            let held = self.sites.get(&span.site);
            let version = held.map_or(0, |site| site.version);
            if version >= span.first {
                let at = version.min(span.last);
                self.check_chain(db, span.site, at, outline.chain_at(span.site, at))?;
            }
            if version >= span.last {
                continue;
            }
            let is_owner = held.is_some_and(|site| site.owner == Some(subject));
            if incoming.owners == Owners::Strict && !is_owner {
                let subject = Arc::clone(&incoming.subject);
                return Err(StorageError::NotOwner { site: span.site, subject });
            }
            fresh.push(Span { first: version + 1, ..*span });
        }
        check_ends(outline, &spans)?;
        Ok(fresh)
    }

    /// That a held version has this chain here too.
    fn check_chain(&self, db: &Connection, site: SiteId, version: u64, chain: Chain) -> Result<()> {
        let Some(warm) = self.sites.get(&site).filter(|_| version > 0) else { return Ok(()) };
        let here = match warm.version == version {
            true => Some(warm.chain),
            false => rows::chain_at(db, warm.origin(site), warm.id, version)?,
        };
        match here {
            Some(here) if here == chain => Ok(()),
            Some(_) => Err(StorageError::SiteReused { site, version }),
            None => Err(rows::damaged("the spans of a site")),
        }
    }
}

/// That the salts of a delta lead to the chains of its `to`.
fn check_ends(outline: &Outline, spans: &[Span]) -> Result<()> {
    for Span { site, last, chain, .. } in spans {
        if outline.to.get(*site).map(|held| held.chain) != Some(*chain) {
            let error = anabranch_core::delta::DeltaError::Chain { site: *site, version: *last };
            return Err(StorageError::Wire(error.into()));
        }
    }
    Ok(())
}

/// `delta.part`.
fn inline(body: &Body) -> Option<&[u8]> {
    match body {
        Body::Inline(part) => Some(part),
        Body::Blobs(_) => None,
    }
}
