//! Reading the registered tables, and what SQLite's schema says of them.
//!
//! One pass over the schema's rows compares their texts with those of the last reading; only
//! a table whose texts are others is read, so that a change of one among thousands is cheap.

use std::rc::Rc;

use anabranch_core::key::is_spelling_unique;
use anabranch_core::value::ValueRef;
use anabranch_sqlite::Db;
use hashbrown::{HashMap, HashSet};

use super::{ColumnInfo, KeyPart, TableInfo};
use crate::error::{Result, StoreError};
use crate::ids::{ColumnId, TableId};
use crate::metadata::mask::Mask;
use crate::shape::{TableShape, integer, text};
use crate::triggers::{MAX_ARGS, MIN_ARGS, TriggerTexts, token_of};

/// A table and what it was made of.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) info: Rc<TableInfo>,
    definition: Definition,
}

/// All that a [`TableInfo`] depends on, but for its order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Definition {
    name: String,
    /// Bumped when the columns' ids change.
    revision: i64,
    table: String,
    triggers: TriggerTexts,
    outrun: Outrun,
}

/// Triggers of somebody's that fire before those of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outrun {
    /// There are some.
    is: bool,
    /// One that may skip those of the table.
    by: Option<String>,
    /// One that a constraint may stop, which under OR FAIL skips them too.
    may_fail: bool,
}

impl Outrun {
    /// A trigger newer than those before it.
    fn add(&mut self, name: &[u8], text: &[u8]) {
        // All that fire after the row is written have the word in their text.
        self.is |= text.to_ascii_uppercase().windows(5).any(|word| word == b"AFTER");
        if self.is && may_skip(text) {
            self.by = Some(String::from_utf8_lossy(name).into_owned());
        }
        self.may_fail |= self.is && writes(text);
    }
}

/// A row of `ana_registry`.
struct Registered {
    id: TableId,
    token: i64,
    /// Most arguments that the triggers' calls were made with.
    max_args: usize,
    revision: i64,
}

pub(super) fn load(db: &Db, known: Vec<Loaded>) -> Result<Vec<Loaded>> {
    let registered = read_registered(db)?;
    if registered.is_empty() {
        return Ok(Vec::new());
    }
    let comparison = compare(db, &known)?;
    let mut definitions = read_schema(db, &comparison.others)?;
    let mut same: HashMap<TableId, Loaded> = known
        .into_iter()
        .zip(comparison.is_same)
        .filter_map(|(table, is_same)| is_same.then_some((table.info.id, table)))
        .collect();
    let mut found = Vec::new();
    for row in registered {
        let order = u32::try_from(found.len()).expect("ids of tables are u32");
        if let Some(table) = same.remove(&row.id) {
            found.push(table.at(db, &row, order)?);
            continue;
        }
        let Some(mut definition) = definitions.remove(&row.token) else {
            // It vanished; what is known of it waits for a table of its name.
            continue;
        };
        definition.revision = row.revision;
        let info = Rc::new(make(db, &row, &definition, order)?);
        found.push(Loaded { info, definition });
    }
    Ok(found)
}

impl Loaded {
    /// The table as it was, at another place in the order if need be.
    fn at(mut self, db: &Db, row: &Registered, order: u32) -> Result<Loaded> {
        if self.definition.revision != row.revision {
            self.definition.revision = row.revision;
            self.info = Rc::new(make(db, row, &self.definition, order)?);
        } else if self.info.order != order {
            self.info = Rc::new(TableInfo { order, ..(*self.info).clone() });
        }
        Ok(self)
    }
}

fn read_registered(db: &Db) -> Result<Vec<Registered>> {
    let sql = "SELECT id, token, args, revision FROM main.ana_registry ORDER BY id";
    let rows = db.query_rows(sql, &[])?;
    let registered = rows.iter().map(|row| {
        let id = u32::try_from(integer(&row[0])).map_err(|_| StoreError::Damaged {
            place: format!("ana_registry, id {}", integer(&row[0])),
            what: "an id beyond 32 bits",
        })?;
        let max_args = usize::try_from(integer(&row[2])).unwrap_or(0).clamp(MIN_ARGS, MAX_ARGS);
        Ok(Registered {
            id: TableId(id),
            token: integer(&row[1]),
            max_args,
            revision: integer(&row[3]),
        })
    });
    registered.collect()
}

