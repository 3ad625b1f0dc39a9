//! What a row raised through `crsql_changes` leaves behind, and who clears it: too rare in
//! random histories, so told as a story, against the model and with its rules broken.

use std::ops::Range;
use std::path::Path;

use anabranch_sim::model::Broken;
use anabranch_sim::replica::Replica;
use anabranch_sim::shapes::SHAPES;

/// Copy 0 inserts, deletes and inserts a row again; copy 1 held its first life, copy 2
/// nothing; both hear of the second life in part, and meet as deltas.
fn story(folder: &Path, broken: Broken) -> Result<(), String> {
    let shapes = || SHAPES.iter().take(2).collect::<Vec<_>>();
    let create = |name: &str| Replica::create(folder.join(name), shapes(), broken);
    let mut copies = [create("0.db")?, create("1.db")?, create("2.db")?];
    write(&mut copies[0], "INSERT INTO ti VALUES(1, 2, 'first', 3.5)")?;
    pull(&mut copies, 0, 1, 0..3)?;
    write(&mut copies[1], "UPDATE ti SET a = 2.0")?;
    write(&mut copies[0], "DELETE FROM ti")?;
    write(&mut copies[0], "INSERT INTO ti VALUES(1, 5, 'second', 4.5)")?;
    // The sentinel and one cell: the other two cells stay as copy 1 had them.
    pull(&mut copies, 0, 1, 0..2)?;
    // A cell before the sentinel.
    pull(&mut copies, 0, 2, 1..2)?;
    send(&mut copies, 2, 1)?;
    send(&mut copies, 1, 2)?;
    write(&mut copies[1], "UPDATE ti SET c = 9")?;
    for (from, into) in [(1, 0), (0, 2), (0, 1), (2, 0), (1, 2), (2, 1)] {
        send(&mut copies, from, into)?;
    }
    let first = copies[0].rows(0, &SHAPES[1])?;
    let others = [copies[1].rows(0, &SHAPES[1])?, copies[2].rows(0, &SHAPES[1])?];
    match others.iter().all(|other| *other == first) {
        true => Ok(()),
        false => Err(format!("{first:?}, {others:?}")),
    }
}

fn write(copy: &mut Replica, sql: &str) -> Result<(), String> {
    match copy.run(0, sql, &[])? {
        Some(error) => Err(error),
        None => copy.compare(0),
    }
}

/// Some of the changes on `ti`, by their places.
fn pull(
    copies: &mut [Replica],
    from: usize,
    into: usize,
    which: Range<usize>,
) -> Result<(), String> {
    let changes = copies[from].changes(0, "WHERE [table] = 'ti'")?;
    for change in &changes[which] {
        copies[into].merge(0, change)?;
    }
    copies[into].compare(0)
}

fn send(copies: &mut [Replica], from: usize, into: usize) -> Result<(), String> {
    let delta = copies[from].export(0, None)?;
    copies[into].apply(0, &delta)?;
    copies[into].compare(0)
}

fn run(broken: Broken) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    story(folder.path(), broken)
}

#[test]
fn leftovers_go_with_the_insert_that_follows() {
    assert_eq!(run(Broken::Nothing), Ok(()));
}

#[test]
fn a_broken_rule_is_seen() {
    let rules = [
        Broken::RaiseResetsValues,
        Broken::RaiseKeepsVersions,
        Broken::UnknownRowNeedsNoSentinel,
        Broken::DeltaOmitsImports,
        Broken::DeltaKeepsLeftovers,
        Broken::IntegerEqualsReal,
    ];
    let unseen: Vec<Broken> = rules.into_iter().filter(|rule| run(*rule).is_ok()).collect();
    assert!(unseen.is_empty(), "the story does not see {unseen:?}");
}
