//! `ana merge`: two databases, both ways, and what came of it.

use std::path::{Path, PathBuf};

use anabranch::{ConcurrentCell, ForkedBranch, MergeReport, MergeSide, SiteId};
use serde_json::{Value, json};

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::hint::word;
use crate::literal::{hex, unquoted};
use crate::open::{self, Found};
use crate::output::{Sheet, bytes, count, grouped};
use crate::people::{People, short};
use crate::progress::Progress;
use crate::terminal::Style;

const AFTER_HELP: &str = "\
Example:
  cp a.db b.db
  ana sql a.db \"UPDATE note SET body = 'from a' WHERE id = 'n1'\"
  ana sql b.db \"UPDATE note SET body = 'from b' WHERE id = 'n1'\"
  ana merge a.db b.db

Afterwards both hold everything that either held, and show the same six words.
A cell that both sides wrote without knowing of each other keeps one value on
both, and is listed with the other: the first 20 of them, all with --json.
Merging again changes nothing.";

/// Cells listed for people: two lines each fit, with what follows, on a tall terminal, and
/// further ones are better searched by a program than read.
const MAX_CELLS_LISTED: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// One database
    a: PathBuf,
    /// The other
    b: PathBuf,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    copy_must_exist(&args.a, &args.b)?;
    let (a, b) = (open::writable(&args.a)?, open::writable(&args.b)?);
    open::must_differ(&args.a, &args.b)?;
    let progress = Progress::new("comparing");
    let merged = anabranch::merge(&a, &b, &mut |step, n_bytes| {
        progress.step(format!("{step} ({})", bytes(n_bytes)));
    });
    progress.done();
    let report = merged?;
    let words = a.status()?.words;
    let names = [args.a.display().to_string(), args.b.display().to_string()];
    if console.is_json() {
        console.json(&as_json(&report, &names, &words))?;
    } else {
        let people = People::of([(&a, &args.a), (&b, &args.b)])?;
        print(&report, &names, &words, &people, console)?;
    }
    if report.is_equal {
        return Ok(Exit::Ok);
    }
    if report.a.quarantined + report.b.quarantined > 0 {
        let what = "the copies hold the same changes, but not all of them are shown";
        return Err(Failure::new(Exit::No, what)
            .hint("SELECT * FROM ana_quarantine says why; SELECT ana_retry() tries again"));
    }
    Err(Failure::new(Exit::No, "the copies hold the same changes, but differ").hint(format!(
        "`ana diverge {} {}` finds where",
        word(&names[0]),
        word(&names[1])
    )))
}

/// A second copy is made by copying: a new store has no tables to merge into.
fn copy_must_exist(a: &Path, b: &Path) -> Result<()> {
    let (from, to) = match (open::look(a)?, open::look(b)?) {
        (Found::Store, Found::Missing) => (a, b),
        (Found::Missing, Found::Store) => (b, a),
        _ => return Ok(()),
    };
    let (from, to) = (from.display().to_string(), to.display().to_string());
    Err(Failure::new(Exit::Io, format!("{to}: no such file")).hint(format!(
        "`cp {} {}` makes a second copy, to edit and merge later",
        word(&from),
        word(&to)
    )))
}

/// What met comes first, what came of it last: there it stays in sight.
fn print(
    report: &MergeReport,
    names: &[String; 2],
    words: &str,
    people: &People,
    console: &mut Console,
) -> Result<()> {
    if !report.concurrent.is_empty() {
        print_cells(&report.concurrent, people, console)?;
    }
    if !report.forked.is_empty() {
        console.line(forked(&report.forked))?;
        console.line("")?;
    }
    print_rows([&report.a, &report.b], names, console)?;
    if report.is_equal {
        let words = console.paint(Style::Good, words);
        console.line(format!("\nBoth now hold the same: {words}"))?;
    }
    Ok(())
}

