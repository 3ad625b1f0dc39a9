//! `ana_log`: the log as a table, one row a change, oldest first.
//!
//! A change's header stands at its position; its records follow, together with those of
//! the other changes that came in the same delta: a run of heads, then a run of bodies,
//! up to the next head. So rows come out a run at a time, and a position is a seek. Beside it
//! the authors alone, for who wants nothing else of a long log.

use std::collections::VecDeque;
use std::rc::Rc;

use anabranch_core::change::ChangeKind;
use anabranch_core::value::Value;
use anabranch_sqlite::SqlError;
use anabranch_sqlite::vtab::Operator;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use std::hash::BuildHasher;

use crate::context::Context;
use crate::error::Result;
use crate::ids::{AuthorId, EntryId, LocalDot, TableId};
use crate::listing::{Arguments, Listing, Rows, all};
use crate::metadata::{self, StoredHeader};

const POSITION: i32 = 0;

/// Registers the table.
pub(crate) fn register(cx: &Rc<Context>) -> std::result::Result<(), SqlError> {
    let at = cx.clone();
    let log = Listing {
        declaration: "CREATE TABLE x(position INTEGER, site BLOB, version INTEGER, \
                      time INTEGER, author TEXT, message TEXT, kind TEXT, tables TEXT, \
                      rows INTEGER)",
        arguments: &[(POSITION, Operator::Gt), (POSITION, Operator::Ge), (POSITION, Operator::Eq)],
        ordered_by: Some(POSITION),
        start: move |arguments| rows(&at, &arguments),
    };
    cx.db.create_table("ana_log", false, log)?;
    let at = cx.clone();
    let authors = Listing {
        declaration: "CREATE TABLE x(site BLOB, author TEXT)",
        arguments: &[],
        ordered_by: None,
        start: move |_: Arguments| Ok(all(authors(&at)?)),
    };
    cx.db.create_table("ana_internal_authors", false, authors)
}

/// The author that each site named last, of those that named one.
fn authors(cx: &Rc<Context>) -> Result<Vec<Vec<Value>>> {
    cx.refresh()?;
    let mut metadata = cx.metadata.borrow_mut();
    let named = metadata.last_authors()?;
    let row = |(author, name): (AuthorId, String)| {
        let site = metadata.author_site(author)?;
        Ok(vec![Value::Blob(site.as_bytes().to_vec()), Value::Text(name.into_bytes())])
    };
    named.into_iter().map(row).collect()
}

fn rows(cx: &Rc<Context>, arguments: &Arguments) -> Result<Rows> {
    cx.refresh()?;
    let integer = |slot: usize| match &arguments[slot] {
        Some(Value::Integer(position)) => Some(*position),
        _ => None,
    };
    let equal = integer(2);
    let at_least = integer(1).max(equal).map(|first| first.saturating_sub(1));
    let after = integer(0).max(at_least).unwrap_or(0);
    let mut log = Log::after(cx.clone(), after);
    Ok(Box::new(move || {
        let row = log.next()?;
        Ok(row.filter(|row| equal.is_none_or(|last| row.position <= last)).map(LogRow::columns))
    }))
}

/// One change of the log.
struct LogRow {
    position: i64,
    header: StoredHeader,
    site: Vec<u8>,
    /// In order of first touch.
    tables: Vec<TableId>,
    names: String,
    n_rows: i64,
}

impl LogRow {
    fn columns(self) -> Vec<Value> {
        let text = |text: String| Value::Text(text.into_bytes());
        let optional = |option: Option<String>| option.map_or(Value::Null, text);
        vec![
            Value::Integer(self.position),
            Value::Blob(self.site),
            Value::Integer(self.header.version.cast_signed()),
            Value::Integer(self.header.time.millis().cast_signed()),
            optional(self.header.author_text),
            optional(self.header.message),
            text(kind_name(self.header.kind).into()),
            text(self.names),
            Value::Integer(self.n_rows),
        ]
    }
}

fn kind_name(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Edit => "edit",
        ChangeKind::Import => "import",
        ChangeKind::Schema => "schema",
        ChangeKind::Restore => "restore",
    }
}

/// A scan over the log.
struct Log {
    cx: Rc<Context>,
    /// The row to read next.
    next: EntryId,
    is_at_end: bool,
    run: Run,
    /// Complete rows.
    ready: VecDeque<LogRow>,
}

/// Heads, and what the bodies after them said so far.
#[derive(Default)]
struct Run {
    rows: Vec<LogRow>,
    by_dot: HashMap<LocalDot, usize>,
    has_bodies: bool,
    /// Hashes of (change, table, key) counted already: an operation is not a row.
    counted: HashSet<u64>,
    hasher: DefaultHashBuilder,
}

impl Log {
    fn after(cx: Rc<Context>, position: i64) -> Log {
        let next = EntryId(u64::try_from(position).map_or(1, |position| position + 1));
        Log { cx, next, is_at_end: false, run: Run::default(), ready: VecDeque::new() }
    }

    fn next(&mut self) -> Result<Option<LogRow>> {
        while self.ready.is_empty() && !self.is_at_end {
            let row = self.cx.metadata.borrow_mut().log_row(self.next)?;
            match row {
                Some((row, header)) => self.take_row(row, header)?,
                None => {
                    self.is_at_end = true;
                    self.end_run()?;
                }
            }
        }
        Ok(self.ready.pop_front())
    }

    fn take_row(&mut self, row: metadata::LogRow, header: Option<StoredHeader>) -> Result<()> {
        self.next = EntryId(row.id.0 + 1);
        if let Some(header) = header {
            if self.run.has_bodies {
                self.end_run()?;
            }
            self.run.begin(row.id, header);
        }
        self.run.has_bodies |= row.entry.is_some();
        for (dot, name) in row.records() {
            self.run.count(row.table, &dot, name);
        }
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        let run = std::mem::take(&mut self.run);
        for mut row in run.rows {
            let site = self.cx.metadata.borrow_mut().author_site(row.header.author)?;
            row.site = site.as_bytes().to_vec();
            row.names = self.names(&row.tables);
            self.ready.push_back(row);
        }
        Ok(())
    }

    fn names(&self, tables: &[TableId]) -> String {
        let registry = self.cx.registry.borrow();
        let name = |id: &TableId| registry.by_id(*id).map(|table| table.name.clone());
        let names: Vec<String> = tables.iter().filter_map(name).collect();
        names.join(",")
    }
}

impl Run {
    fn begin(&mut self, id: EntryId, header: StoredHeader) {
        let position = id.0.cast_signed();
        let dot = LocalDot { author: header.author, version: header.version };
        self.by_dot.insert(dot, self.rows.len());
        let (site, names) = (Vec::new(), String::new());
        self.rows.push(LogRow { position, header, site, tables: Vec::new(), names, n_rows: 0 });
    }

    fn count(&mut self, table: TableId, dot: &LocalDot, key: &[u8]) {
        let Some(index) = self.by_dot.get(dot).copied() else { return };
        let row = &mut self.rows[index];
        if !row.tables.contains(&table) {
            row.tables.push(table);
        }
        if self.counted.insert(self.hasher.hash_one((index, table, key))) {
            row.n_rows += 1;
        }
    }
}
