//! `ana_quarantine`: the changes that are held and not shown, and why.

use std::rc::Rc;

use anabranch_core::key;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::VersionVector;
use anabranch_sqlite::SqlError;

use super::held;
use crate::check::Findings;
use crate::context::Context;
use crate::error::Result;
use crate::listing::{Arguments, Listing, Rows};

/// Changes that are read at a time.
const PAGE: &str = "SELECT site, version, time, tbl, pk, reason FROM main.ana_held
    WHERE (site, version) > (?1, ?2) ORDER BY site, version LIMIT 256";

/// Registers the table.
pub(super) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let at = cx.clone();
    let quarantine = Listing {
        declaration: "CREATE TABLE x(site BLOB, version INTEGER, time INTEGER, \"table\" TEXT, \
                      pk BLOB, reason TEXT)",
        arguments: &[],
        ordered_by: None,
        start: move |_: Arguments| Ok(rows(&at)),
    };
    cx.db.create_table("ana_quarantine", false, quarantine)
}

fn rows(cx: &Rc<Context>) -> Rows {
    let cx = cx.clone();
    let mut after = [Value::Blob(Vec::new()), Value::Integer(0)];
    let mut page = Vec::new().into_iter();
    Box::new(move || {
        if let Some(row) = page.next() {
            return Ok(Some(row));
        }
        let rows = cx.db.query_rows(PAGE, &[after[0].as_ref(), after[1].as_ref()])?;
        if let Some(last) = rows.last() {
            after = [last[0].clone(), last[1].clone()];
        }
        page = rows.into_iter();
        Ok(page.next())
    })
}

/// What is held must be of changes that the vector covers, and be operations.
pub(crate) fn check(cx: &Context, findings: &mut Findings) -> Result<()> {
    let vector = cx.metadata.borrow().vector();
    for row in rows_of(cx, "SELECT site, version FROM main.ana_held")? {
        if !is_covered(&vector, &row[0], &row[1]) {
            let what = "a change is said to be held that the vector does not cover";
            findings.error("ana_held", what);
        }
    }
    let mut name = String::new();
    while let Some(table) = held::next_table(cx, &name)? {
        let mut after = Vec::new();
        loop {
            let rows = held::rows_after(cx, &table, &after)?;
            let Some(last) = rows.last() else { break };
            after = last.key.clone();
            for row in &rows {
                if let Some(what) = fault(&vector, row) {
                    findings.error(format!("ana_held_cell, table {table}"), what);
                }
            }
        }
        name = table;
    }
    Ok(())
}

fn rows_of(cx: &Context, sql: &str) -> Result<Vec<Vec<Value>>> {
    Ok(cx.db.query_rows(sql, &[])?)
}

fn is_covered(vector: &VersionVector, site: &Value, version: &Value) -> bool {
    let (ValueRef::Blob(site), ValueRef::Integer(version)) = (site.as_ref(), version.as_ref())
    else {
        return false;
    };
    let held = SiteId::new(site).map_or(0, |site| vector.version(site));
    (1..=held.cast_signed()).contains(&version)
}

fn fault(vector: &VersionVector, row: &held::HeldRow) -> Option<&'static str> {
    let births = row.births.iter().map(|birth| birth.change);
    let changes = births.chain(row.cells.iter().map(|cell| cell.change));
    let is_covered = |change: super::error::ChangeName| {
        (1..=vector.version(change.site)).contains(&change.version)
    };
    if !{ changes }.all(is_covered) {
        return Some("an operation of a change that the vector does not cover");
    }
    if row.causal_length == 0 || row.causal_length.is_multiple_of(2) && !row.cells.is_empty() {
        return Some("a causal length that no operation has");
    }
    key::check_packed(&row.pk).is_err().then_some("a key that is no packed key")
}
