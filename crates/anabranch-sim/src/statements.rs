//! Random statements on one table of a history: every verb and every conflict clause.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::model::Value;
use crate::shapes::{Shape, Taste, quote};

const CLAUSES: [&str; 7] =
    ["", "", "OR IGNORE", "OR REPLACE", "OR FAIL", "OR ROLLBACK", "OR ABORT"];

/// A statement and its parameters; it may well fail.
pub(crate) fn random(rng: &mut StdRng, shape: &Shape, taste: Taste) -> (String, Vec<Value>) {
    let table = quote(shape.name);
    let names = shape.column_names();
    let row = values(rng, shape, taste);
    let clause = *CLAUSES.choose(rng).expect("a constant list");
    let (key_name, n_key) = (&names[0], shape.key.len());
    match rng.random_range(0..20) {
        0..5 => {
            let n_rows = rng.random_range(1..4);
            let rows: Vec<Value> = (0..n_rows).flat_map(|_| values(rng, shape, taste)).collect();
            let tuples = vec![tuple(names.len()); n_rows].join(", ");
            let sql = format!("INSERT {clause} INTO {table}({}) VALUES {tuples}", names.join(", "));
            (sql, rows)
        }
        5 => {
            // Some columns only: the others take their defaults.
            let n = rng.random_range(n_key..=names.len());
            let sql = format!(
                "INSERT {clause} INTO {table}({}) VALUES {}",
                names[..n].join(", "),
                tuple(n)
            );
            (sql, row[..n].to_vec())
        }
        6 | 7 => {
            let action = match names.get(n_key) {
                Some(column) if rng.random_ratio(4, 5) => {
                    format!(
                        "({}) DO UPDATE SET {column} = excluded.{column}",
                        names[..n_key].join(", ")
                    )
                }
                _ => "DO NOTHING".to_string(),
            };
            let sql = format!(
                "INSERT INTO {table}({}) VALUES {} ON CONFLICT {action}",
                names.join(", "),
                tuple(names.len())
            );
            (sql, row)
        }
        8 => {
            // From the table itself, with other keys: meets itself half-way.
            let rest: String = names[1..].iter().map(|name| format!(", {name}")).collect();
            let sql = format!(
                "INSERT {clause} INTO {table}({key_name}{rest}) SELECT {}{rest} FROM {table}",
                shifted(rng, key_name)
            );
            (sql, Vec::new())
        }
        9..13 => {
            let column = rng.random_range(n_key.min(names.len() - 1)..names.len());
            let condition = condition(rng, key_name);
            let sql = format!("UPDATE {clause} {table} SET {} = ?1{condition}", names[column]);
            (sql, vec![row[column].clone(), row[0].clone()])
        }
        13 => {
            let sets: Vec<String> =
                (0..names.len()).map(|n| format!("{} = ?{}", names[n], n + 3)).collect();
            let sql = format!(
                "UPDATE {clause} {table} SET {}{}",
                sets.join(", "),
                condition(rng, key_name)
            );
            let key = shape.pools()[0].value(rng, taste);
            (sql, [vec![Value::Null, key], row].concat())
        }
        14 | 15 => {
            let sql =
                format!("UPDATE {clause} {table} SET {key_name} = ?1{}", condition(rng, key_name));
            let other = shape.pools()[0].value(rng, taste);
            (sql, vec![row[0].clone(), other])
        }
        16 => {
            let shifted = shifted(rng, key_name);
            (format!("UPDATE {clause} {table} SET {key_name} = {shifted}"), Vec::new())
        }
        17 => {
            // Nothing changes.
            let name = names.last().expect("a key at least");
            (format!("UPDATE {table} SET {name} = {name}"), Vec::new())
        }
        18 => (format!("DELETE FROM {table} WHERE {key_name} = ?1"), vec![row[0].clone()]),
        _ if rng.random_ratio(1, 3) => (format!("DELETE FROM {table}"), Vec::new()),
        _ => (format!("DELETE FROM {table} WHERE {key_name} > ?1"), vec![row[0].clone()]),
    }
}

/// Values of a whole row, key first.
fn values(rng: &mut StdRng, shape: &Shape, taste: Taste) -> Vec<Value> {
    shape.pools().iter().map(|pool| pool.value(rng, taste)).collect()
}

/// A statement on `ti` that touches hundreds of rows.
pub(crate) fn bulk(rng: &mut StdRng) -> String {
    let (first, n) = (rng.random_range(0..200), rng.random_range(1..400));
    match rng.random_range(0..4) {
        0 | 1 => format!(
            "INSERT OR REPLACE INTO ti(id, a) WITH RECURSIVE n(i) AS (VALUES({first}) UNION ALL
               SELECT i + 1 FROM n WHERE i < {first} + {n}) SELECT i, i % 7 FROM n"
        ),
        2 => format!("UPDATE ti SET c = id % 5 WHERE id BETWEEN {first} AND {first} + {n}"),
        _ => format!("DELETE FROM ti WHERE id BETWEEN {first} AND {first} + {n}"),
    }
}

fn tuple(n: usize) -> String {
    format!("({})", vec!["?"; n].join(", "))
}

/// Uses parameter 2 or none: unused parameters of a statement are not bound.
fn condition(rng: &mut StdRng, key: &str) -> String {
    match rng.random_range(0..4) {
        0 => " WHERE ?2 IS ?2".to_string(),
        1 => format!(" WHERE {key} >= ?2"),
        _ => format!(" WHERE {key} = ?2"),
    }
}

fn shifted(rng: &mut StdRng, key: &str) -> String {
    // Texts and blobs keep a type that their column takes.
    let by: i32 = rng.random_range(-2..3);
    format!(
        "CASE typeof({key}) WHEN 'integer' THEN {key} / 2 + {by} WHEN 'text' THEN {key} || 'a'
           WHEN 'blob' THEN zeroblob(length({key}) + {}) ELSE {key} + 1 END",
        by.abs()
    )
}
