//! Prepared statements that may be kept beside the connection.

use anabranch_core::value::ValueRef;

use crate::error::Result;

/// A prepared statement. Dropping it finalizes it.
pub struct Statement {}

impl Statement {
    /// Binds parameter `index`, from 1. The bytes are copied by SQLite.
    pub fn bind(&mut self, _index: usize, _value: ValueRef<'_>) -> Result<()> {
        todo!()
    }

    /// Goes to the next row; `false` at the end, when the statement is reset too.
    ///
    /// After an error the statement is reset.
    pub fn step(&mut self) -> Result<bool> {
        todo!()
    }

    /// Column `index` of the present row, from 0; valid until the next call.
    pub fn column(&self, _index: usize) -> ValueRef<'_> {
        todo!()
    }

    /// Resets and clears bindings.
    pub fn reset(&mut self) {
        todo!()
    }

    /// Binds all, runs to the end, resets.
    pub fn execute(&mut self, _params: &[ValueRef<'_>]) -> Result<()> {
        todo!()
    }

    /// Binds all and steps once: `true` with a row. Call [`Statement::reset`] after reading.
    pub fn query(&mut self, _params: &[ValueRef<'_>]) -> Result<bool> {
        todo!()
    }
}
