//! What the deltas of one transaction add to the rows of their store: counters, versions and
//! salts of its sites, written once for all of them.
//!
//! **Invariant:** the rows of a store and this are together what its warm vector says; at the end
//! of a transaction this is empty.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_core::branch::Branch;
use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use rusqlite::Connection;

use super::ledger::WarmStore;
use crate::limits::MAX_SPAN_SALTS;
use crate::outline::Outline;
use crate::storage::{Span, StorageError, StoredDelta};

type Result<T> = std::result::Result<T, StorageError>;

/// See the module.
#[derive(Default)]
pub(super) struct Unwritten {
    /// The deltas themselves; their rows are written.
    pub(super) stored: Vec<Arc<StoredDelta>>,
    n_bytes: u64,
    n_deltas: u64,
    n_changes: u64,
    runs: HashMap<SiteId, (Branch, Run)>,
}

/// Versions of one site that follow each other and were delivered by one subject.
pub(super) struct Run {
    /// The site's row.
    pub(super) row: i64,
    /// The first version.
    pub(super) first: u64,
    /// The delta that brought it.
    pub(super) delta: i64,
    /// Who delivered them.
    pub(super) subject: i64,
    /// The chain before the first.
    pub(super) before: Chain,
    /// One for each version.
    pub(super) salts: Vec<u64>,
}

impl Unwritten {
    /// A delta was stored.
    pub(super) fn count(&mut self, n_bytes: u64, spans: &[Span]) {
        self.n_bytes += n_bytes;
        self.n_deltas += 1;
        self.n_changes += spans.iter().map(|span| span.last - span.first + 1).sum::<u64>();
    }

    /// Takes the next versions of a site.
    pub(super) fn advance(
        &mut self,
        db: &Connection,
        site: SiteId,
        origin: Branch,
        next: Run,
    ) -> Result<()> {
        if let Some((_, run)) = self.runs.get_mut(&site) {
            if run.subject == next.subject {
                run.salts.extend(next.salts);
                return Ok(());
            }
            run.write(db, origin)?;
        }
        self.runs.insert(site, (origin, next));
        Ok(())
    }

    /// Whether a delta is to be compared with versions that are only here: it does not simply go
    /// on where its sites are.
    pub(super) fn must_be_read(&self, warm: &WarmStore, outline: &Outline) -> bool {
        let has_more = |(site, version): (SiteId, u64)| {
            self.runs.contains_key(&site) && warm.version(site) != version
        };
        let from = outline.from.iter().map(|(site, held)| (site, held.version));
        let begins = outline.spans().map(|span| (span.site, span.first - 1));
        !self.runs.is_empty() && from.chain(begins).any(has_more)
    }

    /// Writes all of it, of the store with this row.
    pub(super) fn write(&mut self, db: &Connection, store: i64) -> Result<()> {
        for (_, (origin, run)) in self.runs.drain() {
            run.write(db, origin)?;
        }
        if self.n_deltas > 0 {
            db.prepare_cached(
                "UPDATE store SET n_bytes = n_bytes + ?2, n_deltas = n_deltas + ?3, \
                 n_changes = n_changes + ?4 WHERE id = ?1",
            )?
            .execute((
                store,
                self.n_bytes as i64,
                self.n_deltas as i64,
                self.n_changes as i64,
            ))?;
        }
        (self.n_bytes, self.n_deltas, self.n_changes) = (0, 0, 0);
        Ok(())
    }
}

impl Run {
    fn write(&self, db: &Connection, origin: Branch) -> Result<()> {
        let (mut first, mut chain) = (self.first, self.before);
        for salts in self.salts.chunks(MAX_SPAN_SALTS) {
            let last = first + salts.len() as u64 - 1;
            let bytes: Vec<u8> = salts.iter().flat_map(|salt| salt.to_le_bytes()).collect();
            db.prepare_cached(
                "INSERT INTO span(site, last, first, delta, subject, before, salts) \
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((
                self.row,
                last as i64,
                first as i64,
                self.delta,
                self.subject,
                chain.0,
                bytes,
            ))?;
            chain = (first..)
                .zip(salts)
                .fold(chain, |chain, (version, salt)| origin.next(chain, version, *salt));
            first = last + 1;
        }
        db.prepare_cached("UPDATE site SET version = ?2, chain = ?3 WHERE id = ?1")?.execute((
            self.row,
            first as i64 - 1,
            chain.0,
        ))?;
        Ok(())
    }
}
