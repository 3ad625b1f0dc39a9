//! Who does what: a script of SQL in which a line `-- Ada: why` or `-- Ben: why` begins a
//! change, one transaction of that person.

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
}

/// Reads a script.
pub(super) fn parse(text: &str) -> Result<Vec<Edit<'_>>> {
    let mut edits: Vec<Edit<'_>> = Vec::new();
    let heads: Vec<(usize, usize, Person, &str)> = heads(text);
    let prelude = &text[..heads.first().map_or(text.len(), |head| head.0)];
    if !script::split(prelude).is_empty() {
        return Err(Failure::new(Exit::Usage, "a statement stands before the first change")
            .hint("begin each change with a line such as: -- Ada: why"));
    }
    for (i, (_, body, by, why)) in heads.iter().enumerate() {
        let end = heads.get(i + 1).map_or(text.len(), |next| next.0);
        let script = script::split(&text[*body..end]);
        let rest = Some(script.rest).filter(|rest| !rest.is_empty());
        let statements = script.statements.into_iter().chain(rest).collect();
        edits.push(Edit { by: *by, why, statements });
    }
    Ok(edits)
}

/// Where each change begins: its head, its body, who and why.
fn heads(text: &str) -> Vec<(usize, usize, Person, &str)> {
    let mut heads = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let body = at + line.len();
        for person in Person::BOTH {
            let why = line
                .strip_prefix("-- ")
                .and_then(|line| line.strip_prefix(person.name()))
                .and_then(|line| line.strip_prefix(':'));
            if let Some(why) = why {
                heads.push((at, body, person, why.trim()));
            }
        }
        at = body;
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_name_begins_a_change() {
        let edits = parse("-- note\n-- Ben: b; c\nDELETE FROM x;\nSELECT 1\n-- Ada: a\n").unwrap();
        let statements = vec!["DELETE FROM x;", "SELECT 1"];
        assert_eq!(
            edits,
            [
                Edit { by: Person::Ben, why: "b; c", statements },
                Edit { by: Person::Ada, why: "a", statements: vec![] },
            ]
        );
        assert!(parse("DELETE FROM x;\n-- Ada: a\n").is_err());
    }

    #[test]
    fn the_usual_script_has_both_people() {
        let edits = parse(USUAL).unwrap();
        for person in Person::BOTH {
            assert!(edits.iter().filter(|edit| edit.by == person).count() >= 4);
        }
        assert!(edits.iter().all(|edit| !edit.why.is_empty() && !edit.statements.is_empty()));
    }
}
