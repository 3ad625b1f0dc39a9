//! Random histories: two to five databases that write, merge, forget to commit and meet.
//!
//! Everything follows from the seed. At each step the touched copy is compared with its
//! model; at the end all copies exchange everything, through both doors, and must be equal.

use std::fmt;
use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::model::{Broken, Change, Delta, Vector};
use crate::replica::{Mismatch, Replica, query, read_vector, scalar};
use crate::shapes::{SHAPES, Shape, Taste};
use crate::statements;

/// What a history is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Steps before the copies meet.
    pub n_steps: usize,
    /// The rule that the model breaks.
    pub broken: Broken,
    /// Statements that touch hundreds of rows, so that clocks fold and buffers flush.
    pub has_bulk: bool,
    /// Few tables, keys and values, so that everything meets soon.
    pub is_dense: bool,
}

impl Plan {
    /// A history of some dozen steps.
    pub fn short() -> Plan {
        Plan { n_steps: 25, broken: Broken::Nothing, has_bulk: false, is_dense: false }
    }

    /// A history in which all copies write the same few rows, with one rule of the model
    /// broken: it must end early.
    pub fn dense(broken: Broken) -> Plan {
        Plan { n_steps: 40, broken, has_bulk: false, is_dense: true }
    }

    /// A history of some hundred steps, with bulk statements.
    pub fn long() -> Plan {
        Plan { n_steps: 150, broken: Broken::Nothing, has_bulk: true, is_dense: false }
    }
}

/// A history that failed.
#[derive(Debug)]
pub struct Failure {
    /// Replays it.
    pub seed: u64,
    /// What happened last, oldest first.
    pub trace: Vec<String>,
    /// What went wrong.
    pub what: Mismatch,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace[self.trace.len().saturating_sub(30)..] {
            writeln!(f, "    {line}")?;
        }
        write!(f, "ANABRANCH_SEED={}: {}", self.seed, self.what)
    }
}

/// Which doors a history uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doors {
    Changes,
    Deltas,
    Both,
}

/// A delta in flight, with the copy that made it.
type Sent = (usize, (Vec<u8>, Delta));

struct History {
    rng: StdRng,
    plan: Plan,
    doors: Doors,
    taste: Taste,
    replicas: Vec<Replica>,
    /// For each (sender, receiver): the largest `db_version` received.
    cursors: Vec<Vec<u64>>,
    /// Vectors of the past, to export above again.
    vectors: Vec<Vec<(String, Vector)>>,
    /// Deltas made and perhaps never, or twice, delivered.
    sent: Vec<Sent>,
    trace: Vec<String>,
}

/// Runs the history of a seed in `folder`, which is empty.
///
/// # Errors
/// The first disagreement between a store and its model, or between copies.
pub fn run(seed: u64, plan: Plan, folder: &Path) -> Result<(), Box<Failure>> {
    let mut history = match History::new(seed, plan, folder) {
        Ok(history) => history,
        Err(what) => return Err(Box::new(Failure { seed, trace: Vec::new(), what })),
    };
    let end = history.play().and_then(|()| history.meet());
    end.map_err(|what| Box::new(Failure { seed, trace: history.trace, what }))
}

impl History {
    fn new(seed: u64, plan: Plan, folder: &Path) -> Result<History, Mismatch> {
        let mut rng = StdRng::seed_from_u64(seed);
        let n = match plan.is_dense {
            true => 2,
            false => rng.random_range(2..=5).min(rng.random_range(2..=5)),
        };
        let mut shapes: Vec<&'static Shape> = SHAPES.iter().take(2).collect();
        match plan.is_dense {
            true => shapes.push(&SHAPES[2]),
            false => shapes.extend(SHAPES[2..].iter().filter(|_| rng.random_ratio(2, 5))),
        }
        let doors = *[Doors::Changes, Doors::Deltas, Doors::Both, Doors::Both]
            .choose(&mut rng)
            .expect("a list of four");
        let mut replicas = Vec::new();
        for index in 0..n {
            let path = folder.join(format!("{index}.db"));
            replicas.push(Replica::create(path, shapes.clone(), plan.broken)?);
        }
        Ok(History {
            taste: Taste {
                has_spellings: doors == Doors::Deltas && rng.random(),
                is_dense: plan.is_dense,
            },
            rng,
            plan,
            doors,
            replicas,
            cursors: vec![vec![0; n]; n],
            vectors: vec![Vec::new(); n],
            sent: Vec::new(),
            trace: vec![format!("{n} copies, {doors:?}, {} tables", shapes.len())],
        })
    }

