//! What copies make of joined deltas: the same as of the deltas that were joined, whoever forgot
//! what, whoever did not know.

use std::path::PathBuf;

use anabranch_core::wire::split;
use anabranch_sqlite::Embedded;
use anabranch_sync::scope::Scopes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::config::{Config, Settings};
use crate::intake::{Intake, Taken};
use crate::storage::awaited;
use crate::token::Grant;

/// The relay that joins, and the one that keeps all as it came.
const RELAYS: [usize; 2] = [JOINS, KEEPS];
const JOINS: usize = 0;
const KEEPS: usize = 1;

/// A database.
struct Copy {
    path: PathBuf,
    /// What it held when it was copied last: the relays do too.
    common: VersionVector,
    db: Embedded,
}

impl Copy {
    fn open(path: PathBuf) -> Copy {
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF").unwrap();
        let db = Embedded::new(conn).unwrap();
        anabranch_store::install(db.db()).unwrap();
        Copy { path, common: VersionVector::new(), db }
    }

    fn new(path: PathBuf) -> Copy {
        let copy = Copy::open(path);
        copy.run("CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c)");
        copy.run("SELECT crsql_as_crr('t')");
        copy
    }

    /// Another of the same site: only one of both may write.
    fn twin(&self, path: PathBuf) -> Copy {
        std::fs::copy(&self.path, &path).unwrap();
        Copy::open(path)
    }

