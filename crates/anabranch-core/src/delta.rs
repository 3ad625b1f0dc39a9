//! A delta: what a copy at vector `from` needs in order to be at vector `to`.
//!
//! Delta-state CRDTs with causal intervals (Almeida, Shoker, Baquero 2018): a delta is a
//! full cut, everything held above `from`, and is applied whole or not at all.

use crate::change::ChangeHeader;
use crate::site::SiteId;
use crate::value::Value;
use crate::vector::VersionVector;

mod check;
mod complete;
mod gather;
mod join;
mod words;

pub use check::DeltaError;
pub(crate) use check::{HeaderSequence, Scope, check_seen, check_table};
pub(crate) use complete::SaltSequence;
pub use complete::{Complete, SaltRun, TableFloor};
pub use gather::Gather;
pub use join::{JoinError, join, join_owned};

/// Index into [`Delta::sites`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteIdx(pub u32);

/// The change that wrote a cell, by dictionary: see [`crate::vector::Dot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeltaDot {
    /// The author.
    pub site: SiteIdx,
    /// The author's version.
    pub version: u64,
}

/// A run of changes, joined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// What the receiver must hold already.
    pub from: VersionVector,
    /// What it holds afterwards.
    pub to: VersionVector,
    /// Of deltas that were joined though some of their makers had not seen all of `from`: what
    /// each of them had seen of it at least, without chains. `None`: all of it.
    pub seen: Option<VersionVector>,
    /// Dictionary of the sites that dots and origins name.
    pub sites: Vec<SiteId>,
    /// Of a complete delta what its maker forgot; `from` is empty then.
    pub complete: Option<Complete>,
    /// Of a complete delta the salts of all changes up to its floor, by site, then version.
    pub salts: Vec<SaltRun>,
    /// Headers of all changes above [`Delta::start`] up to `to`, by site, then version.
    pub headers: Vec<ChangeHeader>,
    /// Row deltas by table; a table appears once, tables by name.
    pub tables: Vec<TableDelta>,
}

/// The row deltas of one table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableDelta {
    /// The table's name as declared.
    pub name: String,
    /// Names of the columns that cells name by index.
    pub columns: Vec<String>,
    /// Rows, each packed key once: by folded key as an exporter writes them, by packed key
    /// after a [`join()`]. A receiver relies on neither.
    pub rows: Vec<RowDelta>,
}

/// What a delta says of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowDelta {
    /// The packed key as its birth spells it ([`crate::key::pack`]).
    pub key: Vec<u8>,
    /// Odd: alive. Even: deleted, and then there are no cells.
    pub causal_length: u64,
    /// The changes above `from` that gave the row this causal length (insert or delete),
    /// by site index, then version.
    pub births: Vec<Birth>,
    /// The cells written above `from`, by column, each column once.
    pub cells: Vec<CellDelta>,
}

/// The change that gave a row its present causal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The change.
    pub dot: DeltaDot,
    /// The site it first came from, through whatever door.
    pub origin: SiteIdx,
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub struct CellDelta {
    /// Index into [`TableDelta::columns`].
    pub column: u32,
    /// Column version, from 1.
    pub version: u64,
    /// The change that wrote it.
    pub dot: DeltaDot,
    /// The site it first came from.
    pub origin: SiteIdx,
    /// The value.
    pub value: Value,
}
