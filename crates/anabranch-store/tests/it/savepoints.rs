//! What capture holds is what SQLite holds: random statements, half of which are undone in
//! one of SQLite's ways, against a shadow table that triggers fill and SQLite itself undoes.
//!
//! The shadow's rows are replayed over a model of the local write rules; what
//! `crsql_changes` shows must be that model, at every commit.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::Store;

/// Newer triggers fire first: ours, then the shadow's, then those that raise.
const SCHEMA: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY NOT NULL, a, b CHECK(b <> 13));
    CREATE TABLE other(x);
    CREATE TABLE shadow(n INTEGER PRIMARY KEY, kind, old, new, a, b);
    CREATE TRIGGER raise_i AFTER INSERT ON t BEGIN SELECT CASE new.b
        WHEN 17 THEN RAISE(ABORT, 'abort') WHEN 18 THEN RAISE(FAIL, 'fail')
        WHEN 19 THEN RAISE(ROLLBACK, 'rollback') WHEN 20 THEN RAISE(IGNORE) END; END;
    CREATE TRIGGER raise_u AFTER UPDATE ON t BEGIN SELECT CASE new.b
        WHEN 17 THEN RAISE(ABORT, 'abort') WHEN 18 THEN RAISE(FAIL, 'fail')
        WHEN 19 THEN RAISE(ROLLBACK, 'rollback') WHEN 20 THEN RAISE(IGNORE) END; END;
    CREATE TRIGGER chain AFTER INSERT ON other BEGIN
        INSERT OR REPLACE INTO t VALUES(new.x, new.x, 1); END;
    CREATE TRIGGER shadow_i AFTER INSERT ON t BEGIN
        INSERT INTO shadow(kind, new) VALUES('I', new.id); END;
    CREATE TRIGGER shadow_u AFTER UPDATE ON t BEGIN
        INSERT INTO shadow(kind, old, new, a, b)
        VALUES('U', old.id, new.id, old.a IS NOT new.a, old.b IS NOT new.b); END;
    CREATE TRIGGER shadow_d AFTER DELETE ON t BEGIN
        INSERT INTO shadow(kind, old) VALUES('D', old.id); END;
";

/// A row's clock by the local write rules.
#[derive(Clone, Default)]
struct Row {
    causal_length: u64,
    has_sentinel: bool,
    columns: BTreeMap<&'static str, u64>,
}

impl Row {
    fn raise(&mut self) {
        self.causal_length += if self.causal_length.is_multiple_of(2) { 1 } else { 2 };
        self.has_sentinel = true;
    }

    fn insert(&mut self) {
        match (self.causal_length, self.has_sentinel) {
            (0, _) => self.causal_length = 1,
            (_, true) => self.raise(),
            _ => {}
        }
        self.change(true, true);
    }

    fn change(&mut self, a: bool, b: bool) {
        for (name, is_changed) in [("a", a), ("b", b)] {
            if is_changed {
                *self.columns.entry(name).or_default() += 1;
            }
        }
    }

    fn delete(&mut self) {
        self.causal_length = self.causal_length.max(1) + 1;
        self.has_sentinel = true;
        self.columns.clear();
    }
}

#[derive(Default)]
struct Model {
    rows: BTreeMap<i64, Row>,
}

impl Model {
    fn replay(&mut self, line: &str) {
        let fields: Vec<&str> = line.split('|').collect();
        let id = |at: usize| fields[at].parse::<i64>().unwrap();
        match fields[0] {
            "I" => self.rows.entry(id(2)).or_default().insert(),
            "D" => self.rows.entry(id(1)).or_default().delete(),
            _ if id(1) == id(2) => {
                let row = self.rows.entry(id(1)).or_default();
                row.change(fields[3] == "1", fields[4] == "1");
            }
            _ => self.rekey(id(1), id(2), fields[3] == "1", fields[4] == "1"),
        }
    }

    fn rekey(&mut self, old: i64, new: i64, a: bool, b: bool) {
        let moved = self.rows.get(&old).cloned().unwrap_or_default();
        self.rows.entry(old).or_default().delete();
        let row = self.rows.entry(new).or_default();
        for name in ["a", "b"] {
            let versions = [moved.columns.get(name), row.columns.get(name)];
            if let Some(version) = versions.into_iter().flatten().max().copied() {
                row.columns.insert(name, version + 1);
            }
        }
        match row.has_sentinel {
            true => row.raise(),
            // Also of a live row that was replaced.
            false => (row.causal_length, row.has_sentinel) = (1, true),
        }
        row.change(a, b);
    }

