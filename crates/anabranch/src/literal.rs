//! SQL literals and names, for people and for statements made here.

use rusqlite::types::ValueRef;

/// A value as SQLite's `quote()` would write it; reals in the shortest form that reads back.
pub(crate) fn literal(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) if real == f64::INFINITY => "9e999".into(),
        ValueRef::Real(real) if real == f64::NEG_INFINITY => "-9e999".into(),
        ValueRef::Real(real) => format!("{real:?}"),
        ValueRef::Text(text) => {
            format!("'{}'", String::from_utf8_lossy(text).replace('\'', "''"))
        }
        ValueRef::Blob(blob) => {
            let hex: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{hex}'")
        }
    }
}

/// A name as an SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
