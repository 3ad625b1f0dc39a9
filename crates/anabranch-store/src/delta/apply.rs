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

use anabranch_core::change::ChangeHeader;
use anabranch_core::delta::{Delta, SaltRun};
use anabranch_core::site::SiteId;
use anabranch_core::value::ValueRef;
use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{self, Bounds, Decoder, PartHead, WireError};
use anabranch_sqlite::SqlError;
use anabranch_sqlite::vtab::{Constraint, Cursor, Nothing, OrderTerm, Plan, Table};

use super::error::ChangeName;
use super::holding::Reason;
use super::intake::Intake;
use super::names::Names;
use super::{Applied, DeltaError, complete, held, names, show, stage};
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
    let mut start = Start::default();
    let mut intake: Option<Intake<'_>> = None;
    for n in 0..of {
        parts(n, &mut |part| {
            let piece = decoder.push(part).map_err(DeltaError::from)?;
            if let Some(bounds) = piece.bounds {
                start.bounds = bounds;
            }
            start.salts.extend(piece.salts);
            start.headers.extend(piece.headers);
            if piece.tables.is_empty() {
                return Ok(());
            }
            let intake = match &mut intake {
                Some(intake) => intake,
                None => intake.insert(start.finish(cx)?),
            };
            piece.tables.iter().try_for_each(|table| intake.table(table))
        })?;
    }
    decoder.finish().map_err(DeltaError::from)?;
    let intake = match intake {
        Some(intake) => intake,
        None => start.finish(cx)?,
    };
    intake.finish()
}

/// What a delta says before its rows.
#[derive(Default)]
struct Start {
    bounds: Bounds,
    salts: Vec<SaltRun>,
    headers: Vec<ChangeHeader>,
}

impl Start {
    /// Checks the headers, writes those that are new, and moves the vector.
    fn finish<'a>(&mut self, cx: &'a Context) -> Result<Intake<'a>> {
        let Bounds { from, to, seen, sites, complete } = std::mem::take(&mut self.bounds);
        let headers = std::mem::take(&mut self.headers);
        let salts = std::mem::take(&mut self.salts);
        let delta = Delta { from, to, seen, sites, complete, salts, headers, tables: Vec::new() };
        delta.verify_chains().map_err(|error| DeltaError::from(WireError::from(error)))?;
        let ours = cx.metadata.borrow().vector();
        let names = names::of(cx, &delta, &ours)?;
        let is_new = |header: &&ChangeHeader| !names.is_held(header.site, header.version);
        let headers: Vec<ChangeHeader> =
            delta.headers.iter().filter(is_new).map(|header| names.header(header)).collect();
        refuse_future(&headers, (cx.clock)())?;
        names.heal(cx)?;
        let headers = by_time(in_order(headers));
        names.begin_branches(cx, &ours)?;
        let mut intake = Intake::new(cx, &delta.sites, &headers, &names)?;
        let after = super::log_position(cx)?;
        cx.delta.applied.replace(Applied { after, tables: Vec::new() });
        let doubts = has_unseen(&cx.metadata.borrow_mut().floor()?, &delta, &names);
        let lacking = complete::begin(cx, &delta, &names)?;
        if !headers.is_empty() {
            cx.metadata.borrow_mut().append_headers(&headers)?;
        }
        intake.doubts = doubts;
        intake.lacking = lacking;
        Ok(intake)
    }
}

/// Whether a maker of the delta had not seen all that was forgotten here, and may not have known
/// that a row is dead. What is above `from` the delta tells itself.
fn has_unseen(floor: &VersionVector, delta: &Delta, names: &Names) -> bool {
    let is_unseen = |seen: &VersionVector| {
        let (seen, from) = (names.vector(seen), names.vector(&delta.from));
        let told = |site, version: u64| version.min(from.version(site));
        floor.iter().any(|(site, low)| seen.version(site) < told(site, low.version))
    };
    !floor.is_at_or_below(&names.vector(&delta.to)) || delta.seen.as_ref().is_some_and(is_unseen)
}

/// Headers by the names that they have here.
fn in_order(mut headers: Vec<ChangeHeader>) -> Vec<ChangeHeader> {
    headers.sort_by_key(|header| (header.site, header.version));
    headers
}

fn refuse_future(headers: &[ChangeHeader], now_ms: u64) -> Result<()> {
    for ChangeHeader { site, version, time, .. } in headers {
        let change = ChangeName { site: *site, version: *version };
        time.check_ahead(now_ms).map_err(|source| DeltaError::ClockAhead { change, source })?;
    }
    Ok(())
}

/// Orders headers as they may have happened, each site's by version: the log of a copy
/// reads as a story, and what a change depends on stands before it where clocks are honest.
fn by_time(headers: Vec<ChangeHeader>) -> Vec<ChangeHeader> {
    let mut latest: Option<(SiteId, u64)> = None;
    let mut timed: Vec<(u64, ChangeHeader)> = Vec::with_capacity(headers.len());
    for header in headers {
        // A site's times never fall; where they do, a later change counts as that late.
        let floor = latest.filter(|(site, _)| *site == header.site).map_or(0, |(_, time)| time);
        let time = header.time.0.max(floor);
        latest = Some((header.site, time));
        timed.push((time, header));
    }
    timed.sort_by_key(|(time, header)| (*time, header.site, header.version));
    timed.into_iter().map(|(_, header)| header).collect()
}
