//! Histories that have forked: a delta whose names are not those of this store, read by its
//! chains (`anabranch_core::forest`), and the renaming of what it parts.
//!
//! The bytes of deltas stay as they came, in the names of who made them: whoever takes them
//! reads them by their chains too. Only what the relay keeps about them is renamed: the sites
//! of the vector, the salts, and what each delta brought.

use anabranch_core::branch::Branch;
use anabranch_core::forest::{self, Arrival, Plan, PlanError, Reading, Split, Track};
use anabranch_core::vector::VersionVector;
use rusqlite::Connection;

use super::ledger::WarmStore;
use super::{read, rows};
use crate::outline::Outline;
use crate::storage::{Span, StorageError};
use crate::store_id::StoreId;

type Result<T> = std::result::Result<T, StorageError>;

/// Changes of one site that are new, by the name that it has here.
pub(super) struct Fresh {
    pub(super) span: Span,
    /// What the site branched from, if it is a branch.
    pub(super) branch: Option<Branch>,
    /// The salts of all of them.
    pub(super) salts: Vec<u64>,
}

/// Reads a peer's vector.
pub(super) fn read(db: &Connection, store: &StoreId, theirs: &VersionVector) -> Result<Reading> {
    let ours = read::vector(db, store)?;
    forest::read(&ours, theirs, &mut |site, version| {
        let chains = read::chains(db, store, site, &[version])?;
        Ok(chains.first().map(|(_, chain)| *chain))
    })
}

/// Plans to take a delta by its chains.
pub(super) fn plan(db: &Connection, store: &WarmStore, outline: &Outline) -> Result<Plan> {
    let arrivals: Vec<Arrival> =
        outline.to.iter().map(|(site, _)| arrival(outline, site)).collect();
    let planned = forest::plan(&store.vector(), &arrivals, &mut |site, version| {
        store.chain_at(db, site, version)
    });
    planned.map_err(|error| match error {
        PlanError::Lookup(error) => error,
        PlanError::Forked { site, version, .. } => StorageError::SiteReused { site, version },
        PlanError::Missing { site, from } => {
            let low = outline.from.version(site);
            StorageError::Gap { site, from: low, held: from.saturating_sub(1).min(low) }
        }
        PlanError::Name { site } | PlanError::TooMany { root: site } => {
            StorageError::FalseBranch { site }
        }
        _ => rows::damaged("the histories of a store"),
    })
}

fn arrival(outline: &Outline, site: anabranch_core::site::SiteId) -> Arrival {
    let (origin, from) = (outline.to.origin(site), outline.from.get(site));
    let from_chain = from.map_or(origin.chain, |held| held.chain);
    let from = from.map_or(0, |held| held.version);
    let mut track = Track::new(origin, from, from_chain);
    outline.salts(site).iter().for_each(|salt| track.push(*salt));
    Arrival { site, track }
}

/// What of a delta is new, in the order in which it must be taken.
pub(super) fn fresh(plan: &Plan, outline: &Outline) -> Vec<Fresh> {
    let mut fresh: Vec<Fresh> = Vec::new();
    for (site, line) in &plan.lines {
        let low = outline.from.version(*site);
        let (mut next, salts) = (line.held + 1, outline.salts(*site));
        for (last, name, shift) in line.names() {
            if last < next {
                continue;
            }
            let here = |version: u64| version.strict_add_signed(shift);
            let span = Span {
                site: name,
                first: here(next),
                last: here(last),
                chain: outline.chain_at(*site, last),
            };
            let salts = salts[(next - low - 1) as usize..(last - low) as usize].to_vec();
            fresh.push(Fresh { span, branch: plan.to.branch(name), salts });
            next = last + 1;
        }
    }
    fresh.sort_by_key(|fresh| (fresh.branch.map_or(0, |branch| branch.base), fresh.span.site));
    fresh
}

/// Gives a site's versions after `split.at` to `to`, whose row was made: salts, and what each
/// delta of the store is said to have brought.
pub(super) fn move_versions(
    db: &Connection,
    store: i64,
    (from, to): (i64, i64),
    split: &Split,
) -> Result<()> {
    cut_span(db, from, split)?;
    db.execute(
        "UPDATE span SET site = ?1, first = first - ?3, last = last - ?3 \
         WHERE site = ?2 AND first > ?3",
        (to, from, split.at as i64),
    )?;
    let mut statement = db.prepare("SELECT id, spans FROM delta WHERE store = ?1")?;
    let mut renamed = Vec::new();
    let mut deltas = statement.query([store])?;
    while let Some(row) = deltas.next()? {
        let mut spans = rows::spans(row.get_ref(1)?.as_blob().unwrap_or_default())?;
        if rename(&mut spans, split) {
            renamed.push((row.get::<_, i64>(0)?, rows::spans_bytes(&spans)));
        }
    }
    for (id, spans) in renamed {
        db.execute("UPDATE delta SET spans = ?2 WHERE id = ?1", (id, spans))?;
    }
    Ok(())
}

/// Cuts the row of salts that goes on over the place where a site is parted.
fn cut_span(db: &Connection, site: i64, split: &Split) -> Result<()> {
    let at = split.at as i64;
    let mut statement = db.prepare(
        "SELECT first, last, salts FROM span WHERE site = ?1 AND first <= ?2 AND last > ?2",
    )?;
    let mut rows = statement.query((site, at))?;
    let Some(row) = rows.next()? else { return Ok(()) };
    let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
    let salts: Vec<u8> = row.get(2)?;
    let n = (at + 1 - first) as usize * 8;
    let (low, high) = salts.split_at_checked(n).ok_or(rows::damaged("the salts of a span"))?;
    db.execute(
        "INSERT INTO span(site, last, first, delta, subject, before, salts) \
         SELECT site, ?2, first, delta, subject, before, ?3 FROM span \
         WHERE site = ?1 AND last = ?4",
        (site, at, low, last),
    )?;
    db.execute(
        "UPDATE span SET first = ?2 + 1, before = ?3, salts = ?4 WHERE site = ?1 AND last = ?5",
        (site, at, split.branch.chain.0, high, last),
    )?;
    Ok(())
}

/// Renames what spans say of a parted site; whether they say anything of it.
pub(super) fn rename(spans: &mut Vec<Span>, split: &Split) -> bool {
    let is_of = |span: &Span| span.site == split.site && span.last > split.at;
    let Some(n) = spans.iter().position(is_of) else { return false };
    let Span { first, last, chain, .. } = spans[n];
    let rest = Span {
        site: split.name,
        first: first.max(split.at + 1) - split.at,
        last: last - split.at,
        chain,
    };
    if first > split.at {
        spans[n] = rest;
    } else {
        (spans[n].last, spans[n].chain) = (split.at, split.branch.chain);
        spans.push(rest);
    }
    true
}
