//! What the two files say, asked of them with SQL: after the merge, and at the end.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::rusqlite::types::Value;
use anabranch::rusqlite::{OptionalExtension, params};
use anabranch::{SiteId, Status, Store};
use serde_json::json;

use super::edits::Person;
use super::live::Live;
use super::stage::{Pair, Took};
use crate::failure::{Exit, Failure, Result};
use crate::literal::{self, hex, shown};
use crate::people::authors;

/// All that is printed.
pub(super) struct Facts {
    /// Ada's and Ben's.
    pub(super) paths: [String; 2],
    pub(super) merged: Merged,
    pub(super) live: Live,
    pub(super) ends: [End; 2],
    /// Bytes that Ada and Ben were sent when they merged.
    pub(super) received_bytes: [u64; 2],
    pub(super) took: Took,
}

/// What the files say after the merge, before anything is live.
pub(super) struct Merged {
    pub(super) wrote: Vec<Wrote>,
    pub(super) met: Vec<Met>,
    pub(super) now: Vec<Now>,
}

/// A change of one of the two, from the log.
pub(super) struct Wrote {
    pub(super) who: String,
    pub(super) why: String,
    pub(super) rows: u64,
}

/// A cell that both wrote.
pub(super) struct Met {
    pub(super) airport: String,
    /// `None`: the row itself.
    pub(super) column: Option<String>,
    /// Who wrote what stands, and that.
    pub(super) stands: (String, String),
    /// Who wrote what does not stand, and that.
    pub(super) lost: (String, String),
    pub(super) why: &'static str,
}

/// A row as both files have it.
pub(super) struct Now {
    pub(super) airport: String,
    /// Name, city, latitude, longitude in each file; `None`: no such row.
    pub(super) rows: [Option<Vec<String>>; 2],
}

/// A file at the end.
pub(super) struct End {
    pub(super) status: Status,
    /// Changes held.
    pub(super) n_changes: u64,
    pub(super) n_findings: u64,
}

/// Asks after the merge.
pub(super) fn merged(pair: &Pair) -> Result<Merged> {
    let people = authors(&pair.stores[0])?;
    let met = met(&pair.stores, &people)?;
    Ok(Merged { wrote: wrote(&pair.stores[0])?, now: now(&pair.stores, &met)?, met })
}

/// Asks at the end.
pub(super) fn look(pair: &Pair, merged: Merged, live: Live) -> Result<Facts> {
    let [a, b] = &pair.stores;
    Ok(Facts {
        paths: pair.paths.each_ref().map(|path| path.display().to_string()),
        merged,
        live,
        ends: [end(a)?, end(b)?],
        received_bytes: [pair.report.a.bytes, pair.report.b.bytes],
        took: pair.took,
    })
}

fn wrote(store: &Store) -> Result<Vec<Wrote>> {
    let names = Person::BOTH.map(Person::name);
    let mut wrote: Vec<Wrote> = store
        .log(0)?
        .into_iter()
        .map(|record| Wrote {
            who: record.author.unwrap_or_default(),
            why: record.message.unwrap_or_default(),
            rows: record.rows,
        })
        .filter(|wrote| names.contains(&wrote.who.as_str()))
        .collect();
    wrote.sort_by(|a, b| a.who.cmp(&b.who));
    Ok(wrote)
}

fn end(store: &Store) -> Result<End> {
    let status = store.status()?;
    let n_changes = status.vector.iter().map(|(_, held)| held.version).sum();
    Ok(End { status, n_changes, n_findings: store.check()?.len() as u64 })
}

/// What the merges noted: cells overwritten or dropped that nobody had seen. Either file
/// has noted its own; together they are all.
fn met(stores: &[Store; 2], people: &BTreeMap<SiteId, String>) -> Result<Vec<Met>> {
    let mut seen = BTreeSet::new();
    let mut met = Vec::new();
    for store in stores {
        let mut statement = store.sql().prepare(
            "SELECT tbl, pk, cid, val, site_id, col_version FROM ana_internal_superseded",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let pk: Vec<u8> = row.get(1)?;
            let column: Option<String> = row.get(2)?;
            let site: Vec<u8> = row.get(4)?;
            if !seen.insert((pk.clone(), column.clone(), site.clone())) {
                continue;
            }
            let lost = Cell { value: row.get(3)?, site, version: row.get(5)? };
            let stands = standing(store, &row.get::<_, String>(0)?, &pk, column.as_deref())?;
            let by = |site: &[u8]| {
                let person = SiteId::new(site).and_then(|site| people.get(&site));
                person.cloned().unwrap_or_else(|| hex(&site[..site.len().min(4)]))
            };
            let why = reason(stands.as_ref().ok(), &lost);
            let stands = match stands {
                Ok(cell) => (by(&cell.site), shown((&cell.value).into())),
                Err(site) => (by(&site), "(deleted)".to_string()),
            };
            let lost = (by(&lost.site), shown((&lost.value).into()));
            met.push(Met { airport: key_text(store, &pk)?, column, stands, lost, why });
        }
    }
    met.sort_by(|a, b| (&a.airport, &a.column).cmp(&(&b.airport, &b.column)));
    Ok(met)
}

