//! Which constraints a scan is given, and whether it brings its rows in order.
//!
//! Nothing is ever omitted: SQLite checks each row again, so a constraint whose argument has
//! another type than its column can be passed over. Costs are all above half of a full
//! scan's, except for the seek of one row: SQLite's OR optimization drops rows whose rowid
//! it saw in an earlier term, ours are not unique, and so it must never pay.

use anabranch_sqlite::vtab::{Constraint, Operator, OrderTerm, Plan};

use super::Column;
use super::filter::{self, Test};
use super::order;

const FULL_COST: f64 = 2_000_000.0;
const VERSION_COST: f64 = 1_200_000.0;
const FILTERED_COST: f64 = 1_800_000.0;
const SEEK_COST: f64 = 20.0;

/// Answers the planner. The index string says for each argument which column it tests and
/// how, then `;`, then the order of the rows.
pub(super) fn plan(constraints: &[Constraint], order: &[OrderTerm]) -> Plan {
    let mut plan = Plan {
        arguments: vec![None; constraints.len()],
        omit: vec![false; constraints.len()],
        ..Plan::default()
    };
    let mut tests = Vec::new();
    for (argument, constraint) in plan.arguments.iter_mut().zip(constraints) {
        if let Some(test) = test_of(constraint) {
            *argument = Some(tests.len());
            tests.push(test);
        }
    }
    let order = order::Order::of(order);
    plan.is_ordered = order.is_some();
    plan.index_string = filter::encode(&tests);
    plan.index_string.push(';');
    order.iter().for_each(|order| plan.index_string.push_str(&order.encode()));
    (plan.cost, plan.rows) = cost(&tests, constraints);
    plan
}

fn test_of(constraint: &Constraint) -> Option<Test> {
    let column = Column::at(constraint.column)?;
    if !constraint.is_usable || column == Column::Val {
        return None;
    }
    let is_seek = matches!(column, Column::Table | Column::Pk);
    let is_equality = matches!(constraint.operator, Operator::Eq | Operator::Is);
    if is_seek && !is_equality {
        return None;
    }
    Test::new(column, constraint.operator)
}

fn cost(tests: &[Test], constraints: &[Constraint]) -> (f64, i64) {
    let has = |column| tests.iter().any(|test| test.column == column && test.is_equality());
    let is_seek = has(Column::Table) && has(Column::Pk);
    let n_filters = constraints.iter().filter(|c| Column::at(c.column).is_some()).count();
    match () {
        () if is_seek && n_filters == 2 => (SEEK_COST, 4),
        () if is_seek => (VERSION_COST, 4),
        () if tests.iter().any(|test| test.column == Column::DbVersion) => (VERSION_COST, 1_000),
        () if !tests.is_empty() => (FILTERED_COST, 100_000),
        () => (FULL_COST, 1_000_000),
    }
}