    fn play(&mut self) -> Result<(), Mismatch> {
        for _ in 0..self.plan.n_steps {
            let into = self.rng.random_range(0..self.replicas.len());
            let connection = self.rng.random_range(0..self.replicas[into].stores.len());
            match self.rng.random_range(0..20) {
                0..12 => self.transact(into, connection)?,
                12..18 => self.deliver(into, connection)?,
                18 => {
                    let n = self.rng.random_range(1..3);
                    self.trace.push(format!("{into}: reopen with {n}"));
                    self.replicas[into].reopen(n)?;
                }
                _ => self.remember(into, connection)?,
            }
            let connection = self.rng.random_range(0..self.replicas[into].stores.len());
            self.replicas[into].compare(connection).map_err(|what| format!("{into}: {what}"))?;
        }
        Ok(())
    }

    /// One transaction: statements, savepoints, sometimes a merge in the middle.
    fn transact(&mut self, into: usize, connection: usize) -> Result<(), Mismatch> {
        if self.rng.random_ratio(1, 4) {
            return self.write(into, connection);
        }
        let first = if self.rng.random_ratio(3, 4) { "BEGIN" } else { "outer" };
        self.trace.push(format!("{into}.{connection}: {first}"));
        self.replicas[into].open_savepoint(connection, first)?;
        for n in 0..self.rng.random_range(1..9) {
            if self.replicas[into].savepoints().is_empty() {
                return Ok(());
            }
            match self.rng.random_range(0..16) {
                0..8 => self.write(into, connection)?,
                8 => self.deliver(into, connection)?,
                9..12 => {
                    let name = format!("s{}", n % 3);
                    self.trace.push(format!("{into}: SAVEPOINT {name}"));
                    self.replicas[into].open_savepoint(connection, &name)?;
                }
                12 => self.replicas[into].compare(connection)?,
                _ => self.unwind(into, connection)?,
            }
        }
        if self.replicas[into].savepoints().is_empty() {
            return Ok(());
        }
        if self.rng.random_ratio(1, 6) && self.replicas[into].savepoints()[0] == "BEGIN" {
            self.trace.push(format!("{into}: ROLLBACK"));
            return self.replicas[into].roll_back(connection, 0);
        }
        self.trace.push(format!("{into}: COMMIT"));
        self.replicas[into].release(connection, 0)
    }

    /// ROLLBACK TO or RELEASE of some savepoint (the innermost of its name).
    fn unwind(&mut self, into: usize, connection: usize) -> Result<(), Mismatch> {
        let names = self.replicas[into].savepoints();
        let name = names.choose(&mut self.rng).expect("a transaction is open");
        if name == "BEGIN" {
            return Ok(());
        }
        let depth = names.iter().rposition(|other| other == name).expect("chosen from it");
        if self.rng.random_ratio(3, 5) {
            self.trace.push(format!("{into}: ROLLBACK TO {name}"));
            self.replicas[into].roll_back(connection, depth)
        } else {
            self.trace.push(format!("{into}: RELEASE {name}"));
            self.replicas[into].release(connection, depth)
        }
    }

    fn write(&mut self, into: usize, connection: usize) -> Result<(), Mismatch> {
        let shapes = self.replicas[into].shapes().to_vec();
        let shape = shapes.choose(&mut self.rng).expect("never empty");
        let bulk = self.plan.has_bulk && self.rng.random_ratio(1, 10);
        let (sql, params) = match bulk {
            true => (statements::bulk(&mut self.rng), Vec::new()),
            false => statements::random(&mut self.rng, shape, self.taste),
        };
        let error = self.replicas[into].run(connection, &sql, &params)?;
        let error = error.map_or(String::new(), |error| format!(" -- {error}"));
        if error.contains("anabranch") || error.contains("panic") || error.contains("damaged") {
            return Err(format!("{sql} {params:?}{error}"));
        }
        self.trace.push(format!("{into}.{connection}: {sql} {params:?}{error}"));
        Ok(())
    }

