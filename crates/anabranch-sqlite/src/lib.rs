//! The SQLite edge: what rusqlite lacks, made safe. Knows no store.
//!
//! [`Db`] is the connection our code was loaded into (never owned), [`Statement`] a
//! prepared statement that may be kept, [`function`] and [`vtab`] let SQL call us,
//! [`Embedded`] joins a connection of our own with its handle.
//! All unsafe code of the engine lives in this crate and in the extension's entry points.
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "testing")]
pub mod alloc_fault;
mod close;
pub mod db;
pub mod embedded;
pub mod error;
pub mod extension;
pub mod function;
mod poison;
mod raw_value;
mod schema_watch;
pub mod statement;
#[cfg(feature = "testing")]
pub mod vfs;
pub mod vtab;

pub use db::Db;
pub use embedded::Embedded;
pub use error::SqlError;
pub use schema_watch::SchemaWatch;
pub use statement::Statement;
