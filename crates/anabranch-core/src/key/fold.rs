//! The folded key: one spelling for all that a table's key index takes for equal.

use std::borrow::Cow;

use super::{Affinity, Collation, KeyColumn, KeyError};
use super::{apply_affinity, pack_value, unpack_value};
use crate::limits::MAX_KEY_COLUMNS;
use crate::value::{Value, ValueRef};

const SIGN: u64 = 1 << 63;
/// The least integer, as a real.
const LEAST: f64 = i64::MIN as f64;

/// The folded key of values: equal bytes if and only if the table's key index takes the
/// keys for equal. Memcmp order of folded keys is the order of clock blocks.
///
/// One rowid column: 8 bytes big-endian, sign bit flipped, so numeric order.
/// Otherwise: the packed values without the count, after affinity; integral reals within
/// i64 as integers, -0.0 as 0, NOCASE text in lower-case ASCII (and, as SQLite stops
/// comparing at a NUL, zeros in place of all that follows one), RTRIM text without
/// trailing spaces.
///
/// # Errors
/// [`KeyError::WrongCount`], [`KeyError::WrongType`] (NULL anywhere; not an integer in a
/// rowid column; -2^63 as a real where affinity makes integers of all other reals like it).
pub fn fold(values: &[ValueRef<'_>], columns: &[KeyColumn]) -> Result<Vec<u8>, KeyError> {
    let mut folded = Vec::with_capacity(9 * values.len());
    fold_into(values, columns, &mut folded)?;
    Ok(folded)
}

/// Appends the folded key of values to `folded`; after an error it is as it was.
///
/// # Errors
/// As [`fold`].
pub fn fold_into(
    values: &[ValueRef<'_>],
    columns: &[KeyColumn],
    folded: &mut Vec<u8>,
) -> Result<(), KeyError> {
    let start = folded.len();
    append(values, columns, folded).inspect_err(|_| folded.truncate(start))
}

fn append(
    values: &[ValueRef<'_>],
    columns: &[KeyColumn],
    folded: &mut Vec<u8>,
) -> Result<(), KeyError> {
    if let ([ValueRef::Integer(rowid)], [KeyColumn { is_rowid: true, .. }]) = (values, columns) {
        // The usual key, told for every row that is written.
        folded.extend_from_slice(&(*rowid as u64 ^ SIGN).to_be_bytes());
        return Ok(());
    }
    if values.len() != columns.len() {
        return Err(KeyError::WrongCount { found: values.len(), expected: columns.len() });
    }
    for (index, (value, column)) in values.iter().zip(columns).enumerate() {
        let stored = stored(*value, column.affinity);
        let value = match stored.as_ref() {
            ValueRef::Real(LEAST) if !column.is_rowid && has_integers(column.affinity) => {
                return Err(KeyError::WrongType {
                    index,
                    found: "the real -9223372036854775808.0",
                });
            }
            ValueRef::Real(real) => fold_real(real),
            other => other,
        };
        match value {
            ValueRef::Null => return Err(KeyError::WrongType { index, found: "NULL" }),
            ValueRef::Integer(integer) if column.is_rowid && columns.len() == 1 => {
                folded.extend_from_slice(&(integer as u64 ^ SIGN).to_be_bytes());
            }
            ValueRef::Integer(_) => pack_value(folded, value),
            _ if column.is_rowid => {
                return Err(KeyError::WrongType { index, found: type_name(value) });
            }
            ValueRef::Text(text) => {
                pack_value(folded, ValueRef::Text(&fold_text(text, column.collation)));
            }
            ValueRef::Real(_) | ValueRef::Blob(_) => pack_value(folded, value),
        }
    }
    Ok(())
}

/// The integer of a folded key that is the rowid; `None` for other keys.
#[inline]
pub fn rowid_of(folded: &[u8], columns: &[KeyColumn]) -> Option<i64> {
    let [KeyColumn { is_rowid: true, .. }] = columns else { return None };
    let bytes = folded.try_into().ok()?;
    Some((u64::from_be_bytes(bytes) ^ SIGN) as i64)
}

/// Values of a folded key, spelled as the columns' affinity stores them.
///
/// # Errors
/// [`KeyError::Malformed`] if the bytes are no folded key of these columns.
pub fn unfold(folded: &[u8], columns: &[KeyColumn]) -> Result<Vec<Value>, KeyError> {
    if let [KeyColumn { is_rowid: true, .. }] = columns {
        return Ok(vec![Value::Integer(unfold_rowid(folded, columns)?)]);
    }
    let mut values = Vec::with_capacity(columns.len());
    each_value(folded, columns, |value, _, column| {
        values.push(apply_affinity(value, column.affinity));
    })?;
    Ok(values)
}

fn unfold_rowid(folded: &[u8], columns: &[KeyColumn]) -> Result<i64, KeyError> {
    rowid_of(folded, columns).ok_or(KeyError::Malformed {
        at: folded.len().min(8),
        reason: "a folded integer key has 8 bytes",
    })
}

/// Appends a folded key to `out` packed, its values spelled as [`unfold`] spells them.
///
/// # Errors
/// As [`unfold`]; what was appended by then is no packed key.
pub fn pack_folded(
    folded: &[u8],
    columns: &[KeyColumn],
    out: &mut Vec<u8>,
) -> Result<(), KeyError> {
    if columns.len() > MAX_KEY_COLUMNS {
        return Err(KeyError::TooMany);
    }
    out.push(columns.len() as u8);
    if let [KeyColumn { is_rowid: true, .. }] = columns {
        pack_value(out, ValueRef::Integer(unfold_rowid(folded, columns)?));
        return Ok(());
    }
    each_value(folded, columns, |value, raw, column| match stored(value, column.affinity) {
        Stored::AsGiven(_) => out.extend_from_slice(raw),
        Stored::Converted(value) => pack_value(out, value.as_ref()),
    })
}

/// The value of a folded key of one column, if it is a text or blob that no affinity
/// converts.
pub fn unfold_bytes<'k>(folded: &'k [u8], columns: &[KeyColumn]) -> Option<ValueRef<'k>> {
    let [KeyColumn { is_rowid: false, affinity: Affinity::Blob | Affinity::Text, .. }] = columns
    else {
        return None;
    };
    match unpack_value(folded) {
        Ok((value @ (ValueRef::Text(_) | ValueRef::Blob(_)), [])) => Some(value),
        _ => None,
    }
}

/// Hands each value of a folded key of several columns to `visit`, with its bytes.
fn each_value<'k>(
    folded: &'k [u8],
    columns: &[KeyColumn],
    mut visit: impl FnMut(ValueRef<'k>, &'k [u8], &KeyColumn),
) -> Result<(), KeyError> {
    let mut rest = folded;
    for column in columns {
        let at = folded.len() - rest.len();
        let (value, after) =
            unpack_value(rest).map_err(|reason| KeyError::Malformed { at, reason })?;
        visit(value, &rest[..rest.len() - after.len()], column);
        rest = after;
    }
    if !rest.is_empty() {
        let at = folded.len() - rest.len();
        return Err(KeyError::Malformed { at, reason: "bytes after the last value" });
    }
    Ok(())
}

