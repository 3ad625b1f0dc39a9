//! The law of forgetting, over random histories: copies that compact at any time with any floor
//! they hold become equal, nothing deleted comes back, nothing inserted is lost.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Store, text};

const SCHEMA: &str = "CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c);
     CREATE TABLE u(k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v) WITHOUT ROWID;
     CREATE TABLE s(x BLOB NOT NULL, y INTEGER NOT NULL, PRIMARY KEY(x, y))";

struct World {
    rng: StdRng,
    folder: tempfile::TempDir,
    stores: Vec<Store>,
    /// Vectors that some copy had: floors to choose from.
    vectors: Vec<String>,
    /// Copies of files, by whose they are.
    backups: Vec<(usize, std::path::PathBuf)>,
    /// Keys of `t` that were deleted while all copies agreed, never to come back.
    buried: Vec<i64>,
    /// Keys of `t` that are inserted once and never deleted.
    lasting: Vec<i64>,
    n: i64,
}

fn open(path: &std::path::Path) -> Store {
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF").unwrap();
    let conn = anabranch_sqlite::Embedded::new(conn).unwrap();
    anabranch_store::install(conn.db()).unwrap();
    Store { conn }
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().unwrap();
        let n_stores = rng.random_range(2..=5);
        let stores = (0..n_stores)
            .map(|n| {
                let store = open(&folder.path().join(format!("{n}.db")));
                store.run(SCHEMA);
                for table in ["t", "u", "s"] {
                    store.execute("SELECT crsql_as_crr(?)", vec![text(table)]);
                }
                store
            })
            .collect();
        World {
            rng,
            folder,
            stores,
            vectors: vec!["{}".into()],
            backups: Vec::new(),
            buried: Vec::new(),
            lasting: Vec::new(),
            n: 0,
        }
    }

    fn any(&mut self) -> usize {
        self.rng.random_range(0..self.stores.len())
    }

    /// A number no one had before.
    fn fresh(&mut self) -> i64 {
        self.n += 1;
        self.n
    }

    fn give(&mut self, from: usize, to: usize) {
        let vector = self.stores[to].rows("SELECT ana_version_vector()").concat();
        let delta = self.stores[from].rows(&format!("SELECT hex(ana_export('{vector}'))")).concat();
        self.stores[to].run(&format!("SELECT ana_apply(x'{delta}')"));
    }

    fn write(&mut self, at: usize) {
        let key = self.rng.random_range(1..8);
        let value = self.fresh();
        let sql = match self.rng.random_range(0..12) {
            0..=2 => format!("INSERT OR REPLACE INTO t VALUES({key}, {value}, {value})"),
            3 => format!("UPDATE t SET b = {value} WHERE a = {key}"),
            4 => format!("DELETE FROM t WHERE a = {key}"),
            5 => format!("INSERT OR REPLACE INTO u VALUES('k{key}', {value})"),
            6 => format!("DELETE FROM u WHERE k = 'K{key}'"),
            7 => format!("INSERT OR IGNORE INTO s VALUES(x'0{key}', {key})"),
            8 => format!("DELETE FROM s WHERE y = {key}"),
            9 => format!("UPDATE OR IGNORE t SET a = {} WHERE a = {key}", key % 7 + 1),
            10 => {
                self.lasting.push(1000 + value);
                format!("INSERT INTO t VALUES({}, 'lasts', 0)", 1000 + value)
            }
            _ => format!("UPDATE t SET c = {value}; DELETE FROM u WHERE v % 3 = 0"),
        };
        self.stores[at].run(&sql);
    }

    fn compact(&mut self, at: usize) {
        let own = self.stores[at].rows("SELECT ana_version_vector()").concat();
        let floor = match self.rng.random_range(0..3) {
            0 => own,
            _ => self.vectors[self.rng.random_range(0..self.vectors.len())].clone(),
        };
        // A floor above what is held is refused; so is nothing else.
        match self.stores[at].try_rows("SELECT ana_compact(?)", vec![text(&floor)]) {
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("sync first"), "{error}"),
        }
        self.check(at);
    }

    fn back_up(&mut self, at: usize) {
        let path = self.folder.path().join(format!("backup{}.db", self.n));
        self.n += 1;
        self.stores[at].execute("VACUUM INTO ?", vec![text(path.to_str().unwrap())]);
        self.backups.push((at, path));
    }

    /// A copy goes back to what it was; it takes from another before it writes anything.
    fn restore(&mut self) {
        if self.backups.is_empty() {
            return;
        }
        let (at, path) = self.backups.swap_remove(self.rng.random_range(0..self.backups.len()));
        // What only it has must not be lost with it: or its versions would be written twice.
        let other = (at + 1) % self.stores.len();
        self.give(at, other);
        self.stores[at] = open(&path);
        self.give(other, at);
    }

    fn check(&self, at: usize) {
        self.stores[at].expect("SELECT severity, place, what FROM ana_check", "");
    }

    /// Everybody with everybody, until nothing moves.
    fn meet(&mut self) {
        for round in 0.. {
            assert!(round < 6, "no end of changes");
            for from in 0..self.stores.len() {
                for to in (0..self.stores.len()).filter(|to| *to != from) {
                    self.give(from, to);
                }
            }
            let vectors: Vec<_> =
                self.stores.iter().map(|s| s.rows("SELECT ana_version_vector()")).collect();
            if vectors.windows(2).all(|pair| pair[0] == pair[1]) {
                break;
            }
        }
        let shown = |store: &Store, table: &str| {
            store.rows(&format!("SELECT * FROM {table} ORDER BY 1, 2"))
        };
        for at in 0..self.stores.len() {
            self.check(at);
            for table in ["t", "u", "s"] {
                assert_eq!(
                    shown(&self.stores[0], table),
                    shown(&self.stores[at], table),
                    "{table}, {at}"
                );
            }
            let digest = "SELECT hex(ana_digest())";
            assert_eq!(self.stores[0].rows(digest), self.stores[at].rows(digest));
        }
        for key in &self.buried {
            self.stores[0].expect(&format!("SELECT * FROM t WHERE a = {key}"), "");
        }
        for key in &self.lasting {
            self.stores[0].expect(&format!("SELECT b FROM t WHERE a = {key}"), "lasts");
        }
    }

    /// With all copies equal, rows that are deleted for good.
    fn bury(&mut self) {
        let at = self.any();
        let key = 5000 + self.fresh();
        self.stores[at].run(&format!("INSERT INTO t VALUES({key}, 'dies', 0)"));
        self.meet();
        let at = self.any();
        self.stores[at].run(&format!("DELETE FROM t WHERE a = {key}"));
        self.buried.push(key);
    }

    fn step(&mut self) {
        match self.rng.random_range(0..40) {
            0..=19 => {
                let at = self.any();
                self.write(at);
            }
            20..=30 => {
                let (from, to) = (self.any(), self.any());
                if from != to {
                    self.give(from, to);
                }
            }
            31..=34 => {
                let at = self.any();
                self.compact(at);
            }
            35 => {
                let at = self.any();
                self.back_up(at);
            }
            36 => self.restore(),
            37 => {
                let at = self.any();
                let vector = self.stores[at].rows("SELECT ana_version_vector()").concat();
                self.vectors.push(vector);
            }
            38 => self.meet(),
            _ => self.bury(),
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..80 {
        world.step();
    }
    world.meet();
}

#[test]
fn copies_that_forget_become_equal() {
    let (first, n) = match std::env::var("ANABRANCH_SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) => (0, std::env::var("ANABRANCH_SEEDS").map_or(12, |n| n.parse().unwrap())),
    };
    for seed in first..first + n {
        let run = std::panic::catch_unwind(|| run(seed));
        assert!(run.is_ok(), "seed {seed}: replay with ANABRANCH_SEED={seed}");
    }
}
