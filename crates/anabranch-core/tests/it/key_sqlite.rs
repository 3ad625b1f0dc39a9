//! Affinity and folding against SQLite itself: what a typed column stores, and what its
//! unique index takes for equal.

use std::collections::HashMap;

use anabranch_core::key::{Affinity, Collation, KeyColumn, KeyError, apply_affinity, fold, unfold};
use anabranch_core::value::{Value, ValueRef};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef as SqlRef};

use crate::random;

type Named<T> = (&'static str, T);

const AFFINITIES: [Named<Affinity>; 5] = [
    ("BLOB", Affinity::Blob),
    ("TEXT", Affinity::Text),
    ("NUMERIC", Affinity::Numeric),
    ("INTEGER", Affinity::Integer),
    ("REAL", Affinity::Real),
];
const COLLATIONS: [Named<Collation>; 3] =
    [("BINARY", Collation::Binary), ("NOCASE", Collation::NoCase), ("RTRIM", Collation::RTrim)];

fn bound(value: &Value) -> ToSqlOutput<'_> {
    match value.as_ref() {
        ValueRef::Null => ToSqlOutput::Owned(SqlValue::Null),
        ValueRef::Integer(integer) => ToSqlOutput::Owned(SqlValue::Integer(integer)),
        ValueRef::Real(real) => ToSqlOutput::Owned(SqlValue::Real(real)),
        ValueRef::Text(bytes) => ToSqlOutput::Borrowed(SqlRef::Text(bytes)),
        ValueRef::Blob(bytes) => ToSqlOutput::Borrowed(SqlRef::Blob(bytes)),
    }
}

fn read(value: SqlRef<'_>) -> Value {
    match value {
        SqlRef::Null => Value::Null,
        SqlRef::Integer(integer) => Value::Integer(integer),
        SqlRef::Real(real) => Value::Real(real),
        SqlRef::Text(bytes) => Value::Text(bytes.to_vec()),
        SqlRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

struct Bound<'a>(&'a Value);

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(bound(self.0))
    }
}

