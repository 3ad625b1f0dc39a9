//! Joining two deltas of one chain into one that does the work of both.
//!
//! Only *chained* deltas join, `a.from ≤ b.from ≤ a.to`: of crossing ones each may have
//! left out a cell that only the other's `from` covers (`changes.md`, 3). The floor of a
//! complete delta counts as its `from`: what it forgot whoever holds the floor has seen. So who
//! made the later one had seen all that the earlier one begins with; where a relay has raised
//! `from` that need not be so, and then [`Delta::seen`] says it.
//!
//! Rows meet by packed key: which spellings a key index takes for equal is the business of
//! who has the table.

use std::collections::BTreeMap;

use super::words::Words;
use super::{CellDelta, Delta, RowDelta, SiteIdx, TableDelta};
use crate::change::ChangeHeader;
use crate::forest;
use crate::merge::{CellState, Ties, cell_wins};
use crate::site::SiteId;

/// Why two deltas do not join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// They cross, or leave a gap: apply one after the other.
    #[error("the deltas are not chained: their vectors cross, or leave a gap, at site {site}")]
    NotChained {
        /// Where.
        site: SiteId,
    },
    /// Two histories of one site: a database was copied and both copies wrote.
    #[error("SiteReused: the deltas hold two histories of site {site} at version {version}")]
    SiteReused {
        /// Whose.
        site: SiteId,
        /// Where they are known to differ.
        version: u64,
    },
}

/// Joins `later` into `earlier`: from `earlier.from` to the maximum of both `to`. It is complete
/// if `earlier` is.
///
/// Both must satisfy [`Delta::check_invariants`]; the result then does.
///
/// # Errors
/// [`JoinError`]; nothing is lost, both deltas can be applied one after the other.
pub fn join(earlier: &Delta, later: &Delta) -> Result<Delta, JoinError> {
    check_chained(earlier, later)?;
    join_owned(earlier.clone(), later.clone())
}

/// As [`join`], where neither is needed any more: no row is copied.
///
/// # Errors
/// [`JoinError`].
pub fn join_owned(earlier: Delta, later: Delta) -> Result<Delta, JoinError> {
    check_chained(&earlier, &later)?;
    let headers = join_headers(earlier.headers, later.headers)?;
    let mut to = earlier.to;
    to.join(&later.to);
    if let Some((site, _)) = to.branches().next().filter(|_| !forest::is_tidy(&to)) {
        // One knows of a fork that the other does not: they have two names for one change.
        return Err(JoinError::NotChained { site });
    }
    let mut words = Words::new(earlier.sites);
    let site_map = words.places(later.sites);
    let sites = words.into_list();
    let mut tables: BTreeMap<String, TableDelta> =
        earlier.tables.into_iter().map(|table| (table.name.clone(), table)).collect();
    for table in later.tables {
        let joined = tables
            .entry(table.name.clone())
            .or_insert_with(|| TableDelta { name: table.name.clone(), ..TableDelta::default() });
        join_table(joined, table, &sites, &site_map);
    }
    let tables = tables.into_values().collect();
    let complete = earlier.complete.map(|mut complete| {
        later.complete.iter().for_each(|later| complete.join(later));
        complete
    });
    let seen = match (earlier.seen, later.seen) {
        (Some(a), Some(b)) => Some(a.meet(&b)),
        // Who had seen where the later one begins had seen where the earlier one does.
        (a, b) => a.or(b),
    };
    let seen = seen.filter(|seen| complete.is_none() && !earlier.from.is_at_or_below(seen));
    let seen = seen.map(|seen| seen.meet(&earlier.from));
    let (from, salts) = (earlier.from, earlier.salts);
    let mut joined = Delta { from, to, seen, sites, complete, salts, headers, tables };
    if later.complete.is_some() && !joined.from.is_empty() {
        joined.drop_covered();
    }
    Ok(joined)
}

impl Delta {
    /// Leaves out what whoever holds `from` has already: a complete delta told it too.
    fn drop_covered(&mut self) {
        let covered: Vec<u64> = self.sites.iter().map(|site| self.from.version(*site)).collect();
        for table in &mut self.tables {
            table.rows.retain_mut(|row| row.keep_above(&covered));
        }
    }
}

