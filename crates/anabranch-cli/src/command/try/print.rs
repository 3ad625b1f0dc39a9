//! The facts as a person reads them, in 80 columns.

use std::time::Duration;

use super::edits::Person;
use super::facts::{Facts, Met};
use super::live::Live;
use crate::console::Console;
use crate::failure::Result;
use crate::hint::word;
use crate::output::{Sheet, bytes, count, grouped};
use crate::terminal::Style;

/// Lines of a table that fit a screen; the rest is counted.
const MAX_LINES: usize = 16;

pub(super) fn print(facts: &Facts, console: &mut Console) -> Result<()> {
    let [ada, ben] = &facts.ends;
    console.line("Ada and Ben each have a copy of a list of airports. Neither is online.")?;
    wrote(facts, console)?;
    met(facts, console)?;
    now(facts, console)?;
    live(&facts.live, console)?;
    sameness(facts, console)?;
    cost(facts, console)?;
    let findings = ada.n_findings + ben.n_findings;
    if findings > 0 {
        let text = format!("{} in `ana check`", count(findings, "finding"));
        console.line(console.paint(Style::Bad, &text))?;
    }
    play_on(facts, console)
}

fn wrote(facts: &Facts, console: &mut Console) -> Result<()> {
    console.heading("What each wrote")?;
    let mut sheet = Sheet::new(&["who", "why", ">rows"]);
    for wrote in &facts.merged.wrote {
        sheet.row([wrote.who.clone(), wrote.why.clone(), grouped(wrote.rows)]);
    }
    console.sheet(&sheet)
}

fn met(facts: &Facts, console: &mut Console) -> Result<()> {
    let cells = count(facts.merged.met.len() as u64, "cell");
    console.heading(&format!("What met: {cells} that both wrote"))?;
    if facts.merged.met.is_empty() {
        return console.line("Nothing: they edited different cells.");
    }
    let mut sheet = Sheet::new(&["airport", "column", "who", "wrote", ""]);
    for met in facts.merged.met.iter().take(MAX_LINES) {
        let Met { airport, column, stands, lost, .. } = met;
        let column = column.as_deref().unwrap_or("(row)");
        sheet.row([airport, column, &stands.0, &stands.1, "stands"]);
        sheet.row(["", "", &lost.0, &lost.1, ""]);
    }
    console.sheet(&sheet)?;
    more(facts.merged.met.len(), console)?;
    let mut why: Vec<&str> = facts.merged.met.iter().map(|met| met.why).collect();
    why.sort_unstable();
    for group in why.chunk_by(|a, b| a == b) {
        let text = format!("{} decided by: {}", count(group.len() as u64, "cell"), group[0]);
        console.line(console.paint(Style::Dim, &text))?;
    }
    Ok(())
}

fn now(facts: &Facts, console: &mut Console) -> Result<()> {
    if facts.merged.now.is_empty() {
        return Ok(());
    }
    console.heading("What both have now, where they met")?;
    let mut sheet = Sheet::new(&["airport", "name", "city", ">lat", ">long"]);
    for now in facts.merged.now.iter().take(MAX_LINES) {
        let mut add = |row: &Option<Vec<String>>, whose: &str| {
            let deleted = || ["(deleted)", "", "", ""].map(String::from).to_vec();
            let mut cells = vec![format!("{}{whose}", now.airport)];
            cells.extend(row.clone().unwrap_or_else(deleted));
            sheet.row(cells);
        };
        let [ada, ben] = &now.rows;
        if ada == ben {
            add(ada, "");
        } else {
            add(ada, " (Ada's)");
            add(ben, " (Ben's)");
        }
    }
    console.sheet(&sheet)?;
    more(facts.merged.now.len(), console)
}

fn more(n_lines: usize, console: &mut Console) -> Result<()> {
    if n_lines <= MAX_LINES {
        return Ok(());
    }
    let text = format!("(and {} more)", grouped((n_lines - MAX_LINES) as u64));
    console.line(console.paint(Style::Dim, &text))
}

