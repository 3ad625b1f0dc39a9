//! A copy in the world: a real store on a simulated disk, what it was seen to hold, and the
//! rows that must be in it.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_sqlite::Embedded;
use anabranch_sqlite::vfs::Image;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::Wrong;
use super::book::{Author, Book, Draft};
use super::rack::{Blank, Drive, Outfit, Rack};
use super::set::Set;
use crate::model::Value;
use crate::replica::{query, text};
use crate::shapes::{SHAPES, Shape, Taste};
use crate::statements;

/// Holds every connection of a world until its end: what was killed cannot be dropped while
/// somebody may still point at it.
pub(super) struct Arena {
    slots: Vec<OnceCell<Embedded>>,
    n_used: Cell<usize>,
}

impl Arena {
    pub(super) fn new(n: usize) -> Arena {
        Arena { slots: (0..n).map(|_| OnceCell::new()).collect(), n_used: Cell::new(0) }
    }

    /// How many connections may still be opened.
    pub(super) fn n_free(&self) -> usize {
        self.slots.len() - self.n_used.get()
    }

    fn keep(&self, connection: Embedded) -> Result<&Embedded, String> {
        let slot = self.slots.get(self.n_used.get()).ok_or("the arena is full")?;
        self.n_used.set(self.n_used.get() + 1);
        Ok(slot.get_or_init(|| connection))
    }
}

/// Compiled statements that a connection keeps: all that the world and the client ask, so that
/// no world is spent on compiling.
const N_STATEMENTS: usize = 96;

/// Where a file lies: a file that was copied to another place is known to be a copy.
pub(super) type Place = (usize, u64);

/// How a copy keeps its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// `WAL` or `DELETE`.
    pub(super) journal: &'static str,
    /// Whether sync has a connection of its own.
    pub(super) has_two: bool,
    /// Whether commits are not synced, which is wrong.
    pub(super) is_careless: bool,
}

/// See the module.
pub(super) struct Site<'a> {
    pub(super) number: usize,
    drive: &'a Drive,
    arena: &'a Arena,
    shapes: Vec<&'static Shape>,
    habits: Habits,
    app: &'a Embedded,
    /// The connection that syncs.
    pub(super) sync: &'a Connection,
    /// Its clock, in Unix milliseconds.
    pub(super) wall: Rc<Cell<u64>>,
    /// How far its clock is off, in milliseconds.
    pub(super) off_ms: i64,
    /// How far it was ahead at most.
    pub(super) fastest_ms: u64,
    /// What it was last seen to hold, and how it says so.
    pub(super) held: Set,
    pub(super) seen: VersionVector,
    /// How much had been done to its disk then.
    seen_at: Option<u64>,
    draft: Option<Draft>,
    /// What was refused at its commit, by a disk that failed: it may be in the file all the
    /// same, and come to light when the file is opened anew.
    doubted: Option<Draft>,
    n_drafts: u64,
    /// Counts the files that this copy had.
    generation: u64,
    /// Where its host says that the file lies.
    pub(super) place: Place,
    /// All names that it was seen to go by.
    pub(super) names: BTreeSet<SiteId>,
    pub(super) backup: Option<Backup>,
}

/// A copy's file as it was once.
pub(super) struct Backup {
    pub(super) image: Image,
    pub(super) place: Place,
    doubted: Option<Draft>,
}

/// Tables that every world has: what is written together, what is deleted for good.
const TABLES: [(&str, &str); 4] = [
    ("mark", "CREATE TABLE mark(id TEXT PRIMARY KEY NOT NULL, note)"),
    ("pair_a", "CREATE TABLE pair_a(id INTEGER PRIMARY KEY NOT NULL, v)"),
    ("pair_b", "CREATE TABLE pair_b(id INTEGER PRIMARY KEY NOT NULL, w, v)"),
    ("grave", "CREATE TABLE grave(id TEXT PRIMARY KEY NOT NULL, v)"),
];

/// What a new copy is told.
pub(super) struct Birth<'a> {
    pub(super) number: usize,
    pub(super) rack: &'a Rack,
    pub(super) arena: &'a Arena,
    /// The tables of [`SHAPES`] that it has, as bits.
    pub(super) shapes: u32,
    pub(super) habits: Habits,
    pub(super) name: SiteId,
}