    fn show(&self) -> Vec<String> {
        let mut shown = Vec::new();
        for (id, row) in &self.rows {
            let cl = row.causal_length;
            if row.has_sentinel {
                shown.push(format!("{id}|-1|{cl}|{cl}"));
            }
            for (name, version) in &row.columns {
                shown.push(format!("{id}|{name}|{version}|{cl}"));
            }
        }
        shown.sort();
        shown
    }
}

struct Trace {
    rng: StdRng,
    store: Store,
    model: Model,
    log: Vec<String>,
    n_replayed: usize,
}

impl Trace {
    fn new(seed: u64) -> Trace {
        let store = Store::with(SCHEMA, &["t"]);
        let mut rng = StdRng::seed_from_u64(seed);
        if rng.random_bool(0.3) {
            store.run("PRAGMA recursive_triggers = ON");
        }
        Trace { rng, store, model: Model::default(), log: Vec::new(), n_replayed: 0 }
    }

    fn number(&mut self, below: i64) -> i64 {
        self.rng.random_range(0..below)
    }

    fn conflict(&mut self) -> &'static str {
        let all = ["", "", " OR IGNORE", " OR REPLACE", " OR FAIL", " OR ABORT", " OR ROLLBACK"];
        all[self.rng.random_range(0..all.len())]
    }

    fn value(&mut self) -> i64 {
        // Some of them are refused by the CHECK or by a trigger.
        if self.rng.random_bool(0.8) { self.number(6) } else { 12 + self.number(9) }
    }

    fn statement(&mut self) -> String {
        let (conflict, id, b) = (self.conflict(), self.number(8), self.value());
        match self.number(16) {
            0..3 => format!("INSERT{conflict} INTO t VALUES({id}, {b}, {b})"),
            3 => {
                let (c, d) = (self.number(8), self.value());
                format!("INSERT{conflict} INTO t VALUES({id}, 0, 1), ({c}, 0, {d}), ({b}, 1, 1)")
            }
            4 => format!("INSERT{conflict} INTO t SELECT id + 1, a, {b} FROM t WHERE id < {id}"),
            5 => format!("INSERT INTO t VALUES({id}, 1, {b}) ON CONFLICT DO UPDATE SET b = {b}"),
            6..8 => format!("UPDATE{conflict} t SET a = {b} WHERE id <> {id}"),
            8 => format!("UPDATE{conflict} t SET b = {b}, a = a WHERE id >= {id}"),
            9 => format!("UPDATE{conflict} t SET id = {b} WHERE id = {id}"),
            10 => format!("UPDATE{conflict} t SET id = id + 1, b = {b} WHERE id > {id}"),
            11 => format!("DELETE FROM t WHERE id = {id} OR a = {b}"),
            12 => "DELETE FROM t".to_string(),
            13 => format!("INSERT INTO other VALUES({id}), ({b})"),
            14 => "SELECT crsql_get_seq()".to_string(),
            _ => "SELECT count(*) FROM crsql_changes".to_string(),
        }
    }

    fn control(&mut self) -> String {
        let name = self.number(3);
        match self.number(8) {
            0..2 => "BEGIN".to_string(),
            2 => "COMMIT".to_string(),
            3 => "ROLLBACK".to_string(),
            4..6 => format!("SAVEPOINT s{name}"),
            6 => format!("RELEASE s{name}"),
            _ => format!("ROLLBACK TO s{name}"),
        }
    }

    fn step(&mut self) {
        let sql = if self.rng.random_bool(0.35) { self.control() } else { self.statement() };
        let outcome = self.store.try_rows(&sql, vec![]);
        self.log.push(format!("{sql}; -- {:?}", outcome.err().map(|error| error.to_string())));
        if self.store.conn.is_autocommit() {
            self.compare();
        }
    }

    fn compare(&mut self) {
        let shadow = self.store.rows("SELECT kind, old, new, a, b FROM shadow ORDER BY n");
        for line in &shadow[self.n_replayed..] {
            self.model.replay(line);
        }
        self.n_replayed = shadow.len();
        let mut found = self.store.rows(
            "SELECT (SELECT cell FROM crsql_unpack_columns WHERE package = pk), cid, col_version, cl
             FROM crsql_changes",
        );
        found.sort();
        assert_eq!(found, self.model.show(), "\n{}\n{shadow:?}", self.log.join("\n"));
    }
}

#[test]
fn random_traces_agree_with_a_shadow_table() {
    for seed in 0..60 {
        let mut trace = Trace::new(seed);
        for _ in 0..60 {
            trace.step();
        }
        if !trace.store.conn.is_autocommit() {
            trace.store.run("COMMIT");
            trace.compare();
        }
        trace.store.expect("SELECT * FROM ana_check", "");
    }
}
