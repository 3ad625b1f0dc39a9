//! Why a delta is not taken, by what the caller can do about it.

use anabranch_core::clock::{Chain, ClockAhead};
use anabranch_core::site::SiteId;
use anabranch_core::vector::VectorSyntaxError;
use anabranch_core::wire::WireError;

use crate::error::code;

/// A delta, or a vector it is asked with, that is refused: nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// Bytes that are no delta: fetch it again.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A text that is no version vector.
    #[error("{function}: {source}")]
    Vector {
        /// The function it was given to.
        function: &'static str,
        /// What is wrong.
        source: VectorSyntaxError,
    },
    /// It begins above what is held: ask again with this copy's vector.
    #[error("missing: changes of site {site} from version {from}")]
    Missing {
        /// Whose changes.
        site: SiteId,
        /// The first one that is not held.
        from: u64,
    },
    /// Two copies both wrote under one site id.
    #[error(
        "SiteReused: site {site} has two histories at version {version} (chain {ours} here, \
         {theirs} there): a database was copied and both copies wrote under one site id"
    )]
    SiteReused {
        /// Whose.
        site: SiteId,
        /// Where they were compared.
        version: u64,
        /// The chain held here.
        ours: Chain,
        /// The chain that came.
        theirs: Chain,
    },
    /// Branches that are not called after their first changes: no honest copy makes this.
    #[error("{0}")]
    Branch(String),
    /// A change is too far ahead of this clock: take it later.
    #[error("{change}: {source}")]
    ClockAhead {
        /// The change.
        change: ChangeName,
        /// How far, and when to try again.
        source: ClockAhead,
    },
    /// A table of the delta is no conflict-free table here: make it one.
    #[error("unknown table {table} in {change}: create it and run SELECT crsql_as_crr({quoted})")]
    UnknownTable {
        /// Its name.
        table: String,
        /// A change that writes to it.
        change: ChangeName,
        /// Its name as a SQL literal.
        quoted: String,
    },
    /// A column of the delta is not replicated here: add it.
    #[error(
        "unknown column {column} of table {table} in {change}: add it and run \
         SELECT crsql_as_crr({quoted})"
    )]
    UnknownColumn {
        /// The table.
        table: String,
        /// The change that writes to it.
        change: ChangeName,
        /// The column.
        column: String,
        /// The table's name as a SQL literal.
        quoted: String,
    },
    /// A key that the table cannot have.
    #[error("table {table}, row x'{}' in {change}: {source}", hex(.row))]
    Key {
        /// The table.
        table: String,
        /// A change that writes to it.
        change: ChangeName,
        /// The packed key.
        row: Vec<u8>,
        /// What is wrong with it.
        source: anabranch_core::key::KeyError,
    },
    /// Cells of a life whose insert is neither here nor in the delta: no honest copy makes this.
    #[error(
        "table {table}, row x'{}' in {change}: cells of an insert that is not in the delta",
        hex(.row)
    )]
    Unborn {
        /// The table.
        table: String,
        /// A change that writes to it.
        change: ChangeName,
        /// The packed key.
        row: Vec<u8>,
    },
    /// More than one blob can hold.
    #[error("the delta has more than {max_mib} MiB: read it with SELECT bytes FROM ana_parts")]
    TooLarge {
        /// The bound.
        max_mib: usize,
    },
    /// A part that does not belong with those that were staged.
    #[error("part {part} of {of} does not belong here: {reason}")]
    Part {
        /// Its number, from 0.
        part: u32,
        /// How many its delta has.
        of: u32,
        /// Why.
        reason: &'static str,
    },
    /// This transaction has writes that are no change yet.
    #[error("{function}: this transaction has uncommitted writes; commit first")]
    Uncommitted {
        /// The function that was called.
        function: &'static str,
    },
}

/// A change as an error names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChangeName {
    /// The author.
    pub site: SiteId,
    /// The author's version.
    pub version: u64,
}

impl std::fmt::Display for ChangeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "change {} of site {}", self.version, self.site)
    }
}

impl DeltaError {
    /// The extended result code that SQL shows.
    pub(crate) fn code(&self) -> i32 {
        match self {
            DeltaError::Missing { .. } => code::MISSING,
            DeltaError::SiteReused { .. } => code::SITE_REUSED,
            DeltaError::Branch(_) => code::FALSE_BRANCH,
            DeltaError::ClockAhead { .. } => code::CLOCK_AHEAD,
            _ => 1,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    // As much as a person compares.
    let shown: String = bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > 64 { format!("{shown}…") } else { shown }
}