impl<'a> Site<'a> {
    pub(super) fn new(birth: Birth<'a>) -> Result<Site<'a>, String> {
        let Birth { number, rack, arena, habits, .. } = birth;
        let drive = &rack.sites[number];
        let shapes: Vec<&'static Shape> = SHAPES
            .iter()
            .enumerate()
            .filter(|(bit, _)| birth.shapes & 1 << bit != 0)
            .map(|(_, shape)| shape)
            .collect();
        let outfit = (birth.shapes, habits.journal);
        let blank = rack.blank(outfit, || make_blank(drive, outfit, &shapes))?;
        drive.wipe();
        drive.disk.write(FILE, &blank.of(birth.name));
        let wall = Rc::new(Cell::new(super::START_MS));
        let place = (number, 0);
        let app = open(drive, arena, habits, &wall, place)?;
        let sync = match habits.has_two {
            true => open(drive, arena, habits, &wall, place)?,
            false => app,
        };
        Ok(Site {
            number,
            drive,
            arena,
            shapes,
            habits,
            app,
            sync,
            wall,
            off_ms: 0,
            fastest_ms: 0,
            held: Set::default(),
            seen: VersionVector::new(),
            seen_at: None,
            draft: None,
            doubted: None,
            n_drafts: 0,
            generation: 0,
            place,
            names: BTreeSet::new(),
            backup: None,
        })
    }

    pub(super) fn drive(&self) -> &'a Drive {
        self.drive
    }

