//! Two stores, merged both ways.

use std::collections::HashSet;

use anabranch_client::ForkedBranch;
use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use rusqlite::OptionalExtension;
use rusqlite::types::Value;

use crate::error::{Error, Result};
use crate::literal::literal;
use crate::status::site_id;
use crate::store::Store;

/// What one side got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MergeSide {
    /// Changes newly held.
    pub changes: u64,
    /// Encoded bytes of the delta it was given.
    pub bytes: u64,
    /// For each table: rows inserted, updated, deleted here.
    pub tables: Vec<(String, u64, u64, u64)>,
    /// Changes that this side holds and, for a constraint of its own, does not show.
    pub quarantined: u64,
}

/// A cell that both sides had written without knowing of each other.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcurrentCell {
    /// Table.
    pub table: String,
    /// Key values as SQL literals.
    pub key: String,
    /// Column; `None`: the row itself (deleted on one side, written on the other).
    pub column: Option<String>,
    /// The value that stands, as a SQL literal; `deleted` if the row is gone.
    pub stands: String,
    /// Who wrote it.
    pub stands_site: SiteId,
    /// The value that does not, as a SQL literal.
    pub lost: String,
    /// Who wrote that.
    pub lost_site: SiteId,
}

/// What a merge did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MergeReport {
    /// What the first store got.
    pub a: MergeSide,
    /// What the second store got.
    pub b: MergeSide,
    /// Cells written on both sides.
    pub concurrent: Vec<ConcurrentCell>,
    /// Histories that had forked and were given names of their own, by name.
    pub forked: Vec<ForkedBranch>,
    /// Whether both digests are equal afterwards.
    pub is_equal: bool,
}

/// Merges both ways: afterwards both hold the union of the changes. Where both went on under
/// one site id, each goes on under a name of its own, and both keep what both wrote.
///
/// Each side takes the other's delta whole or not at all; a crash between the two leaves both
/// consistent, and merging again finishes it. `progress` is told of finished steps ("read b",
/// "apply to a", "read a", "apply to b", "compare") and of the bytes each moved.
///
/// # Errors
/// [`crate::Error::SiteReused`] when histories under one site id cannot be compared;
/// [`crate::Error::ClockAhead`]; what [`Store::apply`] says of tables that differ. The side that
/// refused is as it was.
pub fn merge(a: &Store, b: &Store, progress: &mut dyn FnMut(&str, u64)) -> Result<MergeReport> {
    let mut report = MergeReport::default();
    let (before_a, before_b) = (a.version_vector()?, b.version_vector()?);
    report.a = give(b, a, ["read b", "apply to a"], &mut report.concurrent, progress)?;
    report.b = give(a, b, ["read a", "apply to b"], &mut report.concurrent, progress)?;
    report.concurrent = told_once(report.concurrent);
    // What neither knew of: whoever learns of a fork that the other knew reports it too.
    report.forked = ForkedBranch::new_in(&a.version_vector()?, &before_a);
    for branch in ForkedBranch::new_in(&b.version_vector()?, &before_b) {
        if !report.forked.contains(&branch) {
            report.forked.push(branch);
        }
    }
    report.is_equal = a.digest()? == b.digest()?;
    progress("compare", 0);
    Ok(report)
}

/// The side whose cell stands notes what lost, and so does the side whose cell went.
fn told_once(cells: Vec<ConcurrentCell>) -> Vec<ConcurrentCell> {
    let mut seen = HashSet::new();
    let is_new = |cell: &ConcurrentCell| {
        let place = (cell.table.clone(), cell.key.clone(), cell.column.clone());
        seen.insert((place, cell.lost.clone(), cell.lost_site))
    };
    let mut cells = cells;
    cells.retain(is_new);
    cells
}

/// Brings `to` what it lacks of `from`.
fn give(
    from: &Store,
    to: &Store,
    steps: [&str; 2],
    concurrent: &mut Vec<ConcurrentCell>,
    progress: &mut dyn FnMut(&str, u64),
) -> Result<MergeSide> {
    let mut side = MergeSide::default();
    from.for_each_part(&common(from, to)?, |part, is_last| {
        side.bytes += part.len() as u64;
        if is_last {
            progress(steps[0], side.bytes);
        }
        // Those before the last are staged in the file.
        side.changes += to.apply(part)?;
        Ok(())
    })?;
    let bytes = side.bytes;
    if side.changes > 0 {
        side.tables = rows_changed(to)?;
        concurrent.extend(concurrent_cells(to)?);
    }
    side.quarantined = to.quarantined()?;
    progress(steps[1], bytes);
    Ok(side)
}

