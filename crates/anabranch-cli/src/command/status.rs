//! `ana status`: what a store holds.

use std::path::PathBuf;

use anabranch::{Status, VersionVector};
use serde_json::{Value, json};

use crate::console::Console;
use crate::failure::{Exit, Result};
use crate::literal::hex;
use crate::open;
use crate::output::{Sheet, bytes, grouped};
use crate::terminal::Style;

const AFTER_HELP: &str = "\
Example:
  ana status notes.db
  ana status notes.db --json

Copies that hold the same rows show the same six words, whoever merged what.
The version vector says how many changes of each site this copy holds: give it
to `ana export --since`.";

/// Fewer rows say nothing about what a row costs: our tables take some pages from the start.
const MIN_ROWS: u64 = 1000;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let store = open::readable(&args.db)?;
    let status = store.status()?;
    if console.is_json() {
        console.json(&as_json(&status))?;
    } else {
        print(&status, console)?;
    }
    Ok(Exit::Ok)
}

fn print(status: &Status, console: &mut Console) -> Result<()> {
    let words = console.paint(Style::Good, &status.words);
    let n_rows: u64 = status.tables.iter().map(|(_, rows)| rows).sum();
    let per_row = match n_rows {
        0..MIN_ROWS => String::new(),
        rows => format!(" ({:.1} B a row)", status.metadata_bytes as f64 / rows as f64),
    };
    console.line(format!("digest      {words}"))?;
    console.line(format!("site        {}", status.site))?;
    console.line(format!("db_version  {}", status.db_version))?;
    console.line(format!("file        {}", bytes(status.file_bytes)))?;
    console.line(format!("metadata    {}{per_row}", bytes(status.metadata_bytes)))?;
    if !status.tables.is_empty() {
        let mut sheet = Sheet::new(&["table", ">rows"]);
        for (table, rows) in &status.tables {
            sheet.row([table.clone(), grouped(*rows)]);
        }
        console.line("")?;
        console.sheet(&sheet)?;
    }
    if !status.vector.is_empty() {
        let mut sheet = Sheet::new(&["site", ">version", "chain", ""]);
        for (site, held) in status.vector.iter() {
            let mark = if site == status.site { "this copy" } else { "" };
            let (version, chain) = (grouped(held.version), held.chain.to_string());
            sheet.row([site.to_string(), version, chain[..8].to_string(), mark.to_string()]);
        }
        console.line("")?;
        console.sheet(&sheet)?;
    }
    Ok(())
}

fn as_json(status: &Status) -> Value {
    let tables: Vec<_> =
        status.tables.iter().map(|(name, rows)| json!({ "name": name, "rows": rows })).collect();
    json!({
        "site": hex(status.site.as_bytes()),
        "db_version": status.db_version,
        "vector": vector_json(&status.vector),
        "digest": hex(&status.digest),
        "words": status.words,
        "tables": tables,
        "file_bytes": status.file_bytes,
        "metadata_bytes": status.metadata_bytes,
    })
}

/// The vector as `ana_version_vector()` writes it.
pub(super) fn vector_json(vector: &VersionVector) -> Value {
    serde_json::from_str(&vector.to_json()).expect("a version vector writes valid JSON")
}
