//! The texts of the triggers that capture writes.
//!
//! Each is `AFTER`, and calls one function of ours: `(token, new key, old key, old and new
//! value of every replicated column in turn)`. A call takes at most `max_args` arguments;
//! what does not fit goes before it, in calls that only add to what the last one finishes:
//! `ana_internal_key(token, first, values…)` and `ana_internal_compare(token, first, pairs…)`.
//!
//! A key column whose index takes several spellings for one (NOCASE, RTRIM) needs a fourth,
//! `BEFORE INSERT`: REPLACE reports the row it replaces to no trigger, and its spelling would
//! be gone. It hands over what is there under the new key: `ana_internal_old(token, key…)`.
//! Updates of any key that has spellings have the same, `BEFORE UPDATE OF` the key's columns.
//!
//! A stored text that differs from the one made here says that the table was altered.

use anabranch_core::key::{Collation, is_spelling_unique};

use crate::base::quote_name;
use crate::shape::TableShape;

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
        let writer = Writer { token, max_args };
        let text = |kind: &str, event: &str, calls: String| {
            let name = quote_name(&format!("{}__crsql_{kind}", table.name));
            let on = quote_name(&table.name);
            format!("CREATE TRIGGER {name} {event} ON {on} BEGIN {calls} END")
        };
        let insert = writer.calls("crsql_internal_ins", &new_key, &[]);
        let update = writer.calls("crsql_internal_upd", &both, &pairs);
        let delete = writer.calls("crsql_internal_del", &old_key, &[]);
        let is_collated = table.key.iter().any(|part| part.column.collation != Collation::Binary);
        let key_columns: Vec<_> = table.key.iter().map(|part| part.column).collect();
        let told = |is_needed: bool, kind: &str, event: &str| match is_needed
            && table.key.len() < max_args
        {
            true => text(kind, event, writer.old_key(table)),
            false => String::new(),
        };
        let names: Vec<String> = table.key.iter().map(|part| quote_name(&part.name)).collect();
        let of_key = format!("BEFORE UPDATE OF {}", names.join(", "));
        TriggerTexts {
            before: told(is_collated, "btrig", "BEFORE INSERT"),
            before_key: told(!is_spelling_unique(&key_columns), "ktrig", &of_key),
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

struct Writer {
    token: i64,
    max_args: usize,
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

    /// What is there under the key of the row that comes; NULL without a row.
    fn old_key(&self, table: &TableShape) -> String {
        let names: Vec<String> = table.key.iter().map(|part| quote_name(&part.name)).collect();
        let same: Vec<String> = names.iter().map(|name| format!("{name} = new.{name}")).collect();
        let (on, same) = (quote_name(&table.name), same.join(" AND "));
        let values: Vec<String> =
            names.iter().map(|name| format!("(SELECT {name} FROM {on} WHERE {same})")).collect();
        let mut text = String::new();
        self.call(&mut text, "ana_internal_old", None, &values);
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
        *text += &format!("SELECT {function}({}); ", arguments.join(", "));
    }
}
