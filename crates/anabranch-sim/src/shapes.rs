//! The tables that histories play on: one for every way in which a key or a column can be
//! unusual.
//!
//! User triggers are declared before the table becomes conflict-free, so that capture sees
//! a row before any of them can refuse it; none of them fires while a merge writes.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::model::{Fold, Table, Value};

/// What a column may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Values of every type, NULL too.
    Any,
    /// Integers, the edges of 64 bits too.
    Integer,
    /// Small integers and a few edges: keys that meet.
    IntegerKey,
    /// Texts and NULL, some of which the triggers of `ti` refuse.
    Text,
    /// Texts that differ in case.
    TextKey,
    /// Doubles, infinities and zeros of both signs too.
    Real,
    /// Blobs.
    Blob,
    /// Blobs as keys.
    BlobKey,
    /// Keys of several types, among them numbers spelled as integers and as reals.
    AnyKey,
}

/// A table of a history.
#[derive(Debug)]
pub struct Shape {
    /// Its name, unquoted.
    pub name: &'static str,
    /// Its definition and the triggers on it.
    pub ddl: &'static str,
    /// Key columns in PRIMARY KEY order.
    pub key: &'static [(&'static str, Fold, Pool)],
    /// Replicated columns in declaration order.
    pub columns: &'static [(&'static str, Default, Pool)],
}

