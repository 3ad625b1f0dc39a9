//! The store through SQL.

mod support;

mod changes_doors;
mod changes_insert;
mod changes_scan;
