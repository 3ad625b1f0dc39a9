//! `ana diverge`: the first cell in which two databases differ, and who wrote it.

mod compare;

use std::path::PathBuf;

use anabranch::{LogRecord, Store, VersionVector};
use serde_json::{Value, json};

use super::log::as_json as record_json;
use crate::console::Console;
use crate::failure::{Exit, Result};
use crate::hint::word;
use crate::output::{Sheet, count};
use crate::people::People;
use crate::terminal::Style;
use crate::{literal, open, rows, time};
use compare::Difference;

const AFTER_HELP: &str = "\
Example:
  ana diverge a.db b.db && echo equal

Exit status 0: the digests are equal; 1: they differ, and the first difference
by table, key and column is shown with the changes that wrote it. Changes
nothing.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// One database
    a: PathBuf,
    /// The other
    b: PathBuf,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let stores = [open::readable(&args.a)?, open::readable(&args.b)?];
    let names = [args.a.display().to_string(), args.b.display().to_string()];
    if stores[0].digest()? == stores[1].digest()? {
        let words = stores[0].status()?.words;
        if console.is_json() {
            console.json(&json!({ "equal": true, "words": words }))?;
        } else {
            let words = console.paint(Style::Good, &words);
            console.line(format!("equal: {words}"))?;
        }
        return Ok(Exit::Ok);
    }
    let found = Found::look(&stores)?;
    if console.is_json() {
        let answer = found.as_json(&stores, &names)?;
        console.json(&answer)?;
    } else {
        let people = People::of([(&stores[0], &args.a), (&stores[1], &args.b)])?;
        found.print(&stores, &names, &people, console)?;
    }
    Ok(Exit::No)
}

/// What there is to say of two copies that differ.
struct Found {
    /// `None` where the digests differ by more than rows tell.
    difference: Option<Difference>,
    /// What wrote the cell on each side.
    changes: [Option<LogRecord>; 2],
    /// Changes that each side has and the other has not.
    lacking: [u64; 2],
    /// Both went on under one site id: their versions of it are not the same changes.
    is_forked: bool,
}

impl Found {
    fn look(stores: &[Store; 2]) -> Result<Found> {
        let difference = compare::first_difference(stores)?;
        let mut changes = [None, None];
        if let Some(Difference { table, key: Some(key), column, .. }) = &difference {
            for (store, change) in stores.iter().zip(&mut changes) {
                *change = writer(store, table, key, column.as_deref())?;
            }
        }
        let vectors = [stores[0].version_vector()?, stores[1].version_vector()?];
        let lacking = [beyond(&vectors[1], &vectors[0]), beyond(&vectors[0], &vectors[1])];
        let is_forked = vectors[0].iter().any(|(site, held)| {
            vectors[1]
                .get(site)
                .is_some_and(|other| other.version == held.version && other.chain != held.chain)
        });
        Ok(Found { difference, changes, lacking, is_forked })
    }

    fn print(
        &self,
        stores: &[Store; 2],
        names: &[String; 2],
        people: &People,
        console: &mut Console,
    ) -> Result<()> {
        let word = console.paint(Style::Bad, "differ");
        let place = match &self.difference {
            Some(difference) => difference.place(),
            None => "in tables that only one of them has conflict-free".to_string(),
        };
        console.line(format!("The copies {word}: {place}"))?;
        if let Some(difference) = &self.difference {
            let sheet = self.values_sheet(difference, stores, names, people)?;
            console.sheet(&sheet)?;
        }
        for (lacking, name) in self.lacking.iter().zip(names) {
            if *lacking > 0 {
                let changes = count(*lacking, "change");
                console.line(format!("{name} lacks {changes} that the other has"))?;
            }
        }
        console.line(self.what_next(names))
    }

    /// How to make the copies equal.
    fn what_next(&self, names: &[String; 2]) -> String {
        let [a, b] = names.each_ref().map(|name| word(name));
        match self.lacking {
            _ if self.is_forked => format!(
                "A file was copied, and both copies went on under one site id: \
                    `ana merge {a} {b}` keeps what both wrote and makes them equal"
            ),
            [0, 0] if self.difference.as_ref().is_none_or(|found| found.key.is_none()) => {
                "Both hold the same changes, but not the same tables and columns: CREATE or \
                    ALTER TABLE where something is missing, then `ana crr`"
                    .to_string()
            }
            [0, 0] => format!(
                "Both hold the same changes, so this is an error: `ana check {a}`, `ana check {b}`"
            ),
            _ => format!("`ana merge {a} {b}` makes them equal"),
        }
    }

    /// What each side holds, and who wrote it.
    fn values_sheet(
        &self,
        difference: &Difference,
        stores: &[Store; 2],
        names: &[String; 2],
        people: &People,
    ) -> Result<Sheet> {
        let mut sheet = Sheet::new(&["database", "value", "by", "time", ">version"]);
        for (i, name) in names.iter().enumerate() {
            let [by, time, version] = match &self.changes[i] {
                Some(change) => [
                    people.author(change),
                    time::local(&stores[i], change.time_ms)?,
                    change.version.to_string(),
                ],
                None => Default::default(),
            };
            sheet.row([name.clone(), difference.values[i].clone(), by, time, version]);
        }
        Ok(sheet)
    }

    fn as_json(&self, stores: &[Store; 2], names: &[String; 2]) -> Result<Value> {
        let mut sides = Vec::new();
        for (i, store) in stores.iter().enumerate() {
            let change = self.changes[i].as_ref();
            let change = change.map(|record| record_json(store, record)).transpose()?;
            sides.push(json!({
                "db": names[i],
                "value": self.difference.as_ref().map(|difference| &difference.values[i]),
                "change": change,
                "lacks": self.lacking[i],
            }));
        }
        let difference = self.difference.as_ref();
        Ok(json!({
            "equal": false,
            "table": difference.map(|difference| &difference.table),
            "key": difference.and_then(Difference::key_text),
            "column": difference.and_then(|difference| difference.column.as_ref()),
            "a": sides[0],
            "b": sides[1],
        }))
    }
}

/// The change that wrote a cell, or, where it wrote none, the row.
fn writer(
    store: &Store,
    table: &str,
    key: &[anabranch::rusqlite::types::Value],
    column: Option<&str>,
) -> Result<Option<LogRecord>> {
    let pk = rows::pack(store, key)?;
    let writers = rows::writers(store, table, &pk)?;
    let of = |column: &str| writers.iter().find(|writer| writer.column == column);
    let Some(writer) = column.and_then(of).or_else(|| of("-1")).or(writers.first()) else {
        return Ok(None);
    };
    Ok(rows::change(&store.log(0)?, writer).cloned())
}

/// Changes of `all` that `held` has not.
fn beyond(all: &VersionVector, held: &VersionVector) -> u64 {
    all.iter().map(|(site, entry)| entry.version.saturating_sub(held.version(site))).sum()
}

impl Difference {
    fn place(&self) -> String {
        let table = literal::name(&self.table);
        match (self.key_text(), &self.column) {
            (None, _) => format!("table {table}"),
            (Some(key), None) => format!("table {table}, row {key}"),
            (Some(key), Some(column)) => format!("table {table}, row {key}, column {column}"),
        }
    }

    /// The key as SQL literals.
    fn key_text(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        let literals: Vec<String> =
            key.iter().map(|value| literal::literal(value.into())).collect();
        Some(literals.join(", "))
    }
}