fn live(live: &Live, console: &mut Console) -> Result<()> {
    console.heading("Then live, through a relay")?;
    console.line(format!("`ana serve` listens, the store is {}:", live.url))?;
    console.line("Ada and Ben go on writing, and `ana sync --watch` runs for each of them.")?;
    let mut sheet = Sheet::new(&["from commit to the other file", ">changes", ">p50", ">worst"]);
    for person in Person::BOTH {
        let way = &live.ways[person as usize];
        let shown = |duration: Option<Duration>| duration.map_or("-".into(), time);
        sheet.row([
            format!("{} to {}", person.name(), person.other().name()),
            grouped(way.latencies.len() as u64),
            shown(way.median()),
            shown(way.worst()),
        ]);
    }
    console.sheet(&sheet)?;
    for absence in &live.absences {
        let (who, other) = (absence.who.name(), absence.who.other().name());
        let missed = count(absence.missed, "change");
        console
            .line(format!("`kill -9` ended {who}'s sync. {who} missed {missed} of {other}'s,"))?;
        console.line(format!(
            "wrote {} offline, and was level {} after the next start.",
            count(absence.wrote, "change"),
            time(absence.caught_up),
        ))?;
    }
    console.heading("How far the live changes got")?;
    let mut sheet = Sheet::new(&["by", ">changes", ">on the relay's disk", ">seen by the other"]);
    for person in Person::BOTH {
        let receipt = &live.receipts[person as usize];
        let counts = [receipt.changes, receipt.on_relay, receipt.seen].map(grouped);
        sheet.row([person.name().to_string()].into_iter().chain(counts));
    }
    console.sheet(&sheet)?;
    let text = "Seen: the other wrote something after it had the change.";
    console.line(console.paint(Style::Dim, text))
}

fn sameness(facts: &Facts, console: &mut Console) -> Result<()> {
    let verdict = if facts.is_equal() { "Both files hold the same" } else { "The files differ" };
    console.heading(verdict)?;
    let mut sheet = Sheet::new(&["file", ">airports", ">changes", "digest in six words"]);
    for (name, end) in ["ada.db", "ben.db"].iter().zip(&facts.ends) {
        let rows: u64 = end.status.tables.iter().map(|(_, rows)| rows).sum();
        let words = end.status.words.clone();
        sheet.row([name.to_string(), grouped(rows), grouped(end.n_changes), words]);
    }
    let changes = grouped(facts.live.relay_changes);
    sheet.row(["the relay".into(), String::new(), changes, "(keeps changes, not tables)".into()]);
    console.sheet(&sheet)
}

fn cost(facts: &Facts, console: &mut Console) -> Result<()> {
    console.heading("What it took")?;
    let took = &facts.took;
    let [to_ada, to_ben] = facts.received_bytes;
    let status = &facts.ends[0].status;
    let rows: u64 = status.tables.iter().map(|(_, rows)| rows).sum();
    let per_row = status.metadata_bytes as f64 / rows.max(1) as f64;
    let edits = count(facts.merged.wrote.len() as u64, "change");
    let lines = [
        ("load the list", time(took.load)),
        ("edit both", format!("{} for {edits}", time(took.edit))),
        ("merge both ways", time(took.merge)),
        ("sent", format!("{} to Ben, {} to Ada", bytes(to_ben), bytes(to_ada))),
        ("live", format!("{}, all processes started", time(facts.live.took))),
        ("on the relay", bytes(facts.live.relay_bytes)),
        ("ada.db", bytes(status.file_bytes)),
        ("of it metadata", format!("{}, {per_row:.1} B a row", bytes(status.metadata_bytes))),
    ];
    for (what, figure) in lines {
        console.line(format!("{what:<16} {figure}"))?;
    }
    Ok(())
}

fn time(duration: Duration) -> String {
    match duration.as_micros() {
        0..10_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        10_000..1_000_000 => format!("{:.0} ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

fn play_on(facts: &Facts, console: &mut Console) -> Result<()> {
    let program = std::env::args().next().unwrap_or_else(|| "ana".to_string());
    let [ada, ben] = facts.paths.each_ref().map(|path| word(path));
    let program = word(&program);
    console.heading("Play on")?;
    console
        .line("list.db is what both started from; ada.db and ben.db are equal, until you edit.")?;
    console.line(format!(
        "{program} sql {ada} \"UPDATE airport SET city = 'Here' WHERE iata = 'OAK'\""
    ))?;
    console.line(format!("{program} diverge {ada} {ben}"))?;
    console.line(format!("{program} merge {ada} {ben}"))
}
