//! What the writers do: transaction n of a side follows from the seed, so that what must be
//! in a file after it can be told without having watched.
//!
//! A side writes its own rows, which nobody else touches, and rows that both write.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What both copies hold.
pub(super) const TABLES: &str = "
    CREATE TABLE progress(side TEXT PRIMARY KEY NOT NULL, n INTEGER);
    CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body INTEGER);
    CREATE TABLE shared(id INTEGER PRIMARY KEY NOT NULL, body TEXT)";
pub(super) const TABLE_NAMES: [&str; 3] = ["progress", "note", "shared"];

/// Rows of a side that single statements write.
const KEYS: u64 = 40;
/// Rows of a side that one statement writes or deletes at once.
const BULK: u64 = 400;
/// One transaction of so many is a large one.
const BULK_EVERY: u64 = 20;

/// A copy, and the writer on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

pub(super) const SIDES: [Side; 2] = [Side::A, Side::B];

impl Side {
    pub(super) fn file(self) -> &'static str {
        match self {
            Side::A => "a.db",
            Side::B => "b.db",
        }
    }

    /// What its rows' keys begin with, and its row of `progress`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Side::A => "a",
            Side::B => "b",
        }
    }
}

/// One statement's worth.
enum Step {
    Put(u64),
    Delete(u64),
    PutAll,
    DeleteAll,
    Share(u64),
}

fn steps(seed: u64, side: Side, n: u64) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed ^ (n << 8) ^ (side as u64));
    let mut steps = vec![Step::Share(random.random_range(0..6))];
    if n.is_multiple_of(BULK_EVERY) {
        steps.push(if random.random_bool(0.7) { Step::PutAll } else { Step::DeleteAll });
    }
    for _ in 0..random.random_range(1..5) {
        let key = random.random_range(0..KEYS);
        steps.push(if random.random_bool(0.6) { Step::Put(key) } else { Step::Delete(key) });
    }
    steps
}

/// The statements of a side's transaction `n`, from 1; the last one says that it is committed.
pub(super) fn script(seed: u64, side: Side, n: u64) -> String {
    let s = side.name();
    let mut sql = "BEGIN IMMEDIATE;\n".to_string();
    for step in steps(seed, side, n) {
        sql += &match step {
            Step::Put(key) => format!(
                "INSERT INTO note VALUES('{s}{key}', {n}) ON CONFLICT DO UPDATE SET body = {n};\n"
            ),
            Step::Delete(key) => format!("DELETE FROM note WHERE id = '{s}{key}';\n"),
            Step::PutAll => format!(
                "WITH RECURSIVE i(k) AS (VALUES(1) UNION ALL SELECT k + 1 FROM i WHERE k < {BULK}) \
                 INSERT INTO note SELECT '{s}bulk' || k, {n} FROM i WHERE true \
                 ON CONFLICT DO UPDATE SET body = {n};\n"
            ),
            Step::DeleteAll => format!("DELETE FROM note WHERE id GLOB '{s}bulk*';\n"),
            Step::Share(key) => format!(
                "INSERT INTO shared VALUES({key}, '{s}{n}') \
                 ON CONFLICT DO UPDATE SET body = excluded.body;\n"
            ),
        };
    }
    sql + &format!(
        "INSERT INTO progress VALUES('{s}', {n}) ON CONFLICT DO UPDATE SET n = {n};\n\
         COMMIT;\nSELECT {n} AS committed;\n"
    )
}

/// A side's rows, as they must be after its transaction `n`.
#[derive(Default)]
pub(super) struct Expected {
    n: u64,
    rows: BTreeMap<String, u64>,
}

impl Expected {
    /// Goes on to transaction `n`, or begins anew for an earlier one.
    pub(super) fn at(&mut self, seed: u64, side: Side, n: u64) -> &BTreeMap<String, u64> {
        if n < self.n {
            *self = Expected::default();
        }
        for n in self.n + 1..=n {
            for step in steps(seed, side, n) {
                self.step(side.name(), n, &step);
            }
        }
        self.n = n;
        &self.rows
    }

    fn step(&mut self, s: &str, n: u64, step: &Step) {
        match step {
            Step::Put(key) => drop(self.rows.insert(format!("{s}{key}"), n)),
            Step::Delete(key) => drop(self.rows.remove(&format!("{s}{key}"))),
            Step::PutAll => {
                self.rows.extend((1..=BULK).map(|key| (format!("{s}bulk{key}"), n)));
            }
            Step::DeleteAll => self.rows.retain(|id, _| !id.starts_with(&format!("{s}bulk"))),
            Step::Share(_) => {}
        }
    }
}