    fn remember(&mut self, into: usize, connection: usize) -> Result<(), Mismatch> {
        let vector = self.replicas[into].vector(connection)?;
        self.vectors[into].push(vector);
        let on = self.rng.random_range(0..2);
        self.trace.push(format!("{into}.{connection}: PRAGMA recursive_triggers={on}"));
        let pragma = format!("PRAGMA recursive_triggers={on}");
        query(self.replicas[into].db(connection), &pragma, &[]).map(|_| ())
    }

    fn deliver(&mut self, into: usize, connection: usize) -> Result<(), Mismatch> {
        let from = self.rng.random_range(0..self.replicas.len());
        let is_open = |replica: &Replica| !replica.savepoints().is_empty();
        if from == into || is_open(&self.replicas[from]) {
            return Ok(());
        }
        let is_delta = match self.doors {
            Doors::Changes => false,
            Doors::Deltas => true,
            Doors::Both => self.rng.random(),
        };
        if is_delta { self.send(from, into, connection) } else { self.pull(from, into, connection) }
    }

    /// Through `crsql_changes`: since the cursor, or any part of it in any order.
    fn pull(&mut self, from: usize, into: usize, connection: usize) -> Result<(), Mismatch> {
        let site = self.replicas[into].model.site.clone();
        let cursor = self.cursors[from][into];
        let is_regular = self.rng.random_ratio(2, 3);
        let changes = if is_regular {
            let filter = format!("WHERE db_version > {cursor} AND site_id IS NOT {}", hex(&site));
            self.replicas[from].changes(0, &filter)?
        } else {
            let mut changes = self.replicas[from].changes(0, "")?;
            changes.retain(|_| self.rng.random_ratio(2, 3));
            if self.rng.random() {
                changes.reverse();
            }
            changes
        };
        let n = changes.len();
        let n_taken = match self.rng.random_range(0..3) {
            0 => self.rng.random_range(0..=n),
            _ => n,
        };
        self.trace.push(format!(
            "{into}.{connection}: pull {n_taken} of {n} from {from} after {cursor}, in order: {is_regular}"
        ));
        let is_own_transaction =
            self.replicas[into].savepoints().is_empty() && self.rng.random_ratio(4, 5);
        if is_own_transaction {
            self.replicas[into].open_savepoint(connection, "BEGIN")?;
        }
        for change in &changes[..n_taken] {
            self.replicas[into].merge(connection, change)?;
        }
        if is_own_transaction {
            self.replicas[into].release(connection, 0)?;
        }
        let is_sure = self.replicas[into].savepoints().is_empty();
        if is_regular && is_sure {
            self.cursors[from][into] = cursor_after(&changes, n_taken).max(cursor);
        }
        Ok(())
    }

    /// As a delta: above what the receiver holds, or held once, or another copy holds; or
    /// one that was made before.
    fn send(&mut self, from: usize, into: usize, connection: usize) -> Result<(), Mismatch> {
        if self.rng.random_ratio(1, 6) && !self.sent.is_empty() {
            let (from, delta) = self.sent.choose(&mut self.rng).expect("not empty").clone();
            self.trace.push(format!("{into}.{connection}: apply an old delta of {from}"));
            return self.replicas[into].apply(connection, &delta);
        }
        let above = match self.rng.random_range(0..8) {
            0 => None,
            1 => self.vectors[into].choose(&mut self.rng).cloned(),
            2 => {
                let other = self.rng.random_range(0..self.vectors.len());
                self.vectors[other].choose(&mut self.rng).cloned()
            }
            _ if self.replicas[into].savepoints().is_empty() => {
                Some(self.replicas[into].vector(connection)?)
            }
            _ => None,
        };
        // `from` is never above `to`: the exporter would be asked for what it lacks.
        let held = &self.replicas[from].model.vector;
        let above = above.map(|(json, vector)| lower(&json, &vector, held));
        let delta = self.replicas[from].export(0, above.as_ref())?;
        let is_all = above.is_none();
        self.trace.push(format!("{into}.{connection}: delta of {from}, everything: {is_all}"));
        if self.rng.random_ratio(1, 3) {
            self.sent.push((from, delta.clone()));
        }
        if self.rng.random_ratio(1, 8) {
            return Ok(());
        }
        self.replicas[into].apply(connection, &delta)
    }

