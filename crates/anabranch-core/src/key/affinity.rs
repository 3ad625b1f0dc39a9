//! What a column's affinity makes of a value: SQLite's own conversions
//! (<https://sqlite.org/datatype3.html>, section 3.1), as pure functions.
//!
//! The result does not depend on which SQLite is there: reals become text with 15
//! significant digits (`%!.15g`), as every SQLite before 3.52 prints them; later ones
//! print up to 17. So whoever stores a key that came from elsewhere stores the converted
//! value, not the original.

use super::Affinity;
use crate::value::{Value, ValueRef};

/// The value as a column of this affinity stores it.
pub fn apply_affinity(value: ValueRef<'_>, affinity: Affinity) -> Value {
    match (affinity, value) {
        (Affinity::Text, ValueRef::Integer(integer)) => Value::Text(integer.to_string().into()),
        (Affinity::Text, ValueRef::Real(real)) if real.is_nan() => Value::Null,
        (Affinity::Text, ValueRef::Real(real)) => Value::Text(real_to_text(real).into()),
        (Affinity::Numeric | Affinity::Integer, ValueRef::Real(real)) => narrowed(real),
        (Affinity::Numeric | Affinity::Integer, ValueRef::Text(text)) => {
            number_of(text).unwrap_or_else(|| value.into())
        }
        (Affinity::Real, ValueRef::Integer(integer)) => Value::Real(integer as f64),
        (Affinity::Real, ValueRef::Text(text)) => match number_of(text) {
            Some(Value::Integer(integer)) => Value::Real(integer as f64),
            Some(number) => number,
            None => value.into(),
        },
        _ => value.into(),
    }
}

/// A real as an integer if that is exact and neither end of the range, as SQLite narrows.
fn narrowed(real: f64) -> Value {
    let integer = real as i64;
    let is_inner = integer > i64::MIN && integer < i64::MAX;
    if is_inner && integer as f64 == real { Value::Integer(integer) } else { Value::Real(real) }
}

/// The number that a whole text spells, white space around it aside.
fn number_of(text: &[u8]) -> Option<Value> {
    let spelled = trimmed(text);
    let is_integer = is_number(spelled)?;
    let spelled = std::str::from_utf8(spelled).expect("a number is ASCII");
    if is_integer && let Ok(integer) = spelled.parse() {
        return Some(Value::Integer(integer));
    }
    let real: f64 = spelled.parse().expect("Rust reads every number that SQLite reads");
    Some(narrowed(real))
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    while let Some((first, rest)) = text.split_first().filter(|(first, _)| is_space(first)) {
        debug_assert!(is_space(first));
        text = rest;
    }
    while let Some((last, rest)) = text.split_last().filter(|(last, _)| is_space(last)) {
        debug_assert!(is_space(last));
        text = rest;
    }
    text
}

/// Whether the text is `[+-] digits [. digits] [e [+-] digits]` with a digit on at least
/// one side of the point; inside, whether it has neither point nor exponent.
fn is_number(text: &[u8]) -> Option<bool> {
    let unsigned = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let (whole, rest) = digits(unsigned);
    let (fraction, rest) = match rest.split_first() {
        Some((b'.', rest)) => digits(rest),
        _ => (0, rest),
    };
    if whole + fraction == 0 {
        return None;
    }
    match rest.split_first() {
        None => Some(whole == unsigned.len()),
        Some((b'e' | b'E', exponent)) => {
            let exponent =
                exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
            let (n_digits, rest) = digits(exponent);
            (n_digits > 0 && rest.is_empty()).then_some(false)
        }
        Some(_) => None,
    }
}

fn digits(text: &[u8]) -> (usize, &[u8]) {
    let n = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (n, &text[n..])
}

/// `%!.15g`: 15 significant digits, no trailing zeros but at least one decimal; an
/// exponent of two or more digits below 1e-4 and from 1e15 on. Never a NaN.
fn real_to_text(real: f64) -> String {
    if real.is_infinite() {
        return if real > 0.0 { "Inf".into() } else { "-Inf".into() };
    }
    if real == 0.0 {
        return "0.0".into();
    }
    let (all_digits, exponent) = rounded(real.abs());
    let digits = all_digits.trim_end_matches('0');
    let sign = if real < 0.0 { "-" } else { "" };
    if !(-4..15).contains(&exponent) {
        let (first, others) = digits.split_at(1);
        let others = if others.is_empty() { "0" } else { others };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}.{others}e{exponent_sign}{:02}", exponent.abs());
    }
    if exponent < 0 {
        let zeros = "0".repeat(-exponent as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    }
    let n_whole = exponent as usize + 1;
    let (whole, fraction) = digits.split_at(n_whole.min(digits.len()));
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    format!("{sign}{whole:0<n_whole$}.{fraction}")
}

/// The first 15 digits of a positive real and its decimal exponent, a half rounded up as
/// SQLite does; Rust's own formatting rounds it to even.
fn rounded(real: f64) -> (String, i32) {
    const N_DIGITS: usize = 15;
    let spelled = format!("{real:.40e}");
    let (mantissa, exponent) = spelled.split_once('e').expect("LowerExp writes an e");
    let exponent: i32 = exponent.parse().expect("LowerExp writes a decimal exponent");
    let digits = mantissa.replace('.', "");
    let first: u64 = digits[..N_DIGITS].parse().expect("LowerExp writes digits");
    let rounded = first + u64::from(digits.as_bytes()[N_DIGITS] >= b'5');
    let has_carried = rounded == 10_u64.pow(N_DIGITS as u32);
    let rounded = if has_carried { rounded / 10 } else { rounded };
    (rounded.to_string(), exponent + i32::from(has_carried))
}
