//! `--output json`: one array of objects a result, one object a line.
//!
//! Integers are exact (64 bits), infinities are `9e999` as SQLite's own JSON writes them,
//! a blob is `{"blob":"hex digits"}` so that it differs from text. A name that occurs
//! twice in a result occurs twice in its objects.

use std::io::{self, Write};

use anabranch::rusqlite::types::ValueRef;

use super::RowSink;
use crate::literal;

pub(super) struct JsonSink<'a> {
    /// Names as JSON strings.
    names: Vec<String>,
    out: &'a mut dyn Write,
    is_first: bool,
}

impl<'a> JsonSink<'a> {
    pub(super) fn new(columns: Vec<String>, out: &'a mut dyn Write) -> Self {
        let names = columns.iter().map(|name| string(name)).collect();
        JsonSink { names, out, is_first: true }
    }
}

impl RowSink for JsonSink<'_> {
    fn row(&mut self, values: &[ValueRef<'_>]) -> io::Result<()> {
        self.out.write_all(if self.is_first { b"[" } else { b",\n " })?;
        self.is_first = false;
        let members: Vec<String> = self
            .names
            .iter()
            .zip(values)
            .map(|(name, value)| format!("{name}:{}", self::value(*value)))
            .collect();
        write!(self.out, "{{{}}}", members.join(","))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.write_all(if self.is_first { b"[]\n" } else { b"]\n" })
    }
}

/// A value as JSON text.
pub(crate) fn value(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_string(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) if real.is_nan() => "null".to_string(),
        ValueRef::Real(real) => literal::real_text(real),
        ValueRef::Text(text) => string(&String::from_utf8_lossy(text)),
        ValueRef::Blob(blob) => format!("{{\"blob\":\"{}\"}}", literal::hex(blob)),
    }
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (given, expected) in [
            (ValueRef::Null, "null"),
            (ValueRef::Integer(i64::MAX), "9223372036854775807"),
            (ValueRef::Real(0.1), "0.1"),
            (ValueRef::Real(1e300), "1e300"),
            (ValueRef::Real(f64::NEG_INFINITY), "-9e999"),
            (ValueRef::Text(b"a\"\n\x1b"), "\"a\\\"\\n\\u001b\""),
            (ValueRef::Blob(&[0, 171]), "{\"blob\":\"00ab\"}"),
        ] {
            assert_eq!(value(given), expected);
        }
    }
}