    /// All meet: everything is exchanged until nothing is new, then all are equal.
    fn meet(&mut self) -> Result<(), Mismatch> {
        let n = self.replicas.len();
        for round in 0..n {
            for (from, into) in (0..n * n).map(|pair| (pair / n, pair % n)) {
                if from == into {
                    continue;
                }
                let is_delta = match self.doors {
                    Doors::Changes => false,
                    Doors::Deltas => true,
                    Doors::Both => self.rng.random(),
                };
                self.trace.push(format!("meeting {round}: {into} from {from}, delta: {is_delta}"));
                if is_delta {
                    let (json, vector) = self.replicas[into].vector(0)?;
                    let above = lower(&json, &vector, &self.replicas[from].model.vector);
                    let delta = self.replicas[from].export(0, Some(&above))?;
                    self.replicas[into].apply(0, &delta)?;
                } else {
                    let changes = self.replicas[from].changes(0, "")?;
                    self.replicas[into].open_savepoint(0, "BEGIN")?;
                    for change in &changes {
                        self.replicas[into].merge(0, change)?;
                    }
                    self.replicas[into].release(0, 0)?;
                }
                self.replicas[into].compare(0).map_err(|what| format!("{into}: {what}"))?;
            }
        }
        self.trace.push("all have met".into());
        self.compare_copies()
    }

    fn compare_copies(&self) -> Result<(), Mismatch> {
        let (first, others) = self.replicas.split_first().expect("two or more");
        let digest = scalar(first.db(0), "SELECT ana_digest()", &[])?;
        let chains = self.chains(0)?;
        for (index, other) in others.iter().enumerate() {
            let index = index + 1;
            for shape in first.shapes() {
                let (a, b) = (first.rows(0, shape)?, other.rows(0, shape)?);
                if let Some((a, b)) = a.iter().zip(&b).find(|(a, b)| a != b) {
                    return Err(format!("{}: copy 0 has {a:?}, copy {index} {b:?}", shape.name));
                }
                if a.len() != b.len() {
                    return Err(format!("{}: copies 0 and {index} differ in rows", shape.name));
                }
            }
            let theirs = scalar(other.db(0), "SELECT ana_digest()", &[])?;
            if digest != theirs {
                return Err(format!("equal tables, but digests {digest:?}, {index}: {theirs:?}"));
            }
            if self.doors == Doors::Deltas && self.chains(index)? != chains {
                return Err(format!("copies 0 and {index} differ in vectors or chains"));
            }
        }
        Ok(())
    }

    fn chains(&self, index: usize) -> Result<Vec<(Vec<u8>, u64, String)>, Mismatch> {
        Ok(read_vector(&self.replicas[index].vector(0)?.0))
    }
}

/// Where a client's cursor stands after the first `n_taken` changes: a version that was cut
/// through does not count.
fn cursor_after(changes: &[Change], n_taken: usize) -> u64 {
    match changes.get(n_taken) {
        Some(next) => next.db_version - 1,
        None => changes.last().map_or(0, |last| last.db_version),
    }
}

/// The part of a vector that `held` covers, and its JSON.
fn lower(json: &str, vector: &Vector, held: &Vector) -> (String, Vector) {
    let covered = |site: &Vec<u8>, version: u64| held.get(site).is_some_and(|v| *v >= version);
    let kept: Vector =
        vector.iter().filter(|(s, v)| covered(s, **v)).map(|(s, v)| (s.clone(), *v)).collect();
    let entries: Vec<String> = read_vector(json)
        .into_iter()
        .filter(|(site, version, _)| kept.get(site) == Some(version))
        .map(|(site, version, chain)| format!("\"{}\":[{version},\"{chain}\"]", digits(&site)))
        .collect();
    (format!("{{{}}}", entries.join(",")), kept)
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex(bytes: &[u8]) -> String {
    format!("x'{}'", digits(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_read_and_lowered() {
        let json = r#"{"00ff":[12,"aa"],"01":[3,"bb"]}"#;
        let vector: Vector = read_vector(json).into_iter().map(|(s, v, _)| (s, v)).collect();
        assert_eq!(vector, Vector::from([(vec![0, 255], 12), (vec![1], 3)]));
        let held = Vector::from([(vec![0, 255], 12), (vec![1], 2)]);
        assert_eq!(lower(json, &vector, &held).0, r#"{"00ff":[12,"aa"]}"#);
    }
}
