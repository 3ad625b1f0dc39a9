//! A user's table as SQLite describes it: columns, key, affinities and collations.
//!
//! Read with pragmas, never parsed from the table's text, but for STRICT's `ANY`, whose
//! affinity depends on the table. Source: <https://sqlite.org/datatype3.html>, section 3.1.

use anabranch_core::key::{Affinity, Collation, KeyColumn};
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::Db;

use crate::error::{Result, StoreError};

/// A table of `main`.
#[derive(Clone, Debug)]
pub(crate) struct TableShape {
    /// As declared.
    pub(crate) name: String,
    /// Ordinary columns in declaration order; hidden and generated ones are left out.
    pub(crate) columns: Vec<ColumnShape>,
    /// Key columns in PRIMARY KEY order.
    pub(crate) key: Vec<KeyShape>,
    /// A name of the rowid; `None`: there is none, or columns took all its names.
    pub(crate) rowid: Option<&'static str>,
}

/// An ordinary column.
#[derive(Clone, Debug)]
pub(crate) struct ColumnShape {
    pub(crate) name: String,
    pub(crate) affinity: Affinity,
    pub(crate) is_not_null: bool,
    /// The text of its DEFAULT clause.
    pub(crate) default: Option<String>,
    /// Place in the PRIMARY KEY, from 1; 0 outside.
    pub(crate) key_place: i64,
}

/// A key column.
#[derive(Clone, Debug)]
pub(crate) struct KeyShape {
    pub(crate) name: String,
    pub(crate) column: KeyColumn,
    pub(crate) is_not_null: bool,
}

impl TableShape {
    /// Reads a table of `main` by its declared name.
    ///
    /// # Errors
    /// A key column with a collation that is not SQLite's own; SQLite's errors.
    pub(crate) fn read(db: &Db, name: &str) -> Result<TableShape> {
        let Kind { is_strict, has_rowid } = Kind::read(db, name)?;
        let columns = read_columns(db, name, is_strict)?;
        let key = read_key(db, name, &columns)?;
        let is_free = |rowid: &&str| columns.iter().all(|c| !c.name.eq_ignore_ascii_case(rowid));
        let rowid = ROWID_NAMES.into_iter().find(is_free).filter(|_| has_rowid);
        Ok(TableShape { name: name.to_string(), columns, key, rowid })
    }

    /// Columns that are not of the key, in declaration order.
    pub(crate) fn replicated(&self) -> impl Iterator<Item = &ColumnShape> {
        self.columns.iter().filter(|column| column.key_place == 0)
    }
}

/// The names that SQLite gives a rowid, where no column has them.
const ROWID_NAMES: [&str; 3] = ["_rowid_", "rowid", "oid"];

/// What stands behind a table's columns.
struct Kind {
    is_strict: bool,
    has_rowid: bool,
}

impl Kind {
    fn read(db: &Db, name: &str) -> Result<Kind> {
        let sql = "SELECT strict, wr FROM pragma_table_list(?1) WHERE schema = 'main'";
        let rows = db.query_rows(sql, &[ValueRef::Text(name.as_bytes())])?;
        let is = |column: usize| rows.first().map(|row| integer(&row[column]));
        Ok(Kind { is_strict: is(0) == Some(1), has_rowid: is(1) == Some(0) })
    }
}

fn read_columns(db: &Db, name: &str, is_strict: bool) -> Result<Vec<ColumnShape>> {
    let sql = "SELECT name, type, \"notnull\", dflt_value, pk \
               FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 0 ORDER BY cid";
    let rows = db.query_rows(sql, &[ValueRef::Text(name.as_bytes())])?;
    let columns = rows.into_iter().map(|row| {
        let [name, declared, not_null, default, place] = row.try_into().expect("five columns");
        ColumnShape {
            name: text(&name),
            affinity: affinity_of(&text(&declared), is_strict),
            is_not_null: integer(&not_null) != 0,
            default: (!matches!(default, Value::Null)).then(|| text(&default)),
            key_place: integer(&place),
        }
    });
    Ok(columns.collect())
}

fn read_key(db: &Db, name: &str, columns: &[ColumnShape]) -> Result<Vec<KeyShape>> {
    let mut parts: Vec<&ColumnShape> = columns.iter().filter(|c| c.key_place > 0).collect();
    parts.sort_by_key(|column| column.key_place);
    let collations = key_collations(db, name)?;
    let mut key = Vec::with_capacity(parts.len());
    for part in parts {
        let collation = match &collations {
            None => Collation::Binary,
            Some(found) => {
                let declared = found.iter().find(|(column, _)| *column == part.name);
                collation_of(name, &part.name, declared.map_or("BINARY", |(_, c)| c))?
            }
        };
        let column =
            KeyColumn { affinity: part.affinity, collation, is_rowid: collations.is_none() };
        key.push(KeyShape { name: part.name.clone(), column, is_not_null: part.is_not_null });
    }
    Ok(key)
}

/// Collations of the key's index by column; `None` without an index: the key is the rowid.
fn key_collations(db: &Db, name: &str) -> Result<Option<Vec<(String, String)>>> {
    let sql = "SELECT name FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'";
    let Some(index) = db.query_value(sql, &[ValueRef::Text(name.as_bytes())])? else {
        return Ok(None);
    };
    let sql = "SELECT name, coll FROM pragma_index_xinfo(?1, 'main') WHERE key = 1 ORDER BY seqno";
    let rows = db.query_rows(sql, &[index.as_ref()])?;
    Ok(Some(rows.iter().map(|row| (text(&row[0]), text(&row[1]))).collect()))
}

fn collation_of(table: &str, column: &str, name: &str) -> Result<Collation> {
    match name.to_ascii_uppercase().as_str() {
        "BINARY" => Ok(Collation::Binary),
        "NOCASE" => Ok(Collation::NoCase),
        "RTRIM" => Ok(Collation::RTrim),
        _ => Err(StoreError::Refused(format!(
            "table {table}: the key column {column} has the collation {name}; only BINARY, \
             NOCASE and RTRIM mean the same on every copy"
        ))),
    }
}

fn affinity_of(declared: &str, is_strict: bool) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |part: &str| declared.contains(part);
    if has("INT") {
        Affinity::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") || declared.is_empty() || (is_strict && declared == "ANY") {
        Affinity::Blob
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// A text that SQLite answered; bytes that are no UTF-8 are replaced.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

/// An integer that SQLite answered; 0 for anything else.
pub(crate) fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(integer) => *integer,
        _ => 0,
    }
}
