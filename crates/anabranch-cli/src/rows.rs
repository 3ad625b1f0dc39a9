//! Rows of conflict-free tables as commands that compare or search them need them: the
//! columns in order, the key as given on a command line, who wrote a row's cells.

use anabranch::rusqlite::params_from_iter;
use anabranch::rusqlite::types::Value;
use anabranch::{LogRecord, SiteId, Store};

use crate::failure::{Exit, Failure, Result};
use crate::literal;

/// The columns of a table that travel between copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    /// In the order of the PRIMARY KEY.
    pub(crate) key: Vec<String>,
    /// All others, by name.
    pub(crate) others: Vec<String>,
}

/// Reads the columns of a table; generated ones are left out.
pub(crate) fn columns(store: &Store, table: &str) -> Result<Columns> {
    let mut statement = store.sql().prepare(
        "SELECT name, pk FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 0 ORDER BY pk, name",
    )?;
    let mut columns = Columns { key: Vec::new(), others: Vec::new() };
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let list = if row.get::<_, i64>(1)? > 0 { &mut columns.key } else { &mut columns.others };
        list.push(row.get(0)?);
    }
    Ok(columns)
}

/// The packed key of a row named on the command line, one word a key column: of the row
/// that has it, else of a deleted one.
pub(crate) fn find_key(store: &Store, table: &str, words: &[String]) -> Result<Vec<u8>> {
    let columns = columns(store, table)?;
    if words.len() != columns.key.len() {
        let what = format!(
            "the key of {table} has {} ({}), not {}",
            crate::output::count(columns.key.len() as u64, "column"),
            columns.key.join(", "),
            words.len(),
        );
        return Err(Failure::new(Exit::Usage, what).hint("give one word for each"));
    }
    let names: Vec<String> = columns.key.iter().map(|name| literal::name(name)).collect();
    let is_key: Vec<String> =
        names.iter().enumerate().map(|(i, name)| format!("{name} = ?{}", i + 1)).collect();
    // A comparison gives the word the column's affinity, so that 5 finds the integer 5.
    let living = format!(
        "SELECT crsql_pack_columns({}) FROM main.{} WHERE {}",
        names.join(", "),
        literal::name(table),
        is_key.join(" AND "),
    );
    let mut statement = store.sql().prepare(&living)?;
    let mut rows = statement.query(params_from_iter(words))?;
    if let Some(row) = rows.next()? {
        return Ok(row.get(0)?);
    }
    // A deleted row is known by its key alone: as text, or as the number that it spells.
    let marks: Vec<String> = (1..=names.len()).map(|i| format!("?{i}")).collect();
    let numbers: Vec<String> = marks.iter().map(|mark| format!("{mark} + 0")).collect();
    let table_mark = names.len() + 1;
    let deleted = format!(
        "SELECT pk FROM crsql_changes WHERE \"table\" = ?{table_mark}
           AND pk IN (crsql_pack_columns({}), crsql_pack_columns({})) LIMIT 1",
        marks.join(", "),
        numbers.join(", "),
    );
    let mut statement = store.sql().prepare(&deleted)?;
    let table_word = table.to_string();
    let mut rows = statement.query(params_from_iter(words.iter().chain([&table_word])))?;
    match rows.next()? {
        Some(row) => Ok(row.get(0)?),
        None => Err(Failure::new(Exit::Refused, format!("{table} never had a row with this key"))
            .hint("`ana log DB TABLE` lists the changes of the whole table")),
    }
}

/// A change that wrote a cell of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    /// The column; `-1` is the row itself, its insert or delete.
    pub(crate) column: String,
    pub(crate) site: SiteId,
    pub(crate) version: u64,
}

/// The last writer of each cell of a row, dead or alive.
pub(crate) fn writers(store: &Store, table: &str, pk: &[u8]) -> Result<Vec<Writer>> {
    let mut statement = store
        .sql()
        .prepare_cached("SELECT cid, site, version FROM ana_internal_writers(?1, ?2)")?;
    let mut rows = statement.query((table, pk))?;
    let mut writers = Vec::new();
    while let Some(row) = rows.next()? {
        let site: Vec<u8> = row.get(1)?;
        writers.push(Writer {
            column: row.get(0)?,
            site: SiteId::new(&site).ok_or_else(|| {
                Failure::new(Exit::Refused, "a change of this row names no site")
                    .hint("`ana check` looks for damage")
            })?,
            version: row.get::<_, i64>(2)?.cast_unsigned(),
        });
    }
    Ok(writers)
}

/// The log record of a change.
pub(crate) fn change<'a>(log: &'a [LogRecord], writer: &Writer) -> Option<&'a LogRecord> {
    log.iter().find(|record| (record.site, record.version) == (writer.site, writer.version))
}

/// Whether two values are equal for a digest.
pub(crate) fn is_same(a: &Value, b: &Value) -> bool {
    literal::is_same(a, b)
}
