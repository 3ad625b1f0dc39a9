//! Taking a delta: whole, or not at all.
//!
//! The work runs inside an INSERT into a hidden table, so that SQLite brackets it like any
//! statement of its own: whatever fails inside is undone with all it wrote, in autocommit,
//! inside a transaction, and inside another writing statement.
//!
//! Order: the bytes and their bounds (the core's decoder), chains against what is held, which
//! say what the delta's names mean here, clocks; then forks are healed, then come (of a complete
//! delta) the floor, headers, then rows as they are decoded, one part at a time. When
//! constraints of this copy refuse rows, all is undone and done again without the changes
//! that wrote them: these are held.

use std::rc::Rc;

use anabranch_core::value::ValueRef;
use anabranch_core::wire::{self, Decoder, PartHead, WireError};
use anabranch_sqlite::SqlError;
use anabranch_sqlite::vtab::{Constraint, Cursor, Nothing, OrderTerm, Plan, Table};

use super::holding::Reason;
use super::intake::Intake;
use super::start::Start;
use super::{DeltaError, held, show, stage};
use crate::atomic::{Bracket, atomically};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::limits::MAX_HOLD_PASSES;
use crate::transaction;

/// The extended code of a foreign key that does not hold.
const SQLITE_CONSTRAINT_FOREIGNKEY: i32 = 19 | 3 << 8;

/// Name of the hidden table; its one column takes parts, one behind the other.
const TABLE: &str = "ana_internal_apply";

/// The number of changes newly held. What of them a constraint of this copy refuses is not
/// shown; what was held before is tried again.
///
/// # Errors
/// [`DeltaError`], and what befell SQLite; nothing is changed then.
pub(super) fn apply(cx: &Context, bytes: ValueRef<'_>) -> Result<u64> {
    passes(cx, bytes)?;
    let n_applied = cx.delta.n_applied.get();
    show::after_apply(cx)?;
    Ok(n_applied)
}

/// Takes a delta, or (NULL) what is held: again and again, each time without the changes that
/// the time before could not be shown, until nothing is refused.
///
/// # Errors
/// As [`apply`].
pub(super) fn passes(cx: &Context, bytes: ValueRef<'_>) -> Result<()> {
    cx.delta.holding.take();
    let result = hold_until_taken(cx, bytes);
    cx.delta.holding.take();
    cx.delta.blamed.take();
    result
}

fn hold_until_taken(cx: &Context, bytes: ValueRef<'_>) -> Result<()> {
    let is_own = cx.db.is_autocommit() && !cx.db.is_writing();
    let is_again = matches!(bytes, ValueRef::Null);
    for n in 1.. {
        cx.delta.blamed.take();
        let Err(error) = pass(cx, bytes, is_own) else { return Ok(()) };
        let mut found = cx.delta.blamed.take();
        if is_deferred(&error) && is_own {
            found.hold_all(Reason::new("", &[], error.to_string()));
        }
        // What undid the host's transaction undid more than can be tried again.
        let is_undone = !is_own && !cx.is_followed.get();
        let was_all = cx.delta.holding.borrow().is_all();
        if found.is_empty() || is_undone || was_all {
            return Err(error);
        }
        let mut holding = cx.delta.holding.borrow_mut();
        holding.extend(found);
        if n >= MAX_HOLD_PASSES {
            let reason = holding.any_reason();
            holding.hold_all(reason);
        }
        let n_left_out = holding.len() as u64;
        let is_all = holding.is_all();
        drop(holding);
        if is_again && (is_all || n_left_out >= held::n_changes(cx)?) {
            // Nothing could be shown that was not: all stays as it was.
            return Ok(());
        }
    }
    Ok(())
}

/// A constraint that is looked at when the transaction commits: whose fault it is nobody knows.
fn is_deferred(error: &StoreError) -> bool {
    matches!(error, StoreError::Sql(SqlError { code: SQLITE_CONSTRAINT_FOREIGNKEY, .. }))
}

fn pass(cx: &Context, bytes: ValueRef<'_>, is_own: bool) -> Result<()> {
    let rowid = cx.db.last_insert_rowid();
    // Of a SELECT, SQLite takes a savepoint, and saves each page that is written; of VALUES
    // it takes none, and in a transaction of our own none is needed.
    let source = if is_own { "VALUES(?1)" } else { "SELECT ?1" };
    let insert = format!("INSERT INTO {TABLE}(parts) {source}");
    let work = || Ok(cx.db.execute(&insert, &[bytes])?);
    let result = match is_own {
        true => atomically(&cx.db, Bracket::Transaction, work),
        false => work(),
    };
    cx.db.set_last_insert_rowid(rowid);
    result
}