/// The first cells that both sides wrote, and how many more there are.
fn print_cells(cells: &[ConcurrentCell], people: &People, console: &mut Console) -> Result<()> {
    let number = count(cells.len() as u64, "cell");
    let heading = console.paint(Style::Bold, &format!("{number} written on both sides"));
    console.line(heading)?;
    let (listed, more) = cells.split_at(cells.len().min(MAX_CELLS_LISTED));
    console.sheet(&cells_sheet(listed, people))?;
    if !more.is_empty() {
        console.line(format!("… and {} more; --json lists all", grouped(more.len() as u64)))?;
    }
    console.line("")
}

/// Copies that went on under one name, and how they are called from here on.
pub(super) fn forked(branches: &[ForkedBranch]) -> String {
    let mut text = "Copies had gone on under one site id; what each wrote is kept:".to_string();
    for ForkedBranch { site, root, base } in branches {
        let (site, root, base) = (short(*site), short(*root), grouped(*base));
        text += &format!("\n  {site} is what one wrote after change {base} of {root}");
    }
    text
}

/// What each side took, and how many of its rows that changed.
fn print_rows(sides: [&MergeSide; 2], names: &[String; 2], console: &mut Console) -> Result<()> {
    for (side, name) in sides.iter().zip(names) {
        let news = match side.changes {
            0 => "had everything already".to_string(),
            n => format!("took {} ({})", count(n, "change"), bytes(side.bytes)),
        };
        console.line(format!("{name} {news}"))?;
        if side.quarantined > 0 {
            let held = count(side.quarantined, "change");
            console.line(format!("{name} holds {held} that it cannot show"))?;
        }
    }
    let mut sheet = Sheet::new(&["database", "table", ">inserted", ">updated", ">deleted"]);
    for (side, name) in sides.iter().zip(names) {
        for (table, inserted, updated, deleted) in &side.tables {
            let numbers = [inserted, updated, deleted].map(|number| grouped(*number));
            let [inserted, updated, deleted] = numbers;
            sheet.row([name.clone(), table.clone(), inserted, updated, deleted]);
        }
    }
    if !sheet.is_empty() {
        console.heading("Rows that changed")?;
        console.sheet(&sheet)?;
    }
    Ok(())
}

/// Two lines a cell: what stands, and what does not.
fn cells_sheet(cells: &[ConcurrentCell], people: &People) -> Sheet {
    let by = |site: SiteId| people.name(site);
    let mut sheet = Sheet::new(&["table", "key", "column", "by", "wrote", ""]);
    for cell in cells {
        let column = cell.column.as_deref().unwrap_or("(row)");
        let (key, stands) = (unquoted(&cell.key), unquoted(&cell.stands));
        sheet.row([&cell.table, &key, column, &by(cell.stands_site), &stands, "stands"]);
        sheet.row(["", "", "", &by(cell.lost_site), &unquoted(&cell.lost), ""]);
    }
    sheet
}

fn as_json(report: &MergeReport, names: &[String; 2], words: &str) -> Value {
    let side = |name: &str, side: &MergeSide| {
        let tables: Vec<_> = side
            .tables
            .iter()
            .map(|(table, inserted, updated, deleted)| {
                json!({
                    "name": table, "inserted": inserted, "updated": updated, "deleted": deleted,
                })
            })
            .collect();
        json!({
            "db": name, "changes": side.changes, "bytes": side.bytes, "tables": tables,
            "quarantined": side.quarantined,
        })
    };
    let concurrent: Vec<_> = report
        .concurrent
        .iter()
        .map(|cell| {
            json!({
                "table": cell.table, "key": cell.key, "column": cell.column,
                "stands": cell.stands, "stands_site": hex(cell.stands_site.as_bytes()),
                "lost": cell.lost, "lost_site": hex(cell.lost_site.as_bytes()),
            })
        })
        .collect();
    json!({
        "a": side(&names[0], &report.a),
        "b": side(&names[1], &report.b),
        "concurrent": concurrent,
        "forked": super::status::forked_json(&report.forked),
        "equal": report.is_equal,
        "words": words,
    })
}
