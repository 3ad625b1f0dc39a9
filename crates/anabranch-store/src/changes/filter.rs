//! Constraints that a scan checks itself, before a row is shown.
//!
//! They only ever let pass what may match: an argument of a type that the column's affinity
//! might still convert decides nothing here, for SQLite checks again.

use std::cmp::Ordering;

use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::vtab::Operator;

use super::Column;

/// A comparison of a column with an argument of the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) column: Column,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Is,
    IsNot,
}

const HOWS: [(How, char); 8] = [
    (How::Eq, '='),
    (How::Ne, '!'),
    (How::Gt, '>'),
    (How::Ge, 'g'),
    (How::Lt, '<'),
    (How::Le, 'l'),
    (How::Is, 'i'),
    (How::IsNot, 'n'),
];

impl Test {
    /// A test of this operator; `None` if SQLite alone shall decide.
    pub(super) fn new(column: Column, operator: Operator) -> Option<Test> {
        let how = match operator {
            Operator::Eq => How::Eq,
            Operator::Ne => How::Ne,
            Operator::Gt => How::Gt,
            Operator::Ge => How::Ge,
            Operator::Lt => How::Lt,
            Operator::Le => How::Le,
            Operator::Is => How::Is,
            Operator::IsNot => How::IsNot,
            // No column but `val` is ever NULL; the rest are functions.
            _ => return None,
        };
        Some(Test { column, how })
    }

    pub(super) fn is_equality(self) -> bool {
        matches!(self.how, How::Eq | How::Is)
    }

    /// Whether a value passes the test against `argument`.
    fn passes(self, value: ValueRef<'_>, argument: ValueRef<'_>) -> bool {
        let Some(order) = comparable(value, argument) else {
            // NULL makes every comparison but IS NOT untrue: no column tested here is NULL.
            let is_null = matches!(argument, ValueRef::Null);
            return !is_null || self.how == How::IsNot;
        };
        match self.how {
            How::Eq | How::Is => order == Ordering::Equal,
            How::Ne | How::IsNot => order != Ordering::Equal,
            How::Gt => order == Ordering::Greater,
            How::Ge => order != Ordering::Less,
            How::Lt => order == Ordering::Less,
            How::Le => order != Ordering::Greater,
        }
    }
}

/// The order of two values where no conversion can be at work; else `None`.
fn comparable(value: ValueRef<'_>, argument: ValueRef<'_>) -> Option<Ordering> {
    match (value, argument) {
        (ValueRef::Integer(a), ValueRef::Integer(b)) => Some(a.cmp(&b)),
        (ValueRef::Text(a), ValueRef::Text(b)) | (ValueRef::Blob(a), ValueRef::Blob(b)) => {
            Some(a.cmp(b))
        }
        _ => None,
    }
}

/// The tests as text.
pub(super) fn encode(tests: &[Test]) -> String {
    tests.iter().flat_map(|test| [digit(test.column), test.how.letter()]).collect()
}

fn digit(column: Column) -> char {
    char::from(b'0' + column as u8)
}

impl How {
    fn letter(self) -> char {
        HOWS.iter().find(|(how, _)| *how == self).map_or('=', |(_, letter)| *letter)
    }

    fn of(letter: char) -> Option<How> {
        HOWS.iter().find(|(_, known)| *known == letter).map(|(how, _)| *how)
    }
}

/// The tests of a scan with their arguments.
#[derive(Debug, Default)]
pub(super) struct Filter {
    tests: Vec<(Test, Value)>,
}

impl Filter {
    /// Reads what [`encode`] wrote.
    pub(super) fn decode(text: &str, arguments: &[ValueRef<'_>]) -> Filter {
        let letters: Vec<char> = text.chars().collect();
        let tests = letters.chunks_exact(2).zip(arguments).filter_map(|(pair, argument)| {
            let column = Column::at(i32::from(pair[0] as u8) - i32::from(b'0'))?;
            let how = How::of(pair[1])?;
            Some((Test { column, how }, Value::from(*argument)))
        });
        Filter { tests: tests.collect() }
    }

    /// Whether a row whose columns `value` tells may match. `pk` is not asked.
    pub(super) fn passes<'v>(&self, value: impl Fn(Column) -> ValueRef<'v>) -> bool {
        self.tests.iter().all(|(test, argument)| {
            test.column == Column::Pk || test.passes(value(test.column), argument.as_ref())
        })
    }

    /// Whether every row passes.
    pub(super) fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// What `column` must equal, if a test says so.
    pub(super) fn equals(&self, column: Column) -> Option<ValueRef<'_>> {
        let test = self.tests.iter().find(|(test, _)| test.column == column && test.is_equality());
        test.map(|(_, argument)| argument.as_ref())
    }

    /// The `db_version` that all matching rows are above, and the one that none is above.
    pub(super) fn versions(&self) -> (u64, u64) {
        let (mut after, mut last) = (0_i64, i64::MAX);
        for (test, argument) in self.tests.iter().filter(|(t, _)| t.column == Column::DbVersion) {
            // A real is rounded outwards; SQLite looks closely again.
            let (low, high) = match argument {
                Value::Integer(integer) => (*integer, *integer),
                Value::Real(real) => (real.floor() as i64, real.ceil() as i64),
                _ => continue,
            };
            match test.how {
                How::Eq | How::Is => {
                    after = after.max(low.saturating_sub(1));
                    last = last.min(high);
                }
                How::Gt => after = after.max(low),
                How::Ge => after = after.max(low.saturating_sub(1)),
                How::Lt | How::Le => last = last.min(high),
                How::Ne | How::IsNot => {}
            }
        }
        (after as u64, last.max(0) as u64)
    }
}