    fn run(&self, sql: &str) {
        self.db.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn text(&self, sql: &str) -> String {
        self.db.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn vector(&self) -> VersionVector {
        VersionVector::from_json(&self.text("SELECT ana_version_vector()")).unwrap()
    }

    fn export(&self, above: &VersionVector) -> Vec<u8> {
        self.try_export(above).unwrap()
    }

    /// An error where histories differ.
    fn try_export(&self, above: &VersionVector) -> rusqlite::Result<Vec<u8>> {
        self.db.query_row("SELECT ana_export(?)", [above.to_json()], |row| row.get(0))
    }

    fn apply(&self, delta: &[u8]) {
        let applied = self.db.query_row("SELECT ana_apply(?)", [delta], |_| Ok(()));
        applied.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
    }

    /// All rows but those of [`WEIGHT`].
    fn shown(&self) -> Vec<String> {
        let sql = "SELECT a || '|' || ifnull(b, '') || '|' || ifnull(c, '') FROM t WHERE a > 0 \
                   ORDER BY a";
        let mut statement = self.db.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn check(&self) {
        assert_eq!(self.text("SELECT count(*) || '' FROM ana_check"), "0");
    }
}

/// Two relays that are given the same, and copies.
struct World {
    relays: [Arc<Relay>; 2],
    copies: Vec<Copy>,
    folder: tempfile::TempDir,
    n_files: u64,
}

impl World {
    fn new(n_copies: usize) -> World {
        let folder = tempfile::tempdir().unwrap();
        let relays = RELAYS.map(|which| {
            let data = Some(folder.path().join(format!("relay{which}")));
            let config = Config::new(Settings { data, ..Settings::default() }).unwrap();
            Arc::new(Relay::open(config).unwrap().0)
        });
        let mut world = World { relays, copies: Vec::new(), folder, n_files: 0 };
        for _ in 0..n_copies {
            let copy = Copy::new(world.path());
            world.copies.push(copy);
        }
        world
    }

    fn path(&mut self) -> PathBuf {
        self.n_files += 1;
        self.folder.path().join(format!("{}.db", self.n_files))
    }

    async fn held(&self) -> VersionVector {
        self.relays[KEEPS].storage().vector(&store()).await.unwrap()
    }

    /// A copy gives both relays what they lack; whether that was a complete delta.
    async fn push(&self, at: usize) -> bool {
        let copy = &self.copies[at];
        if let Ok(delta) = copy.try_export(&self.held().await)
            && self.deliver(&delta).await.is_ok()
        {
            return is_complete(&delta);
        }
        let delta = copy.export(&copy.common);
        self.deliver(&delta).await.unwrap();
        is_complete(&delta)
    }

    async fn deliver(&self, delta: &[u8]) -> Result<(), StorageError> {
        let parts = split(delta).unwrap();
        for relay in &self.relays {
            let mut intake = Intake::new(relay, store(), &grant());
            for part in &parts {
                let (answer, answered) = awaited();
                let part = Bytes::copy_from_slice(part);
                if let Taken::Delta { .. } = intake.take(relay, part, answer).await? {
                    answered.await?;
                }
            }
        }
        Ok(())
    }

    async fn write(&self, at: usize, sql: &str) {
        self.copies[at].run(sql);
        self.push(at).await;
    }

    /// One more copy of a file; both may write.
    async fn clone_of(&mut self, at: usize) -> bool {
        let is_complete = self.push(at).await;
        let path = self.path();
        let common = self.copies[at].vector();
        let clone = self.copies[at].twin(path);
        self.copies.push(Copy { common: common.clone(), ..clone });
        self.copies[at].common = common;
        is_complete
    }

    /// A copy takes what a relay has.
    async fn pull(&self, copy: &Copy, which: usize) {
        let relay = &self.relays[which];
        let mut after = 0;
        loop {
            let theirs = Arc::new(copy.vector());
            // Where histories differ less than is held is known to be; it is taken once more.
            let held = relay.storage().read(&store(), theirs).await.unwrap().vector;
            let (held, after_it) = (Arc::new(held), Some(after));
            let wanted = Wanted { held, after: after_it, max_deltas: 1, max_bytes: 1 };
            let found = relay.storage().deltas(&store(), wanted).await.unwrap();
            let Some(delta) = found.first() else { return };
            after = delta.id;
            let mut bytes = Vec::new();
            for number in 0..delta.body.n_parts() {
                bytes.extend_from_slice(&relay.read_part(delta, number).await.unwrap());
            }
            copy.apply(&bytes);
        }
    }

    async fn join(&self) -> u64 {
        join_runs(&self.relays[JOINS], &store(), 2).await.unwrap()
    }

    /// Makes checkpoints where as much has come as the last one has.
    async fn gather(&self) -> u64 {
        let terms = Terms { before_ms: u64::MAX, min_bytes: 0, min_gain: u64::MAX };
        make_checkpoints(&self.relays[JOINS], &store(), terms).await.unwrap()
    }

    /// A newcomer and all copies, as they come out of each relay, before and after they have
    /// met.
    async fn ends(&mut self) -> [(Vec<String>, Vec<Vec<String>>); 2] {
        let mut ends = Vec::new();
        for which in RELAYS {
            let mut group = vec![Copy::new(self.path())];
            for at in 0..self.copies.len() {
                let path = self.path();
                group.push(self.copies[at].twin(path));
            }
            for copy in &group {
                self.pull(copy, which).await;
                copy.check();
            }
            let newcomer = group[0].shown();
            meet(&group);
            ends.push((newcomer, group.iter().map(Copy::shown).collect()));
        }
        ends.try_into().unwrap()
    }
}

/// Everybody with everybody, until nothing moves.
fn meet(group: &[Copy]) {
    for round in 0.. {
        assert!(round < 6, "no end of changes");
        for from in group {
            for to in group {
                if !std::ptr::eq(from, to) {
                    // Clones that took a complete delta may each have begun a life anew, under
                    // one name yet: then what is common is not known here, and all is given.
                    let above = from.try_export(&to.vector());
                    to.apply(&above.unwrap_or_else(|_| from.export(&VersionVector::new())));
                }
            }
        }
        if group.windows(2).all(|pair| pair[0].vector() == pair[1].vector()) {
            break;
        }
    }
    for copy in group {
        copy.check();
        assert_eq!(copy.shown(), group[0].shown(), "{} differs", copy.path.display());
    }
}

fn is_complete(delta: &[u8]) -> bool {
    let (_, bounds) = peek(delta).unwrap().unwrap();
    bounds.complete.is_some()
}

fn store() -> StoreId {
    StoreId::new("s").unwrap()
}

fn grant() -> Grant {
    Grant {
        subject: "ann".into(),
        token_id: None,
        audience: Vec::new(),
        scopes: Scopes::ALL,
        expires_s: u64::MAX,
    }
}

/// What makes a joined delta too heavy to be joined again with the few that come after it.
const WEIGHT: &str = "INSERT OR REPLACE INTO t VALUES(-1, hex(randomblob(9000)), 0)";

const ANN: usize = 0;
const LATE: usize = 1;

/// Ann deletes rows and forgets that; somebody who has not heard of it goes on writing to them.
/// `is_complete`: the relays were put back to before the deletion, and had a complete delta.
async fn late_writer(is_complete: bool, is_late_first: bool) {
    let mut world = World::new(3);
    world.write(ANN, "INSERT INTO t VALUES(1, 'a', 0), (2, 'a', 0), (3, 'a', 0)").await;
    for at in 1..3 {
        world.pull(&world.copies[at], KEEPS).await;
    }
    world.write(ANN, "INSERT INTO t VALUES(4, 'a', 0)").await;
    match is_complete {
        // Nobody else has it.
        true => world.copies[ANN].run("DELETE FROM t WHERE a = 1"),
        false => world.write(ANN, "DELETE FROM t WHERE a = 1").await,
    }
    if !is_complete {
        world.write(ANN, WEIGHT).await;
    }
    if !is_late_first {
        world.join().await;
    }
    let floor = world.copies[ANN].vector().to_json();
    let late = ["UPDATE t SET b = 'late' WHERE a IN (1, 2)", "INSERT INTO t VALUES(9, 'late', 0)"];
    let forget = format!("SELECT ana_compact('{floor}')");
    if is_late_first {
        for sql in late {
            world.write(LATE, sql).await;
        }
        world.pull(&world.copies[ANN], KEEPS).await;
    }
    world.copies[ANN].run(&forget);
    assert_eq!(world.push(ANN).await, is_complete);
    if !is_late_first {
        for sql in late {
            world.write(LATE, sql).await;
        }
    }
    for n in 0..9 {
        world.write(ANN, &format!("UPDATE t SET c = {n} WHERE a = 3")).await;
    }
    assert!(world.join().await > 2, "something was joined");
    let [(_, joined), (_, kept)] = world.ends().await;
    assert_eq!(joined, kept);
    assert_eq!(joined[0], ["2|late|0", "3|a|8", "4|a|0", "9|late|0"]);
}

#[tokio::test]
async fn who_had_not_heard_of_it_brings_nothing_back() {
    for is_complete in [false, true] {
        for is_late_first in [false, true] {
            late_writer(is_complete, is_late_first).await;
        }
    }
}

/// A row that was inserted in ignorance below somebody's floor begins a new life there, joined
/// or not, unless it was joined with what deleted it.
#[tokio::test]
async fn what_was_inserted_in_ignorance_is_not_lost() {
    let mut world = World::new(2);
    world.write(ANN, "INSERT INTO t VALUES(1, 'a', 0)").await;
    world.write(ANN, "DELETE FROM t WHERE a = 1").await;
    world.write(ANN, WEIGHT).await;
    assert_eq!(world.join().await, 3);
    let floor = world.copies[ANN].vector().to_json();
    world.copies[ANN].run(&format!("SELECT ana_compact('{floor}')"));
    world.write(LATE, "INSERT INTO t VALUES(1, 'late', 0)").await;
    world.write(LATE, "INSERT INTO t VALUES(2, 'late', 0)").await;
    world.write(ANN, "INSERT INTO t VALUES(3, 'a', 0)").await;
    for n in 0..9 {
        world.write(ANN, &format!("UPDATE t SET c = {n} WHERE a = 3")).await;
    }
    assert!(world.join().await > 2, "something was joined");
    let [(_, joined), (_, kept)] = world.ends().await;
    assert_eq!(joined, kept);
    assert_eq!(joined[0], ["1|late|0", "2|late|0", "3|a|8"]);
}

/// Copies of one file go on under one name. What all write once they know of it is joined; what
/// was written before keeps its names, and is read by its chains as ever.
#[tokio::test]
async fn stores_with_branches_are_joined() {
    let mut world = World::new(2);
    world.write(ANN, "INSERT INTO t VALUES(1, 'a', 0)").await;
    world.clone_of(ANN).await;
    world.write(ANN, "INSERT INTO t VALUES(2, 'a', 0)").await;
    world.write(2, "INSERT INTO t VALUES(3, 'clone', 0)").await;
    assert!(world.held().await.has_branches());
    let mut n_joined = 0;
    for n in 0..12 {
        let at = n % 3;
        world.pull(&world.copies[at], JOINS).await;
        world.write(at, &format!("UPDATE t SET c = {n} WHERE a = 1")).await;
        world.write(at, &format!("INSERT INTO t VALUES({}, 'late', 0)", 10 + n)).await;
        if n % 4 == 3 {
            n_joined += world.join().await;
        }
    }
    n_joined += world.gather().await;
    assert!(n_joined > 12, "{n_joined} were joined");
    let [(newcomer, joined), (other, kept)] = world.ends().await;
    assert_eq!((newcomer, joined), (other, kept.clone()));
    assert_eq!(kept[0].len(), 15);
    assert_eq!(kept[0][0], "1|a|11");
}

/// A history of some copies that write, give, take and forget as it comes, and are copied.
async fn history(seed: u64, has_clones: bool) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(rng.random_range(2..=4));
    let mut has_complete = false;
    let mut floors = vec![VersionVector::new()];
    let mut lasting = Vec::new();
    for n in 0..100 {
        let n_copies = world.copies.len();
        if has_clones && n_copies < 6 && rng.random_range(0..30) == 0 {
            has_complete |= world.clone_of(rng.random_range(0..n_copies)).await;
            continue;
        }
        let at = rng.random_range(0..n_copies);
        match rng.random_range(0..20) {
            0..=9 => {
                let key = rng.random_range(1..6);
                let sql = match rng.random_range(0..9) {
                    8 => WEIGHT.to_string(),
                    0..=2 => format!("INSERT OR REPLACE INTO t VALUES({key}, {n}, {n})"),
                    3..=4 => format!("UPDATE t SET b = {n} WHERE a = {key}"),
                    5..=6 => format!("DELETE FROM t WHERE a = {key}"),
                    _ => {
                        lasting.push(1000 + n);
                        format!("INSERT INTO t VALUES({}, 'lasts', 0)", 1000 + n)
                    }
                };
                world.copies[at].run(&sql);
                if rng.random_bool(0.7) {
                    has_complete |= world.push(at).await;
                }
            }
            10..=14 => {
                if has_clones {
                    // Where histories differ what is common is searched first; here it is told.
                    has_complete |= world.push(at).await;
                }
                world.pull(&world.copies[at], JOINS).await;
            }
            15..=16 => {
                let floor = match rng.random() {
                    true => world.copies[at].vector().to_json(),
                    false => floors[rng.random_range(0..floors.len())].to_json(),
                };
                // One above what is held is refused.
                drop(world.copies[at].db.execute_batch(&format!("SELECT ana_compact('{floor}')")));
            }
            17 => floors.push(world.copies[at].vector()),
            18 => drop(world.join().await),
            _ => drop(world.gather().await),
        }
    }
    for at in 0..world.copies.len() {
        has_complete |= world.push(at).await;
    }
    world.join().await;
    if seed.is_multiple_of(2) {
        world.gather().await;
    }
    let [joined, kept] = world.ends().await;
    // Whoever has read a complete delta may begin lives anew; who has read it joined need not.
    assert!(has_complete || joined.0 == kept.0, "newcomers: {:?} {:?}", joined.0, kept.0);
    for (_, group) in [&joined, &kept] {
        for key in &lasting {
            let row = format!("{key}|lasts|0");
            assert!(group[0].contains(&row), "{row} was lost");
        }
    }
}

async fn histories(has_clones: bool) {
    let (first, n) = match std::env::var("ANABRANCH_SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        // Without what was seen the twentieth fails.
        Err(_) => (14, std::env::var("ANABRANCH_SEEDS").map_or(6, |n| n.parse().unwrap())),
    };
    for seed in first..first + n {
        println!("replay with ANABRANCH_SEED={seed}");
        history(seed, has_clones).await;
    }
}

#[tokio::test]
async fn joined_or_not_copies_become_equal() {
    histories(false).await;
}

#[tokio::test]
async fn so_do_copies_of_copies() {
    histories(true).await;
}
