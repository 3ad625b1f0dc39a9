//! What one connection keeps, and how it is installed.
//!
//! The functions and tables that SQLite owns hold the context; the context holds handles of
//! the connection, never SQLite itself. So everything goes when the connection closes, once
//! the kept statements are dropped, which is done when the closing starts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anabranch_sqlite::{Db, SqlError};
use hashbrown::HashSet;

use crate::base::BaseTables;
use crate::capture::CaptureState;
use crate::clock::Clock;
use crate::delta::DeltaState;
use crate::error::Result;
use crate::identity::Identity;
use crate::ids::TableId;
use crate::merge::Recent;
use crate::metadata::Metadata;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::transaction::{Transaction, TransactionStatements};

/// A function that only we have: the connection is known by it.
const OURS: &str = "ana_version_vector";

/// The state of one connection, shared by all functions and tables registered on it.
pub(crate) struct Context {
    pub(crate) db: Db,
    pub(crate) metadata: RefCell<Metadata>,
    pub(crate) registry: RefCell<Registry>,
    pub(crate) transaction: RefCell<Transaction>,
    pub(crate) transaction_statements: TransactionStatements,
    pub(crate) capture: CaptureState,
    /// Kept statements on the users' tables.
    pub(crate) base: RefCell<BaseTables>,
    /// What the last change through `crsql_changes` looked at.
    pub(crate) recent: Recent,
    /// `crsql_internal_sync_bit`: a merge writes the base table, capture stands aside.
    pub(crate) sync_bit: Cell<bool>,
    /// `crsql_rows_impacted`.
    pub(crate) impacted: Cell<u64>,
    /// Settings in the file.
    pub(crate) settings: Settings,
    /// `ana_author`: who, in every change of this connection.
    pub(crate) author: RefCell<Option<Rc<str>>>,
    /// The present transaction is enrolled: SQLite will tell its end.
    pub(crate) is_followed: Cell<bool>,
    /// Something was undone while metadata or registry were in use.
    pub(crate) must_forget: Cell<bool>,
    /// The wall clock.
    pub(crate) clock: Clock,
    /// What the doors for deltas keep.
    pub(crate) delta: DeltaState,
    /// Which file this is.
    pub(crate) identity: Identity,
    /// Tables whose rows and clocks were found not to agree: `crsql_as_crr` mends them.
    pub(crate) unmatched: RefCell<HashSet<TableId>>,
}

impl Context {
    /// Notices what other connections committed and how the schema changed. Call it at the
    /// first use in each statement.
    pub(crate) fn refresh(&self) -> Result<()> {
        self.settle();
        self.registry.borrow_mut().refresh(&self.db, self.is_followed.get())?;
        self.metadata.borrow_mut().refresh()?;
        self.settings.follow(self.metadata.borrow().commits_noticed());
        Ok(())
    }

    /// Makes metadata and registry forget, if something was undone, as soon as nobody uses
    /// them: SQLite tells of it also from inside a statement of theirs.
    pub(crate) fn settle(&self) {
        if !self.must_forget.get() {
            return;
        }
        let (metadata, registry) = (self.metadata.try_borrow_mut(), self.registry.try_borrow_mut());
        if let (Ok(mut metadata), Ok(mut registry)) = (metadata, registry) {
            self.settings.forget();
            metadata.invalidate();
            registry.invalidate();
            self.must_forget.set(false);
        }
    }

    /// Drops all kept statements; they are compiled again when they are needed.
    pub(crate) fn drop_statements(&self) {
        self.base.borrow_mut().clear();
        self.registry.borrow().drop_statements();
        self.transaction_statements.clear();
        self.metadata.borrow_mut().drop_statements();
    }
}

/// Teaches a connection everything: makes our tables in a fresh database, registers all
/// functions and virtual tables. A second time changes nothing.
///
/// # Errors
/// A file of an older cr-sqlite or a newer Anabranch, a fresh read-only database, and
/// whatever SQLite says. Nothing is registered then that would not work.
pub fn install(db: &Db) -> std::result::Result<(), SqlError> {
    install_with_clock(db, crate::clock::system())
}

/// As [`install`], with a clock of the caller's.
///
/// # Errors
/// As [`install`].
pub fn install_with_clock(db: &Db, clock: Clock) -> std::result::Result<(), SqlError> {
    // Another copy of this library may have taught it.
    if !db.has_function(OURS)? {
        teach(db, clock)?;
    }
    Ok(())
}

/// Teaches a connection that knows nothing of ours; what it keeps from here on.
pub(crate) fn teach(db: &Db, clock: Clock) -> Result<Rc<Context>> {
    crate::schema::initialise(db)?;
    let cx = Rc::new(Context {
        db: db.clone(),
        metadata: RefCell::new(Metadata::open(db)?),
        registry: RefCell::new(Registry::new()),
        transaction: RefCell::default(),
        transaction_statements: TransactionStatements::new(),
        capture: CaptureState::default(),
        base: RefCell::default(),
        recent: Recent::default(),
        sync_bit: Cell::new(false),
        impacted: Cell::new(0),
        settings: Settings::read(db)?,
        author: RefCell::new(None),
        is_followed: Cell::new(false),
        must_forget: Cell::new(false),
        clock,
        delta: DeltaState::default(),
        identity: Identity::default(),
        unmatched: RefCell::default(),
    });
    register(&cx)?;
    Ok(cx)
}

fn register(cx: &Rc<Context>) -> Result<()> {
    crate::transaction::register(cx)?;
    crate::capture::register(cx)?;
    crate::functions::register(cx)?;
    crate::blob::register(cx)?;
    crate::changes::register(cx)?;
    crate::delta::register(cx)?;
    crate::compact::register(cx)?;
    crate::repair::register(cx)?;
    crate::digest::register(cx)?;
    crate::check::register(cx)?;
    crate::report::register(cx)?;
    crate::writers::register(cx)?;
    crate::identity::register(cx)?;
    let held = Rc::downgrade(cx);
    cx.db.before_close(move || {
        if let Some(cx) = held.upgrade() {
            cx.drop_statements();
        }
    })?;
    cx.registry.borrow().prepare(&cx.db)?;
    cx.transaction_statements.prepare(&cx.db)?;
    Ok(())
}
