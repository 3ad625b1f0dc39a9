//! Reading the registered tables, and what SQLite's schema says of them.
//!
//! One pass over the schema's rows; a table whose texts are those of the last reading is
//! taken over as it is, so that a change of one table among thousands stays cheap.

use std::rc::Rc;

use anabranch_core::key::is_spelling_unique;
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::Db;
use hashbrown::HashMap;

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
    outrun_by: Option<String>,
}

/// What a reading found.
pub(super) struct Found {
    pub(super) tables: Vec<Loaded>,
    pub(super) orphans: Vec<TableId>,
}

/// A row of `ana_registry`.
struct Registered {
    id: TableId,
    token: i64,
    /// Most arguments that the triggers' calls were made with.
    max_args: usize,
    revision: i64,
}

pub(super) fn load(db: &Db, known: Vec<Loaded>) -> Result<Found> {
    let registered = read_registered(db)?;
    if registered.is_empty() {
        return Ok(Found { tables: Vec::new(), orphans: Vec::new() });
    }
    let mut definitions = read_schema(db)?;
    let mut known: HashMap<TableId, Loaded> =
        known.into_iter().map(|table| (table.info.id, table)).collect();
    let mut found = Found { tables: Vec::new(), orphans: Vec::new() };
    for row in registered {
        let Some(mut definition) = definitions.remove(&row.token) else {
            found.orphans.push(row.id);
            continue;
        };
        definition.revision = row.revision;
        let order = u32::try_from(found.tables.len()).expect("ids of tables are u32");
        let reused = known.remove(&row.id).filter(|table| table.definition == definition);
        let info = match reused {
            Some(table) if table.info.order == order => table.info,
            Some(table) => Rc::new(TableInfo { order, ..(*table.info).clone() }),
            None => Rc::new(make(db, &row, &definition, order)?),
        };
        found.tables.push(Loaded { info, definition });
    }
    Ok(found)
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

/// The definitions of all tables that have a trigger of ours, by its token.
fn read_schema(db: &Db) -> Result<HashMap<i64, Definition>> {
    // Triggers fire newest first: a later row is a trigger that fires earlier.
    let sql = "SELECT type, name, tbl_name, sql FROM main.sqlite_master \
               WHERE type IN ('table', 'trigger') ORDER BY rowid";
    let mut tables: HashMap<Vec<u8>, Value> = HashMap::new();
    let mut definitions: HashMap<Vec<u8>, (Option<i64>, Definition)> = HashMap::new();
    for row in db.query_rows(sql, &[])? {
        let [kind, name, table, sql] = row.try_into().expect("four columns");
        let Value::Text(table) = table else { continue };
        if matches!(&kind, Value::Text(kind) if kind == b"table") {
            tables.insert(table, sql);
            continue;
        }
        let (name, sql) = (text(&name), text(&sql));
        let (token, definition) = definitions.entry(table).or_default();
        let part = match name.rsplit_once("__crsql_") {
            Some((_, "btrig")) => &mut definition.triggers.before,
            Some((_, "itrig")) => &mut definition.triggers.insert,
            Some((_, "utrig")) => &mut definition.triggers.update,
            Some((_, "dtrig")) => &mut definition.triggers.delete,
            _ => {
                if may_skip(&sql) {
                    definition.outrun_by = Some(name);
                }
                continue;
            }
        };
        *token = token.or_else(|| token_of(&sql));
        *part = sql;
        definition.outrun_by = None;
    }
    let with_texts = definitions.into_iter().filter_map(|(name, (token, mut definition))| {
        definition.table = text(tables.get(&name)?);
        definition.name = String::from_utf8_lossy(&name).into_owned();
        Some((token?, definition))
    });
    Ok(with_texts.collect())
}

/// Whether a trigger can keep a row and skip the triggers after it.
fn may_skip(sql: &str) -> bool {
    let sql = sql.to_ascii_uppercase();
    sql.contains("RAISE") && (sql.contains("IGNORE") || sql.contains("FAIL"))
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
        key_columns,
        columns,
        mask,
        is_stale,
        outrun_by: definition.outrun_by.clone(),
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
