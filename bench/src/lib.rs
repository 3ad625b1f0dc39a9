//! Benchmarks, paired: every workload runs on plain SQLite and on ours in one process,
//! alternating, with the same rows, pragmas and bound statements.
//!
//! [`side`] opens databases, [`measure`] takes times, [`workload`] has the SQL of local
//! work, [`report`] prints; the other modules are the parts of the report. [`sync`] measures a
//! relay instead.
#![deny(unsafe_code)]

pub mod options;

pub mod measure;
pub mod report;
pub mod side;
pub mod workload;

pub mod delta;
pub mod doors;
pub mod folding;
pub mod local;
pub mod seeks;
pub mod sizes;

pub mod sync;
