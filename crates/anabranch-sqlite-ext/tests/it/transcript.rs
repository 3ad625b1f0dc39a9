//! What cr-sqlite answers, line by line, and what we answer in its place.
//!
//! `tests/transcripts` holds a probe of the public SQL surface, the transcript of the real
//! cr-sqlite 0.16.3, and the differences that are wanted. Everything else must be equal.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::hosts::{missing, python};
use crate::library;

/// Sections of the probe that need nothing that is not there.
const SECTIONS: [&str; 8] =
    ["surface", "refuse", "local", "merge", "values", "pack", "filters", "misc"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// The lines of one section of a transcript.
fn section<'a>(transcript: &'a str, name: &str) -> Vec<&'a str> {
    let header = format!("== {name}");
    let lines = transcript.lines().skip_while(|line| *line != header).skip(1);
    lines.take_while(|line| !line.starts_with("== ")).collect()
}

/// The reference's section with the wanted differences in it.
fn expected(golden: &str, differences: &str, name: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        section(golden, name).iter().map(|line| (*line).to_string()).collect();
    for (old, new) in blocks(&section(differences, name)) {
        let at = lines.windows(old.len()).position(|window| window == old);
        let at = at.unwrap_or_else(|| panic!("{name}: listed, and not of the reference: {old:?}"));
        lines.splice(at..at + old.len(), new.iter().map(|line| (*line).to_string()));
    }
    if name == "merge" {
        lines.iter_mut().for_each(|line| *line = honest(line));
    }
    lines
}

/// Lines of the reference, and what stands in their place. A block ends where its "+" lines
/// end, or at any other line.
fn blocks<'a>(listed: &[&'a str]) -> Vec<(Vec<&'a str>, Vec<&'a str>)> {
    let mut blocks: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    let mut is_open = false;
    for line in listed {
        if let Some(old) = line.strip_prefix("- ") {
            if !is_open || blocks.last().is_some_and(|(_, new)| !new.is_empty()) {
                blocks.push((Vec::new(), Vec::new()));
            }
            blocks.last_mut().unwrap().0.push(old);
        } else if let Some(new) = line.strip_prefix("+ ") {
            blocks.last_mut().unwrap().1.push(new);
        }
        is_open = line.starts_with("- ") || line.starts_with("+ ");
    }
    blocks
}

/// The rule of section `merge`: where the incoming sentinel's version is not its causal
/// length, or a column comes under an even one, ours keeps the sentinel's version (and so
/// the causal length of the whole row) at that length if the change was taken.
fn honest(line: &str) -> String {
    let (label, answer) = line.split_once(": ").unwrap();
    let incoming = label.split_once("<- cl").unwrap().1;
    let (length, rest) = incoming.split_once(' ').unwrap();
    let version = rest.split_once('@').unwrap().1.split(' ').next().unwrap();
    let is_row = rest.starts_with("-1") || length.parse::<u32>().unwrap() % 2 == 0;
    let was_taken = !answer.starts_with("impacted 0");
    if !is_row || length == version || !was_taken {
        return line.to_string();
    }
    let entries = answer.split(" (").enumerate().map(|(index, entry)| {
        let is_cell = index > 0 && entry.matches(',').count() == 6;
        if is_cell { with_length(entry, length) } else { entry.to_string() }
    });
    format!("{label}: {}", entries.collect::<Vec<_>>().join(" ("))
}

/// An entry `cid,val,col_version,db_version,site_id,cl,seq)` of a row at that causal length.
fn with_length(entry: &str, length: &str) -> String {
    let mut fields: Vec<&str> = entry.split(',').collect();
    fields[5] = length;
    if fields[0] == "'-1'" {
        fields[2] = length;
    }
    fields.join(",")
}

/// The answers without the tables of ours that lie beside those that clients read.
fn without_our_tables(answers: &str) -> String {
    let is_theirs = |word: &&str| !word.contains("ana_");
    let line = |line: &str| match line.starts_with("objects after load") {
        true => line.split(" (").filter(is_theirs).collect::<Vec<_>>().join(" ("),
        false => line.to_string(),
    };
    answers.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn answers_are_those_of_cr_sqlite_but_for_what_is_listed() {
    let Some(python) = python() else { return missing("Python") };
    let output = Command::new(python)
        .arg(folder().join("probe_api.py"))
        .arg(library::path())
        .args(["--entry", "sqlite3_crsqlite_init", "--only", &SECTIONS.join(",")])
        .output()
        .unwrap();
    let ours = String::from_utf8(output.stdout).unwrap();
    let ours = without_our_tables(&ours);
    let (golden, differences) = (read("golden_api.txt"), read("differences.txt"));
    let mut wrong = Vec::new();
    for name in SECTIONS {
        let (expected, found) = (expected(&golden, &differences, name), section(&ours, name));
        if expected.len() != found.len() {
            wrong.push(format!("{name}: {} lines, not {}", found.len(), expected.len()));
        }
        for (expected, found) in expected.iter().zip(&found) {
            if expected != found {
                wrong.push(format!("{name}:\n- {expected}\n+ {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} lines differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
