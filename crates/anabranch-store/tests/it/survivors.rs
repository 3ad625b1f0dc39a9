//! What is undone leaves nothing: a script with savepoints, some of which are rolled back,
//! against the same script without what was undone. Local writes, merges and early flushes
//! mixed; changes, versions, `seq`, ordinals and counts must be equal.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::Store;

const SCHEMA: &str = "
    CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c DEFAULT 5);
    CREATE TABLE n(a TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, b CHECK(b <> 3));";

struct Script {
    rng: StdRng,
    /// Everything, as one store runs it.
    all: Vec<String>,
    /// What survives, as the other does.
    kept: Vec<String>,
}

impl Script {
    fn below(&mut self, n: i64) -> i64 {
        self.rng.random_range(0..n)
    }

    fn statement(&mut self) -> String {
        let (key, value, other) = (self.below(6), self.below(6), self.below(6));
        match self.below(16) {
            0..2 => format!("INSERT OR REPLACE INTO t VALUES({key}, {value}, {other})"),
            2 => format!("INSERT OR IGNORE INTO n VALUES('k{key}', {value})"),
            3 => format!("INSERT OR REPLACE INTO n VALUES('K{key}', {value})"),
            4 => format!("UPDATE t SET b = {value} WHERE a <> {key}"),
            5 => format!("UPDATE OR REPLACE t SET a = {value} WHERE a = {key}"),
            6 => format!("UPDATE OR IGNORE n SET a = 'k{value}', b = {other} WHERE a = 'k{key}'"),
            7 => format!("DELETE FROM t WHERE a = {key}"),
            8 => format!("DELETE FROM n WHERE a = 'k{key}'"),
            9 => "SELECT crsql_get_seq()".to_string(),
            10 => "SELECT count(*) FROM crsql_changes".to_string(),
            _ => self.merge(key, value, other),
        }
    }

    fn merge(&mut self, key: i64, value: i64, other: i64) -> String {
        let (version, length, site) = (1 + self.below(4), 1 + self.below(3), self.below(3));
        let db_version = self.below(40);
        let (table, key) = match self.below(3) {
            0 => ("n", format!("crsql_pack_columns('k{key}')")),
            1 => ("n", format!("crsql_pack_columns('K{key}')")),
            _ => ("t", format!("crsql_pack_columns({key})")),
        };
        let (column, value) = match (length % 2, other) {
            (0, _) | (_, 0) => ("-1", "NULL".to_string()),
            _ => ("b", value.to_string()),
        };
        let version = if column == "-1" { length } else { version };
        format!(
            "INSERT INTO crsql_changes SELECT '{table}', {key}, '{column}', {value}, {version}, \
             {db_version}, x'0{site}', {length}, {other}"
        )
    }

    /// A savepoint's content; `survives` tells whether all around it does.
    fn block(&mut self, depth: u32, survives: bool) {
        for _ in 0..self.below(6) {
            if depth < 4 && self.rng.random_bool(0.3) {
                let is_undone = self.rng.random_bool(0.5);
                self.all.push(format!("SAVEPOINT s{depth}"));
                self.block(depth + 1, survives && !is_undone);
                if is_undone {
                    self.all.push(format!("ROLLBACK TO s{depth}"));
                }
                if is_undone && self.rng.random_bool(0.3) {
                    self.block(depth + 1, survives);
                }
                self.all.push(format!("RELEASE s{depth}"));
                continue;
            }
            let statement = self.statement();
            self.all.push(statement.clone());
            if survives {
                self.kept.push(statement);
            }
        }
    }

    fn transaction(&mut self) {
        match self.below(4) {
            0 => {
                let statement = self.statement();
                self.all.push(statement.clone());
                self.kept.push(statement);
            }
            1 => {
                self.all.push("BEGIN".to_string());
                self.block(0, false);
                self.all.push("ROLLBACK".to_string());
            }
            // A savepoint that opens the transaction.
            2 => {
                let is_undone = self.rng.random_bool(0.4);
                self.all.push("SAVEPOINT top".to_string());
                self.kept.push("SAVEPOINT top".to_string());
                self.block(0, !is_undone);
                if is_undone {
                    self.all.push("ROLLBACK TO top".to_string());
                }
                self.block(0, true);
                self.all.push("RELEASE top".to_string());
                self.kept.push("RELEASE top".to_string());
            }
            _ => {
                self.all.push("BEGIN".to_string());
                self.kept.push("BEGIN".to_string());
                self.block(0, true);
                self.all.push("COMMIT".to_string());
                self.kept.push("COMMIT".to_string());
            }
        }
    }
}

/// Runs a script; statements may be refused. Everything that can be seen, without the site.
fn run(script: &[String]) -> Vec<String> {
    let store = Store::with(SCHEMA, &["t", "n"]);
    for sql in script {
        // A refusal (a constraint) is the same in both scripts.
        let _ = store.try_rows(sql, vec![]);
    }
    let own = store.rows("SELECT crsql_site_id()").join("");
    let mut seen = store.rows("SELECT * FROM crsql_changes");
    for sql in [
        "SELECT crsql_db_version(), crsql_next_db_version(), crsql_get_seq()",
        "SELECT * FROM crsql_site_id",
        "SELECT * FROM t",
        "SELECT * FROM n",
        "SELECT position, version, kind, tables, rows FROM ana_log",
        "SELECT * FROM ana_check",
    ] {
        seen.push(sql.to_string());
        seen.extend(store.rows(sql));
    }
    seen.iter().map(|line| line.replace(&own, "ME")).collect()
}

#[test]
fn what_is_undone_leaves_nothing() {
    for seed in 0..60 {
        let rng = StdRng::seed_from_u64(seed);
        let mut script = Script { rng, all: Vec::new(), kept: Vec::new() };
        for _ in 0..12 {
            script.transaction();
        }
        let (all, kept) = (run(&script.all), run(&script.kept));
        assert_eq!(all, kept, "seed {seed}:\n{}", script.all.join(";\n"));
    }
}
