//! A store in memory, and what tests ask of it.

use anabranch_sqlite::Embedded;
use rusqlite::types::{Value, ValueRef};

pub(crate) struct Store {
    pub(crate) conn: Embedded,
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_string())
}

pub(crate) fn blob(bytes: &[u8]) -> Value {
    Value::Blob(bytes.to_vec())
}

pub(crate) fn null() -> Value {
    Value::Null
}

impl Store {
    pub(crate) fn new() -> Store {
        let conn = Embedded::new(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
        anabranch_store::install(conn.db()).unwrap();
        Store { conn }
    }

    /// A store with a schema, some of whose tables are conflict-free.
    pub(crate) fn with(schema: &str, tables: &[&str]) -> Store {
        let store = Store::new();
        store.conn.execute_batch(schema).unwrap();
        for table in tables {
            store.execute("SELECT crsql_as_crr(?)", vec![text(table)]);
        }
        store
    }

    pub(crate) fn run(&self, sql: &str) {
        self.conn.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) fn execute(&self, sql: &str, params: Vec<Value>) {
        self.try_rows(sql, params).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The message of a statement that must fail.
    pub(crate) fn refuse(&self, sql: &str, params: Vec<Value>) -> String {
        match self.try_rows(sql, params) {
            Ok(rows) => panic!("{sql} answered {rows:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// All rows, values as text with `|` between.
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        self.try_rows(sql, vec![]).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn try_rows(&self, sql: &str, params: Vec<Value>) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.conn.prepare(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(params))?;
        let mut shown = Vec::new();
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|i| row.get_ref(i).map(show));
            shown.push(values.collect::<rusqlite::Result<Vec<_>>>()?.join("|"));
        }
        Ok(shown)
    }

    #[track_caller]
    pub(crate) fn expect(&self, sql: &str, expected: &str) {
        let found = self.rows(sql).join("\n");
        assert_eq!(found, expected, "{sql}");
    }

    /// All changes.
    pub(crate) fn dump(&self) -> Vec<String> {
        self.rows("SELECT * FROM crsql_changes")
    }
}

fn show(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_string(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) => format!("{real:?}"),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{digits}'")
        }
    }
}

/// All that `to` lacks, as a delta.
pub(crate) fn give(from: &Store, to: &Store) {
    let vector = to.rows("SELECT ana_version_vector()").concat();
    let delta = from.rows(&format!("SELECT hex(ana_export('{vector}'))")).concat();
    to.run(&format!("SELECT ana_apply(x'{delta}')"));
}
