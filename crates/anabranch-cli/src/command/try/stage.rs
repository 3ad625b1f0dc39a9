//! What happens: the list is loaded, copied as a file, edited on both sides, merged.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anabranch::rusqlite::types::Value;
use anabranch::{MergeReport, Store};

use super::PATIENCE;
use super::edits::{Edit, Person};
use crate::failure::{Exit, Failure, Result, io_at};
use crate::progress::Progress;

/// The data; origin and licence are in the README beside it.
const AIRPORTS: &str = include_str!("../../../../../examples/data/airports.csv");
/// The table, in the order of the file's columns.
const TABLE: &str = "CREATE TABLE airport(
  iata TEXT PRIMARY KEY NOT NULL, name TEXT, city TEXT, state TEXT, country TEXT,
  latitude REAL, longitude REAL)";
/// What both start from.
pub(super) const LIST_FILE: &str = "list.db";

/// Both files, merged.
pub(super) struct Pair {
    /// Of Ada and Ben.
    pub(super) paths: [PathBuf; 2],
    pub(super) stores: [Store; 2],
    /// What the merge said of itself: the bytes that moved.
    pub(super) report: MergeReport,
    pub(super) took: Took,
}

/// How long each step took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) load: Duration,
    pub(super) edit: Duration,
    pub(super) merge: Duration,
}

/// Plays it all.
pub(super) fn play(folder: &Path, edits: &[Edit<'_>]) -> Result<Pair> {
    let progress = Progress::new("loading the list");
    let paths = Person::BOTH.map(|person| folder.join(person.file()));
    let start = Instant::now();
    let list = folder.join(LIST_FILE);
    load(&list)?;
    let load = start.elapsed();
    // A copied file takes a site id of its own at its next write.
    for path in &paths {
        std::fs::copy(&list, path).map_err(|error| io_at(path.display(), error))?;
    }
    let stores = [Store::open(&paths[0])?, Store::open(&paths[1])?];
    for store in &stores {
        store.sql().busy_timeout(PATIENCE)?;
    }
    progress.step("editing both");
    let start = Instant::now();
    for edit in edits {
        perform(&stores[edit.by as usize], edit)?;
    }
    let edit = start.elapsed();
    progress.step("merging");
    let start = Instant::now();
    let report = anabranch::merge(&stores[0], &stores[1], &mut |_, _| ())?;
    let merge = start.elapsed();
    progress.done();
    let took = Took { load, edit, merge };
    Ok(Pair { paths, stores, report, took })
}

/// Makes the first database and fills it with the list, one change.
fn load(path: &Path) -> Result<()> {
    let store = Store::open(path)?;
    // Later three connections share a file: whoever reads must not wait for who writes.
    store.sql().pragma_update(None, "journal_mode", "WAL")?;
    store.sql().execute_batch(TABLE)?;
    store.make_conflict_free("airport")?;
    let airports = airports()?;
    store.transact(|tx| {
        tx.author("the list")?;
        tx.message("airports as the government listed them")?;
        let mut insert =
            tx.sql().prepare("INSERT INTO airport VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        for airport in &airports {
            insert.execute(anabranch::rusqlite::params_from_iter(airport))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// The rows of the file, coordinates as numbers.
fn airports() -> Result<Vec<Vec<Value>>> {
    let damaged = |what: String| Failure::new(Exit::Refused, format!("the list: {what}"));
    let mut reader = csv::Reader::from_reader(AIRPORTS.as_bytes());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| damaged(error.to_string()))?;
        let cell = |(i, text): (usize, &str)| match i {
            5 | 6 => text.parse().map(Value::Real).map_err(|_| damaged(format!("{text}?"))),
            _ => Ok(Value::Text(text.to_string())),
        };
        rows.push(record.iter().enumerate().map(cell).collect::<Result<_>>()?);
    }
    Ok(rows)
}

/// One change of one person.
pub(super) fn perform(store: &Store, edit: &Edit<'_>) -> Result<()> {
    store
        .transact(|tx| {
            tx.author(edit.by.name())?;
            tx.message(edit.why)?;
            for statement in &edit.statements {
                tx.sql().execute_batch(statement)?;
            }
            Ok(())
        })
        .map_err(|error| Failure::from(error).at(format!("{}: {}", edit.by.name(), edit.why)))
}
