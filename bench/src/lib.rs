//! Benchmarks, paired: every workload runs on plain SQLite and on ours in one process,
//! alternating, with the same rows, pragmas and bound statements.
//!
//! [`side`] opens databases, [`measure`] takes times, [`workload`] has the SQL of each
//! row of the table, [`report`] prints it.
#![deny(unsafe_code)]

pub mod measure;
pub mod report;
pub mod side;
pub mod workload;