/// A column's DEFAULT.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the types of SQL")]
pub enum Default {
    Null,
    Integer(i64),
    Real(f64),
    Blob(&'static [u8]),
}

/// All shapes. The first two are in every history, for triggers of one write to the other.
pub const SHAPES: [Shape; 9] = [
    Shape {
        name: "tp",
        ddl: "CREATE TABLE tp(p NOT NULL, q NOT NULL, PRIMARY KEY(q, p))",
        key: &[("q", Fold::Binary, Pool::AnyKey), ("p", Fold::Binary, Pool::IntegerKey)],
        columns: &[],
    },
    Shape {
        name: "ti",
        ddl: "CREATE TABLE ti(id INTEGER PRIMARY KEY NOT NULL, a, b TEXT, c REAL DEFAULT 1.5);
            CREATE TRIGGER ti_before BEFORE UPDATE ON ti
              WHEN crsql_internal_sync_bit() = 0 BEGIN
                SELECT RAISE(ABORT, 'refused') WHERE new.b = 'abort';
                SELECT RAISE(FAIL, 'refused') WHERE new.b = 'fail';
                SELECT RAISE(IGNORE) WHERE new.b = 'ignore';
                SELECT RAISE(ROLLBACK, 'refused') WHERE new.b = 'rollback'; END;
            CREATE TRIGGER ti_after AFTER INSERT ON ti
              WHEN crsql_internal_sync_bit() = 0 BEGIN
                INSERT OR IGNORE INTO tp(p, q) VALUES(new.id % 4, 'by trigger');
                DELETE FROM tp WHERE q = new.b;
                SELECT RAISE(ABORT, 'refused') WHERE new.b = 'abort';
                SELECT RAISE(FAIL, 'refused') WHERE new.b = 'fail';
                SELECT RAISE(IGNORE) WHERE new.b = 'ignore';
                SELECT RAISE(ROLLBACK, 'refused') WHERE new.b = 'rollback'; END;
            CREATE TRIGGER ti_gone AFTER DELETE ON ti
              WHEN crsql_internal_sync_bit() = 0 BEGIN
                UPDATE tp SET p = p + 1 WHERE p = old.id; END",
        key: &[("id", Fold::Binary, Pool::IntegerKey)],
        columns: &[
            ("a", Default::Null, Pool::Any),
            ("b", Default::Null, Pool::Text),
            ("c", Default::Real(1.5), Pool::Real),
        ],
    },
    Shape {
        name: "tn",
        ddl: "CREATE TABLE tn(k TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, a,
                b INTEGER NOT NULL DEFAULT 7)",
        key: &[("k", Fold::NoCase, Pool::TextKey)],
        columns: &[("a", Default::Null, Pool::Any), ("b", Default::Integer(7), Pool::Integer)],
    },
    Shape {
        name: "tc",
        ddl: "CREATE TABLE tc(p NOT NULL, a, q TEXT NOT NULL COLLATE NOCASE, b COLLATE NOCASE,
                PRIMARY KEY(q, p))",
        key: &[("q", Fold::NoCase, Pool::TextKey), ("p", Fold::Binary, Pool::AnyKey)],
        columns: &[("a", Default::Null, Pool::Any), ("b", Default::Null, Pool::Any)],
    },
    Shape {
        name: "tw",
        ddl: "CREATE TABLE tw(a, k BLOB PRIMARY KEY NOT NULL, b) WITHOUT ROWID",
        key: &[("k", Fold::Binary, Pool::BlobKey)],
        columns: &[("a", Default::Null, Pool::Any), ("b", Default::Null, Pool::Any)],
    },
    Shape {
        name: "ts",
        ddl: "CREATE TABLE ts(id INTEGER PRIMARY KEY NOT NULL, a TEXT, b ANY,
                c BLOB DEFAULT x'0102', d REAL) STRICT",
        key: &[("id", Fold::Binary, Pool::IntegerKey)],
        columns: &[
            ("a", Default::Null, Pool::Text),
            ("b", Default::Null, Pool::Any),
            ("c", Default::Blob(&[1, 2]), Pool::Blob),
            ("d", Default::Null, Pool::Real),
        ],
    },
    Shape {
        name: "tg",
        ddl: "CREATE TABLE tg(g AS (a || 'x'), k PRIMARY KEY NOT NULL, a,
                h AS (a || 'y') STORED, b)",
        key: &[("k", Fold::Binary, Pool::AnyKey)],
        columns: &[("a", Default::Null, Pool::Any), ("b", Default::Null, Pool::Any)],
    },
    Shape {
        name: "tu",
        ddl: "CREATE TABLE tu(a PRIMARY KEY, b)",
        key: &[("a", Fold::Binary, Pool::AnyKey)],
        columns: &[("b", Default::Null, Pool::Any)],
    },
    Shape {
        name: "an \"odd\" table's",
        ddl: "CREATE TABLE \"an \"\"odd\"\" table's\"(\"select\" INTEGER PRIMARY KEY NOT NULL,
                \"a b\", \"it's\", [x\"y], é)",
        key: &[("select", Fold::Binary, Pool::IntegerKey)],
        columns: &[
            ("a b", Default::Null, Pool::Any),
            ("it's", Default::Null, Pool::Any),
            ("x\"y", Default::Null, Pool::Any),
            ("é", Default::Null, Pool::Any),
        ],
    },
];

impl Shape {
    /// The table as the model sees it.
    pub fn model(&self) -> Table {
        let key: Vec<Fold> = self.key.iter().map(|(_, fold, _)| *fold).collect();
        let columns: Vec<(&str, Value)> =
            self.columns.iter().map(|(name, default, _)| (*name, default.value())).collect();
        Table::new(self.name, &key, &columns)
    }

    /// Names of all columns, key first, quoted.
    pub fn column_names(&self) -> Vec<String> {
        let key = self.key.iter().map(|(name, ..)| quote(name));
        key.chain(self.columns.iter().map(|(name, ..)| quote(name))).collect()
    }

    /// Pools of all columns, key first.
    pub fn pools(&self) -> Vec<Pool> {
        let key = self.key.iter().map(|(.., pool)| *pool);
        key.chain(self.columns.iter().map(|(.., pool)| *pool)).collect()
    }
}

impl Default {
    fn value(&self) -> Value {
        match self {
            Default::Null => Value::Null,
            Default::Integer(integer) => Value::Integer(*integer),
            Default::Real(real) => Value::Real(*real),
            Default::Blob(bytes) => Value::Blob(bytes.to_vec()),
        }
    }
}

/// A name as SQL.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taste {
    /// Keys that differ in spelling only may meet.
    pub has_spellings: bool,
    /// Few keys and few values, so that everything meets soon.
    pub is_dense: bool,
}

