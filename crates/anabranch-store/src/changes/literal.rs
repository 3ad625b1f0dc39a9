//! One SQL literal in a text: how cr-sqlite's older README writes keys and values.

use anabranch_core::value::Value;

/// Reads a text that is one SQL literal and nothing else: `5`, `-1.5`, `'it''s'`, `x'00ff'`.
pub(super) fn parse(text: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(text).ok()?.trim_matches(|c: char| c.is_ascii_whitespace());
    if let Some(quoted) = quoted(text) {
        return Some(Value::Text(quoted.into_bytes()));
    }
    if let Some(digits) = text.strip_prefix(['x', 'X']) {
        return blob(digits.strip_prefix('\'')?.strip_suffix('\'')?);
    }
    let is_number = text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if !is_number {
        return None;
    }
    let integer = text.parse().ok().map(Value::Integer);
    integer.or_else(|| text.parse().ok().filter(|real: &f64| real.is_finite()).map(Value::Real))
}

/// The content of a text that is one quoted SQL literal; quotes inside are doubled.
pub(super) fn quoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    let without_pairs = inner.replace("''", "");
    (!without_pairs.contains('\'')).then(|| inner.replace("''", "'"))
}

fn blob(digits: &str) -> Option<Value> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let bytes =
        digits.chunks_exact(2).map(|pair| Some((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8));
    bytes.collect::<Option<Vec<u8>>>().map(Value::Blob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_literal_and_nothing_else() {
        let cases: [(&str, Option<Value>); 14] = [
            ("5", Some(Value::Integer(5))),
            (" -7 ", Some(Value::Integer(-7))),
            ("1.5", Some(Value::Real(1.5))),
            ("1e3", Some(Value::Real(1000.0))),
            ("'a'", Some(Value::Text(b"a".to_vec()))),
            ("''", Some(Value::Text(Vec::new()))),
            ("'it''s'", Some(Value::Text(b"it's".to_vec()))),
            ("'it's'", None),
            ("'", None),
            ("x'00ff'", Some(Value::Blob(vec![0, 255]))),
            ("x'0'", None),
            ("abc", None),
            ("1 + 1", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }
}
