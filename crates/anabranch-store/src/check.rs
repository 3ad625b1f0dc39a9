//! `ana_check`: every invariant, looked at.
//!
//! The log and the clocks check themselves ([`crate::metadata`]); here they are compared
//! with what they speak of: the users' rows, the triggers, the tables as they are declared.
//! Cost: one lookup for each row, twice only where something is wrong; memory does not
//! grow with the rows.

use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::VersionVector;
use anabranch_sqlite::SqlError;
use hashbrown::HashMap;

use crate::base::{self, quote_name, quote_text};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{Key, TableId};
use crate::limits::MAX_FINDINGS;
use crate::listing::{Arguments, Listing, all};
use crate::registry::TableInfo;
use crate::shape::text;
use crate::{snapshot, transaction};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// An invariant is broken.
    Error,
    /// Nothing is broken, but writes may be missed.
    Warning,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// Table and row.
    pub(crate) place: String,
    pub(crate) what: String,
}

/// Findings so far, bounded.
#[derive(Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    n_unlisted: usize,
}

impl Findings {
    pub(crate) fn error(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.add(Severity::Error, place.into(), what.into());
    }

    pub(crate) fn warning(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.add(Severity::Warning, place.into(), what.into());
    }

    /// Damage that ended a look is a finding, and what can be looked at still is; other errors
    /// end the check.
    fn note(&mut self, looked: Result<()>) -> Result<()> {
        match looked {
            Err(StoreError::Damaged { place, what }) => {
                self.error(place, format!("{what}: what depends on it was not looked at"));
                Ok(())
            }
            other => other,
        }
    }

    fn add(&mut self, severity: Severity, place: String, what: String) {
        if self.list.len() < MAX_FINDINGS {
            self.list.push(Finding { severity, place, what });
        } else {
            self.n_unlisted += 1;
        }
    }

    fn rows(mut self) -> Vec<Vec<Value>> {
        if self.n_unlisted > 0 {
            let what = format!("{} more findings are not listed", self.n_unlisted);
            let severity = Severity::Error;
            self.list.push(Finding { severity, place: "ana_check".into(), what });
        }
        let text = |words: &str| Value::Text(words.as_bytes().to_vec());
        let row = |finding: &Finding| {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            vec![text(severity), text(&finding.place), text(&finding.what)]
        };
        self.list.iter().map(row).collect()
    }
}

/// Registers the table: `SELECT * FROM ana_check`, with or without parentheses.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let at = cx.clone();
    let check = Listing {
        declaration: "CREATE TABLE x(severity TEXT, place TEXT, what TEXT)",
        arguments: &[],
        ordered_by: None,
        start: move |_: Arguments| Ok(all(snapshot::read(&at, || check(&at))?.rows())),
    };
    cx.db.create_table("ana_check", false, check)
}

/// Looks at everything. This transaction's own writes are flushed first: they are checked
/// like what is committed.
pub(crate) fn check(cx: &Context) -> Result<Findings> {
    if cx.transaction.borrow().has_writes() {
        transaction::flush(cx)?;
    }
    let mut findings = Findings::default();
    let tables = cx.registry.borrow().all();
    for table in &tables {
        check_declaration(cx, table, &mut findings)?;
    }
    check_vanished(cx, &mut findings)?;
    let looked = cx
        .metadata
        .borrow_mut()
        .check(&mut |severity, place, what| findings.add(severity, place, what));
    findings.note(looked)?;
    let looked = crate::delta::check_held(cx, &mut findings);
    findings.note(looked)?;
    let looked = check_rows(cx, &tables, &mut findings);
    findings.note(looked)?;
    Ok(findings)
}

/// The columns and triggers of a table against those that are replicated and captured.
fn check_declaration(cx: &Context, table: &TableInfo, findings: &mut Findings) -> Result<()> {
    let place = format!("table {}", table.name);
    if table.is_stale {
        let quoted = quote_text(&table.name);
        let what = "its columns or triggers are not those that are replicated: run SELECT";
        findings.error(place.clone(), format!("{what} crsql_as_crr({quoted})"));
    }
    let mut outrunning: Vec<String> = table.outrun_by.iter().cloned().collect();
    let temporary = cx.db.query_rows(
        "SELECT name FROM temp.sqlite_master WHERE type = 'trigger' AND tbl_name = ?1
         AND (sql LIKE '%raise%ignore%' OR sql LIKE '%raise%fail%')",
        &[ValueRef::Text(table.name.as_bytes())],
    )?;
    outrunning.extend(temporary.iter().filter_map(|row| row.first()).map(text));
    for trigger in outrunning {
        let what = "fires before ours and may skip them: writes it lets pass are not captured";
        findings.warning(place.clone(), format!("trigger {trigger} {what}"));
    }
    Ok(())
}