/// Whether equal folded keys imply equal stored values, so that no spelling is needed:
/// rowid columns, and columns of binary collation whose affinity leaves one spelling.
///
/// INTEGER and NUMERIC columns leave one but for -2^63, which stays a real if it came as
/// one; that key is refused.
pub fn is_spelling_unique(columns: &[KeyColumn]) -> bool {
    columns.iter().all(|column| {
        column.is_rowid
            || column.collation == Collation::Binary && column.affinity != Affinity::Blob
    })
}

/// The value after affinity, borrowed where affinity changes nothing.
enum Stored<'a> {
    AsGiven(ValueRef<'a>),
    Converted(Value),
}

impl Stored<'_> {
    fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Stored::AsGiven(value) => *value,
            Stored::Converted(value) => value.as_ref(),
        }
    }
}

fn stored(value: ValueRef<'_>, affinity: Affinity) -> Stored<'_> {
    match (value, affinity) {
        (ValueRef::Null | ValueRef::Blob(_), _)
        | (_, Affinity::Blob)
        | (ValueRef::Text(_), Affinity::Text)
        | (ValueRef::Integer(_), Affinity::Integer | Affinity::Numeric) => Stored::AsGiven(value),
        _ => Stored::Converted(apply_affinity(value, affinity)),
    }
}

/// Whether a real without a fraction becomes an integer there.
fn has_integers(affinity: Affinity) -> bool {
    matches!(affinity, Affinity::Integer | Affinity::Numeric)
}

/// A real as its key index compares it: a number without a fraction is an integer, NaN is
/// NULL.
fn fold_real(real: f64) -> ValueRef<'static> {
    if real.is_nan() {
        return ValueRef::Null;
    }
    // 2^63 itself is out of range, and the cast would saturate to one less.
    let integer = real as i64;
    if integer as f64 == real && real < 9_223_372_036_854_775_808.0 {
        ValueRef::Integer(integer)
    } else {
        ValueRef::Real(real)
    }
}

fn fold_text(text: &[u8], collation: Collation) -> Cow<'_, [u8]> {
    match collation {
        Collation::Binary => Cow::Borrowed(text),
        Collation::RTrim => {
            let len = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
            Cow::Borrowed(&text[..len])
        }
        Collation::NoCase => {
            let mut folded = text.to_ascii_lowercase();
            let compared = folded.iter().position(|byte| *byte == 0).unwrap_or(folded.len());
            folded[compared..].fill(0);
            Cow::Owned(folded)
        }
    }
}

fn type_name(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Null => "NULL",
        ValueRef::Integer(_) => "an integer",
        ValueRef::Real(_) => "a real",
        ValueRef::Text(_) => "a text",
        ValueRef::Blob(_) => "a blob",
    }
}
