//! Which file this is: a database file that was copied goes on under another site id.
//!
//! The host of our library says where the file lies (a hash; this crate looks at no files);
//! `ana_meta` remembers where it lay when it was last written. If the two differ, the next
//! write, whatever its door, takes a new site id first, in the same transaction. Without a
//! word from the host nothing happens: the bare extension keeps the site id.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::SqlError;
use anabranch_sqlite::function::Flags;

use crate::context::Context;
use crate::error::{Result, StoreError};

/// Bytes of a place: a hash of this length.
const PLACE_BYTES: usize = 32;

/// What a connection knows about its file.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// Where the file lies; `None`: nobody said.
    place: RefCell<Option<Vec<u8>>>,
    /// Whether the next write must compare: at first, and after something was undone.
    must_compare: Cell<bool>,
}

impl Identity {
    /// Something was undone, perhaps a new site id too.
    pub(crate) fn compare_again(&self) {
        self.must_compare.set(self.place.borrow().is_some());
    }
}

/// Registers `ana_internal_place`.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let flags = Flags { direct_only: true, ..Flags::default() };
    let at = cx.clone();
    cx.db.create_function("ana_internal_place", 1, flags, move |call| {
        let place = match call.arg(0) {
            ValueRef::Blob(place) if place.len() == PLACE_BYTES => place.to_vec(),
            _ => return Err(SqlError::new("ana_internal_place: the place must be 32 bytes")),
        };
        at.identity.place.replace(Some(place));
        remember_first(&at)?;
        at.identity.compare_again();
        Ok(Value::Null)
    })
}

/// Remembers the place of a file that has none yet, unless it cannot be written just now:
/// then the next write does.
fn remember_first(cx: &Context) -> Result<()> {
    if cx.db.is_read_only() || !cx.db.is_autocommit() || stored(cx)?.is_some() {
        return Ok(());
    }
    match remember(cx, "INSERT OR IGNORE") {
        Err(StoreError::Sql(error))
            if matches!(error.primary(), SqlError::BUSY | SqlError::LOCKED) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Called when a transaction begins to write: takes a new site id if the file is a copy.
///
/// # Errors
/// SQLite's; nobody may write then.
pub(crate) fn before_write(cx: &Context) -> Result<()> {
    if !cx.identity.must_compare.get() {
        return Ok(());
    }
    let is_copy = match stored(cx)? {
        Some(place) => cx.identity.place.borrow().as_ref() != Some(&place),
        None => false,
    };
    if is_copy {
        cx.metadata.borrow_mut().take_site(random_site()?)?;
    }
    remember(cx, "REPLACE")?;
    cx.identity.must_compare.set(false);
    Ok(())
}

fn stored(cx: &Context) -> Result<Option<Vec<u8>>> {
    match cx.db.query_value("SELECT value FROM main.ana_meta WHERE key = 'place'", &[])? {
        Some(Value::Blob(place)) => Ok(Some(place)),
        _ => Ok(None),
    }
}

fn remember(cx: &Context, verb: &str) -> Result<()> {
    let place = cx.identity.place.borrow();
    let Some(place) = &*place else { return Ok(()) };
    let sql = format!("{verb} INTO main.ana_meta(key, value) VALUES('place', ?1)");
    Ok(cx.db.execute(&sql, &[ValueRef::Blob(place)])?)
}

pub(crate) fn random_site() -> Result<SiteId> {
    let mut random = [0; 16];
    crate::random::fill(&mut random).map_err(|error| {
        StoreError::Refused(format!("the system gives no random numbers: {error}"))
    })?;
    Ok(SiteId::from_random(random))
}