/// Tables that are registered and exist, and whose triggers are gone.
fn check_vanished(cx: &Context, findings: &mut Findings) -> Result<()> {
    let sql = "SELECT DISTINCT s.name FROM main.ana_registry AS r JOIN main.sqlite_master AS s
               ON s.name = r.name AND s.type = 'table'";
    for row in cx.db.query_rows(sql, &[])? {
        let name = text(&row[0]);
        if cx.registry.borrow().by_name(&name).is_none() {
            let quoted = quote_text(&name);
            let what = "its triggers are gone: writes are not captured; run SELECT";
            findings.warning(format!("table {name}"), format!("{what} crsql_as_crr({quoted})"));
        }
    }
    Ok(())
}

/// Compares users' rows with clocks, both ways: each clock that is alive must have a row;
/// where there are more rows than such clocks, each row is asked for its clock.
fn check_rows(cx: &Context, tables: &[Rc<TableInfo>], findings: &mut Findings) -> Result<()> {
    let mut n_alive = count_alive(cx, findings)?;
    for table in tables.iter().filter(|table| !table.is_stale) {
        let sql = format!("SELECT count(*) FROM main.{}", quote_name(&table.name));
        let n_rows = match cx.db.query_value(&sql, &[])? {
            Some(Value::Integer(n_rows)) => n_rows.cast_unsigned(),
            _ => 0,
        };
        if n_rows != n_alive.remove(&table.id).unwrap_or(0) {
            find_rows_without_clock(cx, table, findings)?;
        }
    }
    Ok(())
}

/// Clocks that are alive and have their row, by table; those without one are findings.
fn count_alive(cx: &Context, findings: &mut Findings) -> Result<HashMap<TableId, u64>> {
    let mut counts: HashMap<TableId, u64> = HashMap::new();
    let mut last: Option<(TableId, Key)> = None;
    let mut scan = cx.metadata.borrow_mut().scan_above(&VersionVector::new(), &HashMap::new())?;
    loop {
        // The borrow ends before users' rows are read.
        let batch = scan.next_batch(&mut cx.metadata.borrow_mut())?;
        if batch.is_empty() {
            return Ok(counts);
        }
        for record in batch {
            let is_same =
                last.as_ref().is_some_and(|(t, k)| (*t, k) == (record.table, &record.key));
            if is_same {
                continue;
            }
            let table = cx.registry.borrow().by_id(record.table);
            if let Some(table) = table.filter(|table| !table.is_stale) {
                let is_there = base::read_with(cx, &table, &record.key, |_| ())?.is_some();
                let is_alive = record.causal_length % 2 == 1;
                if is_alive && is_there {
                    *counts.entry(table.id).or_default() += 1;
                } else if is_alive {
                    cx.unmatched.borrow_mut().insert(table.id);
                    let what = "its clock says that the row is alive, the table has none";
                    findings.error(place(&table, &record.key), what);
                }
            }
            last = Some((record.table, record.key));
        }
    }
}

fn find_rows_without_clock(cx: &Context, table: &TableInfo, findings: &mut Findings) -> Result<()> {
    let names: Vec<String> = table.key.iter().map(|part| quote_name(&part.name)).collect();
    let sql = format!("SELECT {} FROM main.{}", names.join(", "), quote_name(&table.name));
    let mut rows = cx.db.prepare(&sql)?;
    while rows.step()? {
        let values: Vec<ValueRef<'_>> = (0..names.len()).map(|i| rows.column(i)).collect();
        let Ok(folded) = key::fold(&values, &table.key_columns) else {
            findings.error(format!("table {}", table.name), "a row with a key that cannot be one");
            continue;
        };
        let clock = cx.metadata.borrow_mut().row(table.id, &folded)?;
        if !clock.as_ref().is_some_and(|clock| clock.is_alive()) {
            cx.unmatched.borrow_mut().insert(table.id);
        }
        match clock {
            None => findings.error(place(table, &folded), "the row has no clock"),
            Some(clock) if !clock.is_alive() => {
                findings.error(place(table, &folded), "the row is there, its clock says deleted");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Names a row by its packed key.
fn place(table: &TableInfo, folded: &[u8]) -> String {
    let key = table.pack_folded(folded).unwrap_or_else(|_| folded.to_vec());
    let hex: String = key.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    format!("table {}, row x'{hex}'", table.name)
}