/// What a row of the schema is to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Table,
    Before,
    BeforeKey,
    Insert,
    Update,
    Delete,
    /// A trigger of somebody's.
    Other,
}

impl Part {
    fn of(kind: &[u8], name: &[u8]) -> Part {
        let is_named = |suffix: &[u8]| name.ends_with(suffix);
        match kind {
            b"table" => Part::Table,
            _ if is_named(b"__crsql_btrig") => Part::Before,
            _ if is_named(b"__crsql_ktrig") => Part::BeforeKey,
            _ if is_named(b"__crsql_itrig") => Part::Insert,
            _ if is_named(b"__crsql_utrig") => Part::Update,
            _ if is_named(b"__crsql_dtrig") => Part::Delete,
            _ => Part::Other,
        }
    }
}

impl Definition {
    /// The text of a part; none of others' triggers.
    fn text_mut(&mut self, part: Part) -> Option<&mut String> {
        match part {
            Part::Table => Some(&mut self.table),
            Part::Before => Some(&mut self.triggers.before),
            Part::BeforeKey => Some(&mut self.triggers.before_key),
            Part::Insert => Some(&mut self.triggers.insert),
            Part::Update => Some(&mut self.triggers.update),
            Part::Delete => Some(&mut self.triggers.delete),
            Part::Other => None,
        }
    }

    /// As [`Definition::text_mut`].
    fn text(&self, part: Part) -> Option<&str> {
        match part {
            Part::Table => Some(&self.table),
            Part::Before => Some(&self.triggers.before),
            Part::BeforeKey => Some(&self.triggers.before_key),
            Part::Insert => Some(&self.triggers.insert),
            Part::Update => Some(&self.triggers.update),
            Part::Delete => Some(&self.triggers.delete),
            Part::Other => None,
        }
    }

    fn n_parts(&self) -> usize {
        1 + self.triggers.all().count()
    }
}

/// Reads the schema's tables and triggers: part, name, table, text. Triggers fire newest
/// first: a later row is a trigger that fires earlier.
fn each_part(db: &Db, mut f: impl FnMut(Part, &[u8], &[u8], &[u8])) -> Result<()> {
    let sql = "SELECT type, name, tbl_name, sql FROM main.sqlite_master \
               WHERE type IN ('table', 'trigger') ORDER BY rowid";
    let mut statement = db.prepare(sql)?;
    while statement.step()? {
        let column = |index| match statement.column(index) {
            ValueRef::Text(text) => text,
            _ => b"",
        };
        let name = column(1);
        f(Part::of(column(0), name), name, column(2), column(3));
    }
    Ok(())
}

/// What the schema says of the tables of the last reading.
struct Comparison {
    /// For each of them: nothing changed.
    is_same: Vec<bool>,
    /// Names of all other tables that have triggers of ours.
    others: HashSet<Vec<u8>>,
}

fn compare(db: &Db, known: &[Loaded]) -> Result<Comparison> {
    let by_name: HashMap<&[u8], usize> = known
        .iter()
        .enumerate()
        .map(|(index, table)| (table.definition.name.as_bytes(), index))
        .collect();
    let mut n_parts = vec![0; known.len()];
    let mut is_same = vec![true; known.len()];
    let mut outrun = vec![Outrun::default(); known.len()];
    let mut others = HashSet::new();
    each_part(db, |part, name, table, text| {
        let Some(index) = by_name.get(table).copied() else {
            if !matches!(part, Part::Table | Part::Other) {
                others.insert(table.to_vec());
            }
            return;
        };
        let definition = &known[index].definition;
        match definition.text(part) {
            Some(stored) => {
                is_same[index] &= stored.as_bytes() == text;
                n_parts[index] += 1;
                if part != Part::Table {
                    outrun[index] = Outrun::default();
                }
            }
            None => outrun[index].add(name, text),
        }
    })?;
    for (index, table) in known.iter().enumerate() {
        let definition = &table.definition;
        is_same[index] &= n_parts[index] == definition.n_parts();
        is_same[index] &= outrun[index] == definition.outrun;
    }
    let changed = known.iter().zip(&is_same).filter(|(_, is_same)| !**is_same);
    others.extend(changed.map(|(table, _)| table.definition.name.clone().into_bytes()));
    Ok(Comparison { is_same, others })
}

