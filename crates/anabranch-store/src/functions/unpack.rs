//! `SELECT cell FROM crsql_unpack_columns WHERE package = ?`: one row for each packed value.

use anabranch_core::key;
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::SqlError;
use anabranch_sqlite::vtab::{Constraint, Cursor, Operator, OrderTerm, Plan, Table};

/// The hidden column that holds the package.
const PACKAGE: i32 = 1;
/// `filter` gets the package.
const HAS_PACKAGE: i32 = 1;

type Result<T> = std::result::Result<T, SqlError>;

/// The table.
pub(super) struct UnpackColumns;

impl Table for UnpackColumns {
    fn declaration(&self) -> String {
        "CREATE TABLE x(cell ANY, package BLOB HIDDEN)".to_string()
    }

    fn plan(&self, constraints: &[Constraint], _: &[OrderTerm]) -> Result<Plan> {
        let package = constraints.iter().position(|constraint| {
            constraint.is_usable
                && constraint.column == PACKAGE
                && matches!(constraint.operator, Operator::Eq)
        });
        let mut plan = Plan {
            arguments: vec![None; constraints.len()],
            omit: vec![false; constraints.len()],
            // Without a package the scan fails: any other plan is better.
            cost: if package.is_some() { 10.0 } else { f64::MAX },
            rows: 10,
            ..Plan::default()
        };
        if let Some(index) = package {
            plan.arguments[index] = Some(0);
            plan.omit[index] = true;
            plan.index_number = HAS_PACKAGE;
        }
        Ok(plan)
    }

    fn open(&self) -> Result<Box<dyn Cursor>> {
        Ok(Box::new(Unpacked { package: Value::Null, cells: Vec::new(), at: 0 }))
    }
}

struct Unpacked {
    package: Value,
    cells: Vec<Value>,
    at: usize,
}

impl Cursor for Unpacked {
    fn filter(&mut self, index_number: i32, _: &str, args: &[ValueRef<'_>]) -> Result<()> {
        let package = match (index_number, args) {
            (HAS_PACKAGE, [package]) => *package,
            _ => return Err(SqlError::new("crsql_unpack_columns: WHERE package = ? is missing")),
        };
        let bytes = match package {
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes,
            _ => return Err(SqlError::new("crsql_unpack_columns: the package must be a blob")),
        };
        // cr-sqlite's words for a malformed package.
        let cells = key::unpack(bytes).map_err(|_| SqlError::new("SQL logic error"))?;
        self.cells = cells.into_iter().map(Value::from).collect();
        self.package = package.into();
        self.at = 0;
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.at += 1;
        Ok(())
    }

    fn is_eof(&self) -> bool {
        self.at >= self.cells.len()
    }

    fn column(&mut self, index: usize) -> Result<ValueRef<'_>> {
        let cell = self.cells.get(self.at).map_or(ValueRef::Null, Value::as_ref);
        Ok(if index == 0 { cell } else { self.package.as_ref() })
    }

    fn rowid(&self) -> Result<i64> {
        Ok(self.at as i64)
    }
}
