//! What a delta must satisfy before anybody believes it: bounds, headers, dots and chains.

use std::collections::BTreeSet;

use super::{Birth, Delta, DeltaDot, RowDelta, SaltSequence, SiteIdx};
use crate::change::ChangeHeader;
use crate::clock::Chain;
use crate::key::check_packed;
use crate::limits::{
    MAX_AUTHOR_BYTES, MAX_COLUMN_VERSION, MAX_COLUMNS, MAX_MESSAGE_BYTES, MAX_NAME_BYTES,
    MAX_ROW_BYTES, MAX_SITES, MAX_VERSION,
};
use crate::site::SiteId;
use crate::value::ValueRef;
use crate::vector::VersionVector;

/// A delta that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// More sites than [`MAX_SITES`].
    #[error("{found} sites, at most {MAX_SITES} are accepted")]
    TooManySites {
        /// How many.
        found: usize,
    },
    /// A site is twice in the dictionary.
    #[error("site {site} is listed twice")]
    SiteTwice {
        /// Which.
        site: SiteId,
    },
    /// A version of a vector is 0 or above [`MAX_VERSION`].
    #[error("version {version} of site {site} is not within 1 and 2^53")]
    VersionBound {
        /// Whose.
        site: SiteId,
        /// Which.
        version: u64,
    },
    /// `from` is above `to`, or names another history of the same version.
    #[error("the delta's from is above its to, or of another history, at site {site}")]
    FromAboveTo {
        /// Where.
        site: SiteId,
    },
    /// Makers had seen more of `from` than there is.
    #[error("what the makers of the delta had seen of its from is more than that, at site {site}")]
    SeenAboveFrom {
        /// Where.
        site: SiteId,
    },
    /// A complete delta that begins above something.
    #[error("a complete delta begins above nothing, this one above changes of site {site}")]
    CompleteFrom {
        /// Where.
        site: SiteId,
    },
    /// Salts are missing, not in order, or of changes above the floor.
    #[error(
        "the salts of a complete delta: version {version} of site {site} is missing, or out of place"
    )]
    Salt {
        /// Whose.
        site: SiteId,
        /// Which.
        version: u64,
    },
    /// Headers are not dense, or not in order.
    #[error("the headers of the delta break off before version {expected} of site {site}")]
    HeaderMissing {
        /// Whose header is missing.
        site: SiteId,
        /// Its version.
        expected: u64,
    },
    /// A header of a change that the delta does not span.
    #[error("a header of version {version} of site {site}, which the delta does not span here")]
    HeaderUnexpected {
        /// Author.
        site: SiteId,
        /// Version.
        version: u64,
    },
    /// A header that no site writes.
    #[error("the header of version {version} of site {site}: {what}")]
    Header {
        /// Author.
        site: SiteId,
        /// Version.
        version: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The salts of the headers do not lead from the chain of `from` to that of `to`.
    #[error("the chain of site {site} does not lead to version {version}")]
    Chain {
        /// Whose history.
        site: SiteId,
        /// The version at `to`.
        version: u64,
    },
    /// Tables are not in the order of their names, or names are too long, many or alike.
    #[error("table {table:?}: {what}")]
    Table {
        /// Its name.
        table: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A row that no exporter writes.
    #[error("row {row} of table {table:?}: {what}")]
    Row {
        /// The table's name.
        table: String,
        /// Position among the rows given, from 0.
        row: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// That makers had seen no more of `from` than there is.
pub(crate) fn check_seen(
    seen: Option<&VersionVector>,
    from: &VersionVector,
) -> Result<(), DeltaError> {
    let mut above = seen.into_iter().flat_map(VersionVector::iter);
    match above.find(|(site, held)| held.version > from.version(*site)) {
        Some((site, _)) => Err(DeltaError::SeenAboveFrom { site }),
        None => Ok(()),
    }
}

impl Delta {
    /// Checks all that holds of any delta: bounds, dense headers, names, keys, dots.
    ///
    /// Chains are [`Delta::verify_chains`]'s matter. Linear in the delta's size.
    ///
    /// # Errors
    /// [`DeltaError`], the first that is found.
    pub fn check_invariants(&self) -> Result<(), DeltaError> {
        let scope = Scope::new(&self.from, &self.to, &self.sites)?;
        check_seen(self.seen.as_ref(), &self.from)?;
        let complete = self.complete.as_ref();
        complete.map_or(Ok(()), |complete| complete.check(&self.from, &self.to))?;
        let mut salts = SaltSequence::new(complete);
        self.salts.iter().try_for_each(|run| salts.check(run, complete))?;
        salts.finish()?;
        let mut sequence = HeaderSequence::new(self.start(), &self.to);
        for header in &self.headers {
            sequence.check(header, &self.to)?;
        }
        sequence.finish()?;
        let mut previous = None;
        for table in &self.tables {
            check_table(previous, &table.name, &table.columns)?;
            previous = Some(table.name.as_str());
            let mut keys = BTreeSet::new();
            for (row, delta) in table.rows.iter().enumerate() {
                let at = |what| DeltaError::Row { table: table.name.clone(), row, what };
                scope.check_row(table.columns.len(), delta).map_err(at)?;
                if !keys.insert(&delta.key) {
                    return Err(at("its key occurs twice"));
                }
            }
        }
        Ok(())
    }

    /// Recomputes each site's chain from `from` through all salts to `to`.
    ///
    /// Expects headers as [`Delta::check_invariants`] demands them.
    ///
    /// # Errors
    /// [`DeltaError::Chain`] for the first site whose chain ends elsewhere.
    pub fn verify_chains(&self) -> Result<(), DeltaError> {
        let floor = self.complete.iter().flat_map(|complete| complete.floor.iter());
        for (site, held) in floor {
            if self.chain_by_salts(site, held.version) != Some(held.chain) {
                return Err(DeltaError::Chain { site, version: held.version });
            }
        }
        for (site, held) in self.to.iter() {
            if self.chain_at(site, held.version) != Some(held.chain) {
                return Err(DeltaError::Chain { site, version: held.version });
            }
        }
        Ok(())
    }

    /// The chain of `site` at `version`, if this delta spans it (its `from` included).
    pub fn chain_at(&self, site: SiteId, version: u64) -> Option<Chain> {
        let (from, origin) = (self.start().get(site), self.to.origin(site));
        let start = from.map_or(0, |held| held.version);
        let mut chain = from.map_or(origin.chain, |held| held.chain);
        if version < start {
            return self.complete.as_ref().and_then(|_| self.chain_by_salts(site, version));
        }
        let first = self.headers.partition_point(|h| (h.site, h.version) <= (site, start));
        let mut at = start;
        for header in self.headers[first..].iter().take_while(|h| h.site == site) {
            if at == version {
                break;
            }
            at += 1;
            if header.version != at {
                return None;
            }
            chain = origin.next(chain, at, header.salt);
        }
        (at == version).then_some(chain)
    }
}

/// Checks a table's names, and that it follows the table before it.
pub(crate) fn check_table(
    previous: Option<&str>,
    name: &str,
    columns: &[String],
) -> Result<(), DeltaError> {
    let at = |what| DeltaError::Table { table: name.chars().take(64).collect(), what };
    if previous.is_some_and(|previous| previous >= name) {
        return Err(at("tables are not in the order of their names"));
    }
    if columns.len() > MAX_COLUMNS {
        return Err(at("more than 32767 columns"));
    }
    if name.len() > MAX_NAME_BYTES || columns.iter().any(|column| column.len() > MAX_NAME_BYTES) {
        return Err(at("a name longer than 2048 bytes"));
    }
    let mut named: Vec<&str> = columns.iter().map(String::as_str).collect();
    named.sort_unstable();
    if named.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(at("a column is named twice"));
    }
    Ok(())
}

/// What a delta spans, by index into its dictionary of sites.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// For each listed site the versions in the delta: above the first, up to the second.
    spans: Vec<(u64, u64)>,
}

impl Scope {
    pub(crate) fn new(
        from: &VersionVector,
        to: &VersionVector,
        sites: &[SiteId],
    ) -> Result<Scope, DeltaError> {
        for found in [from.len(), to.len(), sites.len()] {
            if found > MAX_SITES {
                return Err(DeltaError::TooManySites { found });
            }
        }
        for (site, held) in from.iter().chain(to.iter()) {
            if !(1..=MAX_VERSION).contains(&held.version) {
                return Err(DeltaError::VersionBound { site, version: held.version });
            }
        }
        for (site, low) in from.iter() {
            let high = to.get(site).filter(|high| {
                high.version > low.version || (high.version, high.chain) == (low.version, low.chain)
            });
            if high.is_none() {
                return Err(DeltaError::FromAboveTo { site });
            }
        }
        let mut listed = BTreeSet::new();
        if let Some(site) = sites.iter().find(|site| !listed.insert(**site)) {
            return Err(DeltaError::SiteTwice { site: *site });
        }
        let spans = sites.iter().map(|site| (from.version(*site), to.version(*site))).collect();
        Ok(Scope { spans })
    }

    pub(crate) fn check_row(&self, n_columns: usize, row: &RowDelta) -> Result<(), &'static str> {
        check_packed(&row.key).map_err(|_| "its key is no packed key")?;
        self.check_life(row.causal_length, &row.births)?;
        if row.causal_length.is_multiple_of(2) && !row.cells.is_empty() {
            return Err("a deleted row has cells");
        }
        let mut n_bytes = row.key.len() as u64;
        let mut next_column = 0;
        for cell in &row.cells {
            let column = cell.column as usize;
            if column < next_column {
                return Err("its cells are not in the order of their columns");
            }
            if column >= n_columns {
                return Err("a cell of a column that the table does not name");
            }
            next_column = column + 1;
            self.check_cell(cell.version, cell.dot, cell.origin)?;
            n_bytes += match cell.value.as_ref() {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() as u64,
                _ => 0,
            };
        }
        if n_bytes > MAX_ROW_BYTES {
            return Err("its key and values are larger than a row can be");
        }
        Ok(())
    }

    fn check_life(&self, causal_length: u64, births: &[Birth]) -> Result<(), &'static str> {
        if !(1..=MAX_COLUMN_VERSION).contains(&causal_length) {
            return Err("its causal length is not within 1 and 2^53");
        }
        if !births.is_sorted_by(|a, b| a.dot < b.dot) {
            return Err("its births are not in order");
        }
        births.iter().try_for_each(|birth| self.check_dot(birth.dot, birth.origin))
    }

    pub(crate) fn check_cell(
        &self,
        version: u64,
        dot: DeltaDot,
        origin: SiteIdx,
    ) -> Result<(), &'static str> {
        if !(1..=MAX_COLUMN_VERSION).contains(&version) {
            return Err("a column version is not within 1 and 2^53");
        }
        self.check_dot(dot, origin)
    }

    fn check_dot(&self, dot: DeltaDot, origin: SiteIdx) -> Result<(), &'static str> {
        let Some((low, high)) = self.spans.get(dot.site.0 as usize) else {
            return Err("a dot of a site that is not listed");
        };
        if dot.version <= *low || dot.version > *high {
            return Err("a dot of a change that the delta does not span");
        }
        if origin.0 as usize >= self.spans.len() {
            return Err("an origin that is not listed");
        }
        Ok(())
    }
}

