//! Spellings of one key: a local write that changes only the spelling bears the row anew, and
//! of two births the larger spelling stands, on every copy.

use std::path::Path;

use anabranch_sim::model::Broken;
use anabranch_sim::replica::Replica;
use anabranch_sim::shapes::SHAPES;

fn story(folder: &Path, broken: Broken) -> Result<(), String> {
    let create = |name: &str| Replica::create(folder.join(name), vec![&SHAPES[2]], broken);
    let (mut a, mut b) = (create("a.db")?, create("b.db")?);
    write(&mut a, "INSERT INTO tn VALUES('key', 1, 1)")?;
    write(&mut b, "INSERT INTO tn VALUES('KEY', 0, 0)")?;
    meet(&mut a, &mut b)?;
    write(&mut a, "UPDATE tn SET k = 'Key'")?;
    write(&mut b, "INSERT OR REPLACE INTO tn VALUES('kEY', 2, 2)")?;
    meet(&mut a, &mut b)?;
    write(&mut b, "INSERT OR REPLACE INTO tn VALUES('KEY', 2, 3), ('other', 1, 1)")?;
    meet(&mut a, &mut b)?;
    write(&mut a, "UPDATE OR REPLACE tn SET k = 'OTHER' WHERE k = 'key'")?;
    meet(&mut a, &mut b)?;
    write(&mut a, "INSERT INTO tn VALUES('third', 1, 1)")?;
    write(&mut a, "UPDATE OR REPLACE tn SET k = 'OTHER' WHERE k = 'third'")?;
    meet(&mut a, &mut b)
}

fn write(copy: &mut Replica, sql: &str) -> Result<(), String> {
    match copy.run(0, sql, &[])? {
        Some(error) => Err(error),
        None => copy.compare(0),
    }
}

fn meet(a: &mut Replica, b: &mut Replica) -> Result<(), String> {
    b.apply(0, &a.export(0, None)?)?;
    b.compare(0)?;
    a.apply(0, &b.export(0, None)?)?;
    a.compare(0)?;
    let (ours, theirs) = (a.rows(0, &SHAPES[2])?, b.rows(0, &SHAPES[2])?);
    match ours == theirs {
        true => Ok(()),
        false => Err(format!("{ours:?}, {theirs:?}")),
    }
}

fn run(broken: Broken) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    story(folder.path(), broken)
}

#[test]
fn spellings_travel_with_births() {
    assert_eq!(run(Broken::Nothing), Ok(()));
}

#[test]
fn a_broken_rule_is_seen() {
    let rules =
        [Broken::SpellingIsNoRebirth, Broken::CaseTellsKeysApart, Broken::SmallerSpellingWins];
    let unseen: Vec<Broken> = rules.into_iter().filter(|rule| run(*rule).is_ok()).collect();
    assert!(unseen.is_empty(), "the story does not see {unseen:?}");
}
