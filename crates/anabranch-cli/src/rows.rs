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

/// The packed key of a row named on the command line, one word a key column; of a row that
/// is or was there.
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
    let values = typed(store, table, words)?;
    let pk = pack(store, &values)?;
    let mut statement = store
        .sql()
        .prepare("SELECT pk FROM crsql_changes WHERE \"table\" = ?1 AND pk = ?2 LIMIT 1")?;
    if statement.exists((table, &pk))? {
        return Ok(pk);
    }
    Err(Failure::new(Exit::Refused, format!("{table} never had a row with this key"))
        .hint("`ana log DB TABLE` lists the changes of the whole table"))
}

/// The words as the key's columns would store them: 5 in an INTEGER column is a number.
fn typed(store: &Store, table: &str, words: &[String]) -> Result<Vec<Value>> {
    let mut statement = store
        .sql()
        .prepare("SELECT type FROM pragma_table_xinfo(?1, 'main') WHERE pk > 0 ORDER BY pk")?;
    let types = statement.query_map([table], |row| row.get::<_, String>(0))?;
    let types: Vec<String> = types.collect::<Result<_, _>>()?;
    // A table of the same types, elsewhere: SQLite's own rules decide.
    let columns: Vec<String> =
        types.iter().enumerate().map(|(i, name)| format!("c{i} {}", literal::name(name))).collect();
    let marks: Vec<String> = (1..=types.len()).map(|i| format!("?{i}")).collect();
    let scratch = anabranch::rusqlite::Connection::open_in_memory()?;
    scratch.execute_batch(&format!("CREATE TABLE key({})", columns.join(", ")))?;
    let insert = format!("INSERT INTO key VALUES({})", marks.join(", "));
    scratch.execute(&insert, params_from_iter(words))?;
    let row = scratch.query_row("SELECT * FROM key", [], |row| {
        (0..types.len()).map(|i| row.get(i)).collect::<Result<_, _>>()
    })?;
    Ok(row)
}

/// A key as `crsql_changes` has it.
pub(crate) fn pack(store: &Store, values: &[Value]) -> Result<Vec<u8>> {
    let marks: Vec<String> = (1..=values.len()).map(|i| format!("?{i}")).collect();
    let sql = format!("SELECT crsql_pack_columns({})", marks.join(", "));
    Ok(store.sql().query_row(&sql, params_from_iter(values), |row| row.get(0))?)
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