/// Takes headers one by one and knows which must come next.
#[derive(Clone, Debug)]
pub(crate) struct HeaderSequence {
    /// Site, next version, last version; sites with nothing to come are left out.
    spans: Vec<(SiteId, u64, u64)>,
    /// The span that is being filled.
    at: usize,
}

impl HeaderSequence {
    pub(crate) fn new(from: &VersionVector, to: &VersionVector) -> HeaderSequence {
        let spans = to
            .iter()
            .map(|(site, held)| (site, from.version(site) + 1, held.version))
            .filter(|(_, next, last)| next <= last)
            .collect();
        HeaderSequence { spans, at: 0 }
    }

    pub(crate) fn check(
        &mut self,
        header: &ChangeHeader,
        to: &VersionVector,
    ) -> Result<(), DeltaError> {
        let (site, version) = (header.site, header.version);
        let Some(span) = self.spans.get_mut(self.at) else {
            return Err(DeltaError::HeaderUnexpected { site, version });
        };
        if (site, version) != (span.0, span.1) {
            return Err(DeltaError::HeaderMissing { site: span.0, expected: span.1 });
        }
        check_header(header, to).map_err(|what| DeltaError::Header { site, version, what })?;
        span.1 += 1;
        self.at += usize::from(span.1 > span.2);
        Ok(())
    }

    pub(crate) fn finish(&self) -> Result<(), DeltaError> {
        match self.spans.get(self.at) {
            Some((site, next, _)) => {
                Err(DeltaError::HeaderMissing { site: *site, expected: *next })
            }
            None => Ok(()),
        }
    }
}

fn check_header(header: &ChangeHeader, to: &VersionVector) -> Result<(), &'static str> {
    if !header.deps.is_sorted_by(|a, b| a.site < b.site) {
        return Err("its dependencies are not in the order of their sites");
    }
    for dep in &header.deps {
        if dep.site == header.site {
            return Err("it depends on its own site");
        }
        if dep.version == 0 || dep.version > to.version(dep.site) {
            return Err("it depends on a change above what the delta leads to");
        }
    }
    if header.author.as_ref().is_some_and(|author| author.len() > MAX_AUTHOR_BYTES) {
        return Err("its author is longer than 1024 bytes");
    }
    if header.message.as_ref().is_some_and(|message| message.len() > MAX_MESSAGE_BYTES) {
        return Err("its message is longer than 65536 bytes");
    }
    Ok(())
}