    /// Opens the file anew, after its process died.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        self.draft = self.draft.take().or(self.doubted.take());
        let open = || open(self.drive, self.arena, self.habits, &self.wall, self.place);
        self.app = open()?;
        self.sync = match self.habits.has_two {
            true => open()?,
            false => self.app,
        };
        Ok(())
    }

    /// The file as it is.
    pub(super) fn back_up(&self) -> Backup {
        let doubted = self.doubted.clone();
        Backup { image: self.drive.disk.image(), place: self.place, doubted }
    }

    /// What may be in the file although nobody was told so.
    pub(super) fn doubted(&self) -> Option<Draft> {
        self.doubted.clone()
    }

    /// Puts an older file of this copy in the place of its own.
    pub(super) fn put_back(&mut self, backup: Backup) -> Place {
        self.drive.disk.restore(&backup.image);
        self.doubted = backup.doubted;
        backup.place
    }

    /// Makes the file a copy of another's.
    pub(super) fn become_clone(&mut self, of: &Drive, doubted: Option<Draft>) {
        self.drive.become_copy_of(of);
        self.doubted = doubted;
    }

    /// Opens a file that was somebody's, or this copy's own some time ago. If it still seems to
    /// lie where it lay (`was_at`), nobody notices that it is another.
    pub(super) fn take_over(
        &mut self,
        book: &mut Book,
        was_at: Option<Place>,
    ) -> Result<(), String> {
        self.generation += 1;
        self.place = was_at.unwrap_or((self.number, self.generation));
        self.draft = None;
        self.reopen()?;
        self.held = book.held_of_known(&self.vector()?);
        (self.seen, self.seen_at) = (VersionVector::new(), None);
        self.observe(book).map(drop)
    }

    /// One transaction; the error of the disk, if it did not go through.
    pub(super) fn write(
        &mut self,
        rng: &mut StdRng,
        book: &Book,
        wrong: Wrong,
    ) -> Result<(), String> {
        if wrong == Wrong::ForkedName {
            self.keep_forked_name()?;
        }
        self.n_drafts += 1;
        let mark = format!("{}.{}.{}", self.number, self.generation, self.n_drafts);
        let mut draft = Draft { mark, ..Draft::default() };
        let run = |sql: &str, params: &[Value]| query(self.app, sql, params).map(drop);
        run("BEGIN IMMEDIATE", &[])?;
        for _ in 0..rng.random_range(0..3) {
            let Some(shape) = self.shapes.choose(rng) else { break };
            let (sql, params) = statements::random(rng, shape, Taste::default());
            if let Err(error) = run(&sql, &params)
                && (error.contains("anabranch") || error.contains("panic"))
            {
                return Err(error);
            }
            if self.app.is_autocommit() {
                return Ok(());
            }
        }
        run("INSERT INTO mark VALUES(?1, 'x')", &[text(&draft.mark)])?;
        if rng.random_ratio(1, 2) {
            let id = Value::Integer(rng.random_range(0..3));
            let params = [id, text(&draft.mark)];
            let put = "ON CONFLICT(id) DO UPDATE SET v = excluded.v";
            run(&format!("INSERT INTO pair_a(id, v) VALUES(?1, ?2) {put}"), &params)?;
            if wrong != Wrong::HalfCommits {
                run(&format!("INSERT INTO pair_b(id, v) VALUES(?1, ?2) {put}"), &params)?;
            }
        }
        if rng.random_ratio(1, 3) {
            draft.born.push(format!("g{}", draft.mark));
            run("INSERT INTO grave VALUES(?1, 1)", &[text(&draft.born[0])])?;
        }
        if rng.random_ratio(1, 4)
            && let Some(row) = book.alive(&self.held).choose(rng)
        {
            draft.buried.push(row.to_string());
            run("DELETE FROM grave WHERE id = ?1", &[text(row)])?;
            if wrong == Wrong::DeadReturn {
                run("INSERT INTO grave VALUES(?1, 2)", &[text(row)])?;
            }
        }
        self.draft = Some(draft);
        run("COMMIT", &[])
    }

    /// Goes on under the name that was forked, though others call it by its branch: wrong.
    fn keep_forked_name(&mut self) -> Result<(), String> {
        let Some(branch) = self.vector()?.branch(self.name()?) else { return Ok(()) };
        let root = Value::Blob(branch.root.as_bytes().to_vec());
        let put_back = "UPDATE crsql_site_id SET site_id = ?1 WHERE ordinal = 0";
        query(
            self.app,
            "DELETE FROM crsql_site_id WHERE site_id = ?1 AND ordinal <> 0",
            std::slice::from_ref(&root),
        )?;
        query(self.app, put_back, &[root])?;
        self.reopen()
    }

    /// What it is about to write, for whoever reads the trace.
    pub(super) fn drafted(&self) -> String {
        self.draft.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Drops what the default floor covers, or all that is past.
    pub(super) fn compact(&self, has_named: bool) -> Result<(), String> {
        let floor = if has_named { "ana_version_vector()" } else { "NULL" };
        query(self.app, &format!("SELECT ana_compact({floor})"), &[]).map(drop)
    }

    /// Undoes what a failed write left open.
    pub(super) fn roll_back(&self) {
        if !self.app.is_autocommit() {
            // If it fails too, the next BEGIN says so.
            let _ = self.app.execute_batch("ROLLBACK");
        }
    }

    /// What it holds.
    pub(super) fn vector(&self) -> Result<VersionVector, String> {
        let rows = query(self.app, "SELECT ana_version_vector()", &[])?;
        let Some(Value::Text(json)) = rows.first().and_then(|row| row.first()) else {
            return Err("no vector".to_string());
        };
        let json = std::str::from_utf8(json).map_err(|error| error.to_string())?;
        VersionVector::from_json(json).map_err(|error| error.to_string())
    }

    /// Its name, as it would say it now.
    pub(super) fn name(&self) -> Result<SiteId, String> {
        name_of(self.app)
    }

    fn chain(&self, site: SiteId, version: u64) -> Result<Chain, String> {
        let params = [Value::Blob(site.as_bytes().to_vec()), Value::Integer(version as i64)];
        let rows = query(self.app, "SELECT ana_internal_chain(?1, ?2)", &params)?;
        let chain = match rows.into_iter().flatten().next() {
            Some(Value::Blob(chain)) => chain.try_into().ok().map(Chain),
            _ => None,
        };
        chain.ok_or_else(|| format!("no chain of {site} at {version}"))
    }

    /// Looks at what it holds and shows, and compares with the book; whether that has changed.
    pub(super) fn observe(&mut self, book: &mut Book) -> Result<bool, String> {
        let n_changes = self.drive.disk.n_changes();
        if self.seen_at.replace(n_changes) == Some(n_changes) {
            self.doubted = self.draft.take().or(self.doubted.take());
            return Ok(false);
        }
        let vector = self.vector()?;
        if vector == self.seen {
            self.doubted = self.draft.take().or(self.doubted.take());
            return Ok(false);
        }
        let name = self.name()?;
        let mut draft = self.draft.take();
        // What comes after it takes its place in the file.
        self.doubted = None;
        let chain_at = |site, version| self.chain(site, version);
        let author = Author { name, draft: &mut draft, chain_at: &chain_at };
        self.held = book.observe(&self.held, &vector, Some(author))?;
        self.names.insert(name);
        self.seen = vector;
        self.check_rows(book)?;
        Ok(true)
    }

    /// No change is visible in part, none is missing, none too many.
    fn check_rows(&self, book: &Book) -> Result<(), String> {
        let count = query(self.app, "SELECT count(*) FROM mark", &[])?;
        let expected = book.n_marks(&self.held);
        if count[0][0] != Value::Integer(expected as i64) {
            return Err(format!("{:?} rows of mark, {expected} changes", count[0][0]));
        }
        let halves = "SELECT id, a.v, b.v FROM pair_a a FULL JOIN pair_b b USING(id)
                      WHERE a.v IS NOT b.v";
        let halves = query(self.app, halves, &[])?;
        if !halves.is_empty() {
            return Err(format!("visible in part: {halves:?}"));
        }
        let shown: BTreeSet<String> = query(self.app, "SELECT id FROM grave", &[])?
            .into_iter()
            .filter_map(|mut row| match row.pop() {
                Some(Value::Text(id)) => String::from_utf8(id).ok(),
                _ => None,
            })
            .collect();
        book.check_graves(&self.held, &shown)
    }

    /// What it shows, in short.
    pub(super) fn digest(&self) -> Result<Value, String> {
        let rows = query(self.app, "SELECT ana_digest()", &[])?;
        rows.into_iter().flatten().next().ok_or("no digest".to_string())
    }

    /// The file checks itself.
    pub(super) fn check(&self) -> Result<(), String> {
        let findings = query(self.app, "SELECT * FROM ana_check", &[])?;
        let integrity = query(self.app, "PRAGMA integrity_check", &[])?;
        match findings.is_empty() && integrity == [[text("ok")]] {
            true => Ok(()),
            false => Err(format!("ana_check: {findings:?}, integrity: {integrity:?}")),
        }
    }
}