/// Registers the hidden table.
pub(super) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    cx.db.create_table(TABLE, false, Door { cx: cx.clone() })
}

struct Door {
    cx: Rc<Context>,
}

impl Table for Door {
    fn declaration(&self) -> String {
        "CREATE TABLE x(parts)".into()
    }

    fn plan(
        &self,
        constraints: &[Constraint],
        _: &[OrderTerm],
    ) -> std::result::Result<Plan, SqlError> {
        let n = constraints.len();
        Ok(Plan { arguments: vec![None; n], omit: vec![false; n], ..Plan::default() })
    }

    fn open(&self) -> std::result::Result<Box<dyn Cursor>, SqlError> {
        Ok(Box::new(Nothing))
    }

    fn insert(&self, values: &[ValueRef<'_>]) -> std::result::Result<i64, SqlError> {
        self.cx.delta.n_applied.set(0);
        match values.first() {
            Some(ValueRef::Blob(bytes)) => self.cx.delta.n_applied.set(take(&self.cx, bytes)?),
            Some(ValueRef::Null) => show::pass(&self.cx)?,
            _ => return Err(SqlError::new("ana_apply: the delta must be a BLOB")),
        }
        if self.cx.delta.blamed.borrow().is_empty() {
            return Ok(0);
        }
        Err(SqlError::new("changes that this copy cannot show: they are to be left out"))
    }
}

/// Applies a whole delta, or stages parts and applies them when the last is there.
fn take(cx: &Context, bytes: &[u8]) -> Result<u64> {
    // A copy that goes on under another site id does so before it takes anything.
    transaction::enrol(cx)?;
    // Something may have been undone since this transaction was enrolled.
    cx.refresh()?;
    let parts = wire::split(bytes).map_err(DeltaError::from)?;
    let heads: Vec<PartHead> = parts
        .iter()
        .map(|part| wire::part_head(part).map(|(head, _)| head))
        .collect::<std::result::Result<_, _>>()
        .map_err(DeltaError::from)?;
    let Some(first) = heads.first() else {
        return Err(DeltaError::from(WireError::NotAPart).into());
    };
    let is_whole = heads.len() == first.of as usize
        && heads.iter().zip(0..).all(|(head, n)| (head.delta, head.part) == (first.delta, n));
    if is_whole {
        return join(cx, first.of, &mut |n, push| push(parts[n as usize]));
    }
    let mut n_changes = 0;
    for (head, part) in heads.into_iter().zip(parts) {
        if stage::keep(cx, head, part)? {
            let delta = head.delta;
            n_changes += join(cx, head.of, &mut |n, push| push(&stage::part(cx, &delta, n)?))?;
            stage::forget(cx, &delta)?;
        }
    }
    Ok(n_changes)
}

/// Hands out part `n` of a delta, for as long as the call lasts.
type Parts<'a> = dyn FnMut(u32, &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> + 'a;

/// Decodes the parts one by one and merges what they bring.
fn join(cx: &Context, of: u32, parts: &mut Parts<'_>) -> Result<u64> {
    let mut decoder = Decoder::new();
    // Until the first row, and from there on.
    let (mut start, mut intake): (Option<Start>, Option<Intake<'_>>) = (None, None);
    for n in 0..of {
        parts(n, &mut |part| {
            let piece = decoder.push(part).map_err(DeltaError::from)?;
            if let Some(bounds) = piece.bounds {
                start = Some(Start::new(bounds));
            }
            if let Some(start) = &mut start {
                start.take(piece.salts, piece.headers)?;
            }
            if let Some(start) = start.take_if(|_| !piece.tables.is_empty()) {
                intake = Some(start.finish(cx)?);
            }
            let Some(intake) = &mut intake else { return Ok(()) };
            piece.tables.iter().try_for_each(|table| intake.table(table))
        })?;
    }
    decoder.finish().map_err(DeltaError::from)?;
    let intake = match (intake, start) {
        (Some(intake), _) => intake,
        (None, Some(start)) => start.finish(cx)?,
        (None, None) => return Err(DeltaError::from(WireError::NotAPart).into()),
    };
    intake.finish()
}
