//! Names and values as SQL text, and as text for people.

use anabranch::rusqlite::types::{Value, ValueRef};

use crate::failure::{Exit, Failure, Result};

/// A name in double quotes, as SQL wants it.
pub(crate) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The 32 bytes of a hash, given as 64 hexadecimal digits.
pub(crate) fn hash_of(digits: &str) -> Result<[u8; 32]> {
    let bytes: Option<Vec<u8>> = (0..digits.len())
        .step_by(2)
        .map(|at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    bytes.filter(|_| is_hex).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{digits:?} is no hash"))
            .hint("a hash has 64 hexadecimal digits, as `ana blob put` prints it")
    })
}

/// A value as a person reads it: text bare, blobs as `x'…'`, nothing as `NULL`.
pub(crate) fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_string(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) => real_text(real),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(blob) => format!("x'{}'", hex(blob)),
    }
}

/// A value as a SQL literal.
pub(crate) fn literal(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(text) => format!("'{}'", String::from_utf8_lossy(text).replace('\'', "''")),
        other => shown(other),
    }
}

/// A SQL literal of text as the text itself; any other literal as it is.
pub(crate) fn unquoted(literal: &str) -> String {
    match literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        Some(inner) => inner.replace("''", "'"),
        None => literal.to_string(),
    }
}

/// A double as SQLite writes it: always with a point or an exponent.
pub(crate) fn real_text(real: f64) -> String {
    if real.is_infinite() {
        return if real > 0.0 { "9e999" } else { "-9e999" }.to_string();
    }
    let plain = format!("{real:?}");
    match plain.as_str() {
        "NaN" => "NULL".to_string(),
        _ => plain,
    }
}

/// Whether two values are the same in type and content, as digests count them: 2 and 2.0
/// differ, -0.0 and 0.0 do not.
pub(crate) fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Real(a), Value::Real(b)) => a == b || (a.is_nan() && b.is_nan()),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values() {
        assert_eq!(name("a\"b"), "\"a\"\"b\"");
        for (value, person, sql) in [
            (ValueRef::Null, "NULL", "NULL"),
            (ValueRef::Integer(i64::MIN), "-9223372036854775808", "-9223372036854775808"),
            (ValueRef::Real(2.0), "2.0", "2.0"),
            (ValueRef::Real(f64::INFINITY), "9e999", "9e999"),
            (ValueRef::Text(b"it's"), "it's", "'it''s'"),
            (ValueRef::Blob(&[1, 255]), "x'01ff'", "x'01ff'"),
        ] {
            assert_eq!(shown(value), person);
            assert_eq!(literal(value), sql);
            assert_eq!(unquoted(sql), person);
        }
        assert!(is_same(&Value::Real(-0.0), &Value::Real(0.0)));
        assert!(!is_same(&Value::Integer(2), &Value::Real(2.0)));
    }
}