/// What `to` holds, as far as both hold it alike: of a site under whose name each went on by
/// itself, up to where they part.
fn common(from: &Store, to: &Store) -> Result<VersionVector> {
    let mut held = to.version_vector()?;
    let mut forks = from.forks(&held)?;
    // Who holds more sees it.
    forks.join(&to.forks(&from.version_vector()?)?);
    for (site, differs) in forks.iter() {
        let chains =
            |version| Ok::<_, Error>((from.chain(site, version)?, to.chain(site, version)?));
        // Invariant: they are alike up to `low`, and differ at `high`.
        let nothing = Held { version: 0, chain: Chain::default() };
        let (mut low, mut high) = (nothing, differs.version);
        while high - low.version > 1 {
            let version = low.version + (high - low.version) / 2;
            match chains(version)? {
                (Some(ours), Some(theirs)) if ours == theirs => {
                    low = Held { version, chain: Chain(ours) };
                }
                _ => high = version,
            }
        }
        held.set(site, low);
    }
    Ok(held)
}

/// Rows that the last delta inserted, updated and deleted, by table.
fn rows_changed(store: &Store) -> Result<Vec<(String, u64, u64, u64)>> {
    let mut statement = store
        .sql()
        .prepare("SELECT tbl, inserted, updated, deleted FROM ana_internal_applied ORDER BY tbl")?;
    let tables = statement.query_map([], |row| {
        let count = |index| Ok::<u64, rusqlite::Error>(row.get::<_, i64>(index)?.cast_unsigned());
        Ok((row.get(0)?, count(1)?, count(2)?, count(3)?))
    })?;
    Ok(tables.collect::<rusqlite::Result<_>>()?)
}

/// Cells that the last delta overwrote or dropped though nobody had seen them.
fn concurrent_cells(store: &Store) -> Result<Vec<ConcurrentCell>> {
    let mut statement = store.sql().prepare(
        "SELECT tbl, pk, cid, val, site_id FROM ana_internal_superseded
         WHERE position > (SELECT max(after) FROM ana_internal_applied)",
    )?;
    let mut rows = statement.query([])?;
    let mut cells = Vec::new();
    while let Some(row) = rows.next()? {
        let (table, pk): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let column: Option<String> = row.get(2)?;
        let (stands, stands_site) = standing(store, &table, &pk, column.as_deref())?;
        cells.push(ConcurrentCell {
            key: key_literals(store, &pk)?,
            stands,
            stands_site,
            lost: literal(row.get_ref(3)?),
            lost_site: site_id(row.get_ref(4)?)?,
            table,
            column,
        });
    }
    Ok(cells)
}

/// The value of a cell as it is, and who wrote it.
fn standing(
    store: &Store,
    table: &str,
    pk: &[u8],
    column: Option<&str>,
) -> Result<(String, SiteId)> {
    let of = |cid: &str| {
        store
            .sql()
            .query_row(
                "SELECT val, site_id FROM crsql_changes
                 WHERE \"table\" = ?1 AND pk = ?2 AND cid = ?3",
                rusqlite::params![table, pk, cid],
                |row| Ok((row.get::<_, Value>(0)?, row.get::<_, Value>(1)?)),
            )
            .optional()
    };
    if let Some(column) = column
        && let Some((value, site)) = of(column)?
    {
        return Ok((literal((&value).into()), site_id((&site).into())?));
    }
    let site = of("-1")?.map_or(Value::Null, |(_, site)| site);
    // A row that vanished without a trace has no author but this copy.
    let site = site_id((&site).into()).or_else(|_| store.site())?;
    Ok(("deleted".into(), site))
}

/// The values of a packed key as SQL literals, comma-separated.
fn key_literals(store: &Store, pk: &[u8]) -> Result<String> {
    let mut statement =
        store.sql().prepare_cached("SELECT cell FROM crsql_unpack_columns WHERE package = ?1")?;
    let mut rows = statement.query([pk])?;
    let mut literals = Vec::new();
    while let Some(row) = rows.next()? {
        literals.push(literal(row.get_ref(0)?));
    }
    Ok(literals.join(", "))
}