/// Stores values in a column of each affinity and reads them back.
fn check_stored(values: &[Value]) {
    let db = Connection::open_in_memory().unwrap();
    for (name, affinity) in AFFINITIES {
        db.execute_batch(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t(v {name})")).unwrap();
        for value in values {
            // How many digits a real has as text depends on SQLite's version: ours is 15.
            let is_printed = affinity == Affinity::Text && matches!(value, Value::Real(_));
            let expression = if is_printed { "printf('%!.15g', ?)" } else { "?" };
            let insert = format!("INSERT INTO t VALUES({expression}) RETURNING v");
            db.execute("DELETE FROM t", []).unwrap();
            db.prepare_cached(&insert).unwrap().query_row([Bound(value)], |_| Ok(())).unwrap();
            let stored = db
                .prepare_cached("SELECT v FROM t")
                .unwrap()
                .query_row([], |row| Ok(read(row.get_ref(0)?)))
                .unwrap();
            let ours = apply_affinity(value.as_ref(), affinity);
            assert_eq!(ours, stored, "{} in {name}", shown(value));
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        other => format!("{other:?}"),
    }
}

#[test]
fn stores_as_sqlite_does() {
    let texts = [
        "",
        " ",
        "5",
        " 5 ",
        "\t5\n",
        "\u{b}5\u{c}\r",
        "5e0",
        "5E+1",
        "5.",
        ".5",
        ".",
        "+",
        "-",
        "+5",
        "-5",
        "--5",
        "- 5",
        "0x5",
        "5x",
        "5 6",
        "5e",
        "5e+",
        "e5",
        "1e400",
        "-1e400",
        "1e-400",
        "-0",
        "-0.0",
        "0.0",
        "5.0",
        "5.5",
        "5.e3",
        "inf",
        "Inf",
        "nan",
        "NaN",
        "infinity",
        "1_000",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "9223372036854775807.0",
        "9007199254740993",
        "9007199254740993.0",
        "2251799813685248",
        "2251799813685247.5",
        "00012",
        "+0012",
        "1e18",
        "1e19",
        "9.2233720368547748e18",
        "123456789012345678901234567890",
        "0.1",
        "1e23",
        "٣",
        "\u{a0}5",
    ];
    let texts = texts.map(|text| Value::Text(text.as_bytes().to_vec()));
    check_stored(&texts);
    let mut rng = random::rng(1);
    let values: Vec<Value> = (0..1_500).map(|_| random::value(&mut rng)).collect();
    check_stored(&values);
}

#[test]
fn reads_random_numbers_as_sqlite_does() {
    let mut rng = random::rng(2);
    let pieces = ["1", "7", "0", ".", "e", "E", "-", "+", " ", "12", "99", "e1", "x"];
    let values: Vec<Value> = (0..3_000)
        .map(|_| {
            let n = rng.random_range(1..7);
            let text: String = (0..n).map(|_| *pieces.choose(&mut rng).unwrap()).collect();
            Value::Text(text.into_bytes())
        })
        .collect();
    check_stored(&values);
}

/// Reals of every magnitude, printed with 15 digits and read from up to 20.
#[test]
fn prints_and_reads_reals_as_sqlite_does() {
    let mut rng = random::rng(5);
    let db = Connection::open_in_memory().unwrap();
    let mut print = db.prepare("SELECT printf('%!.15g', ?)").unwrap();
    let mut read = db.prepare("SELECT CAST(? AS REAL)").unwrap();
    let halves = [739_121_530_113_682.5, -8_459_879_414_744_705.0, 999_999_999_999_999.5, 0.5];
    for case in 0..3_000 {
        let real = match halves.get(case) {
            Some(half) => *half,
            None if case % 2 == 0 => f64::from_bits(rng.random()),
            None => (rng.random_range(-1e16..1e16_f64) * 4.0).round() / 4.0,
        };
        if !real.is_finite() {
            continue;
        }
        let printed: String = print.query_row([real], |row| row.get(0)).unwrap();
        let ours = apply_affinity(ValueRef::Real(real), Affinity::Text);
        assert_eq!(shown(&ours), format!("{printed:?}"), "{real:e}");
        let digits = case % 20;
        let text = format!("{real:.digits$e}");
        let number: f64 = read.query_row([&text], |row| row.get(0)).unwrap();
        let ours = match apply_affinity(ValueRef::Text(text.as_bytes()), Affinity::Real) {
            Value::Real(real) => real,
            other => panic!("{text} became {other:?}"),
        };
        assert_eq!(ours, number, "{text}");
    }
}

/// A text or number near others, so that equal keys are common.
fn key_value(rng: &mut StdRng) -> Value {
    let texts: [&[u8]; 14] = [
        b"a",
        b"A",
        b"a ",
        b"A  ",
        b"",
        b" ",
        b"5",
        b"5.0",
        b" 5",
        b"a\0b",
        b"A\0C",
        b"a\0bc",
        b"\xc3\xa9",
        b"\xc3\x89",
    ];
    let reals = [5.0, 0.0, -0.0, 5.5, 9_007_199_254_740_992.0, -9_223_372_036_854_775_808.0, 1e19];
    let integers = [5, 0, 9_007_199_254_740_993, 9_007_199_254_740_992, i64::MIN, i64::MAX];
    match rng.random_range(0..4) {
        0 | 1 => Value::Text(texts.choose(rng).unwrap().to_vec()),
        2 => Value::Real(*reals.choose(rng).unwrap()),
        _ if rng.random_range(0..5) == 0 => Value::Blob(texts.choose(rng).unwrap().to_vec()),
        _ => Value::Integer(*integers.choose(rng).unwrap()),
    }
}

/// Two keys fold to equal bytes exactly if a unique index refuses the second.
#[test]
fn folds_as_a_unique_index_compares() {
    let mut rng = random::rng(3);
    let db = Connection::open_in_memory().unwrap();
    for case in 0..60 {
        let columns: Vec<(Named<Affinity>, Named<Collation>)> = (0..rng.random_range(1..3))
            .map(|_| (*AFFINITIES.choose(&mut rng).unwrap(), *COLLATIONS.choose(&mut rng).unwrap()))
            .collect();
        let key: Vec<KeyColumn> = columns
            .iter()
            .map(|((_, affinity), (_, collation))| KeyColumn {
                affinity: *affinity,
                collation: *collation,
                is_rowid: false,
            })
            .collect();
        let declared: Vec<String> = (0..)
            .zip(&columns)
            .map(|(i, ((affinity, _), (collation, _)))| {
                format!("c{i} {affinity} COLLATE {collation}")
            })
            .collect();
        let names: Vec<String> = (0..columns.len()).map(|i| format!("c{i}")).collect();
        db.execute_batch(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t({}, PRIMARY KEY({})) WITHOUT ROWID",
            declared.join(", "),
            names.join(", ")
        ))
        .unwrap();
        let insert =
            format!("INSERT OR IGNORE INTO t VALUES({})", vec!["?"; columns.len()].join(","));
        let mut known: HashMap<Vec<u8>, Vec<Value>> = HashMap::new();
        for _ in 0..200 {
            let values: Vec<Value> = columns.iter().map(|_| key_value(&mut rng)).collect();
            let refs: Vec<ValueRef<'_>> = values.iter().map(Value::as_ref).collect();
            let folded = match fold(&refs, &key) {
                Ok(folded) => folded,
                // The one number that would have two spellings in a numeric column.
                Err(KeyError::WrongType { found: "the real -9223372036854775808.0", .. }) => {
                    continue;
                }
                Err(error) => panic!("case {case}: {error}"),
            };
            let is_new = known.insert(folded, values.clone()).is_none();
            let bound: Vec<Bound<'_>> = values.iter().map(Bound).collect();
            let n = db.execute(&insert, rusqlite::params_from_iter(bound)).unwrap();
            assert_eq!(n == 1, is_new, "case {case}: {values:?} in {declared:?}");
        }
    }
}

/// A rowid column takes exactly the values that fold, and keeps their integer.
#[test]
fn folds_a_rowid_as_sqlite_takes_it() {
    let column =
        KeyColumn { affinity: Affinity::Integer, collation: Collation::Binary, is_rowid: true };
    let mut rng = random::rng(4);
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY)").unwrap();
    for _ in 0..2_000 {
        let value = key_value(&mut rng);
        db.execute("DELETE FROM t", []).unwrap();
        let inserted =
            db.prepare_cached("INSERT INTO t VALUES(?)").unwrap().execute([Bound(&value)]);
        let folded = fold(&[value.as_ref()], &[column]);
        assert_eq!(folded.is_ok(), inserted.is_ok(), "{}", shown(&value));
        if let Ok(folded) = folded {
            let stored = db.query_row("SELECT id FROM t", [], |row| row.get(0)).unwrap();
            assert_eq!(unfold(&folded, &[column]).unwrap(), [Value::Integer(stored)]);
        }
    }
}