/// The definitions of tables of these names that have triggers of ours, by token.
fn read_schema(db: &Db, names: &HashSet<Vec<u8>>) -> Result<HashMap<i64, Definition>> {
    let mut definitions: HashMap<Vec<u8>, Definition> = HashMap::new();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    each_part(db, |part, name, table, text| {
        if !names.contains(table) {
            return;
        }
        let definition = definitions.entry_ref(table).or_default();
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match definition.text_mut(part) {
            Some(stored) => {
                *stored = lossy(text);
                if part != Part::Table {
                    definition.outrun = Outrun::default();
                }
            }
            None => definition.outrun.add(name, text),
        }
    })?;
    let by_token = definitions.into_iter().filter_map(|(name, mut definition)| {
        definition.name = String::from_utf8_lossy(&name).into_owned();
        let token = definition.triggers.all().find_map(|text| token_of(text))?;
        Some((token, definition))
    });
    Ok(by_token.collect())
}

/// Whether a trigger can keep a row and skip the triggers after it.
fn may_skip(sql: &[u8]) -> bool {
    let sql = String::from_utf8_lossy(sql).to_ascii_uppercase();
    sql.contains("RAISE") && (sql.contains("IGNORE") || sql.contains("FAIL"))
}

/// Whether a trigger writes, as far as its text says.
fn writes(sql: &[u8]) -> bool {
    let sql = String::from_utf8_lossy(sql).to_ascii_uppercase();
    let body = sql.split_once("BEGIN").map_or("", |(_, body)| body);
    ["INSERT", "REPLACE", "UPDATE", "DELETE"].iter().any(|verb| body.contains(verb))
}

fn make(db: &Db, row: &Registered, definition: &Definition, order: u32) -> Result<TableInfo> {
    let shape = TableShape::read(db, &definition.name)?;
    let ids = read_ids(db, row.id)?;
    let texts = TriggerTexts::of(&shape, row.token, row.max_args);
    let columns: Vec<ColumnInfo> = shape
        .replicated()
        .filter_map(|column| {
            let id = *ids.get(&column.name)?;
            Some(ColumnInfo { id, name: column.name.clone() })
        })
        .collect();
    let mut mask = Mask::new();
    columns.iter().for_each(|column| mask.insert(column.id));
    let key_columns: Vec<_> = shape.key.iter().map(|part| part.column).collect();
    let is_stale = texts != definition.triggers || columns.len() != shape.replicated().count();
    let is_key = key_columns.iter().any(|column| column.is_rowid);
    Ok(TableInfo {
        id: row.id,
        name: definition.name.clone(),
        token: row.token,
        order,
        key: shape
            .key
            .into_iter()
            .map(|part| KeyPart { name: part.name, column: part.column })
            .collect(),
        has_spellings: !is_spelling_unique(&key_columns),
        rowid: shape.rowid.filter(|_| !is_key),
        key_columns,
        columns,
        mask,
        is_stale,
        outrun_by: definition.outrun.by.clone(),
        may_be_missed: definition.outrun.by.is_some() || definition.outrun.may_fail,
        is_outrun: definition.outrun.is,
    })
}

fn read_ids(db: &Db, table: TableId) -> Result<HashMap<String, ColumnId>> {
    let sql = "SELECT id, name FROM main.ana_names WHERE tbl = ?1 AND name IS NOT NULL";
    let rows = db.query_rows(sql, &[ValueRef::Integer(i64::from(table.0))])?;
    let ids = rows.iter().map(|row| {
        let id = u16::try_from(integer(&row[0])).map_err(|_| StoreError::Damaged {
            place: format!("ana_names, table {}, id {}", table.0, integer(&row[0])),
            what: "an id beyond 16 bits",
        })?;
        Ok((text(&row[1]), ColumnId(id)))
    });
    ids.collect()
}
