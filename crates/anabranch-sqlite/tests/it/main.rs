//! Tests of the SQLite edge, on the SQLite that is compiled in.

mod close;
mod function;