fn check_chained(earlier: &Delta, later: &Delta) -> Result<(), JoinError> {
    for (site, held) in earlier.start().iter() {
        if later.start().version(site) < held.version {
            return Err(JoinError::NotChained { site });
        }
    }
    for (site, held) in later.start().iter() {
        if earlier.to.version(site) < held.version {
            return Err(JoinError::NotChained { site });
        }
        if earlier.chain_at(site, held.version) != Some(held.chain) {
            return Err(JoinError::SiteReused { site, version: held.version });
        }
    }
    // Of what was forgotten it cannot be told in a complete delta that somebody knew nothing.
    if let (Some(complete), Some(seen)) = (&earlier.complete, &later.seen) {
        let mut floor = complete.floor.iter();
        if let Some((site, _)) = floor.find(|(site, low)| seen.version(*site) < low.version) {
            return Err(JoinError::NotChained { site });
        }
    }
    for (site, held) in later.to.iter() {
        let is_same = earlier
            .to
            .get(site)
            .is_none_or(|other| other.version != held.version || other.chain == held.chain);
        if !is_same {
            return Err(JoinError::SiteReused { site, version: held.version });
        }
    }
    Ok(())
}

fn join_headers(
    earlier: Vec<ChangeHeader>,
    later: Vec<ChangeHeader>,
) -> Result<Vec<ChangeHeader>, JoinError> {
    let mut headers = earlier;
    headers.extend(later);
    // Stable, and fast for two runs that are in order.
    headers.sort_by_key(|header| (header.site, header.version));
    for pair in headers.windows(2) {
        let (header, next) = (&pair[0], &pair[1]);
        let is_same = (header.site, header.version) == (next.site, next.version);
        if is_same && header.salt != next.salt {
            let (site, version) = (header.site, header.version);
            return Err(JoinError::SiteReused { site, version });
        }
    }
    headers.dedup_by_key(|header| (header.site, header.version));
    Ok(headers)
}

fn join_table(joined: &mut TableDelta, later: TableDelta, sites: &[SiteId], site_map: &[u32]) {
    let mut columns = Words::new(std::mem::take(&mut joined.columns));
    let column_map = columns.places(later.columns);
    joined.columns = columns.into_list();
    let mut rows = std::mem::take(&mut joined.rows);
    rows.extend(later.rows.into_iter().map(|row| row.translated(site_map, &column_map)));
    // Stable, and fast for two runs that are in order.
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    joined.rows.reserve(rows.len());
    for row in rows {
        match joined.rows.last_mut().filter(|last| last.key == row.key) {
            Some(last) => last.join(row, sites),
            None => joined.rows.push(row),
        }
    }
}

impl RowDelta {
    /// Joins another state of the same row into this one: the longer life stands alone; of
    /// one life all births are kept, and of each cell the winner.
    ///
    /// `sites` is the dictionary that both use. At a tie the cell with the smaller (author,
    /// version, origin) stands, so that the order of joining does not matter.
    pub fn join(&mut self, other: RowDelta, sites: &[SiteId]) {
        if other.causal_length != self.causal_length {
            if other.causal_length > self.causal_length {
                *self = other;
            }
            return;
        }
        for birth in other.births {
            match self.births.binary_search_by_key(&birth.dot, |birth| birth.dot) {
                Ok(_) => {}
                Err(at) => self.births.insert(at, birth),
            }
        }
        for cell in other.cells {
            match self.cells.binary_search_by_key(&cell.column, |cell| cell.column) {
                Err(at) => self.cells.insert(at, cell),
                Ok(at) if wins(&self.cells[at], &cell, sites) => self.cells[at] = cell,
                Ok(_) => {}
            }
        }
    }
}

/// Whether `incoming` stands.
fn wins(local: &CellDelta, incoming: &CellDelta, sites: &[SiteId]) -> bool {
    let state = |cell: &CellDelta| -> (SiteId, u64, SiteId) {
        let site = |idx: SiteIdx| sites[idx.0 as usize];
        (site(cell.dot.site), cell.dot.version, site(cell.origin))
    };
    let (mine, theirs) = (state(local), state(incoming));
    let local = CellState { version: local.version, value: local.value.as_ref(), origin: mine.2 };
    let incoming =
        CellState { version: incoming.version, value: incoming.value.as_ref(), origin: theirs.2 };
    cell_wins(Some(local), incoming, Ties::KeepLocal)
        || (!cell_wins(Some(incoming), local, Ties::KeepLocal) && theirs < mine)
}
