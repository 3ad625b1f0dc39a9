//! Read-only tables whose rows are made while they are read: a function from a few
//! arguments to a series of rows, shown as an eponymous virtual table.

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::SqlError;
use anabranch_sqlite::vtab::{Constraint, Cursor, Operator, OrderTerm, Plan, Table};

use crate::error::Result;

/// The rows of one scan: the next one, or `None` at the end.
pub(crate) type Rows = Box<dyn FnMut() -> Result<Option<Vec<Value>>>>;

/// What a scan is given: for each of [`Listing::arguments`] its value, if it came.
pub(crate) type Arguments = Vec<Option<Value>>;

/// A table made by a function.
pub(crate) struct Listing<F> {
    /// `CREATE TABLE x(…)`; arguments of a table-valued function are HIDDEN columns.
    pub(crate) declaration: &'static str,
    /// Constraints that are handed to `start`; SQLite still checks the rows, but for `=`.
    pub(crate) arguments: &'static [(i32, Operator)],
    /// A column by which rows come out ascending.
    pub(crate) ordered_by: Option<i32>,
    /// Starts a scan.
    pub(crate) start: F,
}

impl<F> Table for Listing<F>
where
    F: Fn(Arguments) -> Result<Rows> + Clone + 'static,
{
    fn declaration(&self) -> String {
        self.declaration.into()
    }

    fn plan(
        &self,
        constraints: &[Constraint],
        order: &[OrderTerm],
    ) -> std::result::Result<Plan, SqlError> {
        let mut plan = Plan {
            arguments: vec![None; constraints.len()],
            omit: vec![false; constraints.len()],
            is_ordered: self.is_order_of(order),
            ..Plan::default()
        };
        let mut n_given = 0;
        for (slot, wanted) in self.arguments.iter().enumerate() {
            let found =
                constraints.iter().position(|c| c.is_usable && (c.column, c.operator) == *wanted);
            if let Some(index) = found {
                plan.arguments[index] = Some(n_given);
                // Equality is exact here; and a hidden column has no value to compare.
                plan.omit[index] = wanted.1 == Operator::Eq;
                plan.index_number |= 1 << slot;
                n_given += 1;
            }
        }
        // Made rows cost the same whatever is asked; an argument leaves fewer of them.
        plan.rows = if n_given == 0 { 1_000_000 } else { 1000 };
        plan.cost = plan.rows as f64;
        Ok(plan)
    }

    fn open(&self) -> std::result::Result<Box<dyn Cursor>, SqlError> {
        let (start, n_slots) = (self.start.clone(), self.arguments.len());
        Ok(Box::new(Scan { start, n_slots, rows: None, row: None, rowid: 0 }))
    }
}

impl<F> Listing<F> {
    fn is_order_of(&self, order: &[OrderTerm]) -> bool {
        match (order, self.ordered_by) {
            ([term], Some(column)) => term.column == column && !term.is_desc,
            _ => false,
        }
    }
}

struct Scan<F> {
    start: F,
    n_slots: usize,
    /// `None` before the first scan.
    rows: Option<Rows>,
    /// `None` at the end.
    row: Option<Vec<Value>>,
    /// Counts rows from 1.
    rowid: i64,
}

impl<F: Fn(Arguments) -> Result<Rows>> Cursor for Scan<F> {
    fn filter(
        &mut self,
        index_number: i32,
        _index_string: &str,
        args: &[ValueRef<'_>],
    ) -> std::result::Result<(), SqlError> {
        let mut given = args.iter();
        let arguments = (0..self.n_slots)
            .map(|slot| {
                let is_given = index_number & (1 << slot) != 0;
                if is_given { given.next().map(|value| Value::from(*value)) } else { None }
            })
            .collect();
        self.rowid = 0;
        self.rows = Some((self.start)(arguments)?);
        self.next()
    }

    fn next(&mut self) -> std::result::Result<(), SqlError> {
        self.row = match &mut self.rows {
            Some(rows) => rows()?,
            None => None,
        };
        self.rowid += 1;
        Ok(())
    }

    fn is_eof(&self) -> bool {
        self.row.is_none()
    }

    fn column(&mut self, index: usize) -> std::result::Result<ValueRef<'_>, SqlError> {
        let value = self.row.as_ref().and_then(|row| row.get(index));
        Ok(value.map_or(ValueRef::Null, Value::as_ref))
    }

    fn rowid(&self) -> std::result::Result<i64, SqlError> {
        Ok(self.rowid)
    }
}

/// Rows that are all there already.
pub(crate) fn all(rows: Vec<Vec<Value>>) -> Rows {
    let mut rows = rows.into_iter();
    Box::new(move || Ok(rows.next()))
}
