//! The texts of the triggers that capture writes.
//!
//! Each is `AFTER`, and calls one function of ours: `(token, new key, old key, old and new
//! value of every replicated column in turn)`. A call takes at most `max_args` arguments;
//! what does not fit goes before it, in calls that only add to what the last one finishes:
//! `ana_internal_key(token, first, values…)` and `ana_internal_compare(token, first, pairs…)`.
//!
//! A key whose index takes several spellings for one (NOCASE, RTRIM; 5 and 5.0 where no affinity
//! converts) needs two more, `BEFORE INSERT` and `BEFORE UPDATE OF` the key's columns: REPLACE
//! reports the row it replaces to no trigger, and its spelling would be gone. Where a row
//! is there that spells the new key otherwise, they call `ana_internal_old(token, key…)`.
//! Of a bulk insert into an untyped key that costs a fifth (integers: a seek in the key's index
//! that finds nothing) or a fourteenth (texts and blobs, which need no seek there), counted in
//! instructions of SQLite 3.54. Tables whose keys have one spelling each have none of it.
//!
//! A stored text that differs from the one made here says that the table was altered.

use anabranch_core::key::{Affinity, Collation, is_spelling_unique};

use crate::base::quote_name;
use crate::shape::{KeyShape, TableShape};

/// Most arguments of a function in every SQLite (SQLITE_MAX_FUNCTION_ARG before 3.48).
pub(crate) const MAX_ARGS: usize = 127;
/// Fewest with which two values fit beside the token and the index.
pub(crate) const MIN_ARGS: usize = 4;

/// The triggers of a table, as SQLite stores their texts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TriggerTexts {
    /// Empty: not needed.
    pub(crate) before: String,
    /// Before an update of the key; empty: not needed.
    pub(crate) before_key: String,
    pub(crate) insert: String,
    pub(crate) update: String,
    pub(crate) delete: String,
}

impl TriggerTexts {
    /// For a table as it is.
    pub(crate) fn of(table: &TableShape, token: i64, max_args: usize) -> TriggerTexts {
        let new_key: Vec<String> = key_values(table, "new");
        let old_key: Vec<String> = key_values(table, "old");
        let both = [new_key.clone(), old_key.clone()].concat();
        let pairs: Vec<String> = table
            .replicated()
            .flat_map(|column| {
                let name = quote_name(&column.name);
                [format!("old.{name}"), format!("new.{name}")]
            })
            .collect();
        let writer = Writer { token, max_args, from: String::new() };
        let text = |kind: &str, event: &str, calls: String| {
            let name = quote_name(&format!("{}__crsql_{kind}", table.name));
            let on = quote_name(&table.name);
            format!("CREATE TRIGGER {name} {event} ON {on} BEGIN {calls} END")
        };
        let insert = writer.calls("crsql_internal_ins", &new_key, &[]);
        let update = writer.calls("crsql_internal_upd", &both, &pairs);
        let delete = writer.calls("crsql_internal_del", &old_key, &[]);
        let key_columns: Vec<_> = table.key.iter().map(|part| part.column).collect();
        let before = |kind: &str, event: &str| match is_spelling_unique(&key_columns) {
            true => String::new(),
            false => {
                let writer = Writer { token, max_args, from: spelled_otherwise(table) };
                text(kind, event, writer.calls("ana_internal_old", &new_key, &[]))
            }
        };
        let names: Vec<String> = table.key.iter().map(|part| quote_name(&part.name)).collect();
        let of_key = format!("BEFORE UPDATE OF {}", names.join(", "));
        TriggerTexts {
            before: before("btrig", "BEFORE INSERT"),
            before_key: before("ktrig", &of_key),
            insert: text("itrig", "AFTER INSERT", insert),
            update: text("utrig", "AFTER UPDATE", update),
            delete: text("dtrig", "AFTER DELETE", delete),
        }
    }

    /// The texts in the order in which they are made.
    pub(crate) fn all(&self) -> impl Iterator<Item = &String> {
        let all = [&self.before, &self.before_key, &self.insert, &self.update, &self.delete];
        all.into_iter().filter(|text| !text.is_empty())
    }
}

/// The token that a trigger of ours calls with. Names are quoted, and skipped.
pub(crate) fn token_of(text: &str) -> Option<i64> {
    let unquoted: String = text.split('"').step_by(2).collect();
    let (_, call) = unquoted.split_once("_internal_")?;
    let (_, arguments) = call.split_once('(')?;
    let digits = arguments.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn key_values(table: &TableShape, row: &str) -> Vec<String> {
    table.key.iter().map(|part| format!("{row}.{}", quote_name(&part.name))).collect()
}

/// The row that is there under the key of the one that comes, if it spells it otherwise: what
/// follows the columns of a SELECT. The table has another name in it, for it may be called `new`.
fn spelled_otherwise(table: &TableShape) -> String {
    let is_untyped = |part: &KeyShape| part.column.affinity == Affinity::Blob;
    let is_collated = |part: &KeyShape| part.column.collation != Collation::Binary;
    let (mut same, mut otherwise, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for part in &table.key {
        let name = quote_name(&part.name);
        same.push(format!("ana_there.{name} = new.{name}"));
        if is_untyped(part) {
            otherwise.push(format!("typeof(ana_there.{name}) <> typeof(new.{name})"));
            // Numbers come before all texts. Decided once, before the seek.
            numbers.push(format!("new.{name} < ''"));
        }
        if is_collated(part) {
            otherwise.push(format!("ana_there.{name} COLLATE BINARY <> new.{name}"));
        }
    }
    let (on, same) = (quote_name(&table.name), same.join(" AND "));
    let otherwise = otherwise.join(" OR ");
    let mut text = format!(" FROM {on} AS ana_there WHERE {same} AND ({otherwise})");
    if !table.key.iter().any(is_collated) {
        text += &format!(" AND ({})", numbers.join(" OR "));
    }
    text
}

struct Writer {
    token: i64,
    max_args: usize,
    /// What follows each call: nothing, or the rows it is made for.
    from: String,
}

impl Writer {
    fn calls(&self, function: &str, key: &[String], pairs: &[String]) -> String {
        let mut text = String::new();
        let mut last: Vec<String> = Vec::new();
        if 1 + key.len() + pairs.len() <= self.max_args {
            last.extend_from_slice(key);
            last.extend_from_slice(pairs);
        } else {
            if key.len() < self.max_args {
                last.extend_from_slice(key);
            } else {
                self.parts(&mut text, "ana_internal_key", key, self.max_args - 2);
            }
            self.parts(&mut text, "ana_internal_compare", pairs, (self.max_args - 2) / 2 * 2);
        }
        self.call(&mut text, function, None, &last);
        text.trim_end().to_string()
    }

    fn parts(&self, text: &mut String, function: &str, values: &[String], size: usize) {
        for (index, part) in values.chunks(size).enumerate() {
            self.call(text, function, Some(index * size), part);
        }
    }

    fn call(&self, text: &mut String, function: &str, first: Option<usize>, values: &[String]) {
        let mut arguments = vec![self.token.to_string()];
        arguments.extend(first.map(|first| first.to_string()));
        arguments.extend_from_slice(values);
        *text += &format!("SELECT {function}({}){}; ", arguments.join(", "), self.from);
    }
}