/// A written cell, one that stands or one that does not.
struct Cell {
    value: Value,
    site: Vec<u8>,
    version: i64,
}

/// The rule that decided (docs: the larger version, then the greater value; a delete ends
/// what the row was).
fn reason(stands: Option<&Cell>, lost: &Cell) -> &'static str {
    match stands {
        None => "a deleted row stays deleted",
        Some(cell) if cell.version > lost.version => "it was edited more often",
        Some(_) => "of equal age, the greater value",
    }
}

/// The cell that stands; `Err`: who deleted the row.
fn standing(
    store: &Store,
    table: &str,
    pk: &[u8],
    column: Option<&str>,
) -> Result<std::result::Result<Cell, Vec<u8>>> {
    let mut statement = store.sql().prepare_cached(
        "SELECT val, site_id, col_version FROM crsql_changes
         WHERE \"table\" = ?1 AND pk = ?2 AND cid = ?3",
    )?;
    let mut of = |cid: &str| {
        statement
            .query_row(params![table, pk, cid], |row| {
                Ok(Cell { value: row.get(0)?, site: row.get(1)?, version: row.get(2)? })
            })
            .optional()
    };
    if let Some(column) = column
        && let Some(cell) = of(column)?
    {
        return Ok(Ok(cell));
    }
    match of("-1")? {
        Some(row) => Ok(Err(row.site)),
        None => Err(Failure::new(Exit::Refused, "a cell that was merged has no clock")
            .hint("`ana check` looks for damage")),
    }
}

/// The values of a packed key, as a person reads them.
fn key_text(store: &Store, pk: &[u8]) -> Result<String> {
    let mut statement =
        store.sql().prepare_cached("SELECT cell FROM crsql_unpack_columns WHERE package = ?1")?;
    let cells = statement.query_map([pk], |row| Ok(shown(row.get_ref(0)?)))?;
    Ok(cells.collect::<Result<Vec<_>, _>>()?.join(", "))
}

/// The rows in which cells met, in both files.
fn now(stores: &[Store; 2], met: &[Met]) -> Result<Vec<Now>> {
    let airports: BTreeSet<&String> = met.iter().map(|met| &met.airport).collect();
    let row_of = |store: &Store, airport: &str| -> Result<Option<Vec<String>>> {
        let mut statement = store.sql().prepare_cached(
            "SELECT name, city, round(latitude, 3), round(longitude, 3)
             FROM airport WHERE iata = ?1",
        )?;
        let mut rows = statement.query([airport])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let cells = (0..4).map(|i| Ok(literal::shown(row.get_ref(i)?)));
        Ok(Some(cells.collect::<Result<Vec<_>>>()?))
    };
    airports
        .into_iter()
        .map(|airport| {
            let rows = [row_of(&stores[0], airport)?, row_of(&stores[1], airport)?];
            Ok(Now { airport: airport.clone(), rows })
        })
        .collect()
}

impl Facts {
    pub(super) fn is_equal(&self) -> bool {
        self.ends[0].status.digest == self.ends[1].status.digest
    }

    /// For programs: the same facts.
    pub(super) fn as_json(&self) -> serde_json::Value {
        let wrote: Vec<_> = self
            .merged
            .wrote
            .iter()
            .map(|wrote| json!({ "who": wrote.who, "why": wrote.why, "rows": wrote.rows }))
            .collect();
        let met: Vec<_> = self
            .merged
            .met
            .iter()
            .map(|met| {
                json!({
                    "airport": met.airport, "column": met.column, "why": met.why,
                    "stands": { "by": met.stands.0, "value": met.stands.1 },
                    "lost": { "by": met.lost.0, "value": met.lost.1 },
                })
            })
            .collect();
        let files: Vec<_> = (0..2)
            .map(|i| {
                let (end, status) = (&self.ends[i], &self.ends[i].status);
                json!({
                    "db": self.paths[i],
                    "rows": status.tables.iter().map(|(_, rows)| rows).sum::<u64>(),
                    "changes": end.n_changes,
                    "digest": hex(&status.digest),
                    "words": status.words,
                    "findings": end.n_findings,
                    "received_bytes": self.received_bytes[i],
                    "file_bytes": status.file_bytes,
                    "metadata_bytes": status.metadata_bytes,
                })
            })
            .collect();
        json!({
            "equal": self.is_equal(),
            "wrote": wrote,
            "met": met,
            "live": self.live.as_json(),
            "files": files,
            "load_ms": self.took.load.as_millis() as u64,
            "edit_ms": self.took.edit.as_millis() as u64,
            "merge_ms": self.took.merge.as_millis() as u64,
        })
    }
}
