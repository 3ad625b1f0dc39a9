//! Which tables cannot be conflict-free: cr-sqlite's refusals, in its order and words, then
//! those of ours. Single-column keys that are nullable are taken, which cr-sqlite's older
//! releases did too: a row whose key is NULL is refused when it is written.

use anabranch_core::limits::{MAX_KEY_COLUMNS, MAX_NAME_BYTES};
use anabranch_core::value::ValueRef;

use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::schema;
use crate::shape::{TableShape, integer, text};

/// The table, if it can be conflict-free.
pub(super) fn check(cx: &Context, schema: Option<&str>, name: &str) -> Result<TableShape> {
    refuse_other_schema(cx, schema, name)?;
    let Some(object) = find(cx, name)? else {
        refuse_elsewhere(cx, name)?;
        return Err(no_key(name));
    };
    let name = object.name.as_str();
    if count(cx, "pragma_index_list(?1, 'main') WHERE origin <> 'pk' AND \"unique\" = 1", name)? > 0
    {
        return refused(format!(
            "Table {name} has unique indices besidesthe primary key. \
             This is not allowed for CRRs"
        ));
    }
    if !object.is_ordinary {
        return Err(no_key(name));
    }
    if let Some(prefix) = schema::reserved_prefix(name) {
        return refused(format!(
            "table {name}: names that begin with {prefix} are the engine's own; rename the table"
        ));
    }
    let shape = TableShape::read(&cx.db, name)?;
    check_key(&shape)?;
    if object.sql.to_ascii_lowercase().contains("autoincrement") {
        return refused(format!(
            "{name} has auto-increment primary keys. This is likely a mistake as two concurrent \
             nodes will assign unrelated rows the same primary key. Either use a primary key that \
             represents the identity of your row or use a database friendly UUID such as UUIDv7"
        ));
    }
    if count(cx, "pragma_foreign_key_list(?1, 'main')", name)? > 0 {
        return refused(format!(
            "Table {name} has checked foreign key constraints. CRRs may have foreign keys but \
             must not have checked foreign key constraints as they can be violated by row level \
             security or replication."
        ));
    }
    if shape.replicated().any(|column| column.is_not_null && column.default.is_none()) {
        return refused(format!(
            "Table {name} has a NOT NULL column without a DEFAULT VALUE. This is not allowed as \
             it prevents forwards and backwards compatibility between schema versions. Make the \
             column nullable or assign a default value to it."
        ));
    }
    check_names(&shape)?;
    Ok(shape)
}

/// The name as declared of a table of `main`, whatever case it is asked in.
pub(super) fn declared_name(cx: &Context, name: &str) -> Result<Option<String>> {
    Ok(find(cx, name)?.map(|object| object.name))
}

struct Object {
    name: String,
    sql: String,
    /// A table, and not a virtual one.
    is_ordinary: bool,
}

fn find(cx: &Context, name: &str) -> Result<Option<Object>> {
    let sql = "SELECT name, type = 'table' AND rootpage > 0, sql FROM main.sqlite_master \
               WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')";
    let rows = cx.db.query_rows(sql, &[ValueRef::Text(name.as_bytes())])?;
    Ok(rows.first().map(|row| Object {
        name: text(&row[0]),
        is_ordinary: integer(&row[1]) != 0,
        sql: text(&row[2]),
    }))
}

/// Names of other databases: cr-sqlite ignores the schema, and takes a table of `main`.
fn refuse_other_schema(cx: &Context, schema: Option<&str>, name: &str) -> Result<()> {
    let Some(schema) = schema else { return Ok(()) };
    let attached = cx.db.attached();
    let is_other = schema.eq_ignore_ascii_case("temp")
        || attached.iter().any(|other| other.eq_ignore_ascii_case(schema));
    if is_other { Err(not_main(name, schema)) } else { Ok(()) }
}

fn refuse_elsewhere(cx: &Context, name: &str) -> Result<()> {
    let mut others = vec!["temp".to_string()];
    others.extend(cx.db.attached());
    for other in others {
        let sql = format!(
            "SELECT 1 FROM {}.sqlite_master WHERE name = ?1 COLLATE NOCASE AND type = 'table'",
            crate::base::quote_name(&other)
        );
        if cx.db.query_value(&sql, &[ValueRef::Text(name.as_bytes())])?.is_some() {
            return Err(not_main(name, &other));
        }
    }
    Ok(())
}

fn check_key(shape: &TableShape) -> Result<()> {
    let name = &shape.name;
    let n_nullable = shape.key.iter().filter(|part| !part.is_not_null).count();
    match (shape.key.len(), n_nullable) {
        (0, _) => Err(no_key(name)),
        (1, _) | (_, 0) => Ok(()),
        (n, nullable) if n == nullable => Err(no_key(name)),
        _ => refused(format!(
            "Table {name} has composite primary key part of which is nullable. CRRs must have a \
             non nullable primary key"
        )),
    }
}

fn check_names(shape: &TableShape) -> Result<()> {
    let name = &shape.name;
    if name.len() > MAX_NAME_BYTES {
        return refused(format!("the table name exceeds {MAX_NAME_BYTES} bytes: {name}"));
    }
    if let Some(column) = shape.columns.iter().find(|column| column.name.len() > MAX_NAME_BYTES) {
        return refused(format!(
            "table {name}: a column name exceeds {MAX_NAME_BYTES} bytes: {}",
            column.name
        ));
    }
    if shape.replicated().any(|column| column.name == "-1") {
        return refused(format!(
            "table {name}: a column is named -1, which stands for the row itself in crsql_changes; \
             rename it"
        ));
    }
    if shape.key.len() > MAX_KEY_COLUMNS {
        return refused(format!("table {name}: the key has more than {MAX_KEY_COLUMNS} columns"));
    }
    Ok(())
}

fn no_key(name: &str) -> StoreError {
    StoreError::Refused(format!(
        "Table {name} has no primary key or primary key is nullable. CRRs must have a non \
         nullable primary key"
    ))
}

fn not_main(name: &str, schema: &str) -> StoreError {
    StoreError::Refused(format!(
        "table {name} is in the database {schema}; only tables of main can be conflict-free"
    ))
}

fn refused<T>(message: String) -> Result<T> {
    Err(StoreError::Refused(message))
}

fn count(cx: &Context, from: &str, name: &str) -> Result<i64> {
    let sql = format!("SELECT count(*) FROM {from}");
    let found = cx.db.query_value(&sql, &[ValueRef::Text(name.as_bytes())])?;
    Ok(found.as_ref().map_or(0, integer))
}