impl Pool {
    /// A value.
    pub fn value(self, rng: &mut StdRng, taste: Taste) -> Value {
        if taste.is_dense && rng.random_ratio(9, 10) {
            return self.dense_value(rng, taste);
        }
        self.any_value(rng, taste)
    }

    fn dense_value(self, rng: &mut StdRng, taste: Taste) -> Value {
        let text = |text: &str| Value::Text(text.as_bytes().to_vec());
        match self {
            Pool::Any => match rng.random_range(0..4) {
                0 => Value::Real(f64::from(rng.random_range(1..3))),
                1 => text("a"),
                _ => Value::Integer(rng.random_range(1..3)),
            },
            Pool::Integer | Pool::IntegerKey => Value::Integer(rng.random_range(1..4)),
            Pool::Text => text(["x", "y"][rng.random_range(0..2)]),
            Pool::TextKey if taste.has_spellings => text(["a", "A", "b"][rng.random_range(0..3)]),
            Pool::TextKey => text(["a", "b"][rng.random_range(0..2)]),
            _ => self.any_value(rng, taste),
        }
    }

    fn any_value(self, rng: &mut StdRng, taste: Taste) -> Value {
        let has_spellings = taste.has_spellings;
        let text = |text: &str| Value::Text(text.as_bytes().to_vec());
        match self {
            Pool::Any => match rng.random_range(0..9) {
                0 => Value::Null,
                1..3 => Pool::Integer.any_value(rng, taste),
                3..5 => Pool::Real.any_value(rng, taste),
                5..7 => text(
                    ["", "a", "A", "é", "long enough to need more than a few bytes"]
                        [rng.random_range(0..5)],
                ),
                _ => Pool::Blob.any_value(rng, taste),
            },
            Pool::Integer => Value::Integer(match rng.random_range(0..12) {
                0 => i64::MAX,
                1 => i64::MIN,
                2 => 1 << 53,
                3 => (1 << 53) + 1,
                4 => rng.random(),
                other => other - 6,
            }),
            Pool::IntegerKey => Value::Integer(match rng.random_range(0..20) {
                0 => i64::MAX,
                1 => i64::MIN,
                2 => 0,
                3 => -1,
                4 => 1 << rng.random_range(0..63),
                _ => rng.random_range(1..7),
            }),
            Pool::Text => match rng.random_range(0..16) {
                0 => text("abort"),
                1 => text("fail"),
                2 => text("ignore"),
                3 => text("rollback"),
                4 => Value::Null,
                5 => text(""),
                _ => text(["x", "X", "y", "by trigger"][rng.random_range(0..4)]),
            },
            Pool::TextKey => match has_spellings {
                true => {
                    text(["a", "A", "b", "B", "ab", "aB", "É", "é", ""][rng.random_range(0..9)])
                }
                false => text(["a", "b", "ab", "É", "é", ""][rng.random_range(0..6)]),
            },
            Pool::Real => Value::Real(match rng.random_range(0..10) {
                0 => 0.0,
                1 => -0.0,
                2 => f64::INFINITY,
                3 => f64::NEG_INFINITY,
                4 => 1e300,
                5 => -(2f64.powi(63)),
                6 => f64::MIN_POSITIVE,
                other => f64::from(other) / 2.0,
            }),
            Pool::Blob | Pool::BlobKey => Value::Blob(match rng.random_range(0..6) {
                0 => vec![],
                1 => vec![0; rng.random_range(0..3)],
                2 => vec![255],
                _ => vec![rng.random_range(0..3), 7],
            }),
            Pool::AnyKey => match rng.random_range(0..9) {
                0 => text(["a", "A", "by trigger"][rng.random_range(0..3)]),
                1 => Value::Blob(vec![1]),
                2 => Value::Real(0.5),
                3 if has_spellings => Value::Real(f64::from(rng.random_range(1..4))),
                _ => Value::Integer(rng.random_range(1..4)),
            },
        }
    }
}
