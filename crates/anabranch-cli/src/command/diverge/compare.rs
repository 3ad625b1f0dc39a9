//! Two databases read side by side, in order of the key, until something differs.
//!
//! Both are read in the order of SQLite's BINARY collation, so that they meet whatever
//! their indexes are; neither is held in memory.

use std::cmp::Ordering;

use anabranch::Store;
use anabranch::rusqlite::types::Value;

use crate::failure::Result;
use crate::literal;
use crate::rows::{self, Columns};

/// Where two copies differ first.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) table: String,
    /// `None`: the table as a whole.
    pub(super) key: Option<Vec<Value>>,
    /// `None`: the row as a whole.
    pub(super) column: Option<String>,
    /// What each side has, as a SQL literal or in words.
    pub(super) values: [String; 2],
}

/// The first difference by table name, key, column name.
pub(super) fn first_difference(stores: &[Store; 2]) -> Result<Option<Difference>> {
    let tables = [stores[0].tables()?, stores[1].tables()?];
    let mut names: Vec<&String> = tables.iter().flatten().collect();
    names.sort();
    names.dedup();
    for name in names {
        let has = [tables[0].contains(name), tables[1].contains(name)];
        let found = match has {
            [true, true] => in_table(stores, name)?,
            _ => only_one_has(stores, name, has)?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// A table that one side lacks is a difference.
fn only_one_has(stores: &[Store; 2], table: &str, has: [bool; 2]) -> Result<Option<Difference>> {
    let mut values = [const { String::new() }; 2];
    for i in 0..2 {
        values[i] = if has[i] {
            let sql = format!("SELECT count(*) FROM main.{}", literal::name(table));
            let n_rows: i64 = stores[i].sql().query_row(&sql, [], |row| row.get(0))?;
            crate::output::count(n_rows.cast_unsigned(), "row")
        } else {
            "not a conflict-free table here".to_string()
        };
    }
    Ok(Some(Difference { table: table.to_string(), key: None, column: None, values }))
}

fn in_table(stores: &[Store; 2], table: &str) -> Result<Option<Difference>> {
    let columns = [rows::columns(&stores[0], table)?, rows::columns(&stores[1], table)?];
    let at_table =
        |values| Difference { table: table.to_string(), key: None, column: None, values };
    if columns[0] != columns[1] {
        let list = |columns: &Columns| format!("columns {}", all(columns).join(", "));
        return Ok(Some(at_table([list(&columns[0]), list(&columns[1])])));
    }
    let sql = ordered_rows(table, &columns[0]);
    let mut statements = [stores[0].sql().prepare(&sql)?, stores[1].sql().prepare(&sql)?];
    let [first, second] = &mut statements;
    let (mut left, mut right) = (first.query([])?, second.query([])?);
    let n_columns = all(&columns[0]).len();
    let n_key = columns[0].key.len();
    let read = |row: Option<&anabranch::rusqlite::Row<'_>>| -> Result<Option<Vec<Value>>> {
        let Some(row) = row else { return Ok(None) };
        Ok(Some((0..n_columns).map(|i| row.get(i)).collect::<Result<_, _>>()?))
    };
    let (mut a, mut b) = (read(left.next()?)?, read(right.next()?)?);
    loop {
        let order = match (&a, &b) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => key_order(&a[..n_key], &b[..n_key]),
        };
        let (row, values) = match (order, a, b) {
            (Ordering::Equal, Some(left_row), Some(right_row)) => {
                if let Some(found) = in_row(table, &columns[0], &left_row, &right_row) {
                    return Ok(Some(found));
                }
                (a, b) = (read(left.next()?)?, read(right.next()?)?);
                continue;
            }
            (Ordering::Less, Some(row), _) => (row, ["a row", "no such row"]),
            (_, _, Some(row)) => (row, ["no such row", "a row"]),
            _ => return Ok(None),
        };
        let key = Some(row[..n_key].to_vec());
        return Ok(Some(Difference { key, ..at_table(values.map(String::from)) }));
    }
}

/// The first cell that differs in two rows with keys that compare equal.
fn in_row(table: &str, columns: &Columns, a: &[Value], b: &[Value]) -> Option<Difference> {
    let at = a.iter().zip(b).position(|(a, b)| !literal::is_same(a, b))?;
    Some(Difference {
        table: table.to_string(),
        key: Some(a[..columns.key.len()].to_vec()),
        column: Some(all(columns)[at].to_string()),
        values: [literal::literal((&a[at]).into()), literal::literal((&b[at]).into())],
    })
}

fn all(columns: &Columns) -> Vec<&str> {
    columns.key.iter().chain(&columns.others).map(String::as_str).collect()
}

fn ordered_rows(table: &str, columns: &Columns) -> String {
    let names: Vec<String> = all(columns).into_iter().map(literal::name).collect();
    let order: Vec<String> =
        columns.key.iter().map(|name| literal::name(name) + " COLLATE BINARY").collect();
    format!(
        "SELECT {} FROM main.{} ORDER BY {}",
        names.join(", "),
        literal::name(table),
        order.join(", "),
    )
}

fn key_order(a: &[Value], b: &[Value]) -> Ordering {
    a.iter().zip(b).map(|(a, b)| value_order(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

/// SQLite's order of values with the BINARY collation: NULL, numbers, text, blobs
/// (sqlite.org/datatype3.html, 4.1).
fn value_order(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    };
    match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        (Value::Real(a), Value::Real(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (Value::Integer(a), Value::Real(b)) => integer_order(*a, *b),
        (Value::Real(a), Value::Integer(b)) => integer_order(*b, *a).reverse(),
        (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Blob(a), Value::Blob(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Exact order of an integer and a double, which may lie between two integers or beyond all.
fn integer_order(integer: i64, real: f64) -> Ordering {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if real >= BEYOND {
        return Ordering::Less;
    }
    if real < -BEYOND {
        return Ordering::Greater;
    }
    // Inside this range the whole part fits an i64, and the cast is exact.
    let whole = real.trunc();
    integer
        .cmp(&(whole as i64))
        .then_with(|| 0.0_f64.partial_cmp(&(real - whole)).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_sqlites_order() {
        let text = |text: &str| Value::Text(text.into());
        let ordered = [
            Value::Null,
            Value::Real(f64::NEG_INFINITY),
            Value::Integer(i64::MIN),
            Value::Real(-1.5),
            Value::Integer(-1),
            Value::Real(-0.5),
            Value::Integer(0),
            Value::Real(0.5),
            Value::Integer(9_007_199_254_740_993),
            Value::Real(9_007_199_254_740_994.0),
            Value::Integer(i64::MAX),
            Value::Real(9.3e18),
            text(""),
            text("a"),
            text("é"),
            Value::Blob(vec![]),
            Value::Blob(vec![0]),
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(value_order(a, b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
        assert_eq!(value_order(&Value::Integer(5), &Value::Real(5.0)), Ordering::Equal);
    }
}