/// What a database is called on its disk.
const FILE: &str = "site.db";

/// Makes a database on a disk that holds nothing else, as an application would.
fn make_blank(drive: &Drive, outfit: Outfit, shapes: &[&Shape]) -> Result<Blank, String> {
    drive.wipe();
    anabranch_store::random::set_seed(Some(u64::from(outfit.0)));
    let habits = Habits { journal: outfit.1, has_two: false, is_careless: false };
    let db = connect(drive, habits, &Rc::new(Cell::new(super::START_MS)))?;
    for (name, ddl) in TABLES.into_iter().chain(shapes.iter().map(|s| (s.name, s.ddl))) {
        db.execute_batch(ddl).map_err(|error| format!("{ddl}: {error}"))?;
        query(&db, "SELECT crsql_as_crr(?1)", &[text(name)])?;
    }
    let site = name_of(&db)?;
    drop(db);
    let bytes = drive.disk.read(FILE).ok_or("the database is not on its disk")?;
    Ok(Blank::new(bytes, site))
}

fn open<'a>(
    drive: &Drive,
    arena: &'a Arena,
    habits: Habits,
    wall: &Rc<Cell<u64>>,
    place: Place,
) -> Result<&'a Embedded, String> {
    let connection = connect(drive, habits, wall)?;
    let mut name = vec![0; 32];
    name[..8].copy_from_slice(&(place.0 as u64).to_le_bytes());
    name[8..16].copy_from_slice(&(place.1 + 1).to_le_bytes());
    query(&connection, "SELECT ana_internal_place(?1)", &[Value::Blob(name)])?;
    arena.keep(connection)
}

/// A connection of which nobody says where its file lies.
fn connect(drive: &Drive, habits: Habits, wall: &Rc<Cell<u64>>) -> Result<Embedded, String> {
    let fail = |error: rusqlite::Error| format!("open: {error}");
    // One thread has it: no locks of SQLite's.
    let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let vfs = drive.vfs.as_str();
    let connection = Connection::open_with_flags_and_vfs(FILE, flags, vfs).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(N_STATEMENTS);
    // Nor is a statement compiled anew whenever it is bound to another value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(fail)?;
    let setup = format!(
        "PRAGMA journal_mode = {}; PRAGMA synchronous = {}; PRAGMA cache_size = 200",
        habits.journal,
        if habits.is_careless { "OFF" } else { "EXTRA" },
    );
    connection.execute_batch(&setup).map_err(fail)?;
    let connection = Embedded::new(connection).map_err(|error| format!("open: {error}"))?;
    let wall = Rc::clone(wall);
    anabranch_store::install_with_clock(connection.db(), Rc::new(move || wall.get()))
        .map_err(|error| format!("open: {error}"))?;
    Ok(connection)
}

fn name_of(db: &Connection) -> Result<SiteId, String> {
    match query(db, "SELECT crsql_site_id()", &[])?.pop().and_then(|mut row| row.pop()) {
        Some(Value::Blob(name)) => SiteId::new(&name).ok_or("no site id".to_string()),
        other => Err(format!("a site id {other:?}")),
    }
}
