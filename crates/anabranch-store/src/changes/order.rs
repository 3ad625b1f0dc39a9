//! The order of rows: what ORDER BY asks, then the ties of cr-sqlite.
//!
//! Without ORDER BY: `db_version`, `seq`, then the tables as they became conflict-free, then
//! the rows as they were first seen, then column names by bytes (`-1` is one of them). With
//! ORDER BY: its terms, each in its own direction, then the same ties without `db_version`
//! and `seq`; rows and columns then run in the direction of the last term.

use std::cmp::Ordering;

use anabranch_core::value::ValueRef;
use anabranch_sqlite::vtab::OrderTerm;

use super::Column;

/// An order that a scan can bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    terms: Vec<(Column, bool)>,
}

/// Where a row stands among equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tie {
    pub(super) table: u32,
    pub(super) row: u64,
    pub(super) column: u16,
}

impl Order {
    /// The order of these terms; `None` if SQLite has to sort. No terms: the default order.
    pub(super) fn of(terms: &[OrderTerm]) -> Option<Order> {
        let terms = terms
            .iter()
            .map(|term| Some((Column::at(term.column)?, term.is_desc)))
            .collect::<Option<Vec<_>>>()?;
        if terms.iter().any(|(column, _)| *column == Column::Val) {
            return None;
        }
        Some(Order { terms })
    }

    /// Whether it is the order of the log, in which rows can be read piece by piece.
    pub(super) fn is_natural(&self) -> bool {
        matches!(self.terms.as_slice(), [] | [(Column::DbVersion, false), (Column::Seq, false)])
    }

    /// Whether a term names this column.
    pub(super) fn has(&self, column: Column) -> bool {
        self.terms.iter().any(|(term, _)| *term == column)
    }

    /// Whether rows of one `db_version` stay together and versions ascend, so that the log
    /// can be read version by version.
    pub(super) fn is_by_version(&self) -> bool {
        self.terms.first() == Some(&(Column::DbVersion, false))
    }

    /// As text.
    pub(super) fn encode(&self) -> String {
        let letter = |(column, is_desc): &(Column, bool)| {
            let first = if *is_desc { b'A' } else { b'a' };
            char::from(first + *column as u8)
        };
        self.terms.iter().map(letter).collect()
    }

    /// Reads what [`Order::encode`] wrote.
    pub(super) fn decode(text: &str) -> Order {
        let terms = text.bytes().filter_map(|letter| {
            let is_desc = letter.is_ascii_uppercase();
            let place = i32::from(letter.to_ascii_lowercase()) - i32::from(b'a');
            Some((Column::at(place)?, is_desc))
        });
        Order { terms: terms.collect() }
    }

    /// Compares two rows by what ORDER BY asks and by the ties.
    pub(super) fn compare<'v>(
        &self,
        a: impl Fn(Column) -> ValueRef<'v>,
        b: impl Fn(Column) -> ValueRef<'v>,
        ties: (Tie, Tie),
    ) -> Ordering {
        for (column, is_desc) in &self.terms {
            let order = a(*column).order(b(*column));
            let order = if *is_desc { order.reverse() } else { order };
            if order != Ordering::Equal {
                return order;
            }
        }
        let is_desc = self.terms.last().is_some_and(|(_, is_desc)| *is_desc);
        let (a, b) = ties;
        let inner = (a.row, a.column).cmp(&(b.row, b.column));
        a.table.cmp(&b.table).then(if is_desc { inner.reverse() } else { inner })
    }
}
