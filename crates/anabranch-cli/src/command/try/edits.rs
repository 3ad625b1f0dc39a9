//! Who does what: a script of SQL in which a line `-- Ada: why` or `-- Ben: why` begins a
//! change, one transaction of that person.
//!
//! After the line `-- live` both are connected: each statement is a change of its own, and
//! the lines `-- Ben is killed`, `-- Ben is back` (or Ada) say when a person's sync dies and
//! when it is started again.

use crate::failure::{Exit, Failure, Result};
use crate::script;

/// What the two usually do.
pub(super) const USUAL: &str = include_str!("edits.sql");

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Person {
    Ada,
    Ben,
}

/// A change that somebody makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit<'a> {
    pub(super) by: Person,
    /// Becomes the change's message.
    pub(super) why: &'a str,
    pub(super) statements: Vec<&'a str>,
}

/// Something that happens while both are live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Edit(Edit<'a>),
    /// The process that syncs for this person is killed.
    Killed(Person),
    /// It is started again.
    Back(Person),
}

/// All that happens, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Script<'a> {
    /// Before the two merge.
    pub(super) offline: Vec<Edit<'a>>,
    /// After that.
    pub(super) live: Vec<Step<'a>>,
}

/// A line that is no SQL.
#[derive(Clone, Copy)]
enum Head<'a> {
    Change(Person, &'a str),
    Live,
    Killed(Person),
    Back(Person),
}

impl Person {
    pub(super) const BOTH: [Person; 2] = [Person::Ada, Person::Ben];

    pub(super) fn name(self) -> &'static str {
        match self {
            Person::Ada => "Ada",
            Person::Ben => "Ben",
        }
    }

    /// Name of this person's database.
    pub(super) fn file(self) -> &'static str {
        match self {
            Person::Ada => "ada.db",
            Person::Ben => "ben.db",
        }
    }

    pub(super) fn other(self) -> Person {
        match self {
            Person::Ada => Person::Ben,
            Person::Ben => Person::Ada,
        }
    }
}

/// Reads a script.
pub(super) fn parse(text: &str) -> Result<Script<'_>> {
    let heads = heads(text);
    no_statement_in(&text[..heads.first().map_or(text.len(), |head| head.0)])?;
    let mut script = Script::default();
    let mut is_live = false;
    for (i, (_, body, head)) in heads.iter().enumerate() {
        let end = heads.get(i + 1).map_or(text.len(), |next| next.0);
        let body = &text[*body..end];
        match *head {
            Head::Change(by, why) => {
                let cut = script::split(body);
                let rest = Some(cut.rest).filter(|rest| !rest.is_empty());
                let statements: Vec<&str> = cut.statements.into_iter().chain(rest).collect();
                if is_live {
                    let alone = |statement| Edit { by, why, statements: vec![statement] };
                    script.live.extend(statements.into_iter().map(alone).map(Step::Edit));
                } else {
                    script.offline.push(Edit { by, why, statements });
                }
                continue;
            }
            Head::Live => is_live = true,
            Head::Killed(_) | Head::Back(_) if !is_live => {
                return Err(Failure::new(Exit::Usage, "nobody is connected before -- live")
                    .hint("the line `-- live` comes first"));
            }
            Head::Killed(person) => script.live.push(Step::Killed(person)),
            Head::Back(person) => script.live.push(Step::Back(person)),
        }
        no_statement_in(body)?;
    }
    Ok(script)
}

fn no_statement_in(text: &str) -> Result<()> {
    if script::split(text).is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, "a statement stands where no change has begun")
        .hint("begin each change with a line such as: -- Ada: why"))
}

/// Where each head begins, where what follows it begins, and what it says.
fn heads(text: &str) -> Vec<(usize, usize, Head<'_>)> {
    let mut heads = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let body = at + line.len();
        let head = line.strip_prefix("-- ").and_then(|line| head(line.trim_end()));
        heads.extend(head.map(|head| (at, body, head)));
        at = body;
    }
    heads
}

fn head(line: &str) -> Option<Head<'_>> {
    if line == "live" {
        return Some(Head::Live);
    }
    Person::BOTH.into_iter().find_map(|person| {
        let rest = line.strip_prefix(person.name())?;
        match rest {
            " is killed" => Some(Head::Killed(person)),
            " is back" => Some(Head::Back(person)),
            _ => rest.strip_prefix(':').map(|why| Head::Change(person, why.trim())),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit<'a>(by: Person, why: &'a str, statements: &[&'a str]) -> Edit<'a> {
        Edit { by, why, statements: statements.to_vec() }
    }

    #[test]
    fn a_line_with_a_name_begins_a_change() {
        let script = parse("-- note\n-- Ben: b; c\nDELETE FROM x;\nSELECT 1\n-- Ada: a\n").unwrap();
        assert_eq!(
            script.offline,
            [
                edit(Person::Ben, "b; c", &["DELETE FROM x;", "SELECT 1"]),
                edit(Person::Ada, "a", &[]),
            ]
        );
        assert!(script.live.is_empty());
    }

    #[test]
    fn live_each_statement_is_a_change() {
        let script = parse(
            "-- live\n-- Ada: a\nSELECT 1;\nSELECT 2;\n-- Ada is killed\n-- Ada is back\n\
             -- Ben: b\nSELECT 3\n",
        );
        let edit = |by, why, statement| Step::Edit(edit(by, why, &[statement]));
        assert_eq!(
            script.unwrap().live,
            [
                edit(Person::Ada, "a", "SELECT 1;"),
                edit(Person::Ada, "a", "SELECT 2;"),
                Step::Killed(Person::Ada),
                Step::Back(Person::Ada),
                edit(Person::Ben, "b", "SELECT 3"),
            ]
        );
    }

    #[test]
    fn what_belongs_to_no_change_is_refused() {
        for text in [
            "DELETE FROM x;\n-- Ada: a\n",
            "-- live\nDELETE FROM x;\n",
            "-- Ben is killed\n-- live\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_usual_script_has_both_people_and_a_kill() {
        let script = parse(USUAL).unwrap();
        for person in Person::BOTH {
            assert!(script.offline.iter().filter(|edit| edit.by == person).count() >= 4);
            let is_live = |step: &&Step<'_>| matches!(step, Step::Edit(edit) if edit.by == person);
            assert!(script.live.iter().filter(is_live).count() >= 10);
        }
        let is_good = |edit: &Edit<'_>| !edit.why.is_empty() && !edit.statements.is_empty();
        assert!(script.offline.iter().all(is_good));
        assert!(script.live.contains(&Step::Killed(Person::Ben)));
    }
}
